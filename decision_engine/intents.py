"""Decisions become send intents, as the delivery journal takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from connectors.base import Warehouse
from decision_engine.errors import StepError
from decision_engine.workspace import Workspace

MESSAGES = "messages"


def undispatched(
    workspace: Workspace, warehouse: Warehouse, now: datetime
) -> tuple[list[str], list[str]]:
    """Dates with messages that have not expired and may not all be in the journal yet.

    First those that are decided, then those whose decisions were cut short.
    """
    found = warehouse.rows(
        "select d.slot, max(e.status) from"
        f" (select distinct slot from {workspace.engine('decisions')}"
        "   where action <> 'no_action' and expires_at > ?) d"
        f" join {workspace.engine('epochs')} e on e.slot = d.slot"
        f" left join {workspace.engine('runs')} r on r.slot = d.slot and r.step = 'dispatch'"
        " where r.slot is null group by d.slot order by d.slot",
        [now],
    )
    return [s for s, last in found if last == "done"], [s for s, last in found if last != "done"]


def intents(
    workspace: Workspace, warehouse: Warehouse, slot: str, as_of: datetime
) -> Iterator[dict[str, Any]]:
    """The send intents of an epoch's slot: every decision that is ours to send and not expired.

    `EVENTS` stands for all decisions of the hot path.
    """
    query = (
        "select d.decision_id, d.customer_id, d.agent, d.action, d.channel, d.creative,"
        " d.incentive, d.is_promotional, d.send_at, d.expires_at, c.external_id, c.time_zone"
        f" from {workspace.engine('decisions')} d"
        f" join {workspace.engine('epochs')} e on d.epoch_id = e.epoch_id"
        f" join {workspace.model('dim_customers')} c on d.customer_id = c.customer_id"
        " where e.slot = ? and d.action <> 'no_action' and d.expires_at > ?"
        " and d.carried_out_by = 'delivery'"
        " order by d.send_at, d.decision_id"
    )
    for batch in warehouse.query(query, [slot, as_of]):
        for row in batch.to_pylist():
            if row["creative"] not in workspace.creatives:
                raise StepError(
                    f"creative '{row['creative']}' was decided for {slot} and is not in creatives/"
                    " any more; put it back until this date's messages are sent"
                )
            if row["channel"] not in workspace.project.channels:
                raise StepError(
                    f"nextmove.yml: channels: {row['channel']} was decided for {slot} and has no"
                    " destination any more; put it back until this date's messages are sent"
                )
            yield intent_of(workspace, row)


def intent_of(workspace: Workspace, row: dict[str, Any]) -> dict[str, Any]:
    """One decision as a send intent. It holds no address: the vendor knows the person."""
    creative = workspace.creatives[row["creative"]]
    return {
        "send_key": send_key(workspace.project.project, row),
        "decision_id": row["decision_id"],
        "customer_id": row["customer_id"],
        "external_id": row["external_id"],
        "destination": workspace.project.channels[row["channel"]],
        "stream": creative.stream,
        "channel": row["channel"],
        "agent": row["agent"],
        "action": row["action"],
        "campaign_id": creative.campaign_id,
        "is_promotional": row["is_promotional"],
        "time_zone": row["time_zone"],
        "fields": {
            "agent": row["agent"],
            "creative": row["creative"],
            "incentive": row["incentive"],
            "subject": creative.subject,
        },
        "send_at": row["send_at"].isoformat(),
        "expires_at": row["expires_at"].isoformat(),
    }


def send_key(project: str, row: dict[str, Any]) -> str:
    """SHA-256 of what makes a send the same send; no run id, attempt or clock is in it."""
    parts = (project, row["decision_id"], row["customer_id"], row["channel"], "0")
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
