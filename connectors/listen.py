"""Running an ASGI app as a process that says where it listens and ends in good order."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from connectors.errors import ConfigurationError


class Server(uvicorn.Server):
    """uvicorn that calls `ready` with its URL, and takes SIGTERM or SIGINT for a normal end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell. Raises ConfigurationError when the address cannot be had."""
        try:
            await super().startup(sockets)
        except SystemExit as ended:
            # uvicorn leaves with a code that means something else on our command line.
            reason = ended.__context__
            raise ConfigurationError(
                f"cannot listen on {self.config.host} port {self.config.port}: {_said(reason)}",
                "end what listens there, or choose another address",
            ) from None
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._ready(f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn gives it
        """Finish the requests under way; the exit code will be 0."""
        self.should_exit = True


def _said(reason: BaseException | None) -> str:
    """In a few words; asyncio's own repeat the address."""
    number = reason.errno if isinstance(reason, OSError) else None
    return os.strerror(number) if number and number > 0 else str(reason)


def announce(url: str) -> None:
    """Print the address as one line of JSON: {"url": "http://127.0.0.1:PORT"}."""
    print(json.dumps({"url": url}), flush=True)
