"""Segment's HTTP tracking API, as far as bytes go: the body of a call in, events out.

`parse` says what a call holds, `Call.events` what is to be stored. Every text in a call is
taken for hostile: sizes, depth and lengths are bounded, types are checked, identifiers are
cleaned as dbt cleans them, and control characters never get into a column.

An item that cannot be taken is refused with a reason; the other items of its batch are not
affected. A field that cannot be taken, but that the event can do without, is left out and noted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from connectors.repeated_names import repeated_names
from decision_engine.config import PageClass
from decision_engine.service import tracked_fields as fields
from decision_engine.service.records import Event
from decision_engine.service.tracked_fields import Item, Notes, UnusableError

MAX_CALL = 500 << 10
"""Bytes of a call after decompression, as at Segment."""
MAX_ITEM = 32 << 10
"""Bytes of one item, as at Segment."""
MAX_ITEMS = 2500
"""Items of a batch, as at Segment."""
MAX_DEPTH = 32
EARLIEST = datetime(2000, 1, 1)
TOLERANCE = timedelta(seconds=60)
"""How far ahead of ours a clock may be without a note."""

KINDS = ("track", "identify", "page", "screen", "group", "alias")
IMPORT = "import"
BATCH = "batch"


class RefusedError(Exception):
    """The whole call is refused. `status` and `code` are for the answer and for counting."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


@dataclass
class Taken:
    """What became of the items of a call, by their place in it."""

    events: list[Event] = field(default_factory=list)
    ignored: int = 0
    refused: dict[int, UnusableError] = field(default_factory=dict)
    notes: dict[int, Notes] = field(default_factory=dict)


class _Body(msgspec.Struct, rename="camel"):
    """A batch, or the one item of another call of which these are the common fields."""

    write_key: str | None = None
    batch: list[msgspec.Raw] | None = None
    context: Any = None
    sent_at: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_item = msgspec.json.Decoder(Item).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True)
class Call:
    """A call that was understood so far; `write_key` is the one in the body, if there is one."""

    kind: str
    body: _Body
    items: list[msgspec.Raw | bytes]
    is_ambiguous: bool = False
    """Whether a name is there twice, in some of the items at least."""

    @property
    def write_key(self) -> str | None:
        """The key in the body."""
        return self.body.write_key

    def events(
        self, received_at: datetime, page_classes: Mapping[PageClass, tuple[str, ...]]
    ) -> Taken:
        """Judge each item. `received_at` is UTC without a zone."""
        taken = Taken()
        skew = self._skew(received_at)
        for place, raw in enumerate(self.items):
            notes: Notes = {}
            try:
                event = self._event(bytes(raw), received_at, skew, page_classes, notes)
            except UnusableError as error:
                taken.refused[place] = error
                continue
            if event is None:
                taken.ignored += 1
            else:
                taken.events.append(event)
            if notes:
                taken.notes[place] = notes
        return taken

    def _skew(self, received_at: datetime) -> timedelta:
        """How far the sender's clock is behind ours. An import's times are taken as they are."""
        sent_at = fields.moment(self.body.sent_at)
        return received_at - sent_at if sent_at and self.kind != IMPORT else timedelta()

    def _event(
        self,
        raw: bytes,
        received_at: datetime,
        skew: timedelta,
        page_classes: Mapping[PageClass, tuple[str, ...]],
        notes: Notes,
    ) -> Event | None:
        item = _item(raw)
        if self.is_ambiguous and repeated_names(raw)[0]:
            raise UnusableError("repeated", "a name is there twice")
        kind = self.kind if self.kind in KINDS else item.type
        if kind not in KINDS:
            raise UnusableError("type", f"`type` must be one of {', '.join(KINDS)}")
        context = fields.merged(item.context, self.body.context)
        identity = fields.identity(item, kind, context, notes)
        if kind == "group":
            return None
        return Event(
            message_id=fields.identifier("messageId", item.message_id) or _hash(kind, raw),
            type="identify" if kind == "alias" else kind,
            occurred_at=_occurred_at(item, received_at, skew, notes).isoformat(),
            received_at=received_at.isoformat(),
            platform=fields.platform(kind, context),
            properties=fields.properties(item, kind),
            **identity,
            **fields.described(item, kind, context, page_classes, notes),
        )


def parse(kind: str, body: bytes) -> Call:
    """The items of a call to /v1/`kind`. Raises RefusedError when the body cannot be read."""
    if kind not in (*KINDS, BATCH, IMPORT):
        raise ValueError(f"no such kind of call: {kind}")
    try:
        body = _valid_text(body)
        decoded = _decode_body(body)
        is_ambiguous, is_outermost = repeated_names(body)
    except msgspec.ValidationError as error:
        raise RefusedError(400, "shape", str(error)) from None
    except (ValueError, RecursionError):
        raise RefusedError(400, "json", "the body is not JSON") from None
    if kind in KINDS:
        return Call(kind, decoded, [body], is_ambiguous)
    if is_outermost:
        raise _repeated()
    if decoded.batch is None:
        raise RefusedError(400, "batch", "`batch` is missing")
    if len(decoded.batch) > MAX_ITEMS:
        raise RefusedError(413, "size", f"`batch` has more than {MAX_ITEMS} items")
    return Call(kind, decoded, list(decoded.batch), is_ambiguous)


def _valid_text(body: bytes) -> bytes:
    r"""The body with half surrogates replaced: a browser writes "\ud83d" for a cut emoji."""
    body.decode()
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    if repeated_names(body)[0]:
        raise _repeated()
    text = json.dumps(json.loads(body, parse_constant=_no_constant), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _repeated() -> RefusedError:
    return RefusedError(400, "repeated", "a name is there twice")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _item(raw: bytes) -> Item:
    if len(raw) > MAX_ITEM:
        raise UnusableError("size", f"larger than {MAX_ITEM} bytes")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and not _depth(msgspec.json.decode(raw)):
        raise UnusableError("depth", f"deeper than {MAX_DEPTH} levels")
    try:
        return _decode_item(raw)
    except msgspec.ValidationError as error:
        raise UnusableError("shape", str(error)) from None


def _depth(value: Any, left: int = MAX_DEPTH) -> int:
    """How many levels are left below the deepest one; 0 when there are too many."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return min((_depth(v, left - 1) for v in inner), default=left) if left > 0 else 0


def _hash(kind: str, raw: bytes) -> str:
    """An id for an item without one: the same content has the same id, whenever it is sent."""
    content = msgspec.json.decode(raw)
    for name in ("sentAt", "writeKey", "type"):
        content.pop(name, None)
    return hashlib.sha256(kind.encode() + b"\n" + _encode(content)).hexdigest()


def _occurred_at(item: Item, received_at: datetime, skew: timedelta, notes: Notes) -> datetime:
    """When it happened by our clock, never after it was received."""
    given = item.original_timestamp or item.timestamp
    if given is None:
        return received_at
    at = fields.moment(given)
    if at is None:
        raise UnusableError("timestamp", "`timestamp` is not an ISO 8601 time")
    try:
        corrected = at + skew
    except OverflowError:
        raise UnusableError("timestamp", "`timestamp` is out of range") from None
    if corrected < EARLIEST:
        raise UnusableError("timestamp", f"`timestamp` is before {EARLIEST.year}")
    if corrected - received_at > TOLERANCE:
        notes["timestamp"] = "in the future: taken as the time of receipt"
    return min(corrected, received_at)
