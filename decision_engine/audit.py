"""Reading the record: why one decision was made, and the same decisions made again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from connectors.base import Warehouse
from decision_engine import configurations
from decision_engine.agent_in_epoch import in_epoch
from decision_engine.arrow import matrix_of
from decision_engine.config import needs_approval
from decision_engine.counterfactual import counterfactuals
from decision_engine.epochs import FEATURES, read_state
from decision_engine.errors import StepError
from decision_engine.explain.case import Case
from decision_engine.explain.explanation import Counterfactual, Explanation, Replay, explanation
from decision_engine.explain.readers import Reader, text_for
from decision_engine.explain.told import Told
from decision_engine.features import ALL_TRUSTED
from decision_engine.overrides import Override, Overrides
from decision_engine.replay import (
    Records,
    completed,
    record_of,
    records_from,
    replay,
    with_posterior,
)
from decision_engine.state import PolicyState
from decision_engine.types import NO_ACTION, Epoch
from decision_engine.workspace import Workspace

TOLERANCE = 1e-12


def explain_decision(
    workspace: Workspace, decision_id: str, reader: Reader = "marketer"
) -> Explanation:
    """The decision in plain language for a reader. StepError when the id names none, or several."""
    with warehouse_of_decisions(workspace) as warehouse:
        row = one_decision(workspace, warehouse, decision_id)
        epoch, plan = epoch_of(workspace, warehouse, row)
        record = completed(row, plan)
        state = read_state(workspace, warehouse, record["agent"], record["policy_version"])
        case = Case(record, plan, workspace.creatives, state)
        others = _counterfactuals(workspace, warehouse, case, epoch)
        receipts = warehouse.rows(
            f"select r.status, r.reason, r.at from {workspace.engine('receipts')} r"
            " where r.decision_id = ? order by r.at",
            [record["decision_id"]],
        )
    again = replay(record_of(record, plan))
    replayed = Replay(
        case.keys[int(again.action[0])] == record["action"],
        abs(float(again.propensity[0]) - record["propensity"]),
    )
    rows = [dict(zip(("status", "reason", "at"), r, strict=True)) for r in receipts]
    is_held = record["action"] != NO_ACTION and needs_approval(workspace.agents.get(row["agent"]))
    told = Told(case, rows, others, replayed, epoch.config_digest, is_held)
    return explanation(case, text_for(reader, told), others, replayed)


def epoch_of(
    workspace: Workspace, warehouse: Warehouse, record: Mapping[str, Any]
) -> tuple[Epoch, dict[str, Any]]:
    """The epoch of a decision, as of the decision, and its plan."""
    ((*frozen, kill_switch, text),) = warehouse.rows(
        "select slot, profile_build, config_digest, kill_switch, plan"
        f" from {workspace.engine('epochs')} where epoch_id = ?",
        [record["epoch_id"]],
    )
    slot, build, digest = map(str, frozen)
    at = record["decided_at"]
    epoch = Epoch(record["epoch_id"], slot, at, build, digest, bool(kill_switch))
    return epoch, {"overrides": [], **json.loads(text)}


def _counterfactuals(
    workspace: Workspace, warehouse: Warehouse, case: Case, epoch: Epoch
) -> list[Counterfactual]:
    """None when the configuration or the state of then is not there any more."""
    try:
        is_now = epoch.config_digest == workspace.digest
        then = (
            workspace if is_now else configurations.read(workspace, warehouse, epoch.config_digest)
        )
    except StepError:
        return []
    types = warehouse.columns(workspace.model(FEATURES))
    name = case.record["agent"]
    if case.state is None or types is None or name not in then.agents:
        return []
    decreed = Overrides(tuple(msgspec.convert(case.plan["overrides"], list[Override]))).of(name)
    failed = case.agent.get("distrusted", ALL_TRUSTED)
    agent = in_epoch(then, name, case.state, decreed, distrusted=failed)
    if case.agent.get("costs") is not None:
        agent = replace(agent, costs=np.array(case.agent["costs"]))
    return counterfactuals(case, agent, epoch, then.project, types)


@contextmanager
def warehouse_of_decisions(workspace: Workspace) -> Iterator[Warehouse]:
    """The warehouse to read. StepError when nothing was ever decided in it."""
    with workspace.warehouse_to_read() as warehouse:
        if warehouse.columns(workspace.engine("decisions")) is None:
            raise StepError("nothing was decided yet; run `nextmove run` first")
        yield warehouse


def one_decision(workspace: Workspace, warehouse: Warehouse, prefix: str) -> dict[str, Any]:
    """The record of the one decision whose id begins so."""
    found = [
        row
        for batch in warehouse.query(
            f"select * from {workspace.engine('decisions')}"
            f" where left(decision_id, {len(prefix)}) = ? limit 2",
            [prefix.lower()],
        )
        for row in batch.to_pylist()
    ]
    if len(found) != 1:
        what = "no decision" if not found else "more than one decision"
        hint = "" if found else "; one of `nextmove serve` is there after `nextmove load`"
        raise StepError(f"{what} has an id that begins with {prefix!r}{hint}")
    return {**found[0], "facts": json.loads(found[0]["facts"])}


def plans(workspace: Workspace, warehouse: Warehouse) -> dict[str, Any]:
    """Epoch id to what was frozen in it."""
    rows = warehouse.rows(f"select epoch_id, plan from {workspace.engine('epochs')}")
    return {epoch: json.loads(plan) for epoch, plan in rows}


def replay_decisions(workspace: Workspace, ids: Sequence[str], sample: int) -> dict[str, Any]:
    """Make logged decisions again, from the record and from the policy state; what differed.

    Without ids, a fixed sample (the first ones by id, which are as good as random). Of those
    `without_state` only the record is left: their state went with somebody who was erased.
    """
    report = {
        "decisions": 0,
        "different_action": 0,
        "different_propensity": 0,
        "different_posterior": 0,
        "without_state": 0,
        "largest_difference": 0.0,
    }
    with warehouse_of_decisions(workspace) as warehouse:
        frozen = plans(workspace, warehouse)
        states: dict[tuple[str, str], PolicyState | None] = {}
        for table in groups_of(logged(workspace, warehouse, ids, sample)):
            add(report, workspace, warehouse, frozen, states, table)
    if ids and report["decisions"] < len(ids):
        raise StepError(f"only {report['decisions']} of {len(ids)} decisions were found")
    return report


def logged(workspace: Workspace, warehouse: Warehouse, ids: Sequence[str], sample: int) -> pa.Table:
    """The records to make again."""
    table = workspace.engine("decisions")
    if ids:
        query = partial(
            warehouse.query,
            f"select * from {table} where {warehouse.among('decision_id')}",
            [[i.lower() for i in ids]],
        )
    else:
        query = partial(
            warehouse.query, f"select * from {table} order by decision_id limit {sample:d}"
        )
    batches = list(query())
    return pa.Table.from_batches(batches) if batches else pa.table({})


def groups_of(table: pa.Table) -> Iterator[pa.Table]:
    """The records in parts that share epoch, agent and group: one policy and one floor each."""
    if not table.num_rows:
        return
    columns = ["epoch_id", "agent", "group_name"]
    numbered = table.select(columns).append_column("row", pa.array(np.arange(table.num_rows)))
    parts = numbered.group_by(columns, use_threads=False).aggregate([("row", "list")])
    for rows in parts["row_list"]:
        yield table.take(rows.values).combine_chunks()


def add(
    report: dict[str, Any],
    workspace: Workspace,
    warehouse: Warehouse,
    frozen: dict[str, Any],
    states: dict[tuple[str, str], PolicyState | None],
    table: pa.Table,
) -> None:
    """Make one part again and count what differs."""
    first = {c: table[c][0].as_py() for c in ("epoch_id", "agent", "group_name", "policy_version")}
    plan = frozen[first["epoch_id"]]["agents"][first["agent"]]
    records = records_of(plan, table)
    has_posterior = bool(records.mean.size)
    actions = records.actions
    again = replay(records)
    before = table["action"].to_pylist()
    report["decisions"] += table.num_rows
    report["different_action"] += sum(
        actions[i] != key for i, key in zip(again.action, before, strict=True)
    )
    off = np.abs(again.propensity - table["propensity"].to_numpy())
    report["different_propensity"] += int((off > TOLERANCE).sum())
    report["largest_difference"] = max(report["largest_difference"], float(off.max()))
    if has_posterior:
        key = first["agent"], first["policy_version"]
        if key not in states:
            states[key] = read_state(workspace, warehouse, *key)
        state = states[key]
        if state is None:
            report["without_state"] += table.num_rows
            return
        made = with_posterior(records, state, _matrix(table, "x"))
        same = (made.mean == records.mean).all(axis=1) & (made.sd == records.sd).all(axis=1)
        if made.share is not None:
            same &= (made.share == records.share).all(axis=1)
        report["different_posterior"] += int((~same).sum())


def records_of(plan: dict[str, Any], table: pa.Table) -> Records:
    """Rows of `decisions` of one agent and group, by the agent's plan in their epoch."""

    def column(name: str) -> Any:
        found = table[name]
        return _matrix(table, name) if pa.types.is_list(found.type) else found.to_numpy()

    return records_from(plan, table["group_name"][0].as_py(), column)


def _matrix(table: pa.Table, column: str) -> Any:
    return matrix_of(table[column].combine_chunks())
