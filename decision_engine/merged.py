"""Customers who were merged into another one: their messages follow them there.

Two customers may turn out to be one person while a message of theirs waits. The decision stays
the one that was made; its message goes to the customer who is left, and is asked about as theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from connectors.base import Warehouse
from connectors.journal import Journal
from decision_engine import keys
from decision_engine.agent_in_epoch import group_salt
from decision_engine.intents import DECIDED_FOR, MERGES, of_contact
from decision_engine.policies import kind_of
from decision_engine.types import REP
from decision_engine.workspace import Workspace

_PART = 20_000
"""Values in one statement: some warehouses limit its length to a megabyte."""


class Known(NamedTuple):
    """Who a customer is now, and what the CRM knows of them."""

    customer_id: str
    external_id: str
    contact_id: str | None = None
    account_id: str | None = None
    rep_id: str | None = None


def known_as(
    workspace: Workspace, warehouse: Warehouse, customer_ids: Iterable[str]
) -> dict[str, Known]:
    """Those of the customers who were merged into another one, with that one."""
    ids = sorted(set(customer_ids))
    query = (
        "select m.old_customer_id, c.customer_id, c.external_id, c.contact_id, c.account_id,"
        " c.rep_id"
        f" from {workspace.model(MERGES)} m join {workspace.model('dim_customers')} c"
        f" on m.customer_id = c.customer_id where {warehouse.among('m.old_customer_id')}"
    )
    return {
        old: Known(*now)
        for at in range(0, len(ids), _PART)
        for old, *now in warehouse.rows(query, [ids[at : at + _PART]])
    }


def once_known_as(
    workspace: Workspace, warehouse: Warehouse, customer_ids: Iterable[str]
) -> dict[str, list[str]]:
    """Those of the customers into whom others were merged, with these."""
    ids = sorted(set(customer_ids))
    query = (
        f"select customer_id, old_customer_id from {workspace.model(MERGES)}"
        f" where {warehouse.among('customer_id')} order by 1, 2"
    )
    found: dict[str, list[str]] = {}
    for at in range(0, len(ids), _PART):
        for now, old in warehouse.rows(query, [ids[at : at + _PART]]):
            found.setdefault(now, []).append(old)
    return found


def readdressed(intent: Mapping[str, Any], now: Known) -> dict[str, Any]:
    """The intent for who its person is now; it stays the same send."""
    decided_for = intent.get(DECIDED_FOR, intent["customer_id"])
    who = {"customer_id": now.customer_id, "external_id": now.external_id, DECIDED_FOR: decided_for}
    moved = {**intent, **who}
    return of_contact(moved, now._asdict()) if intent["channel"] == REP else moved


def follow(
    workspace: Workspace, warehouse: Warehouse, journal: Journal, now: datetime
) -> list[str]:
    """Readdress what is due in the journal to who its people are now; the customers of it all."""
    due = [intent["customer_id"] for intent in journal.due(now)]
    into = known_as(workspace, warehouse, due)
    if into:
        moved = [intent for intent in journal.due(now) if intent["customer_id"] in into]
        journal.readdress([readdressed(intent, into[intent["customer_id"]]) for intent in moved])
    return [into[who].customer_id if who in into else who for who in due]


def is_kept_out(workspace: Workspace, agent: str, intent: Mapping[str, Any]) -> bool:
    """Whether who is left is in a group with a fixed rule (a holdout) of which the other was not.

    They would not have got the message, and the group would not be what it is compared as.
    """
    config = workspace.agents[agent]
    groups = config.groups or workspace.project.groups
    who = [intent["customer_id"], intent[DECIDED_FOR]]
    salt = group_salt(workspace.project, config)
    now, then = keys.group_of(salt, who, [g.share for g in groups]).tolist()
    return now != then and kind_of(groups[now].policy or config.policy) == "fixed"
