"""`POST /v1/track` and its kin: Segment's tracking API for its libraries as they are.

The write key comes as the user name of Basic authentication or as `writeKey` in the body. Both
the long paths of the documentation and the one-letter paths of the browser library are served,
to any origin. Answers:

- 200 {"success": true}: everything is on the disk. `refused` lists items of a batch that can
  never be taken and `notes` what was left out of others, by their place.
- 400 not understood, or no item can be taken · 401 wrong key · 413 too large · 415 an encoding
  other than gzip: calling again with the same body is no use.
- 503 the log cannot be written: call again.

`GET /v1/projects/<write key>/settings` is what the browser and mobile libraries ask Segment's CDN
for at their start: nowhere else but here are events to be sent.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.errors import ConfigurationError
from decision_engine.config import PageClass
from decision_engine.service.app import LogUnavailableError, Part, Receiver, body_of
from decision_engine.service.tracking import (
    BATCH,
    IMPORT,
    KINDS,
    MAX_CALL,
    Call,
    RefusedError,
    Taken,
    parse,
)

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding, X-Retry-Count",
    "Access-Control-Max-Age": "86400",
}
_HOST = re.compile(r"[A-Za-z0-9.\-:\[\]]{1,255}")
_encode = msgspec.json.Encoder().encode


class Ingest(Part):
    """Stores what sites, apps and tools track.

    Raises ConfigurationError for an empty key.
    """

    def __init__(
        self,
        receiver: Receiver,
        write_key: str,
        page_classes: Mapping[PageClass, tuple[str, ...]] | None = None,
    ) -> None:
        if not write_key:
            raise ConfigurationError("events cannot be received without a write key", "set one")
        self._receiver = receiver
        self._key = write_key.encode()
        self._page_classes = page_classes or {}
        counter = partial(Counter, registry=receiver.metrics)
        self._calls = counter(
            "nextmove_tracking_calls_total",
            "Tracking calls by kind and answer.",
            ["kind", "status"],
        )
        self._events = counter(
            "nextmove_tracking_events_total", "Events stored durably, by type.", ["type"]
        )
        self._refused = counter(
            "nextmove_tracking_refused_total", "Calls and items refused, by reason.", ["reason"]
        )
        self._noted = counter(
            "nextmove_tracking_noted_total",
            "Events of which a field was left out or changed, by field.",
            ["field"],
        )
        self._ignored = counter(
            "nextmove_tracking_ignored_total", "Group calls, which are taken and not used."
        )

    def routes(self) -> Sequence[BaseRoute]:
        """Each kind of call under its name and, but for import, under its first letter."""
        kinds = {kind: (kind, kind[0]) for kind in (*KINDS, BATCH)} | {IMPORT: (IMPORT,)}
        calls = [
            Route(f"/v1/{path}", self._route(kind), methods=["POST", "OPTIONS"])
            for kind, paths in kinds.items()
            for path in paths
        ]
        return [*calls, Route("/v1/projects/{key}/settings", self.settings)]

    async def settings(self, request: Request) -> Response:
        """What a library needs to know to send its events here. 404 for another key."""
        key = request.path_params["key"]
        host = request.headers.get("host", "")
        if not hmac.compare_digest(key.encode(), self._key) or not _HOST.fullmatch(host):
            return Response(status_code=404, headers=CORS)
        here = {"apiKey": key, "apiHost": f"{host}/v1", "protocol": request.url.scheme}
        body = _encode({"integrations": {"Segment.io": here}})
        headers = {**CORS, "Cache-Control": "no-store"}
        return Response(body, headers=headers, media_type="application/json")

    def _route(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=CORS)
            status, body = await self._answer(kind, request)
            self._calls.labels(kind, str(status)).inc()
            headers = {**CORS, "Retry-After": "1"} if status == 503 else CORS
            return Response(_encode(body), status, headers, media_type="application/json")

        return answer

    async def _answer(self, kind: str, request: Request) -> tuple[int, dict[str, Any]]:
        try:
            return await self._take(kind, request)
        except RefusedError as error:
            self._refused.labels(error.code).inc()
            return error.status, _failure(error.code, str(error))
        except ClientDisconnect:
            return 400, _failure("disconnected", "the connection ended before the body did")
        except LogUnavailableError:
            return 503, _failure("unavailable", "the log cannot be written")

    async def _take(self, kind: str, request: Request) -> tuple[int, dict[str, Any]]:
        given = _basic_key(request.headers.get("authorization", ""))
        if given is not None:
            self._check(given)
        body = await body_of(request, MAX_CALL)
        call = parse(kind, _plain(body, request.headers.get("content-encoding", "")))
        if given is None:
            self._check((call.write_key or "").encode())
        return await self._store(call)

    async def _store(self, call: Call) -> tuple[int, dict[str, Any]]:
        taken = call.events(datetime.now(UTC).replace(tzinfo=None), self._page_classes)
        await self._receiver.commit(taken.events)
        self._count(taken)
        refused = [
            {"item": place, "code": error.code, "message": str(error)}
            for place, error in taken.refused.items()
        ]
        if refused and not taken.events and not taken.ignored:
            first = next(iter(taken.refused.values()))
            failure = _failure(first.code, str(first))
            return 413 if first.code == "size" else 400, failure | {"refused": refused}
        notes = [{"item": place, **noted} for place, noted in taken.notes.items()]
        parts = {"refused": refused, "notes": notes}
        return 200, {"success": True} | {name: part for name, part in parts.items() if part}

    def _check(self, given: bytes) -> None:
        if not hmac.compare_digest(given, self._key):
            raise RefusedError(401, "unauthorized", "the write key is missing or wrong")

    def _count(self, taken: Taken) -> None:
        for event in taken.events:
            self._events.labels(event.type).inc()
        for error in taken.refused.values():
            self._refused.labels(error.code).inc()
        for noted in taken.notes.values():
            for name in noted:
                self._noted.labels(name).inc()
        self._ignored.inc(taken.ignored)


def _failure(code: str, message: str) -> dict[str, Any]:
    """What Segment's libraries look for in an answer that is not a 200."""
    return {"success": False, "code": code, "message": message}


def _basic_key(header: str) -> bytes | None:
    """The user name of Basic authentication; None without such a header."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):
        return b""


def _plain(body: bytes | None, encoding: str) -> bytes:
    """The body as it was before compression, never more of it than a call may have."""
    if body is None:
        raise _too_large()
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() != "gzip":
        raise RefusedError(415, "encoding", "the only encoding of a body is gzip")
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(body, MAX_CALL + 1)
    except zlib.error:
        raise RefusedError(400, "encoding", "the body is not gzip") from None
    if len(plain) > MAX_CALL:
        raise _too_large()
    if not inflate.eof or inflate.unused_data:
        raise RefusedError(400, "encoding", "the body is not one whole gzip member")
    return plain


def _too_large() -> RefusedError:
    return RefusedError(413, "size", f"a call may have {MAX_CALL} bytes")
