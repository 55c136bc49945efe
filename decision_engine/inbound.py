"""What vendors told us: from the receiver's durable log into the warehouse, exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from connectors import framed
from connectors.base import Warehouse
from decision_engine.errors import StepError
from decision_engine.service.records import Webhook, records
from decision_engine.service.rotation import close_segment
from decision_engine.tables import INBOUND_EVENTS, LOADED_SEGMENTS
from decision_engine.workspace import Workspace

REFUSALS = ("unsubscribe", "complaint")


def load_log(workspace: Workspace) -> int:
    """Load everything received until now; the number of new events.

    Events and the note that their segment is loaded go in one transaction, and an event
    that is already there (same vendor and id) is left out, so neither a restart nor a
    vendor's repetition counts anything twice.
    """
    close_segment(workspace.inbound_log)
    loaded = 0
    with workspace.warehouse() as warehouse:
        for segment in _unloaded(workspace, warehouse):
            events = _webhooks(framed.read(segment))
            rows = {(e.vendor, e.event_id): _row(e) for e in events}
            note = {"segment": framed.number(segment), "events": len(rows)}
            with warehouse.transaction():
                if rows:
                    loaded += warehouse.insert_absent(
                        workspace.engine("inbound_events"),
                        pa.Table.from_pylist(list(rows.values()), schema=INBOUND_EVENTS),
                        ["vendor", "event_id"],
                    )
                warehouse.insert_absent(
                    workspace.engine("loaded_segments"),
                    pa.Table.from_pylist([note], schema=LOADED_SEGMENTS),
                    ["segment"],
                )
    return loaded


def fresh_refusals(
    workspace: Workspace, warehouse: Warehouse, since: datetime
) -> dict[str, set[str]]:
    """Unsubscribes and complaints newer than profiles of `since`: identifier to channels.

    An identifier is an external id or an e-mail address in lower case, whatever the vendor
    told. Reads the open segment too, and what is loaded but came or happened after `since`: at
    the send boundary an opt-out counts from the moment it was received.
    """
    refusals: dict[str, set[str]] = {}
    for external_id, email, channel in _refusals(workspace, warehouse, since):
        for identifier in (external_id, (email or "").strip().lower()):
            if identifier:
                refusals.setdefault(identifier, set()).add(channel)
    return refusals


def _refusals(
    workspace: Workspace, warehouse: Warehouse, since: datetime
) -> Iterator[tuple[str | None, str | None, str]]:
    yield from warehouse.rows(
        f"select external_id, email, channel from {workspace.engine('inbound_events')}"
        " where event_type in (?, ?) and (occurred_at > ? or received_at > ?)",
        [*REFUSALS, since, since],
    )
    done = _last_loaded(workspace, warehouse)
    for segment in framed.segments(workspace.inbound_log):
        if framed.number(segment) > done:
            for event in _webhooks(p for _, p in framed.frames(segment)):
                if event.event_type in REFUSALS and event.channel:
                    yield event.external_id, event.email, event.channel


def _unloaded(workspace: Workspace, warehouse: Warehouse) -> list[Path]:
    done = _last_loaded(workspace, warehouse)
    closed = framed.closed_segments(workspace.inbound_log)
    return [s for s in closed if framed.number(s) > done]


def _last_loaded(workspace: Workspace, warehouse: Warehouse) -> int:
    table = workspace.engine("loaded_segments")
    found = warehouse.rows(f"select max(segment) from {table}")
    done = -1 if found[0][0] is None else int(found[0][0])
    here = framed.segments(workspace.inbound_log)
    if here and framed.number(here[-1]) <= done:
        # Its segments would count as loaded, and every opt-out in them would be lost.
        raise StepError(
            f"{workspace.inbound_log} is not the log that was loaded before (it was at segment"
            f" {done}); bring that one back, or empty {table} if it is gone for good"
        )
    return done


def _webhooks(payloads: Iterable[bytes]) -> Iterator[Webhook]:
    for payload in payloads:
        yield from records(payload, Webhook)


def _row(event: Webhook) -> dict[str, Any]:
    times = ("occurred_at", "received_at")
    row: dict[str, Any] = msgspec.structs.asdict(event)
    row |= {n: datetime.fromisoformat(row[n]).replace(tzinfo=None) for n in times}
    return row
