"""What the imitated vendors have in common, and the ASGI app that runs one of them."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec
from starlette.types import Message, Receive, Scope, Send

from connectors.sandbox.faults import LATENCY_SECONDS
from connectors.sandbox.limits import Pool, Usage
from connectors.sandbox.state import State

JSON = {"content-type": "application/json"}
HTML = b"<!DOCTYPE html><html><body><h1>Welcome</h1></body></html>"
RESET = "nextmove.sandbox.reset"
"""The key of the ASGI scope under which the server puts a function that resets the connection."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: payload to answer, its rate-limit pool and its largest body in bytes.

    `handle` gets what stands for the braces of its path after the payload. The payload of a raw
    endpoint is the body's bytes; without a body it is None. An open one asks for no credentials.
    """

    handle: Callable[..., Answer]
    pool: Pool
    max_body: int
    is_raw: bool = False
    is_open: bool = False


class Vendor(Protocol):
    """One imitated vendor.

    `endpoints` are by method and path, "PUT /catalogs/{name}/items"; a path alone is a POST.
    `errors` has the answers that do not depend on the payload: unauthorized, not_found,
    too_large, bad_json, server_error.
    """

    name: str
    endpoints: Mapping[str, Endpoint]
    errors: Mapping[str, Answer]

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the call is allowed to be made. Header names are lower case."""
        ...

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """The documented headers that tell the state of the limits."""
        ...

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """The documented 429."""
        ...


def answer(status: int, payload: Any) -> Answer:
    """A JSON answer."""
    return Answer(status, msgspec.json.encode(payload))


def carries(headers: Mapping[str, str], name: str, value: str) -> bool:
    """Whether a header has its only right value."""
    return hmac.compare_digest(headers.get(name, "").encode(), value.encode())


class VendorApp:
    """One vendor as an ASGI app: authenticate, misbehave if told to, count, handle, answer.

    Calls refused for their credentials, path or size are not counted against the limits.
    """

    def __init__(self, vendor: Vendor, state: State) -> None:
        self._vendor = vendor
        self._state = state
        self._prefix = f"/{vendor.name}"
        self._routes = [(_route(key), endpoint) for key, endpoint in vendor.endpoints.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        path = scope["path"].removeprefix(self._prefix)
        endpoint = self._endpoint(f"{scope['method']} {path}")
        body = await _body(receive, endpoint.max_body if endpoint else 0)
        refusal = self._refusal(scope, endpoint, body)
        if refusal or endpoint is None or body is None:
            await _send(send, refusal or self._vendor.errors["not_found"])
            return
        fault = self._state.faults.draw(self._vendor.name)
        if fault == "reset_before_accept":
            await _reset(scope, receive)
            return
        reply = self._handle(path, endpoint, body, fault)
        if fault == "latency":
            await asyncio.sleep(LATENCY_SECONDS)
        if fault == "truncated":
            reply = replace(reply, body=reply.body[: len(reply.body) // 2])
        if fault == "reset_after_accept":
            await _reset(scope, receive)
        elif fault == "timeout_after_accept":
            await _hang(receive)
        else:
            await _send(send, reply)

    def _endpoint(self, call: str) -> Endpoint | None:
        for route, endpoint in self._routes:
            found = route.fullmatch(call)
            if found:
                return replace(endpoint, handle=_with(endpoint.handle, found.groups()))
        return None

    def _refusal(
        self, scope: Scope, endpoint: Endpoint | None, body: bytes | None
    ) -> Answer | None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        is_open = endpoint is not None and endpoint.is_open
        if not is_open and not self._vendor.is_authentic(headers, body or b""):
            return self._vendor.errors["unauthorized"]
        if endpoint is None:
            return self._vendor.errors["not_found"]
        return self._vendor.errors["too_large"] if body is None else None

    def _handle(self, path: str, endpoint: Endpoint, body: bytes, fault: str | None) -> Answer:
        if fault == "error_500":
            return self._vendor.errors["server_error"]
        if fault == "html_200":
            return Answer(200, HTML, {"content-type": "text/html"})
        usages = endpoint.pool.take()
        if fault == "rate_limit":
            usages = [replace(u, is_allowed=False, remaining=0, resets_in=1.0) for u in usages]
        if fault == "rate_limit" or not all(usage.is_allowed for usage in usages):
            reply = self._vendor.limited(path, usages)
        else:
            reply = self._accept(endpoint, body)
        headers = {**reply.headers, **self._vendor.rate_headers(usages)}
        return Answer(reply.status, reply.body, headers)

    def _accept(self, endpoint: Endpoint, body: bytes) -> Answer:
        try:
            payload = body if endpoint.is_raw else msgspec.json.decode(body) if body else None
        except msgspec.DecodeError:
            return self._vendor.errors["bad_json"]
        try:
            return endpoint.handle(payload)
        finally:
            self._state.ledger.flush()


def _route(key: str) -> re.Pattern[str]:
    call = key if " " in key else f"POST {key}"
    parts = re.split(r"\{\w+\}", call)
    return re.compile("([^/]+)".join(map(re.escape, parts)))


def _with(handle: Callable[..., Answer], found: Sequence[str]) -> Callable[[Any], Answer]:
    return lambda payload: handle(payload, *found)


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The whole request body; None when it breaks off or is larger than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if size <= limit else None


async def _send(send: Send, reply: Answer) -> None:
    headers = [(k.encode(), v.encode()) for k, v in reply.headers.items()]
    headers.append((b"content-length", str(len(reply.body)).encode()))
    start: Message = {"type": "http.response.start", "status": reply.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": reply.body})


async def _hang(receive: Receive) -> None:
    """Wait until the client gives up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(scope: Scope, receive: Receive) -> None:
    """Cut the TCP connection under the client, then let the server notice."""
    scope[RESET]()
    await _hang(receive)
