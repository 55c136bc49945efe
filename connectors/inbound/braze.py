"""Braze Currents over HTTP: batches of events with a bearer token, at least once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.inbound import _events as events
from connectors.inbound._call import Call

_PREFIX = "users.messages."
_CHANNELS = {"email": "email", "pushnotification": "push", "sms": "sms"}
_TYPES = {
    "Delivery": "delivered",
    "Open": "open",
    "Click": "click",
    "ShortLinkClick": "click",
    "Unsubscribe": "unsubscribe",
    "MarkAsSpam": "complaint",
    "Bounce": "bounce",
    "SoftBounce": "bounce",
    "DeliveryFailure": "bounce",
    "Rejection": "bounce",
}


def verify(call: Call, secret: str) -> bool:
    """Whether the call carries the bearer token."""
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    return events.is_token(token, secret) and scheme.lower() == "bearer"


def parse(call: Call) -> list[events.Event]:
    """The message events of a batch; other kinds are left out. An empty batch is fine.

    Raises ValueError for a body that is not a batch, or an event without id or time; the
    vendor then splits the batch.
    """
    batch = events.mapping(events.decoded(call.body)).get("events")
    if not isinstance(batch, list):
        raise ValueError("`events` is not a list")
    rows = (_row(events.mapping(event), call.at) for event in batch)
    return [row for row in rows if row is not None]


def _row(event: Mapping[str, Any], received_at: datetime) -> events.Event | None:
    channel, event_type = _kind(str(event.get("event_type", "")))
    if channel is None or event_type is None:
        return None
    user, properties = events.mapping(event.get("user")), events.mapping(event.get("properties"))
    return {
        "event_id": events.required("id", events.text(event.get("id"))),
        "vendor": "braze",
        "event_type": event_type,
        "external_id": events.text(user.get("external_user_id")),
        "email": events.text(properties.get("email_address"), user.get("email")),
        "channel": channel,
        "campaign_id": events.text(properties.get("campaign_id")),
        "message_ref": events.text(properties.get("dispatch_id"), properties.get("send_id")),
        "decision_id": None,
        "is_machine": _is_machine(properties),
        "occurred_at": events.epoch("time", event.get("time")),
        "received_at": events.naive_utc(received_at),
    }


def _kind(name: str) -> tuple[str | None, str | None]:
    """Our (channel, event type) of "users.messages.email.Open"."""
    channel, _, kind = name.removeprefix(_PREFIX).partition(".")
    return (_CHANNELS.get(channel), _TYPES.get(kind)) if name.startswith(_PREFIX) else (None, None)


def _is_machine(properties: Mapping[str, Any]) -> bool:
    flags = (properties.get("machine_open"), properties.get("is_suspected_bot_click"))
    return any(map(events.is_true, flags)) or events.is_program(
        properties.get("user_agent"), properties.get("url")
    )


KNOWN = Call(b"", {"authorization": "Bearer known-answer-token"}), "known-answer-token"
