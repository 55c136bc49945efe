"""SendGrid's Event Webhook: batches of events, signed by ECDSA over P-256.

The secret is the public verification key of the account: base64 of DER, without PEM's frame.
What was given to a message as custom arguments comes back with its events: `decision_id` and
`external_id` are read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from connectors.inbound import _events as events
from connectors.inbound._call import A_DAY, Call, is_fresh

_HEADER = "x-twilio-email-event-webhook-"
_CURVE = "secp256r1"
_TYPES = {
    "delivered": "delivered",
    "open": "open",
    "click": "click",
    "bounce": "bounce",
    "dropped": "bounce",
    "spamreport": "complaint",
    "unsubscribe": "unsubscribe",
    "group_unsubscribe": "unsubscribe",
}


@lru_cache(8)
def _key(secret: str) -> EllipticCurvePublicKey | None:
    try:
        key = load_der_public_key(base64.b64decode(secret, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        return None
    is_ours = isinstance(key, EllipticCurvePublicKey) and key.curve.name == _CURVE
    return key if is_ours and isinstance(key, EllipticCurvePublicKey) else None


def verify(call: Call, secret: str) -> bool:
    """Whether the signature covers the time and the body, to its last line break."""
    key = _key(secret)
    at = call.headers.get(f"{_HEADER}timestamp", "")
    if key is None or not is_fresh(call, at, A_DAY):
        return False
    try:
        given = base64.b64decode(call.headers.get(f"{_HEADER}signature", ""), validate=True)
        key.verify(given, at.encode() + call.body, ECDSA(SHA256()))
    except (ValueError, binascii.Error, InvalidSignature):
        return False
    return True


def parse(call: Call) -> list[events.Event]:
    """The message events of a batch; others are left out.

    Raises ValueError for a body that is not a batch, or an event without id or time.
    """
    batch = events.decoded(call.body)
    if not isinstance(batch, list):
        raise ValueError("the body is not a list")
    rows = (_row(events.mapping(event), call.at) for event in batch)
    return [row for row in rows if row is not None]


def _row(event: Mapping[str, Any], received_at: datetime) -> events.Event | None:
    kind = _TYPES.get(str(event.get("event")))
    if kind is None:
        return None
    event_id = events.required("sg_event_id", events.text(event.get("sg_event_id")))
    message = events.text(event.get("sg_message_id"))
    return events.event(
        "sendgrid",
        event_id,
        kind,
        "email",
        (events.epoch("timestamp", event.get("timestamp")), received_at),
        external_id=events.text(event.get("external_id")),
        email=events.text(event.get("email")),
        campaign_id=events.text(event.get("singlesend_id"), event.get("marketing_campaign_id")),
        # What stands behind the first dot is the server's, not the message's.
        message_ref=message.partition(".")[0] if message else None,
        decision_id=events.text(event.get("decision_id")),
        is_machine=events.is_true(event.get("sg_machine_open"))
        or events.is_program(event.get("useragent"), event.get("url")),
    )


KNOWN = (
    Call(
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
        b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
        b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-'
        b'5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",'
        b'"timestamp":1600112492}]\r\n',
        {
            f"{_HEADER}timestamp": "1600112502",
            f"{_HEADER}signature": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM"
            "+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
        },
        datetime(2020, 9, 14, 19, 41, 45, tzinfo=UTC),
    ),
    (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpV"
        "KS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
    ),
)
"""The vendor's own published example."""
