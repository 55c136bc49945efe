"""`POST /v1/stop`: a person says that a decision is wrong, and why.

What `nextmove override stop` does, for a button or a workflow of the CRM: the message does not
leave, unless it has left, and the decision becomes a label. Saying so twice says nothing new.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.errors import LockedError
from connectors.repeated_names import repeated_names
from decision_engine.overrides import Override
from decision_engine.overriding import give
from decision_engine.service.access import is_allowed
from decision_engine.service.app import body_of
from decision_engine.workspace import Workspace

MAX_BODY = 16 << 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Objection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which decision is wrong, why, and who says so."""

    decision_id: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    why: Annotated[str, Meta(min_length=1, max_length=1_000)]
    by: Annotated[str, Meta(min_length=1, max_length=256)]


_decode = msgspec.json.Decoder(Objection).decode


class Stopping:
    """The route over the override log of one project."""

    def __init__(self, workspace: Workspace, api_key: str) -> None:
        self._workspace = workspace
        self._api_key = api_key
        self._turn = asyncio.Lock()

    def routes(self) -> Sequence[BaseRoute]:
        """One."""
        return (Route("/v1/stop", self.stop, methods=["POST"]),)

    async def stop(self, request: Request) -> Response:
        """200 with the override; 400, 401, 413 and 503 with a reason."""
        if not is_allowed(request.headers, self._api_key):
            return _refused(401, "the API key is missing or wrong")
        try:
            body = await body_of(request, MAX_BODY)
            if body is None:
                return _refused(413, f"the body is larger than {MAX_BODY} bytes")
            said = _plain(_decode(body))
            if repeated_names(body)[0]:
                return _refused(400, "a name is there twice")
        except ClientDisconnect:
            return _refused(400, "the connection ended before the body did")
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            return _refused(400, f"the body is not an objection: {error}")
        try:
            async with self._turn:
                override = await asyncio.to_thread(self._stop, said)
        except LockedError:
            return _refused(503, "another override is being written", {"Retry-After": "1"})
        return JSONResponse({"override_id": override.override_id, "decision_id": said.decision_id})

    def _stop(self, said: Objection) -> Override:
        last = self._workspace.overrides().decisions.get(said.decision_id)
        if last is not None and last.kind == "stop":
            return last
        return give(self._workspace, "stop", said.by, said.why, decision_id=said.decision_id)


def _plain(said: Objection) -> Objection:
    """Lines become spaces. Raises ValueError for other control characters, or no text at all."""
    texts = {name: " ".join(getattr(said, name).split()) for name in ("why", "by")}
    for name, text in texts.items():
        if not text or _CONTROL.search(text):
            raise ValueError(f"`{name}` must be plain text")
    return msgspec.structs.replace(said, **texts)


def _refused(status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status, headers)
