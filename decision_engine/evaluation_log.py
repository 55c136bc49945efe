"""The closed decisions of an agent with their rewards, as arrays for the pure evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.base import Warehouse
from decision_engine.arrow import column_of_array, matrix_of
from decision_engine.evaluate import Log
from decision_engine.features import feature_names
from decision_engine.logged import REWARDS, rewards_as_of
from decision_engine.reward_model import CrossFit, cross_fit, folds_of
from decision_engine.types import Bools, Floats, Ints, Reason
from decision_engine.workspace import Workspace

_DAY = 86_400.0

_SEED = 1  # of the folds: the same log gives the same report


@dataclass(frozen=True, eq=False)
class AgentLog:
    """n closed decisions, oldest first, made with today's actions and features.

    `log` has p(action | group) and the customer's code · `group`, `epoch` (n,) indices into
    `groups` and `shares` · `eligible` (n, k) · `x` (n, d) · `day` (n,) days since 1970 ·
    `shares` (epochs, groups) each epoch's group shares · `kinds` the policy of each group ·
    `left_out` decisions with other actions or features.
    """

    actions: tuple[str, ...]
    groups: tuple[str, ...]
    kinds: Mapping[str, str]
    shares: Floats
    log: Log
    group: Ints
    epoch: Ints
    eligible: Bools
    x: Floats
    day: Ints
    left_out: int

    def of_group(self, *names: str) -> Ints:
        """The rows of decisions in these groups."""
        wanted = [i for i, name in enumerate(self.groups) if name in names]
        return np.flatnonzero(np.isin(self.group, wanted))

    def of_kind(self, kind: str) -> list[str]:
        """The groups with this policy."""
        return [name for name in self.groups if self.kinds.get(name) == kind]

    def first_rows(self) -> Ints:
        """The first decision (m,) of each customer, in the order of their codes."""
        found: Ints = np.unique(customers_of(self.log), return_index=True)[1]
        return found


def fit_of(found: AgentLog, rows: Ints) -> CrossFit | None:
    """What is expected of each action on some rows, by models that have not seen their customer."""
    if len(rows) < 2:
        return None
    log = found.log.take(rows)
    fold = folds_of(log, np.random.default_rng(_SEED))
    return cross_fit(log, found.x[rows], len(found.actions), fold)


def customers_of(log: Log) -> Ints:
    """The customer code of each row; every row its own when there are none."""
    return np.arange(len(log)) if log.customer is None else log.customer


def read_log(workspace: Workspace, warehouse: Warehouse, agent: str) -> AgentLog | None:
    """The agent's closed decisions; None when there are none with today's actions."""
    return _read(workspace, warehouse, agent, "r.reward", "", "r.is_closed", [])


def read_drawn(workspace: Workspace, warehouse: Warehouse, agent: str) -> AgentLog | None:
    """As `read_log`, of the decisions that were made at random only."""
    is_drawn = "r.is_closed and d.policy = 'uniform'"
    return _read(workspace, warehouse, agent, "r.reward", "", is_drawn, [])


def read_retention(
    workspace: Workspace, warehouse: Warehouse, agent: str, window_hours: int
) -> AgentLog | None:
    """As `read_log`, with reward 1 for whom was retained and 0 for whom was not.

    The decisions are those made `window_hours` before the build, whatever was done: if what was
    done decided which ones count, actions would not compare.
    """
    as_of = rewards_as_of(workspace, warehouse)
    if as_of is None:
        return None
    latest = as_of - timedelta(hours=window_hours)
    outcome = (
        f" left join {workspace.model('fct_outcomes')} o"
        " on o.decision_id = r.decision_id and o.event = 'retained'"
    )
    reward = "cast(case when o.decision_id is null then 0 else 1 end as double precision)"
    return _read(workspace, warehouse, agent, reward, outcome, "d.decided_at <= ?", [latest])


def _read(
    workspace: Workspace,
    warehouse: Warehouse,
    agent: str,
    reward: str,
    outcome: str,
    is_over: str,
    parameters: list[datetime],
) -> AgentLog | None:
    plans = _plans(workspace, warehouse, agent)
    batches, seen = [], 0
    for batch in warehouse.query(
        "select d.epoch_id, r.customer_id, r.group_name, d.action, d.p_action, d.reasons, d.x,"
        f" d.decided_at, {reward} as reward"
        f" from {workspace.model(REWARDS)} r join {workspace.engine('decisions')} d"
        f" on r.decision_id = d.decision_id{outcome} where d.agent = ? and {is_over}"
        " order by d.decided_at, d.decision_id",
        [agent, *parameters],
    ):
        seen += batch.num_rows
        known = pc.is_in(batch["epoch_id"], pa.array(list(plans), pa.string()))
        batches.append(batch.filter(pc.and_(known, pc.is_valid(batch["p_action"]))))
    table = pa.Table.from_batches(batches).combine_chunks() if batches else None
    if table is None or not table.num_rows:
        return None
    return _log_of(table, plans, workspace.catalog(agent).keys, seen)


def _plans(workspace: Workspace, warehouse: Warehouse, agent: str) -> dict[str, dict[str, Any]]:
    """Epoch to the agent's plan in it, where actions and features were those of today."""
    actions = list(workspace.catalog(agent).keys)
    features = list(feature_names(workspace.agents[agent].context))
    rows = warehouse.rows(f"select epoch_id, plan from {workspace.engine('epochs')}")
    plans = {epoch: json.loads(text)["agents"].get(agent) for epoch, text in rows}
    return {
        epoch: plan
        for epoch, plan in plans.items()
        if plan
        and plan["features"] == features
        and [action["key"] for action in plan["actions"]] == actions
    }


def _log_of(
    table: pa.Table, plans: Mapping[str, Any], actions: tuple[str, ...], seen: int
) -> AgentLog:
    epochs = sorted(plans)
    groups = tuple(sorted({g["name"] for plan in plans.values() for g in plan["groups"]}))
    shares = np.zeros((len(epochs), len(groups)))
    for i, epoch in enumerate(epochs):
        for g in plans[epoch]["groups"]:
            shares[i, groups.index(g["name"])] = g["share"]
    kinds = {n: p["kind"] for e in epochs for n, p in plans[e]["policies"].items()}
    _, customer = np.unique(_texts(table, "customer_id"), return_inverse=True)
    return AgentLog(
        actions=actions,
        groups=groups,
        kinds=kinds,
        shares=shares,
        log=Log(
            _index(_texts(table, "action"), actions),
            _numbers(table, "reward"),
            _numbers(table, "p_action"),
            customer.astype(np.int64),
        ),
        group=_index(_texts(table, "group_name"), groups),
        epoch=_index(_texts(table, "epoch_id"), epochs),
        eligible=matrix_of(_array(table, "reasons")) == Reason.ELIGIBLE,
        x=matrix_of(_array(table, "x")).astype(np.float64).reshape(table.num_rows, -1),
        day=np.floor(column_of_array(_array(table, "decided_at")).values / _DAY).astype(np.int64),
        left_out=seen - table.num_rows,
    )


def _array(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()


def _texts(table: pa.Table, name: str) -> NDArray[Any]:
    return np.array(table[name].to_pylist(), dtype=str)


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _index(values: NDArray[Any], names: Any) -> Ints:
    place = {name: i for i, name in enumerate(names)}
    levels, which = np.unique(values, return_inverse=True)
    found = np.array([place[str(level)] for level in levels], dtype=np.int64)
    out: Ints = found[which]
    return out
