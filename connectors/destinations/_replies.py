"""What all destinations share: reading replies with suspicion, and clean values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from connectors.base import Receipt, Record, Reply, Request, Status, Stream
from connectors.errors import RefusedRecordError

_LONGEST = 2_000
"""Characters of a reason that are looked at."""
_ADDRESS = re.compile(r"[^\s'\"<>,;:(){}\[\]]+@[^\s'\"<>,;:(){}\[\]]+")
_TRY_LATER = (423, 429)
_TIMEOUT, _CLIENT_ERROR, _SERVER_ERROR = 408, 400, 500


def body_of(reply: Reply) -> dict[str, Any]:
    """The JSON object of a reply; empty when it is anything else (HTML, cut off, a list)."""
    try:
        body = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def without_verdicts(request: Request, reply: Reply, text: object) -> list[Receipt] | None:
    """Receipts for a reply that says nothing about single records; None for a 2xx.

    A refused batch blames nobody: its records were surely not taken, and each is REJECTED
    only once it is refused alone.
    """
    status = reply.status
    if 200 <= status < 300:
        return None
    if status in _TRY_LATER:
        return [receipt(r, Status.NOT_SENT, f"HTTP {status}", reply) for r in request.records]
    if _CLIENT_ERROR <= status < _SERVER_ERROR and status != _TIMEOUT:
        verdict = Status.REJECTED if len(request.records) == 1 else Status.NOT_SENT
        return [receipt(r, verdict, text or f"HTTP {status}", reply) for r in request.records]
    return [receipt(r, Status.UNKNOWN, f"HTTP {status}", reply) for r in request.records]


def receipt(
    record: Record, status: Status, reason: object, reply: Reply, vendor_ref: object = ""
) -> Receipt:
    """A receipt whose reason is one line without the person's identifiers."""
    ref = str(vendor_ref) if isinstance(vendor_ref, str | int) else ""
    return Receipt(record.key, status, _reason(record, reason), reply.status, ref)


def _reason(record: Record, reason: object) -> str:
    text = " ".join(str(reason).split())
    for identifier in sorted(record.identity.values(), key=len, reverse=True):
        text = text.replace(identifier, "<id>") if identifier else text
    return _ADDRESS.sub("<address>", text)[:_LONGEST]


def check_batch(stream: Stream, records: Sequence[Record]) -> None:
    """Raises ValueError for an empty batch or one above the vendor's limit."""
    if not 0 < len(records) <= stream.batch_size:
        raise ValueError(f"`records` must be 1 to {stream.batch_size}, got {len(records)}")


def refused(record: Record, reason: str) -> RefusedRecordError:
    """To be raised by `build` for a record that cannot be sent."""
    return RefusedRecordError(record.key, reason)


def identifier(record: Record, name: str) -> str:
    """The record's identifier. Raises RefusedRecordError when it is missing or not plain text."""
    value = record.identity.get(name) or ""
    if not value.strip():
        raise refused(record, f"no {name}")
    if not is_plain(value):
        raise refused(record, f"{name} has control or invisible characters")
    return value


def text(record: Record, name: str) -> str:
    """A field that must be there, as plain text. Raises RefusedRecordError otherwise."""
    value = str(record.fields.get(name) or "")
    if not value.strip():
        raise refused(record, f"no {name}")
    if not is_plain(value):
        raise refused(record, f"{name} has control or invisible characters")
    return value


def all_deleted(records: Sequence[Record]) -> bool:
    """Whether the records take rows away. ValueError when only some of them do."""
    kinds = {record.fields.get("deleted") is True for record in records}
    if len(kinds) != 1:
        raise ValueError("`records` must all be deletions, or none of them")
    return kinds.pop()


def is_plain(value: str) -> bool:
    """No control, format, surrogate or line-separator character: nothing can hide in it."""
    return value.isprintable()


def given(fields: Mapping[str, Any], *, but: Sequence[str] = ()) -> dict[str, Any]:
    """The fields as JSON values, without nulls (a null never overwrites) and without `but`."""
    values = {name: json_value(value) for name, value in fields.items() if name not in but}
    return {name: value for name, value in values.items() if value is not None}


def json_value(value: Any) -> Any:
    """Times as ISO 8601 in UTC, decimals as numbers; None for what is not a number."""
    if isinstance(value, datetime):
        return in_utc(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def in_utc(at: datetime) -> datetime:
    """The time with its zone; without one it was UTC already."""
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
