"""The receiver: vendors' webhooks in, events in the durable log, then a 2xx.

A 2xx means that every event of the call is on the disk. Anything else means the vendor
should call again; events are told apart by their id later, so repetition does no harm.

- `POST /webhooks/<vendor>`: 200 {"accepted": n}, 400 body not understood, 401 wrong token,
  404 vendor not set up, 413 body over 1 MiB, 503 the log cannot be written.
- `GET /health`: 200, or 503 while the last write failed.
- `GET /metrics`: counters in the text format of Prometheus.

Readers of the log use closed segments; `rotation` says when a segment is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from connectors.errors import ConfigurationError, LogError
from connectors.framed import FramedLog
from connectors.inbound import VENDORS
from connectors.listen import Server, announce
from decision_engine.service.commit import GroupCommit
from decision_engine.service.rotation import ROTATE_BYTES, ROTATE_SECONDS, Rotation

MAX_BODY = 1 << 20
MAX_CONNECTIONS = 512

_logger = logging.getLogger(__name__)


class Receiver:
    """Checks, parses and stores webhook calls, and counts them.

    `secrets` has the token of each vendor that is served.
    """

    def __init__(self, log: FramedLog, secrets: Mapping[str, str]) -> None:
        self._commit = GroupCommit(log)
        self._secrets = secrets
        self._is_healthy = True
        self._requests: Counter[tuple[str, int]] = Counter()
        self._events: Counter[str] = Counter()

    async def webhook(self, request: Request) -> Response:
        """Take in one call."""
        vendor = request.path_params["vendor"]
        known = vendor if vendor in self._secrets else "unknown"
        status, answer = await self._take(known, request)
        self._requests[known, status] += 1
        return JSONResponse(answer, status)

    async def _take(self, vendor: str, request: Request) -> tuple[int, dict[str, Any]]:
        if vendor not in self._secrets:
            return 404, {"error": "no such vendor"}
        if not VENDORS[vendor].verify(request.headers, self._secrets[vendor]):
            return 401, {"error": "unauthorized"}
        try:
            body = await _read(request)
        except ClientDisconnect:
            return 400, {"error": "the connection ended before the body did"}
        if body is None:
            return 413, {"error": f"the body is larger than {MAX_BODY} bytes"}
        try:
            rows = VENDORS[vendor].parse(body, datetime.now(UTC))
        except ValueError:
            return 400, {"error": "the body is not a webhook of this vendor"}
        return await self._store(vendor, rows)

    async def _store(
        self, vendor: str, rows: list[dict[str, object]]
    ) -> tuple[int, dict[str, Any]]:
        if not rows:
            return 200, {"accepted": 0}
        try:
            await self._commit.append([msgspec.json.encode(row) for row in rows])
        except (OSError, LogError) as error:
            self._is_healthy = False
            _logger.error("the event log cannot be written: %s", error)
            return 503, {"error": "the event log cannot be written"}
        self._is_healthy = True
        self._events[vendor] += len(rows)
        return 200, {"accepted": len(rows)}

    async def health(self, _: Request) -> Response:
        """Whether the log can be written, as far as is known."""
        if self._is_healthy:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the event log cannot be written"}, 503)

    async def metrics(self, _: Request) -> Response:
        """Counters since the start of the process."""
        return PlainTextResponse(
            _metric(
                "nextmove_webhook_requests_total",
                "Webhook calls by vendor and answer.",
                {f'vendor="{v}",status="{s}"': n for (v, s), n in self._requests.items()},
            )
            + _metric(
                "nextmove_webhook_events_total",
                "Events stored durably by vendor.",
                {f'vendor="{v}"': n for v, n in self._events.items()},
            ),
            media_type="text/plain; version=0.0.4",
        )


def create_app(receiver: Receiver) -> Starlette:
    """The routes of the receiver."""
    return Starlette(
        routes=[
            Route("/webhooks/{vendor}", receiver.webhook, methods=["POST"]),
            Route("/health", receiver.health),
            Route("/metrics", receiver.metrics),
        ]
    )


def serve(
    log: Path,
    secrets: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    rotate_seconds: float = ROTATE_SECONDS,
    rotate_bytes: int = ROTATE_BYTES,
    ready: Callable[[str], None] = announce,
) -> None:
    """Receive into the log directory until SIGTERM or SIGINT.

    `secrets` has the token each vendor's calls must carry; a vendor without one is not
    served. `ready` gets the URL once it listens. Port 0 takes any free port. Raises
    LockedError when another receiver writes the log, ConfigurationError for a vendor
    that sends no webhooks.
    """
    unknown = [v for v, secret in secrets.items() if v not in VENDORS or not secret]
    if unknown:
        raise ConfigurationError(
            f"webhooks cannot be received from {', '.join(unknown)}",
            f"give a token, and only for {', '.join(VENDORS)}",
        )
    with FramedLog(log) as framed_log:
        rotation = Rotation(framed_log, rotate_seconds, rotate_bytes)
        asyncio.run(_serve(Receiver(framed_log, secrets), rotation, host, port, ready))


async def _serve(
    receiver: Receiver, rotation: Rotation, host: str, port: int, ready: Callable[[str], None]
) -> None:
    config = uvicorn.Config(
        create_app(receiver),
        host=host,
        port=port,
        lifespan="off",
        access_log=False,
        log_level="warning",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    async with rotation:
        await Server(config, ready).serve()


async def _read(request: Request) -> bytes | None:
    """The body, or None when it is too large; never more than the limit is held."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _metric(name: str, text: str, values: Mapping[str, int]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} counter"]
    lines += [f"{name}{{{labels}}} {value}" for labels, value in sorted(values.items())]
    return "\n".join(lines) + "\n"
