"""The sandbox on a real socket: uvicorn, able to reset a connection in mid-request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.sandbox.app import Settings, create_app
from connectors.sandbox.state import State
from connectors.sandbox.vendor import RESET

SYNC_SECONDS = 0.1


class _Protocol(H11Protocol):
    """Gives every request the means to reset its own connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = _Resettable(self.app, partial(_reset, transport))


class _Resettable:
    def __init__(self, app: Any, reset: Callable[[], None]) -> None:
        self._app: ASGIApp = app
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[RESET] = self._reset
        await self._app(scope, receive, send)


def _reset(transport: asyncio.Transport) -> None:
    """RST instead of FIN: closing a socket that does not linger throws the rest away."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Server(uvicorn.Server):
    """Says where it listens, and takes SIGTERM or SIGINT for a normal end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._ready(f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.should_exit = True


def announce(url: str) -> None:
    """Print the address as one line of JSON."""
    print(json.dumps({"url": url}), flush=True, file=sys.stdout)


def serve(
    directory: Path,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    ready: Callable[[str], None] = announce,
) -> None:
    """Run until SIGTERM or SIGINT; `ready` is called with the URL once it listens.

    The ledger is kept in `directory`. Port 0 takes any free port. `seed` decides which
    calls a fault with a share strikes.
    """
    asyncio.run(_serve(directory, settings, host, port, seed, ready))


async def _serve(
    directory: Path,
    settings: Settings,
    host: str,
    port: int,
    seed: int,
    ready: Callable[[str], None],
) -> None:
    state = State(directory, seed)
    config = uvicorn.Config(
        create_app(state, settings),
        host=host,
        port=port,
        http=_Protocol,
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_keep_alive=300,
        timeout_graceful_shutdown=1,
    )
    syncing = asyncio.create_task(_sync(state))
    try:
        await _Server(config, ready).serve()
    finally:
        syncing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await syncing
        state.ledger.close()


async def _sync(state: State) -> None:
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        await asyncio.to_thread(state.ledger.sync)
