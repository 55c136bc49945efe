"""The service: what comes in goes to the durable log, then it is applied, then it is answered.

A 2xx means that everything of the call is on the disk. Anything else means the caller should
call again; events are told apart by their id later, so repetition does no harm.

`Receiver` owns the log. What the service offers is contributed by parts: webhooks, the
tracking API, decisions. All of them store through `Receiver.commit`.

- `GET /health`: 200 while the process can write its log as far as is known, else 503.
- `GET /ready`: 200 when every part can answer too, else 503 with what is missing.
- `GET /metrics`: the text format of Prometheus.

Readers of the log use closed segments; `rotation` says when a segment is closed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import uvicorn
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.errors import LogError
from connectors.framed import FramedLog
from connectors.listen import Server, announce
from decision_engine.service.commit import Applied, GroupCommit, Place
from decision_engine.service.records import TAGS, Record, tag_of
from decision_engine.service.rotation import ROTATE_BYTES, ROTATE_SECONDS, Rotation

MAX_CONNECTIONS = 512
_GC = (10_000, 20, 1_000)
"""A full collection walks over all that is remembered of people: a tenth of a second in which
nobody is answered. Nearly everything here is freed by its reference count; let it be rare."""
_SWITCH_SECONDS = 0.0002
"""The thread that writes the log asks for the interpreter three times a commit, and everybody
waits for the commit: with Python's 5 ms it would be given to it after 15 ms of other work."""
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)

_logger = logging.getLogger(__name__)
# A second series for each metric, and nobody asks when a count began.
disable_created_metrics()  # type: ignore[no-untyped-call]


class LogUnavailableError(Exception):
    """The log cannot be written: the caller should call again later (503)."""


class Receiver:
    """Stores what comes in, tells who listens, and knows how the process is.

    `metrics` is where parts register theirs.
    """

    def __init__(self, log: FramedLog) -> None:
        self.log = log
        self.metrics = CollectorRegistry()
        self._listeners: list[Applied] = []
        self._is_healthy = True
        Gauge(
            "nextmove_log_open_segment_bytes",
            "Size of the segment that is being written.",
            registry=self.metrics,
        ).set_function(lambda: log.size)
        seconds = Histogram(
            "nextmove_commit_seconds",
            "From the call of commit to the record being on the disk and applied.",
            buckets=_COMMIT_SECONDS,
            registry=self.metrics,
        )
        stored = Counter(
            "nextmove_records_total",
            "Records stored durably, by kind.",
            ["kind"],
            registry=self.metrics,
        )
        self._counts = {kind: stored.labels(tag_of(kind)) for kind in TAGS.values()}
        self._failures = Counter(
            "nextmove_commit_failures_total",
            "Calls whose records could not be stored.",
            registry=self.metrics,
        )
        self._commit = GroupCommit(log, self._applied, seconds.observe)

    def listen(self, applied: Applied) -> None:
        """Have `applied` told of all records from now on, in the order of the log.

        It runs on the event loop after the records are durable and before their call is
        answered; it must be quick.
        """
        self._listeners.append(applied)

    async def commit(self, records: Sequence[Record]) -> None:
        """Return when the records are on the disk, all in one frame, and applied.

        Raises LogUnavailableError when they may not be.
        """
        if not records:
            return
        try:
            await self._commit.append(records)
        except (OSError, LogError) as error:
            self._is_healthy = False
            self._failures.inc()
            _logger.error("the log cannot be written: %s", error)
            raise LogUnavailableError from error
        self._is_healthy = True

    def _applied(self, records: Sequence[Record], place: Place) -> None:
        for record in records:
            self._counts[type(record)].inc()
        for applied in self._listeners:
            applied(records, place)

    @property
    def is_healthy(self) -> bool:
        """Whether the last write succeeded."""
        return self._is_healthy


class Part:
    """Something the service offers. Made with the receiver; parts override what they need."""

    def routes(self) -> Sequence[BaseRoute]:
        """What it answers."""
        return ()

    async def start(self) -> None:
        """Called before the service listens; the log has one empty open segment then."""

    async def stop(self) -> None:
        """Called after the last answer."""

    def missing(self) -> str | None:
        """Why it cannot answer yet, for `/ready`; None when it can."""
        return None


MakePart = Callable[[Receiver], Part]


class Status(Part):
    """Whether the process is alive and able, and its metrics."""

    def __init__(self, receiver: Receiver, parts: Sequence[Part]) -> None:
        self._receiver = receiver
        self._parts = parts

    def routes(self) -> Sequence[BaseRoute]:
        """GET only."""
        return (
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
        )

    async def health(self, _: Request) -> Response:
        """Whether the log can be written, as far as is known."""
        if self._receiver.is_healthy:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "the log cannot be written"}, 503)

    async def ready(self, request: Request) -> Response:
        """Health, and that no part is missing anything."""
        missing = [m for m in (part.missing() for part in self._parts) if m]
        if not missing:
            return await self.health(request)
        return JSONResponse({"status": "; ".join(missing)}, 503)

    async def metrics(self, _: Request) -> Response:
        """Counts since the start of the process."""
        return Response(generate_latest(self._receiver.metrics), media_type=CONTENT_TYPE_LATEST)


def create_app(receiver: Receiver, parts: Sequence[Part]) -> Starlette:
    """The routes of all parts, with health and metrics."""
    from decision_engine.service import openapi  # it knows the parts, which know this module

    everything = [*parts, Status(receiver, parts)]
    routes = [route for part in everything for route in part.routes()]
    return Starlette(
        routes=[*routes, openapi.route(routes)],
        exception_handlers={LogUnavailableError: _unavailable},
    )


async def _unavailable(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "the log cannot be written"}, 503, {"Retry-After": "1"})


def serve(
    log: Path,
    parts: Sequence[MakePart],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    rotate_seconds: float = ROTATE_SECONDS,
    rotate_bytes: int = ROTATE_BYTES,
    ready: Callable[[str], None] = announce,
) -> None:
    """Receive into the log directory until SIGTERM or SIGINT.

    `ready` gets the URL once it listens. Port 0 takes any free port. Raises LockedError when
    another process writes the log.
    """
    gc.set_threshold(*_GC)
    sys.setswitchinterval(_SWITCH_SECONDS)
    with FramedLog(log) as framed_log:
        rotation = Rotation(framed_log, rotate_seconds, rotate_bytes)
        asyncio.run(_serve(Receiver(framed_log), parts, rotation, host, port, ready))


async def _serve(
    receiver: Receiver,
    make: Sequence[MakePart],
    rotation: Rotation,
    host: str,
    port: int,
    ready: Callable[[str], None],
) -> None:
    parts = [part(receiver) for part in make]
    config = uvicorn.Config(
        create_app(receiver, parts),
        host=host,
        port=port,
        lifespan="off",
        access_log=False,
        log_config=None,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    async with rotation, AsyncExitStack() as stack:
        for part in parts:
            stack.push_async_callback(part.stop)
            await part.start()
        await Server(config, partial(_listening, ready)).serve()
        _logger.info("ending")


def _listening(ready: Callable[[str], None], url: str) -> None:
    ready(url)
    _logger.info("serving at %s", url)


async def body_of(request: Request, limit: int) -> bytes | None:
    """The body, or None when it is larger than `limit`; never more than that is held.

    Raises ClientDisconnect when the connection ends before the body does.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)
