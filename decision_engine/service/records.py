"""What the event log holds: everything that came in, and what was decided on it.

A frame is one call: its records, one JSON object a line, so that they are all there after a
crash or none is. The store of the hot path and the warehouse are both projections of this log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, overload

import msgspec


class Webhook(msgspec.Struct, tag="webhook", tag_field="record", frozen=True):
    """What a vendor told: a row of `inbound_events`. Times are ISO text, UTC."""

    event_id: str
    vendor: str
    event_type: str
    external_id: str | None
    email: str | None
    channel: str | None
    campaign_id: str | None
    message_ref: str | None
    decision_id: str | None
    is_machine: bool
    occurred_at: str
    received_at: str


class Event(msgspec.Struct, tag="event", tag_field="record", frozen=True, omit_defaults=True):
    """What a site, an app or a tool tracked: a row of `tracked_events`. Times as above.

    `type` is track, page, screen or identify; `event` the name of a track call. `properties`
    is the JSON text of a call's properties or traits.
    """

    message_id: str
    type: str
    occurred_at: str
    received_at: str
    event: str | None = None
    anonymous_id: str | None = None
    user_id: str | None = None
    email: str | None = None
    phone: str | None = None
    platform: str | None = None
    page_path: str | None = None
    page_class: str | None = None
    session_id: str | None = None
    ticket_id: str | None = None
    ticket_kind: str | None = None
    sentiment: float | None = None
    properties: str | None = None


class Epoch(msgspec.Struct, tag="epoch", tag_field="record", frozen=True):
    """What decisions that name this epoch depend on: a row of `epochs`."""

    row: dict[str, Any]


class Decision(msgspec.Struct, tag="decision", tag_field="record", frozen=True):
    """A row of `decisions`; p_action and propensity may be null, the row suffices for them."""

    row: dict[str, Any]


Record = Webhook | Event | Epoch | Decision
R = TypeVar("R", Webhook, Event, Epoch, Decision)


def tag_of(kind: type[Record]) -> str:
    """The name of a kind of record."""
    return str(kind.__struct_config__.tag)


TAGS: dict[bytes, type[Record]] = {
    f'{{"record":"{tag_of(kind)}"'.encode(): kind for kind in (Webhook, Event, Epoch, Decision)
}
"""How the line of a record begins."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def frame(records: Iterable[Record]) -> bytes:
    """The payload of one frame."""
    return b"\n".join(_encode(record) for record in records)


@overload
def records(payload: bytes) -> Iterator[Record]: ...
@overload
def records(payload: bytes, *kinds: type[R]) -> Iterator[R]: ...
def records(payload: bytes, *kinds: type[Any]) -> Iterator[Any]:
    """The records of a frame; of the given kinds only, if there are any, and quickly then."""
    tags = tuple(tag for tag, kind in TAGS.items() if kind in kinds)
    for line in payload.split(b"\n"):
        if not tags or line.startswith(tags):
            yield _decode(line)
