"""Iterable system webhooks: one event a call, with a static Authorization token.

Nothing is signed, and events carry no id; ours is a hash of what makes an event this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connectors.inbound import _events as events
from connectors.inbound._call import Call

_TYPES = {
    "emailDelivered": ("email", "delivered"),
    "emailOpen": ("email", "open"),
    "emailClick": ("email", "click"),
    "emailUnSubscribe": ("email", "unsubscribe"),
    "emailComplaint": ("email", "complaint"),
    "emailBounce": ("email", "bounce"),
    "pushOpen": ("push", "open"),
    "pushBounce": ("push", "bounce"),
    "pushUninstall": ("push", "unsubscribe"),
    "smsDelivered": ("sms", "delivered"),
    "smsClick": ("sms", "click"),
    "smsUnsubscribe": ("sms", "unsubscribe"),
    "smsBounce": ("sms", "bounce"),
}
_BY_LOWER_NAME = {name.lower(): kind for name, kind in _TYPES.items()}
_CARRIERS = ("metadata", "transactionalData")


def verify(call: Call, secret: str) -> bool:
    """Whether the call carries the token, raw or after "OAuth2 "."""
    given = call.headers.get("authorization", "")
    is_raw = events.is_token(given, secret)
    return events.is_token(given.removeprefix("OAuth2 "), secret) or is_raw


def parse(call: Call) -> list[events.Event]:
    """The one event of the call; none when it is of a kind we do not use.

    Raises ValueError for a body that is not an event, or one without message id or time.
    """
    event = events.mapping(events.decoded(call.body))
    name = events.required("eventName", events.text(event.get("eventName")))
    if name.lower() not in _BY_LOWER_NAME:
        return []
    channel, event_type = _BY_LOWER_NAME[name.lower()]
    data = events.mapping(event.get("dataFields"))
    message = events.required("messageId", events.text(data.get("messageId")))
    created = events.required("createdAt", events.text(data.get("createdAt")))
    is_bot = events.is_true(data.get("isBot"))
    is_machine = is_bot or events.is_program(data.get("userAgent"), data.get("url"))
    return [
        {
            "event_id": _event_id(message, name, created, is_machine),
            "vendor": "iterable",
            "event_type": event_type,
            "external_id": events.text(event.get("userId"), data.get("userId")),
            "email": events.text(event.get("email"), data.get("email")),
            "channel": channel,
            "campaign_id": events.text(data.get("campaignId")),
            "message_ref": message,
            "decision_id": _decision_id(data),
            "is_machine": is_machine,
            "occurred_at": _time(created),
            "received_at": events.naive_utc(call.at),
        }
    ]


def _event_id(message: str, name: str, created: str, is_machine: bool) -> str:
    """Times are whole seconds: a reader's click and a scanner's of one second are two events."""
    parts = (message, name, created, "machine") if is_machine else (message, name, created)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _decision_id(data: Mapping[str, Any]) -> str | None:
    """What we gave the message as metadata, wherever the vendor repeats it."""
    carriers = [data, *(events.mapping(data.get(carrier)) for carrier in _CARRIERS)]
    return events.text(*(carrier.get("decision_id") for carrier in carriers))


def _time(value: str) -> datetime:
    """Like 2026-03-01 09:00:00 +00:00, which ISO 8601 writes without the second space."""
    try:
        return events.naive_utc(datetime.fromisoformat(value.replace(" +", "+").replace(" -", "-")))
    except (ValueError, OverflowError):
        raise ValueError("`createdAt` is not a time") from None


KNOWN = Call(b"", {"authorization": "known-answer-token"}), "known-answer-token"
