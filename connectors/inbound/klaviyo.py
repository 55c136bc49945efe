"""Klaviyo's account webhooks: batches of up to 1,000 events, each with its topic.

Webhooks that a flow sends are not signed, and are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.inbound import _events as events
from connectors.inbound._call import A_DAY, Call, hmac_sha256, is_fresh

_TOPIC = "event:klaviyo."
_TYPES = {
    "received_email": ("email", "delivered"),
    "opened_email": ("email", "open"),
    "clicked_email": ("email", "click"),
    "bounced_email": ("email", "bounce"),
    "dropped_email": ("email", "bounce"),
    "marked_email_as_spam": ("email", "complaint"),
    "unsubscribed_from_email_marketing": ("email", "unsubscribe"),
    "received_sms": ("sms", "delivered"),
    "clicked_sms": ("sms", "click"),
    "failed_to_deliver_sms": ("sms", "bounce"),
    "unsubscribed_from_sms_marketing": ("sms", "unsubscribe"),
    "received_push": ("push", "delivered"),
    "opened_push": ("push", "open"),
    "bounced_push": ("push", "bounce"),
}


def verify(call: Call, secret: str) -> bool:
    """Hex of HMAC-SHA256 over body and time."""
    at = call.headers.get("klaviyo-timestamp", "")
    right = hmac_sha256(secret, call.body, at).hex()
    is_right = events.is_token(call.headers.get("klaviyo-signature", ""), right) and bool(secret)
    return is_right and is_fresh(call, at, A_DAY)


def parse(call: Call) -> list[events.Event]:
    """The message events of a batch; other topics are left out.

    Raises ValueError for a body that is not a batch, or an event without id or time.
    """
    batch = events.mapping(events.decoded(call.body)).get("data")
    if not isinstance(batch, list):
        raise ValueError("`data` is not a list")
    rows = (_row(events.mapping(entry), call.at) for entry in batch)
    return [row for row in rows if row is not None]


def _row(entry: Mapping[str, Any], received_at: datetime) -> events.Event | None:
    topic = str(entry.get("topic", ""))
    found = _TYPES.get(topic.removeprefix(_TOPIC)) if topic.startswith(_TOPIC) else None
    if found is None:
        return None
    payload = events.mapping(entry.get("payload"))
    event = events.mapping(payload.get("data"))
    attributes = events.mapping(event.get("attributes"))
    given = events.mapping(attributes.get("event_properties"))
    person = _person(payload.get("included"))
    return events.event(
        "klaviyo",
        events.required("id", events.text(event.get("id"))),
        found[1],
        found[0],
        (events.iso("datetime", attributes.get("datetime")), received_at),
        external_id=events.text(person.get("external_id")),
        email=events.text(person.get("email"), given.get("Recipient Email Address")),
        campaign_id=events.text(given.get("$message"), given.get("Campaign Name")),
        message_ref=events.text(given.get("$_cohort$message_send_cohort")),
        decision_id=events.text(given.get("decision_id")),
        is_machine=any(events.is_true(given.get(flag)) for flag in ("machine_open", "Bot Click"))
        or events.is_program(None, given.get("URL")),
    )


def _person(included: Any) -> Mapping[str, Any]:
    """The attributes of the profile that comes with the event."""
    for item in included if isinstance(included, list) else []:
        if events.mapping(item).get("type") == "profile":
            return events.mapping(item.get("attributes"))
    return {}


KNOWN = (
    Call(
        b'{"data":[]}',
        {
            "klaviyo-timestamp": "1772355600",
            "klaviyo-signature": "4dacca446b067620e2b8d92ff4237e6561c5a9bead295dde9a27ae27ff1e4d18",
        },
        datetime(2026, 3, 1, 9, tzinfo=UTC),
    ),
    "known-answer-secret",
)
