"""Logged decisions, judged again: their epochs and what the guardrails looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.epochs import EVENTS
from decision_engine.types import Contexts, Epoch, column_of
from decision_engine.workspace import Workspace

REWARDS = "fct_decision_rewards"


def rewards_as_of(workspace: Workspace, warehouse: Warehouse) -> datetime | None:
    """The moment (UTC) the rewards were built for; None when there are no decisions."""
    found = warehouse.rows(
        f"select starts_at, age_hours from {workspace.model(REWARDS)}"
        " order by starts_at desc limit 1"
    )
    if not found:
        return None
    starts_at, age_hours = found[0]
    moment: datetime = starts_at + timedelta(microseconds=round(age_hours * 3_600_000_000))
    return moment


def epochs_with(
    workspace: Workspace, warehouse: Warehouse, agent: str, features: tuple[str, ...]
) -> list[tuple[str, dict[str, Any]]]:
    """The epochs in which the agent's logged x were of these features, with its plan in each."""
    rows = warehouse.rows(f"select epoch_id, plan from {workspace.engine('epochs')}")
    plans = ((epoch, json.loads(plan)["agents"].get(agent)) for epoch, plan in rows)
    return [(epoch, plan) for epoch, plan in plans if plan and tuple(plan["features"]) == features]


def daily_epochs(
    workspace: Workspace, warehouse: Warehouse, agent: str
) -> Iterator[tuple[Epoch, dict[str, Any]]]:
    """Every date's epoch in which the agent decided, oldest first, with the agent's plan in it."""
    rows = warehouse.rows(
        "select epoch_id, slot, as_of, profile_build, config_digest, kill_switch, plan"
        f" from {workspace.engine('epochs')} where slot <> ? order by as_of, epoch_id",
        [EVENTS],
    )
    for *fields, text in rows:
        plan = json.loads(text)["agents"].get(agent)
        if plan:
            yield Epoch(*fields), plan


def contexts_of_facts(rows: pa.Table) -> Contexts:
    """What the guardrails looked at, from columns `customer_id` and `facts` of n decisions."""
    facts = [json.loads(text) for text in rows["facts"].to_pylist()]
    names = dict.fromkeys(name for row in facts for name in row)
    ids = np.array(rows["customer_id"].to_pylist(), dtype=object)
    return Contexts(ids, {name: column_of([row.get(name) for row in facts]) for name in names})
