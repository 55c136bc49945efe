"""The closed decisions of an agent with their rewards, as arrays for the pure evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from decision_engine.logged import REWARDS, epochs_with, rewards_as_of
from decision_engine.reward_model import CrossFit, cross_fit, folds_of
from decision_engine.types import Bools, Floats, Ints, Reason
from decision_engine.workspace import Workspace

_DAY = 86_400.0

_OF_ROWS = ("group", "eligible", "x", "day", "is_whole")

_SEED = 1  # of the folds: the same log gives the same report


@dataclass(frozen=True, eq=False)
class AgentLog:
    """n closed decisions, oldest first, made with today's features, that speak of today's actions.

    `log` has p(action | group, one of today's actions) and the customer's code · `group` (n,)
    index into `groups` · `eligible` (n, k) · `x` (n, d) · `day` (n,) days since 1970 · `is_whole`
    (n,) unless there were actions then that the agent has lost since: of such decisions only those
    by the lot are here, for others one would have to know who got what is gone · `kinds` the
    policy of each group.
    """

    actions: tuple[str, ...]
    groups: tuple[str, ...]
    kinds: Mapping[str, str]
    log: Log
    group: Ints
    eligible: Bools
    x: Floats
    day: Ints
    is_whole: Bools

    def take(self, rows: Bools) -> AgentLog:
        """The given rows."""
        of_rows = {name: getattr(self, name)[rows] for name in _OF_ROWS}
        return replace(self, log=self.log.take(rows), **of_rows)

    def of_group(self, *names: str) -> Ints:
        """The rows of decisions in these groups."""
        wanted = [i for i, name in enumerate(self.groups) if name in names]
        return np.flatnonzero(np.isin(self.group, wanted))

    def of_kind(self, kind: str) -> list[str]:
        """The groups with this policy."""
        return [name for name in self.groups if self.kinds.get(name) == kind]


def fit_of(found: AgentLog, rows: Ints) -> CrossFit | None:
    """What is expected of each action on some rows, by models that have not seen their customer."""
    if len(rows) < 2:
        return None
    log = found.log.take(rows)
    fold = folds_of(log, np.random.default_rng(_SEED))
    return cross_fit(log, found.x[rows], len(found.actions), fold)


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
    features = feature_names(workspace.agents[agent].context)
    plans = dict(epochs_with(workspace, warehouse, agent, features))
    actions = workspace.catalog(agent).keys
    epochs, known = pa.array(list(plans), pa.string()), pa.array(actions)
    batches = [
        batch.filter(
            pc.and_(
                pc.and_(pc.is_in(batch["epoch_id"], epochs), pc.is_in(batch["action"], known)),
                pc.is_valid(batch["p_action"]),
            )
        )
        for batch in warehouse.query(
            "select d.epoch_id, r.customer_id, r.group_name, d.action, d.p_action, d.policy,"
            f" d.reasons, d.x, d.decided_at, {reward} as reward"
            f" from {workspace.model(REWARDS)} r join {workspace.engine('decisions')} d"
            f" on r.decision_id = d.decision_id{outcome} where d.agent = ? and {is_over}"
            " order by d.decided_at, d.decision_id",
            [agent, *parameters],
        )
    ]
    table = pa.Table.from_batches(batches).combine_chunks() if batches else None
    if table is None or not table.num_rows:
        return None
    found = _log_of(table, plans, actions)
    by_lot = _texts(table, "policy") == "uniform"
    return found.take(found.is_whole | by_lot) if (found.is_whole | by_lot).any() else None


def _log_of(table: pa.Table, plans: Mapping[str, Any], actions: tuple[str, ...]) -> AgentLog:
    """Every row; the chances of those that are not whole are by the lot."""
    groups = tuple(sorted({g["name"] for plan in plans.values() for g in plan["groups"]}))
    kinds = {n: p["kind"] for e in sorted(plans) for n, p in plans[e]["policies"].items()}
    eligible, is_whole = _possible(table, plans, actions)
    p = np.where(is_whole, _numbers(table, "p_action"), 1 / eligible.sum(axis=1).clip(min=1))
    _, customer = np.unique(_texts(table, "customer_id"), return_inverse=True)
    action = _index(_texts(table, "action"), actions)
    return AgentLog(
        actions=actions,
        groups=groups,
        kinds=kinds,
        log=Log(action, _numbers(table, "reward"), p, customer.astype(np.int64)),
        group=_index(_texts(table, "group_name"), groups),
        eligible=eligible,
        x=matrix_of(_array(table, "x")).astype(np.float64).reshape(table.num_rows, -1),
        day=np.floor(column_of_array(_array(table, "decided_at")).values / _DAY).astype(np.int64),
        is_whole=is_whole,
    )


def _possible(
    table: pa.Table, plans: Mapping[str, Any], actions: tuple[str, ...]
) -> tuple[Bools, Bools]:
    """Which of today's actions (n, k) were possible, and (n,) whether there were no others."""
    index = {key: i for i, key in enumerate(actions)}
    eligible = np.zeros((table.num_rows, len(actions)), dtype=bool)
    is_whole = np.zeros(table.num_rows, dtype=bool)
    epoch = _texts(table, "epoch_id")
    then = {e: tuple(action["key"] for action in plan["actions"]) for e, plan in plans.items()}
    for keys in dict.fromkeys(then.values()):
        at = np.flatnonzero(np.isin(epoch, [e for e, of in then.items() if of == keys]))
        if not len(at):
            continue
        reasons = matrix_of(table["reasons"].take(pa.array(at)).combine_chunks())
        kept = np.array([i for i, key in enumerate(keys) if key in index])
        places = np.array([index[keys[i]] for i in kept.tolist()])
        eligible[np.ix_(at, places)] = reasons[:, kept] == Reason.ELIGIBLE
        is_whole[at] = len(kept) == len(keys)
    return eligible, is_whole


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
