"""What the frames of the delivery journal hold, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from connectors.base import Status


class Intent(msgspec.Struct, tag="intent", tag_field="record"):
    """The part of a send intent that the journal itself needs; times are ISO text, UTC."""

    send_key: str
    decision_id: str
    customer_id: str
    destination: str
    stream: str
    channel: str
    send_at: str
    expires_at: str


class Sending(msgspec.Struct, tag="sending", tag_field="record"):
    """The call for an intent begins."""

    send_key: str
    at: float


class ReceiptRecord(msgspec.Struct, tag="receipt", tag_field="record", omit_defaults=True):
    """The verdict on an intent: a row of the receipts table, `at` in epoch seconds."""

    send_key: str
    decision_id: str
    destination: str
    stream: str
    customer_id: str
    attempt: int
    status: Status
    at: float
    reason: str = ""
    http_status: int | None = None
    vendor_ref: str = ""


class Kept(msgspec.Struct, tag="kept", tag_field="record"):
    """The state of an intent that compaction moved to a newer segment."""

    send_key: str
    state: int
    attempt: int
    sent_at: float


decode = msgspec.json.Decoder(Intent | Sending | ReceiptRecord | Kept).decode
decode_receipt = msgspec.json.Decoder(ReceiptRecord).decode
RECEIPT = b'{"record":"receipt"'
encode = msgspec.json.Encoder().encode


def checked(intent: Mapping[str, Any]) -> Intent:
    """The head of a well-formed intent. Raises ValueError that names the field."""
    try:
        head = msgspec.convert({"record": "intent", **intent}, Intent)
        epoch_of(head.send_at)
        epoch_of(head.expires_at)
    except msgspec.ValidationError as error:
        raise ValueError(f"send intent: {error}") from None
    return head


@lru_cache(1024)  # messages of one hour share their times
def epoch_of(text: str) -> float:
    """Seconds since 1970 of ISO text; UTC unless it says otherwise."""
    return epoch(datetime.fromisoformat(text))


def epoch(at: datetime) -> float:
    """Seconds since 1970 of a time that is UTC or says otherwise."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def moment(seconds: float) -> datetime:
    """The naive UTC datetime of epoch seconds, the form of all our tables."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def row_of(record: ReceiptRecord) -> dict[str, Any]:
    """The row for the receipts table."""
    row = msgspec.structs.asdict(record)
    row["status"] = str(record.status)
    row["at"] = moment(record.at)
    return row
