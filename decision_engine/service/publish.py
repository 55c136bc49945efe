"""`PUT /v1/hot_store...`: the delivery engine fills the hot store.

- `PUT /v1/hot_store` {"instance", "as_of"}: 200 {"instance"}. Both may be left out; `as_of`
  says that all profiles have been published as of then.
- `PUT /v1/hot_store/profiles`, `PUT /v1/hot_store/policies` {"instance", "rows"}: up to 500 rows,
  each {"key", ...changed columns} or {"key", "deleted": true}. 200 {"instance", "rows"} with a
  verdict per row, in their order: {"key", "status": "accepted"} or {"key", "status": "rejected",
  "reason"}. What is accepted is on the disk.

400 not understood, 401 wrong key, 409 the store is not the instance that was filled so far,
413 body over 64 MiB, 503 the store cannot be written. `Authorization: Bearer <API key>`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client import Counter, Gauge
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from decision_engine.service.access import is_allowed
from decision_engine.service.app import Part, Receiver, body_of
from decision_engine.service.people import People
from decision_engine.service.store import HotStore
from decision_engine.service.store_file import StoreError

MAX_BODY = 64 << 20
"""A policy of thousands of weights per action is tens of megabytes."""
MAX_ROWS = 500
CLOCK_TOLERANCE = 300_000_000
"""Microseconds by which the clock of who publishes may be ahead."""

_logger = logging.getLogger(__name__)


class Hello(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /v1/hot_store`; `as_of` is in microseconds since 1970, UTC."""

    instance: str | None = None
    as_of: int | None = None


class Rows(msgspec.Struct, forbid_unknown_fields=True):
    """The body of the other two. Rows are decoded one by one, so that one cannot spoil others.

    It also keeps the event loop's waits short: each decoding holds the interpreter.
    """

    instance: str
    rows: list[msgspec.Raw]


class _AnswerError(Exception):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Publishing(Part):
    """Fills the store on behalf of who has the key, and tells `people` who is who."""

    def __init__(self, receiver: Receiver, store: HotStore, people: People, api_key: str) -> None:
        self._store = store
        self._people = people
        self._api_key = api_key
        self._rows = Counter(
            "nextmove_hot_store_rows_total",
            "Rows published.",
            ["table", "status"],
            registry=receiver.metrics,
        )
        Gauge(
            "nextmove_hot_store_as_of_seconds",
            "Unix time as of which all profiles were published, 0 before.",
            registry=receiver.metrics,
        ).set_function(lambda: (store.as_of or 0) / 1e6)

    def routes(self) -> Sequence[BaseRoute]:
        """PUT only."""
        return (
            Route("/v1/hot_store", self.hello, methods=["PUT"]),
            Route("/v1/hot_store/{table}", self.rows, methods=["PUT"]),
        )

    async def hello(self, request: Request) -> Response:
        """Say which store this is, and note as of when it is complete."""
        return await self._answer(request, self._hello)

    async def rows(self, request: Request) -> Response:
        """Take in rows of one table."""
        return await self._answer(request, self._publish)

    async def _answer(self, request: Request, work: Any) -> Response:
        try:
            body = await self._body(request)
            answer = await work(request.path_params.get("table"), body)
        except _AnswerError as error:
            return JSONResponse({"error": str(error)}, error.status)
        except StoreError as error:
            _logger.error("%s", error)
            return JSONResponse({"error": "the hot store cannot be written"}, 503)
        return JSONResponse(answer)

    async def _body(self, request: Request) -> bytes:
        if not is_allowed(request.headers, self._api_key):
            raise _AnswerError(401, "unauthorized")
        try:
            body = await body_of(request, MAX_BODY)
        except ClientDisconnect:
            raise _AnswerError(400, "the connection ended before the body did") from None
        if body is None:
            raise _AnswerError(413, f"the body is larger than {MAX_BODY} bytes")
        return body

    async def _hello(self, _: None, body: bytes) -> dict[str, Any]:
        hello = _decoded(body, Hello)
        if hello.instance is not None:
            self._require(hello.instance)
        if hello.as_of is not None:
            _require_past(hello.as_of)
            await asyncio.to_thread(self._store.complete, hello.as_of)
        return {"instance": self._store.instance}

    async def _publish(self, table: str, body: bytes) -> dict[str, Any]:
        if table not in ("profiles", "policies"):
            raise _AnswerError(404, "no such table; there are profiles and policies")
        call = _decoded(body, Rows)
        if len(call.rows) > MAX_ROWS:
            raise _AnswerError(400, f"at most {MAX_ROWS} rows in a call")
        self._require(call.instance)
        rows = await asyncio.to_thread(lambda: [_row(raw) for raw in call.rows])
        if table == "profiles":
            reasons = await self._profiles(rows)
        else:
            now = time.time_ns() // 1000
            reasons = await asyncio.to_thread(self._store.publish_policies, rows, now)
        verdicts = [_verdict(row, why) for row, why in zip(rows, reasons, strict=True)]
        for verdict in verdicts:
            self._rows.labels(table, verdict["status"]).inc()
        return {"instance": self._store.instance, "rows": verdicts}

    async def _profiles(self, rows: list[dict[str, Any]]) -> list[str | None]:
        """What strangers did is their customer's from now on."""
        known = [(str(row.get("key")), row.get("identifiers")) for row in rows]
        self._claim(known)
        reasons = await asyncio.to_thread(self._store.publish_profiles, rows)
        # A stranger may have come with one of the identifiers meanwhile.
        self._claim([one for one, why in zip(known, reasons, strict=True) if why is None])
        for key, _ in known:
            self._people.published(key)
        return reasons

    def _claim(self, known: Sequence[tuple[str, Any]]) -> None:
        for key, identifiers in known:
            if isinstance(identifiers, str):
                self._people.publishing(key, identifiers.split("\n"))

    def _require(self, instance: str) -> None:
        if instance != self._store.instance:
            raise _AnswerError(409, "this is another store than the one that was filled so far")


def _require_past(as_of: int) -> None:
    """A moment that is still to come would make profiles pass for fresh for as long."""
    if as_of > time.time_ns() // 1000 + CLOCK_TOLERANCE:
        raise _AnswerError(400, "`as_of` is in the future; microseconds since 1970, UTC, are meant")


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise _AnswerError(400, f"the body is not understood: {error}") from None


def _row(raw: msgspec.Raw) -> dict[str, Any]:
    """The row; one without a key, which is refused, for what is not an object."""
    try:
        row = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _verdict(row: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    if reason is None:
        return {"key": row["key"], "status": "accepted"}
    return {"key": row.get("key"), "status": "rejected", "reason": reason}
