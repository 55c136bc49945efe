"""What vendors told us: from the receiver's durable log into the warehouse, exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors import framed
from connectors.base import Warehouse
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
            rows = {(e["vendor"], e["event_id"]): e for e in _parsed(framed.read(segment))}
            note = {"segment": framed.number(segment), "events": len(rows)}
            with warehouse.transaction():
                if rows:
                    loaded += warehouse.insert_absent(
                        workspace.engine("inbound_events"),
                        pa.Table.from_pylist(list(rows.values()), schema=INBOUND_EVENTS),
                        ["vendor", "event_id"],
                    )
                warehouse.append(
                    workspace.engine("loaded_segments"),
                    pa.Table.from_pylist([note], schema=LOADED_SEGMENTS),
                )
    return loaded


def fresh_refusals(workspace: Workspace, warehouse: Warehouse) -> dict[str, set[str]]:
    """Unsubscribes and complaints that the warehouse has not seen yet: external id to channels.

    Reads the open segment too: at the send boundary an opt-out counts from the moment it
    was received.
    """
    done = _last_loaded(workspace, warehouse)
    refusals: dict[str, set[str]] = {}
    for segment in framed.segments(workspace.inbound_log):
        if framed.number(segment) > done:
            for event in _parsed(p for _, p in framed.frames(segment)):
                if event["event_type"] in REFUSALS and event["external_id"]:
                    refusals.setdefault(event["external_id"], set()).add(event["channel"])
    return refusals


def _unloaded(workspace: Workspace, warehouse: Warehouse) -> list[Path]:
    done = _last_loaded(workspace, warehouse)
    closed = framed.closed_segments(workspace.inbound_log)
    return [s for s in closed if framed.number(s) > done]


def _last_loaded(workspace: Workspace, warehouse: Warehouse) -> int:
    found = warehouse.rows(f"select max(segment) from {workspace.engine('loaded_segments')}")
    return -1 if found[0][0] is None else int(found[0][0])


def _parsed(payloads: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for payload in payloads:
        event = json.loads(payload)
        for name in ("occurred_at", "received_at"):
            event[name] = datetime.fromisoformat(event[name]).replace(tzinfo=None)
        yield event
