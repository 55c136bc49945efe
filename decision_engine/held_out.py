"""What the promotion gate looks at, from the warehouse, and what a state would do there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Warehouse
from decision_engine.agent_in_epoch import in_epoch
from decision_engine.arrow import matrix_of
from decision_engine.audit import records_of
from decision_engine.decide import probabilities
from decision_engine.evaluate import MIN_EFFECTIVE, Log
from decision_engine.features import feature_names
from decision_engine.learn import buckets
from decision_engine.logged import REWARDS, epochs_with
from decision_engine.promotion import FOLDS, HeldOut, Looked
from decision_engine.replay import chances
from decision_engine.state import PolicyState
from decision_engine.types import TREATMENT, Bools, Floats, Reason
from decision_engine.workspace import Workspace

LATEST = 20_000
"""So many decisions are looked at."""


def chances_of(
    workspace: Workspace, name: str, state: PolicyState | None, x: Floats, eligible: Bools
) -> Floats:
    """What the agent's treatment would do with this state, or its prior: chances (n, k)."""
    agent = in_epoch(workspace, name, state)
    policy = agent.plan.policies.get(TREATMENT, agent.config.policy)
    return probabilities(agent.plan, policy, x, eligible)


def unwanted_of(outcomes: Sequence[Sequence[Any]]) -> list[str]:
    """The events of negative weight among rows of `outcomes_of`, but for what we spend."""
    return sorted({str(event) for event, weight, *_, spent in outcomes if weight < 0 and not spent})


def read_held_out(
    workspace: Workspace,
    warehouse: Warehouse,
    agent: str,
    since: datetime,
    unwanted: Sequence[str],
) -> tuple[Looked, HeldOut | None]:
    """The treatment's newest decisions that have closed since; None when they are too few.

    Those that were never carried out too: what was done for a customer is what was decided.
    """
    closed = (
        f" from {workspace.model(REWARDS)} r join {workspace.engine('decisions')} d"
        " using (decision_id) where d.agent = ? and r.is_closed and r.closes_at > ?"
        " and d.group_name = ? and d.policy not in ('fixed', 'uniform') and d.p_action is not null"
    )
    batches = list(
        warehouse.query(
            "select d.decision_id, d.epoch_id, d.customer_id, d.group_name, d.action, d.p_agent,"
            " d.p_action, d.mean, d.sd, d.share, d.reasons, d.x, r.credited_reward as reward"
            f"{closed} order by d.decided_at desc, d.decision_id limit {LATEST}",
            [agent, since, TREATMENT],
        )
    )
    if not batches:
        return Looked(), None
    table = pa.Table.from_batches(batches).combine_chunks()
    actions = workspace.catalog(agent).keys
    features = feature_names(workspace.agents[agent].context)
    parts, known = [], 0
    for epoch, plan in epochs_with(workspace, warehouse, agent, features):
        rows = table.filter(pc.equal(table["epoch_id"], epoch)).combine_chunks()
        known += rows.num_rows
        kept = rows.filter(pc.is_in(rows["action"], pa.array(actions))).combine_chunks()
        if kept.num_rows:
            parts.append((kept, *_among(actions, plan, kept)))
    judged = sum(rows.num_rows for rows, *_ in parts)
    looked = Looked(len(parts), judged, known - judged, table.num_rows - known)
    if judged < MIN_EFFECTIVE:
        return looked, None
    table = pa.concat_tables([rows for rows, *_ in parts]).combine_chunks()
    eligible = np.concatenate([eligible for _, eligible, _ in parts])
    p = np.concatenate([p for *_, p in parts])
    counts = _counts(workspace, warehouse, table, agent, unwanted)
    return looked, _held_out(table, eligible, p, actions, counts)


def _among(actions: tuple[str, ...], plan: dict[str, Any], rows: pa.Table) -> tuple[Bools, Floats]:
    """What was possible of today's actions (n, k), and the chance (n,) of what was done of them.

    The rows are of one epoch and were done by actions that are still there. Such a choice is one
    by the same lot among these alone, so its chance is p(action) / p(any of these). It speaks for
    customers in the measure in which these actions were theirs (the tilted population of Li,
    Morgan and Zaslavsky 2018, "Balancing covariates via propensity score weighting").
    """
    then = [action["key"] for action in plan["actions"]]
    is_there = np.isin(then, actions)
    reasons = matrix_of(_array(rows, "reasons"))
    eligible = np.zeros((rows.num_rows, len(actions)), dtype=bool)
    places = [actions.index(key) for key in then if key in actions]
    eligible[:, places] = reasons[:, is_there] == Reason.ELIGIBLE
    p = _numbers(rows, "p_action")
    if not is_there.all():
        p = np.minimum(p / chances(records_of(plan, rows))[:, is_there].sum(axis=1), 1.0)
    return eligible, p


def _held_out(
    table: pa.Table,
    eligible: Bools,
    p: Floats,
    actions: tuple[str, ...],
    unwanted: dict[str, Floats],
) -> HeldOut:
    index = {key: i for i, key in enumerate(actions)}
    customers = table["customer_id"].to_pylist()
    log = Log(
        np.array([index[a] for a in table["action"].to_pylist()], dtype=np.int64),
        _numbers(table, "reward"),
        p,
        np.unique(customers, return_inverse=True)[1].astype(np.int64),
    )
    x = matrix_of(_array(table, "x")).astype(np.float64).reshape(table.num_rows, -1)
    return HeldOut(log, x, eligible, buckets(customers) % FOLDS, unwanted)


def _counts(
    workspace: Workspace,
    warehouse: Warehouse,
    table: pa.Table,
    agent: str,
    events: Sequence[str],
) -> dict[str, Floats]:
    """How often each event followed each decision (n,)."""
    place = {name: i for i, name in enumerate(table["decision_id"].to_pylist())}
    found = {event: np.zeros(len(place)) for event in events}
    outcomes = workspace.model("fct_outcomes")
    if not events or warehouse.columns(outcomes) is None:
        return {}
    for decision, event, count in warehouse.rows(
        f"select decision_id, event, count(*) from {outcomes}"
        f" where agent = ? and {warehouse.among('event')} group by 1, 2",
        [agent, list(events)],
    ):
        if decision in place:
            found[event][place[decision]] = count
    return found


def _array(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)
