"""What overrides changed, decision by decision, and how that turned out.

The guardrails of people come last, so a code of theirs in a record says that nothing else was in
the way. With those codes cleared, the record gives what would have been chosen: draws are keyed,
so it is the same draw, and the answer is exact. Where it differs from what was done, the decision
is a label: a person preferred one action to another, for this customer, at this moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.arrow import matrix_of
from decision_engine.audit import groups_of, records_of
from decision_engine.epochs import read_state
from decision_engine.overrides import KINDS, Kind, Override
from decision_engine.replay import Records, replay, with_posterior
from decision_engine.rules import parsed
from decision_engine.tables import OVERRIDE_LABELS, exact
from decision_engine.types import NO_ACTION, Contexts, Reason, column_of
from decision_engine.workspace import Workspace

LOOK_BACK = timedelta(days=2)
"""Decisions of the service may be loaded so much later than others of their time."""


def label(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> int:
    """Write the labels of decisions made since the last time; how many were new."""
    table = workspace.engine("override_labels")
    (last,) = warehouse.rows(f"select max(labelled_at) from {table}")[0]
    since = last - LOOK_BACK if last else datetime(1970, 1, 1)
    rows = [*_overruled(workspace, warehouse, since), *_stopped(workspace, warehouse)]
    if not rows:
        return 0
    labels = pa.Table.from_pylist(
        [{**row, "labelled_at": as_of} for row in rows], schema=OVERRIDE_LABELS
    )
    return warehouse.insert_absent(table, labels, ["decision_id", "override_id"])


def score(workspace: Workspace, warehouse: Warehouse) -> list[dict[str, Any]]:
    """For each override and agent: labels, and how those turned out whose outcome is settled.

    `earned` is their mean reward, `expected` the mean of what the engine expected of its own
    choice; both None while nothing is settled.
    """
    rewards = workspace.model("fct_decision_rewards")
    if None in map(warehouse.columns, (rewards, workspace.engine("override_labels"))):
        return []
    rows = warehouse.rows(
        "select l.override_id, l.kind, l.agent, count(*),"
        " sum(case when r.is_closed then 1 else 0 end),"
        f" {_mean('r.reward')}, {_mean('l.model_value')}"
        f" from {workspace.engine('override_labels')} l"
        f" left join {rewards} r on l.decision_id = r.decision_id"
        " group by l.override_id, l.kind, l.agent order by l.override_id, l.agent"
    )
    names = ("override_id", "kind", "agent", "labels", "settled", "earned", "expected")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _mean(value: str) -> str:
    settled = f"case when r.is_closed then {value} end"
    return f"cast(sum({exact(settled)}) as double precision) / nullif(count({settled}), 0)"


def _overruled(
    workspace: Workspace, warehouse: Warehouse, since: datetime
) -> Iterator[dict[str, Any]]:
    for epoch_id, text in warehouse.rows(
        f"select epoch_id, plan from {workspace.engine('epochs')}"
    ):
        plan = json.loads(text)
        decreed = [msgspec.convert(o, Override) for o in plan.get("overrides", ())]
        if not decreed:
            continue
        query = (
            f"select * from {workspace.engine('decisions')}"
            " where epoch_id = ? and decided_at > ? order by decision_id"
        )
        for batch in warehouse.query(query, [epoch_id, since]):
            for part in groups_of(pa.Table.from_batches([batch])):
                yield from _labels(workspace, warehouse, plan, decreed, part)


def _labels(
    workspace: Workspace,
    warehouse: Warehouse,
    plan: Mapping[str, Any],
    decreed: Sequence[Override],
    table: pa.Table,
) -> Iterator[dict[str, Any]]:
    """Of decisions of one agent and group in one epoch."""
    agent = table["agent"][0].as_py()
    codes = matrix_of(table["reasons"].combine_chunks()).astype(np.uint8)
    table = table.filter(pa.array(np.isin(codes, list(KINDS)).any(axis=1)))
    if not table.num_rows:
        return
    records = records_of(plan["agents"][agent], table)
    free = _without_overrides(workspace, warehouse, agent, table, records)
    if free is None:
        return
    for i, chosen in enumerate(replay(free).action.tolist()):
        code = int(records.reasons[i, chosen])
        if code in KINDS:
            row = table.slice(i, 1).to_pylist()[0]
            override = _responsible(decreed, KINDS[Reason(code)], records.actions[chosen], row)
            yield {
                "decision_id": row["decision_id"],
                "override_id": override.override_id if override else None,
                "agent": agent,
                "kind": KINDS[Reason(code)],
                "action": row["action"],
                "model_action": records.actions[chosen],
                "model_value": _value(plan["agents"][agent], row, chosen),
            }


def _without_overrides(
    workspace: Workspace, warehouse: Warehouse, agent: str, table: pa.Table, records: Records
) -> Records | None:
    """None when the state they need went with somebody who was erased."""
    codes = records.reasons
    free = replace(records, reasons=np.where(np.isin(codes, list(KINDS)), 0, codes))
    if records.share is None:
        return free
    version = table["policy_version"][0].as_py()
    state = read_state(workspace, warehouse, agent, version)
    if state is None:
        return None
    return with_posterior(free, state, matrix_of(table["x"].combine_chunks()))


def _responsible(
    decreed: Sequence[Override], kind: Kind, key: str, row: Mapping[str, Any]
) -> Override | None:
    """The last override of a kind that ruled an action out for this person."""
    facts = {name: column_of([value]) for name, value in json.loads(row["facts"]).items()}
    person = Contexts(np.array([row["customer_id"]], dtype=object), facts)
    for override in reversed(decreed):
        if override.kind != kind or override.agent not in (None, row["agent"]):
            continue
        if not override.holds_at(row["decided_at"]):
            continue
        if kind == "freeze" and override.action not in (key, _creative_of(key)):
            continue
        if override.rule is None or _may_hold(override.rule, person, kind):
            return override
    return None


def _may_hold(rule: str, person: Contexts, kind: Kind) -> bool:
    """Whether the rule takes the person in: an exclusion takes in who may be meant."""
    holds, known = parsed(rule).evaluate(person.columns, 1)
    return bool(holds[0]) or (kind == "exclude" and not known[0])


def _creative_of(key: str) -> str:
    """Action keys begin with channel and creative."""
    return key.split(".")[1] if key != NO_ACTION else key


def _value(plan: Mapping[str, Any], row: Mapping[str, Any], action: int) -> float | None:
    """What the engine expected of the action, where that is in reward units."""
    family = plan["policies"][row["group_name"]]["family"]
    return float(row["mean"][action]) if family in ("gaussian", "samples") else None


def _stopped(workspace: Workspace, warehouse: Warehouse) -> Iterator[dict[str, Any]]:
    decisions = workspace.overrides().decisions
    stops = {key: o.override_id for key, o in decisions.items() if o.kind == "stop"}
    if not stops:
        return
    rows = warehouse.query(
        f"select * from {workspace.engine('decisions')} where {warehouse.among('decision_id')}",
        [list(stops)],
    )
    plans = dict(warehouse.rows(f"select epoch_id, plan from {workspace.engine('epochs')}"))
    for row in (row for batch in rows for row in batch.to_pylist()):
        plan = json.loads(plans[row["epoch_id"]])["agents"][row["agent"]]
        keys = [a["key"] for a in plan["actions"]]
        yield {
            "decision_id": row["decision_id"],
            "override_id": stops[row["decision_id"]],
            "agent": row["agent"],
            "kind": "stop",
            "action": NO_ACTION,
            "model_action": row["action"],
            "model_value": _value(plan, row, keys.index(row["action"])),
        }
