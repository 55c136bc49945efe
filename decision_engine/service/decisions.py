"""Decisions on request, over HTTP.

- `POST /v1/decide`: the best move for one person, now.
- `GET /v1/content/<agent>`: what a message should say, asked for while the ESP renders it.
- `GET /v1/decisions/<id>`: a decision made here, with its reasons in words.

The API key goes into the Authorization header, as `Bearer <key>` or as the password of `Basic`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from connectors.repeated_names import repeated_names
from decision_engine.config import Channel, Creative
from decision_engine.explain.case import Case
from decision_engine.explain.readers import text_for
from decision_engine.explain.told import Told
from decision_engine.identifiers import clean_email, clean_id
from decision_engine.record import CarriedOutBy
from decision_engine.replay import completed
from decision_engine.service.access import is_allowed
from decision_engine.service.app import LogUnavailableError, Receiver, body_of
from decision_engine.service.hot import TIMES, HotPath, NotReadyError
from decision_engine.types import ANY_DEVICE, REP
from decision_engine.workspace import Workspace

MAX_BODY = 32 << 10
CONTENT_SECONDS = 1.0
"""ESPs give up on a content call after two seconds; the safe default is out well before."""
DECISION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Bounds of the histograms of decisions."""

Text = Annotated[str, Meta(min_length=1, max_length=256)]


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants to know what. At least one identifier; the first of them that is known counts.

    `id` makes a repeated request get the same decision; without one each request is new.
    `agent` is one of the project's; without one all of them compete. `deliver` hands the
    decision to nextmove's own delivery, otherwise the caller is taken to carry it out.
    """

    customer_id: Text | None = None
    user_id: Text | None = None
    anonymous_id: Text | None = None
    email: Text | None = None
    agent: Text | None = None
    channel: Channel | None = None
    id: Text | None = None
    deliver: bool = False


class Move(msgspec.Struct, frozen=True):
    """The answer. `decision_id` is null when nothing was decided, and `why` says the reason.

    `send_at` and `expires_at` are ISO 8601, UTC.
    """

    id: str
    decision_id: str | None = None
    agent: str | None = None
    group: str | None = None
    action: str = "no_action"
    channel: str | None = None
    creative: str | None = None
    incentive: str | None = None
    subject: str | None = None
    body: str | None = None
    attributes: Mapping[str, str] = {}
    send_at: str | None = None
    expires_at: str | None = None
    why: str | None = None


class Content(msgspec.Struct, frozen=True):
    """What to render. `send` is false when the message should be aborted.

    `is_default` says that no decision stands behind it: `creative` is then the one that the
    caller named as `default`, or null.
    """

    send: bool
    is_default: bool
    decision_id: str | None = None
    creative: str | None = None
    incentive: str | None = None
    subject: str | None = None
    body: str | None = None
    attributes: Mapping[str, str] = {}


class RefusedError(Exception):
    """The request cannot be answered: the HTTP status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_ask = msgspec.json.Decoder(Ask).decode


