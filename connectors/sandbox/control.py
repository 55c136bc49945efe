"""The vendors and, beside them, the control API: one ASGI app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from connectors.sandbox import webhooks
from connectors.sandbox.braze import Braze
from connectors.sandbox.hubspot import HubSpot
from connectors.sandbox.iterable import Iterable
from connectors.sandbox.salesforce import Salesforce
from connectors.sandbox.slack import Slack
from connectors.sandbox.state import State
from connectors.sandbox.vendor import VendorApp
from connectors.sandbox.webhook import Webhook

VENDORS = ("braze", "iterable", "hubspot", "salesforce", "slack", "webhook")
WEBHOOK_VENDORS = ("braze", "iterable")


@dataclass(frozen=True)
class Settings:
    """`keys` are the vendors' API keys and `tokens` their webhook tokens, by vendor.

    `webhooks` is the base URL of the receiver; without it every webhook fails.
    `limit_divisor` makes all rate limits that much smaller.
    """

    keys: Mapping[str, str]
    tokens: Mapping[str, str]
    webhooks: str | None = None
    limit_divisor: float = 1.0


class _Reaction(msgspec.Struct, forbid_unknown_fields=True):
    vendor: str
    message_id: str
    type: webhooks.Kind
    at: datetime
    is_machine: bool = False


class _Reactions(msgspec.Struct, forbid_unknown_fields=True):
    events: list[_Reaction]


class _Fault(msgspec.Struct, forbid_unknown_fields=True):
    vendor: str
    kind: str
    count: int = 0
    share: float = 0.0


class _Clock(msgspec.Struct, forbid_unknown_fields=True):
    now: datetime


def create_app(state: State, settings: Settings) -> Starlette:
    """The app over `state`, which its owner closes."""
    control = Control(state, settings)
    vendors = (
        Braze(state, settings.keys["braze"], settings.limit_divisor),
        Iterable(state, settings.keys["iterable"], settings.limit_divisor),
        HubSpot(state, settings.keys["hubspot"], settings.limit_divisor),
        Salesforce(state, settings.keys["salesforce"], settings.limit_divisor),
        Slack(state, settings.keys["slack"], settings.limit_divisor),
        Webhook(state, settings.keys["webhook"], settings.limit_divisor),
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        control.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            *(Mount(f"/{vendor.name}", VendorApp(vendor, state)) for vendor in vendors),
            Mount("/_sandbox", routes=control.routes()),
        ],
        exception_handlers={ValueError: _refused, msgspec.ValidationError: _refused},
    )


class Control:
    """The control API. What it cannot understand is answered by 400 and changes nothing."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state = state
        self._settings = settings
        self._poster = webhooks.Poster(settings.webhooks) if settings.webhooks else None

    def close(self) -> None:
        """Stop posting."""
        if self._poster is not None:
            self._poster.close()

    def routes(self) -> list[Route]:
        """The endpoints under /_sandbox."""
        return [
            Route("/health", self.health),
            Route("/ledger", self.ledger),
            Route("/engagements", self.engagements, methods=["POST"]),
            Route("/clock", self.clock, methods=["POST"]),
            Route("/faults", self.faults, methods=["POST"]),
        ]

    async def health(self, _: Request) -> Response:
        """200 and the number of effects so far."""
        return JSONResponse({"status": "ok", "entries": len(self._state.ledger.entries)})

    async def ledger(self, request: Request) -> Response:
        """All entries after a number, and the number to ask for next time."""
        vendor = request.query_params.get("vendor", "")
        after = int(request.query_params.get("after", "0"))
        if (vendor and vendor not in VENDORS) or after < 0:
            raise ValueError("`vendor` must be a vendor and `after` 0 or more")
        entries = self._state.ledger.entries
        found = [e for e in entries[after:] if not vendor or e.vendor == vendor]
        return _json({"next": max(after, len(entries)), "entries": found})

    async def engagements(self, request: Request) -> Response:
        """Let people react to messages and post the webhooks; answers when all is posted."""
        body = msgspec.json.decode(await request.body(), type=_Reactions)
        engagements = [self._engagement(reaction) for reaction in body.events]
        for engagement in engagements:
            self._state.engage(engagement.message, engagement.kind, _text(engagement.at))
        self._state.ledger.flush()
        posts = webhooks.posts_for(engagements, self._settings.tokens, self._state.faults)
        if self._poster is None:
            return JSONResponse({"posted": 0, "failed": len(engagements)})
        posted, failed = await self._poster.post(posts)
        return JSONResponse({"posted": posted, "failed": failed})

    def _engagement(self, reaction: _Reaction) -> webhooks.Engagement:
        message = self._state.accounts[reaction.vendor].messages.get(reaction.message_id)
        if message is None:
            raise ValueError(f"`message_id` {reaction.message_id!r} was never delivered")
        if not webhooks.has_event(message.channel, reaction.type):
            raise ValueError(f"`type` {reaction.type!r} does not exist for {message.channel}")
        at = reaction.at if reaction.at.tzinfo else reaction.at.replace(tzinfo=UTC)
        return webhooks.Engagement(message, reaction.type, at, reaction.is_machine)

    async def clock(self, request: Request) -> Response:
        """Stop the clock at a moment."""
        self._state.set_clock(msgspec.json.decode(await request.body(), type=_Clock).now)
        return JSONResponse({"now": _text(self._state.now())})

    async def faults(self, request: Request) -> Response:
        """Set or remove a fault."""
        fault = msgspec.json.decode(await request.body(), type=_Fault)
        if fault.vendor not in VENDORS:
            raise ValueError(f"`vendor` must be one of {', '.join(VENDORS)}")
        self._state.faults.put(fault.vendor, fault.kind, fault.count, fault.share)
        return JSONResponse(msgspec.to_builtins(fault))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json(payload: Any) -> Response:
    return Response(msgspec.json.encode(payload), media_type="application/json")


def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)
