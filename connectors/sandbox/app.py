"""The sandbox on a real socket: uvicorn, able to reset a connection in mid-request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.listen import Server, announce
from connectors.sandbox.control import VENDORS, WEBHOOK_VENDORS, Settings, create_app
from connectors.sandbox.state import State
from connectors.sandbox.vendor import RESET

SYNC_SECONDS = 0.1
WEBHOOK_SECRET = "whsec_c2FuZGJveC13ZWJob29rLXNlY3JldC0wMQ=="  # noqa: S105 - known to everybody


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


def serve(
    directory: Path,
    *,
    port: int = 0,
    webhooks: str | None = None,
    seed: int = 0,
    limit_divisor: float = 1.0,
    ready: Callable[[str], None] = announce,
) -> None:
    """Run on 127.0.0.1 until SIGTERM or SIGINT; `ready` gets the URL once it listens.

    The ledger is kept in `directory`. Port 0 takes any free port. `webhooks` is the base URL
    of the receiver. `seed` decides which calls a fault with a share strikes; `limit_divisor`
    makes all rate limits that much smaller. Keys and webhook tokens come from the
    environment: SANDBOX_BRAZE_KEY, SANDBOX_BRAZE_WEBHOOK_TOKEN, and so on; without it they
    are `sandbox-braze-key`, `sandbox-braze-webhook-token`, and so on.
    """
    settings = Settings(
        keys={vendor: _secret(vendor, "key") for vendor in VENDORS},
        tokens={vendor: _secret(vendor, "webhook-token") for vendor in WEBHOOK_VENDORS},
        webhooks=webhooks,
        limit_divisor=limit_divisor,
    )
    asyncio.run(_serve(State(directory, seed), settings, port, ready))


def _secret(vendor: str, kind: str) -> str:
    name = f"sandbox-{vendor}-{kind}"
    given = os.environ.get(name.replace("-", "_").upper(), name)
    # The secret of a webhook is the base64 of bytes; the default one spells its own name.
    return WEBHOOK_SECRET if given == "sandbox-webhook-key" else given


async def _serve(state: State, settings: Settings, port: int, ready: Callable[[str], None]) -> None:
    config = uvicorn.Config(
        create_app(state, settings),
        host="127.0.0.1",
        port=port,
        http=_Protocol,
        lifespan="on",
        access_log=False,
        log_level="critical",
        timeout_keep_alive=300,
        timeout_graceful_shutdown=1,
    )
    syncing = asyncio.create_task(_sync(state))
    try:
        await Server(config, ready).serve()
    finally:
        syncing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await syncing
        state.ledger.close()


async def _sync(state: State) -> None:
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        await asyncio.to_thread(state.ledger.sync)