class Decisions:
    """The routes over one `HotPath`."""

    def __init__(
        self, receiver: Receiver, workspace: Workspace, hot: HotPath, api_key: str
    ) -> None:
        self._workspace = workspace
        self._hot = hot
        self._api_key = api_key
        self._seconds = Histogram(
            "nextmove_decision_seconds",
            "From the request to its decision being durable.",
            buckets=DECISION_SECONDS,
            registry=receiver.metrics,
        )
        self._answers = Counter(
            "nextmove_decisions_total",
            "Requests by what they were answered with.",
            ["answer"],
            registry=receiver.metrics,
        )

    def routes(self) -> Sequence[BaseRoute]:
        """All three."""
        return (
            Route("/v1/decide", self.decide, methods=["POST"]),
            Route("/v1/content/{agent}", self.content, methods=["GET"]),
            Route("/v1/decisions/{decision_id}", self.decision, methods=["GET"]),
        )

    # ---- POST /v1/decide ----

    async def decide(self, request: Request) -> Response:
        """200 with a `Move`; 400, 401, 404 and 503 with a reason."""
        start = time.perf_counter()
        try:
            self._require_key(request)
            answer = _json(await self._move(await _asked(request)))
        except RefusedError as error:
            answer = _json({"error": str(error)}, error.status)
        except NotReadyError:
            answer = _json({"error": "nothing is published yet: run `nextmove deliver`"}, 503)
        except LogUnavailableError:
            answer = _json({"error": "the log cannot be written"}, 503)
        self._answers.labels(str(answer.status_code)).inc()
        self._seconds.observe(time.perf_counter() - start)
        return answer

    async def _move(self, ask: Ask) -> Move:
        agents = self._agents(ask.agent)
        slot_id = ask.id or uuid.uuid4().hex
        if not any((ask.customer_id, ask.user_id, ask.anonymous_id, ask.email)):
            raise RefusedError(400, "who: name a customer_id, user_id, anonymous_id or email")
        key = self._who(ask)
        if key is None:
            return Move(slot_id, why="the person is not known")
        by: CarriedOutBy = "delivery" if ask.deliver else "caller"
        row = await self._hot.decide(
            key, agents, f"request:{slot_id}", channel=ask.channel, carried_out_by=by
        )
        return (
            Move(slot_id, why="in nobody's audience") if row is None else self._told(slot_id, row)
        )

    def _told(self, slot_id: str, row: Mapping[str, Any]) -> Move:
        return Move(
            slot_id,
            decision_id=row["decision_id"],
            agent=row["agent"],
            group=row["group_name"],
            action=row["action"],
            incentive=row["incentive"],
            send_at=_utc(row["send_at"]),
            expires_at=_utc(row["expires_at"]),
            **_words_of(self._workspace.creatives.get(row["creative"])),
        )

    def _agents(self, name: str | None) -> list[str]:
        known = self._hot.agents
        if name is None:
            return list(known)
        if name not in known:
            raise RefusedError(404, "there is no such agent")
        return [name]

    def _who(self, ask: Ask) -> str | None:
        if ask.customer_id is not None and self._hot.known.people.is_customer(ask.customer_id):
            return ask.customer_id
        named = [
            ("user_id", clean_id(ask.user_id)),
            ("anonymous_id", clean_id(ask.anonymous_id)),
            ("email", clean_email(ask.email)),
        ]
        return self._hot.known.people.find(f"{kind}:{value}" for kind, value in named if value)

    # ---- GET /v1/content/<agent> ----

    async def content(self, request: Request) -> Response:
        """200 with `Content`, whatever happens; 400 and 401 for a call that is wrong."""
        try:
            self._require_key(request)
            ask, default, slot = self._content_call(request)
            async with asyncio.timeout(CONTENT_SECONDS):
                answer = await self._rendered(ask, slot, default)
        except RefusedError as error:
            return _json({"error": str(error)}, error.status)
        except (TimeoutError, NotReadyError, LogUnavailableError):
            answer = _default(default)
        except Exception:
            _logger.exception("content could not be decided, the default was given")
            answer = _default(default)
        self._answers.labels("default" if answer.is_default else "content").inc()
        return _json(answer)

    def _content_call(self, request: Request) -> tuple[Ask, Creative | None, str]:
        query = dict(request.query_params)
        message, send = query.pop("message", ""), query.pop("send", "")
        name = query.pop("default", None)
        default = self._workspace.creatives.get(name) if name else None
        if name and default is None:
            raise RefusedError(400, "default: there is no such creative")
        if not message or not send or len(message) + len(send) > 400:
            raise RefusedError(400, "message and send are required: they say which sending this is")
        _require_plain("message", message)
        _require_plain("send", send)
        agent = request.path_params["agent"]
        if agent not in self._workspace.agents:
            raise RefusedError(404, "there is no such agent")
        try:
            ask = msgspec.convert({**query, "agent": agent}, Ask)
        except msgspec.ValidationError as error:
            raise RefusedError(400, str(error)) from None
        if REP in (ask.channel, default and default.channel):
            raise RefusedError(400, "what a rep is told is not put into a message to the customer")
        return ask, default, f"content:{len(message)}:{message}:{send}"

    async def _rendered(self, ask: Ask, slot: str, default: Creative | None) -> Content:
        agents = self._agents(ask.agent)
        key = self._who(ask)
        if key is None:
            return _default(default)
        # What is put into a message to the customer is never what a rep is told.
        row = await self._hot.decide(key, agents, slot, channel=ask.channel or ANY_DEVICE)
        if row is None:
            return _default(default)
        words = _words_of(self._workspace.creatives.get(row["creative"]))
        words.pop("channel", None)
        return Content(
            send=row["action"] != "no_action",
            is_default=False,
            decision_id=row["decision_id"],
            incentive=row["incentive"],
            **words,
        )

    # ---- GET /v1/decisions/<id> ----

    async def decision(self, request: Request) -> Response:
        """200 with the record and its explanation; 401, 404."""
        try:
            self._require_key(request)
        except RefusedError as error:
            return _json({"error": str(error)}, error.status)
        row = self._hot.known.decision(request.path_params["decision_id"])
        plan = self._hot.known.plan_of(row["epoch_id"]) if row else None
        if row is None or plan is None:
            return _json({"error": "no such decision was made here"}, 404)
        times = {c: datetime.fromisoformat(row[c]) if row[c] else None for c in TIMES}
        record = {**completed(row, plan), **times, "facts": json.loads(row["facts"])}
        text = text_for("marketer", Told(Case(record, plan, self._workspace.creatives)))
        shown = {**record, **{c: _utc(row[c]) for c in TIMES}}
        return _json({"decision": shown, "explanation": text})

    # ---- the key ----

    def _require_key(self, request: Request) -> None:
        if not is_allowed(request.headers, self._api_key):
            raise RefusedError(401, "the API key is missing or wrong")


async def _asked(request: Request) -> Ask:
    try:
        body = await body_of(request, MAX_BODY)
    except ClientDisconnect:
        raise RefusedError(400, "the connection ended before the body did") from None
    if body is None:
        raise RefusedError(413, f"the body is larger than {MAX_BODY} bytes")
    try:
        ask, (is_ambiguous, _) = _ask(body), repeated_names(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not a request: {error}") from None
    if is_ambiguous:
        raise RefusedError(400, "a name is there twice")
    _require_plain("id", ask.id or "")
    return ask


def _require_plain(name: str, value: str) -> None:
    """It becomes part of a slot, whose parts U+001F separates, and Postgres stores no U+0000."""
    if _CONTROL.search(value):
        raise RefusedError(400, f"{name}: must not hold control characters, such as U+001F")


def _words_of(creative: Creative | None) -> dict[str, Any]:
    if creative is None:
        return {}
    return {
        "creative": creative.creative,
        "channel": creative.channel,
        "subject": creative.subject,
        "body": creative.body,
        "attributes": creative.attributes,
    }


def _utc(moment: str | None) -> str | None:
    """A moment of the record, which is UTC without saying so, as other programs read it."""
    return f"{moment}Z" if moment else None


def _default(creative: Creative | None) -> Content:
    words = _words_of(creative)
    words.pop("channel", None)
    return Content(send=creative is not None, is_default=True, **words)


def _json(answer: Any, status: int = 200) -> Response:
    return Response(_encode(answer), status, media_type="application/json")
