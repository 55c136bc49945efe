"""Any sender that signs as Standard Webhooks describes: one event a call.

    {"type": "message.click", "timestamp": "2026-03-01T09:00:00Z", "data": {"external_id": ...}}

The type is `message.` and one of delivered, open, click, unsubscribe, complaint, bounce. `data`
names the person (`external_id`, `email`) and, as far as they are known, `channel`, `campaign_id`,
`message_ref`, `decision_id` and `is_machine`. An opt-out without a channel is one from all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime

from connectors.inbound import _events as events
from connectors.inbound._call import FIVE_MINUTES, Call, is_fresh

_TYPES = ("delivered", "open", "click", "unsubscribe", "complaint", "bounce")
_SHORTEST = 16
_ALL = {"unsubscribe": events.CHANNELS, "complaint": events.CHANNELS}


def verify(call: Call, secret: str) -> bool:
    """Whether one of the signatures (old and new key) is base64 of HMAC over `id.time.body`."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return False
    at, identity = (call.headers.get(f"webhook-{n}", "") for n in ("timestamp", "id"))
    if len(key) < _SHORTEST or not identity or not is_fresh(call, at, FIVE_MINUTES):
        return False
    digest = hmac.digest(key, f"{identity}.{at}.".encode() + call.body, hashlib.sha256)
    right = f"v1,{base64.b64encode(digest).decode()}"
    given = call.headers.get("webhook-signature", "").split(" ")
    return any([events.is_token(one, right) for one in given[:8]])  # noqa: C419 - all of them


def parse(call: Call) -> list[events.Event]:
    """The event, once for each channel it speaks of; none when it is of another type.

    Raises ValueError for a body that is not an event, or one without id, time or person.
    """
    event = events.mapping(events.decoded(call.body))
    name = events.required("type", events.text(event.get("type")))
    kind = name.removeprefix("message.")
    if kind not in _TYPES or kind == name:
        return []
    data = events.mapping(event.get("data"))
    channel = events.text(data.get("channel"))
    if channel is not None and channel not in events.CHANNELS:
        raise ValueError(f"`channel` is none of {', '.join(events.CHANNELS)}")
    channels = (channel,) if channel else _ALL.get(kind, ("email",))
    person = events.text(data.get("external_id")), events.text(data.get("email"))
    events.required("external_id", person[0] or person[1])
    event_id = events.required("webhook-id", call.headers.get("webhook-id"))
    times = events.iso("timestamp", event.get("timestamp")), call.at
    return [
        events.event(
            "standard",
            event_id if len(channels) == 1 else f"{event_id}:{left}",
            kind,
            left,
            times,
            external_id=person[0],
            email=person[1],
            campaign_id=events.text(data.get("campaign_id")),
            message_ref=events.text(data.get("message_ref")),
            decision_id=events.text(data.get("decision_id")),
            is_machine=events.is_true(data.get("is_machine")),
        )
        for left in channels
    ]


KNOWN = (
    Call(
        b'{"test": 2432232314}',
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        datetime(2021, 2, 25, 15, 2, 10, tzinfo=UTC),
    ),
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
)
"""The standard's own published example."""
