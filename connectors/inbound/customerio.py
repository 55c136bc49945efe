"""Customer.io's reporting webhooks: one event a call, with an id to tell repeats by.

`object_type` is the channel, or `customer` for what is true of the whole person.
"""

from __future__ import annotations

from datetime import UTC, datetime

from connectors.inbound import _events as events
from connectors.inbound._call import A_DAY, Call, hmac_sha256, is_fresh

_TYPES = {
    "delivered": "delivered",
    "opened": "open",
    "clicked": "click",
    "bounced": "bounce",
    "failed": "bounce",
    "spammed": "complaint",
    "unsubscribed": "unsubscribe",
}


def verify(call: Call, secret: str) -> bool:
    """Hex of HMAC-SHA256 over `v0:time:body`."""
    at = call.headers.get("x-cio-timestamp", "")
    right = hmac_sha256(secret, "v0:", at, ":", call.body).hex()
    is_right = events.is_token(call.headers.get("x-cio-signature", ""), right) and bool(secret)
    return is_right and is_fresh(call, at, A_DAY)


def parse(call: Call) -> list[events.Event]:
    """The event, once for each channel it speaks of; none when it is of a kind we do not use.

    Raises ValueError for a body that is not an event, or one without id or time.
    """
    event = events.mapping(events.decoded(call.body))
    metric = events.required("metric", events.text(event.get("metric")))
    event_id = events.required("event_id", events.text(event.get("event_id")))
    occurred_at = events.epoch("timestamp", event.get("timestamp"))
    kind, about = _TYPES.get(metric), event.get("object_type")
    if kind is None:
        return []
    channels = [channel for channel in events.CHANNELS if channel == about]
    if about == "customer" and kind == "unsubscribe":
        channels = list(events.CHANNELS)
    data = events.mapping(event.get("data"))
    identifiers = events.mapping(data.get("identifiers"))
    return [
        events.event(
            "customerio",
            event_id if len(channels) == 1 else f"{event_id}:{channel}",
            kind,
            channel,
            (occurred_at, call.at),
            external_id=events.text(identifiers.get("id"), data.get("customer_id")),
            email=events.text(data.get("email_address"), identifiers.get("email")),
            campaign_id=events.text(data.get("campaign_id"), data.get("broadcast_id")),
            message_ref=events.text(data.get("delivery_id")),
            is_machine=events.is_true(data.get("prefetched"))
            or events.is_program(None, data.get("href")),
        )
        for channel in channels
    ]


KNOWN = (
    Call(
        b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","metric":"opened"}',
        {
            "x-cio-timestamp": "1772355600",
            "x-cio-signature": "ed6022fcfde843561667326092825f546b18dc1030cd316150447a29353038e6",
        },
        datetime(2026, 3, 1, 9, tzinfo=UTC),
    ),
    "known-answer-secret",
)
