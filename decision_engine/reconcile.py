"""Messages whose fate was not known, and which a webhook shows to have arrived.

A vendor that lost its answer, or a process that died in a call, leaves a send `unknown`. When an
event of that very message comes in later, it was accepted. That nothing comes in proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors.base import Warehouse
from connectors.journal import Journal
from decision_engine.workspace import Workspace

REASON = "shown by a webhook"
WINDOW = timedelta(hours=72)
"""How long after a call an event without a decision's id may still be about its message."""
_SKEW = timedelta(minutes=5)
_PART = 10_000

Sent = tuple[Mapping[str, Any], datetime]


def settle_unknowns(workspace: Workspace, warehouse: Warehouse, journal: Journal) -> int:
    """Settle what can be settled from the events that are loaded; how many sends that was.

    An event that names the decision proves it. One that does not, proves it by person, channel
    and campaign, if no other message was sent to the person on that channel around that time.
    """
    unknown = list(journal.unknown())
    shown = []
    for start in range(0, len(unknown), _PART):
        part = unknown[start : start + _PART]
        by_decision = _decisions(workspace, warehouse, part)
        by_person = _events_by_person(workspace, warehouse, part)
        for intent, began in part:
            times = by_person.get(_person(workspace, intent), [])
            if intent["decision_id"] in by_decision or (
                _is_about(times, began) and _is_the_only_one(journal, intent, began)
            ):
                shown.append(intent["send_key"])
    journal.settle(shown, REASON)
    return len(shown)


def _decisions(workspace: Workspace, warehouse: Warehouse, part: Sequence[Sent]) -> set[str]:
    """The decisions that an event names."""
    among = warehouse.among("decision_id")
    found = warehouse.rows(
        f"select distinct decision_id from {workspace.engine('inbound_events')} where {among}",
        [[intent["decision_id"] for intent, _ in part]],
    )
    return {row[0] for row in found}


Person = tuple[str, str, str, str]
"""Vendor, external id, channel, campaign."""


def _person(workspace: Workspace, intent: Mapping[str, Any]) -> Person:
    destination = workspace.project.destinations.get(intent["destination"])
    kind = destination.kind if destination else ""
    who = intent.get("external_id") or intent["customer_id"]
    return kind, who, intent["channel"], str(intent.get("campaign_id"))


def _events_by_person(
    workspace: Workspace, warehouse: Warehouse, part: Sequence[Sent]
) -> dict[Person, list[datetime]]:
    """When something happened to a message of whom, for events that name no decision."""
    among = warehouse.among("external_id")
    rows = warehouse.rows(
        "select vendor, external_id, channel, campaign_id, occurred_at"
        f" from {workspace.engine('inbound_events')}"
        f" where decision_id is null and campaign_id is not null and occurred_at > ? and {among}",
        [
            min(began for _, began in part) - _SKEW,
            [_person(workspace, intent)[1] for intent, _ in part],
        ],
    )
    found: dict[Person, list[datetime]] = {}
    for vendor, who, channel, campaign, at in rows:
        found.setdefault((vendor, who, channel, campaign), []).append(at)
    return found


def _is_about(times: list[datetime], began: datetime) -> bool:
    return any(began - _SKEW <= at <= began + WINDOW for at in times)


def _is_the_only_one(journal: Journal, intent: Mapping[str, Any], began: datetime) -> bool:
    near = [
        send.at
        for send in journal.recent_sends(intent["customer_id"], began - WINDOW)
        if send.channel == intent["channel"] and send.at <= began + WINDOW
    ]
    return len(near) == 1
