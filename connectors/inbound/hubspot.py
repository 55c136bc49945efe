"""HubSpot: changes of contacts, signed in version 3.

HubSpot knows a contact by its own id, so events name it as `contact:<id>`. Who opts out of all
e-mail has left that channel; who is deleted for privacy has left all of them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.inbound import _events as events
from connectors.inbound._call import FIVE_MINUTES, Call, hmac_sha256, is_fresh

CONTACT = "contact:"
_OPT_OUT = "hs_email_optout"


def verify(call: Call, secret: str) -> bool:
    """Base64 of HMAC-SHA256 over method, address, body and time (milliseconds)."""
    at = call.headers.get("x-hubspot-request-timestamp", "")
    right = base64.b64encode(hmac_sha256(secret, "POST", call.url, call.body, at)).decode()
    given = call.headers.get("x-hubspot-signature-v3", "")
    is_right = events.is_token(given, right) and bool(secret)
    return is_right and is_fresh(call, at, FIVE_MINUTES, unit=1e-3)


def parse(call: Call) -> list[events.Event]:
    """Opt-outs and privacy deletions. Raises ValueError for a body that is not a list of events."""
    batch = events.decoded(call.body)
    if not isinstance(batch, list):
        raise ValueError("the body is not a list")
    return [row for event in batch for row in _rows(events.mapping(event), call.at)]


def _rows(event: Mapping[str, Any], received_at: datetime) -> Iterator[events.Event]:
    for channel in _channels(event):
        event_id = events.required("eventId", events.text(event.get("eventId")))
        contact = events.required("objectId", events.text(event.get("objectId")))
        occurred_at = events.epoch("occurredAt", event.get("occurredAt"), 1e-3)
        yield events.event(
            "hubspot",
            f"{event_id}:{contact}:{channel}",
            "unsubscribe",
            channel,
            (occurred_at, received_at),
            external_id=f"{CONTACT}{contact}",
        )


def _channels(event: Mapping[str, Any]) -> tuple[str, ...]:
    """What the person has left."""
    kind = event.get("subscriptionType")
    if kind == "contact.privacyDeletion":
        return events.CHANNELS
    is_property = kind in ("contact.propertyChange", "object.propertyChange")
    has_left = event.get("propertyName") == _OPT_OUT and events.is_true(event.get("propertyValue"))
    return ("email",) if is_property and has_left else ()


KNOWN = (
    Call(
        b'[{"eventId":1,"subscriptionType":"contact.propertyChange","objectId":101}]',
        {
            "x-hubspot-request-timestamp": "1772355600000",
            "x-hubspot-signature-v3": "/k9IwmGVXjr57Chtt3WTxUF8gnU/d9xaiY6flRse+sg=",
        },
        datetime(2026, 3, 1, 9, tzinfo=UTC),
        "https://example.com/webhooks/hubspot",
    ),
    "known-answer-secret",
)
