"""learn over the warehouse: closed and open decisions with their rewards become new states."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors import failpoint
from connectors.base import Warehouse
from decision_engine import keys
from decision_engine.agent_in_epoch import initial_state
from decision_engine.arrow import column_of_array, matrix_of
from decision_engine.epochs import read_state, start_from_prior
from decision_engine.errors import StepError
from decision_engine.factors import Precisions
from decision_engine.features import feature_names
from decision_engine.held_out import chances_of, read_held_out, unwanted_of
from decision_engine.learn import (
    LEARN_TOGETHER,
    PROPORTIONAL,
    Rewards,
    buckets,
    has_context,
    learn,
    learn_anew,
    outgrown,
)
from decision_engine.logged import REWARDS, epochs_with, rewards_as_of
from decision_engine.override_labels import label
from decision_engine.pausing import pause_weak
from decision_engine.policies import kind_of, shared_units
from decision_engine.promotion import FOLDS, promotion
from decision_engine.state import CONTEXT_FREE, PolicyState, save
from decision_engine.tables import LEARNED_REWARDS, POLICY_STATES
from decision_engine.workspace import Workspace

_EPOCH = datetime(1970, 1, 1)
_LONGEST_WAIT = timedelta(days=16)
"""Between the first and the last message of those that are decided together, at most."""


def learn_all(
    workspace: Workspace,
    as_of: datetime,
    *,
    dry_run: bool = False,
    promote: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """A new state for each agent whose outcomes say something new; a row per agent.

    Repeating it for the same moment changes nothing. A state that the promotion gate holds back
    is not put to use, but for the agents named in `promote`. A weak creative is frozen where an
    agent has `pause_weak`. StepError when an agent is unknown.
    """
    if unknown := sorted(set(promote) - set(workspace.agents)):
        raise StepError(f"no agent is called {unknown[0]}; there are {', '.join(workspace.agents)}")
    with workspace.alone("learn"), workspace.warehouse() as warehouse:
        if warehouse.columns(workspace.model(REWARDS)) is None:
            raise StepError(
                f"{workspace.model(REWARDS)} does not exist; run `nextmove build` first"
            )
        rows = {
            name: learn_agent(workspace, warehouse, name, as_of, dry_run, name in promote)
            for name in sorted(workspace.agents)
        }
        for name, row in rows.items():
            paused = pause_weak(workspace, warehouse, name, as_of, dry_run)
            row["note"] = "; ".join(filter(None, (row["note"], paused)))
        for name in rows if not dry_run else ():
            start_from_prior(workspace, warehouse, name, as_of)
        if not dry_run:
            label(workspace, warehouse, as_of)
        return rows


def learn_agent(
    workspace: Workspace,
    warehouse: Warehouse,
    name: str,
    as_of: datetime,
    dry_run: bool,
    promote: bool = False,
) -> dict[str, Any]:
    """Learn one agent; its version, how many decisions it has learned from, and a remark."""
    agent, catalog = workspace.agents[name], workspace.catalog(name)
    # What is closed was settled when the rewards were built. A state that claims a later moment
    # would never be given the decisions that closed in between.
    as_of = rewards_as_of(workspace, warehouse) or as_of
    seconds = (as_of - _EPOCH) / timedelta(seconds=1)
    outcomes = outcomes_of(workspace, warehouse, name)
    previous = resumable(workspace, warehouse, name, outcomes)
    if previous is not None and previous.as_of >= seconds:
        return summary(previous, "learned already")
    # What is usual for a customer is better known now; all sums are made anew under it.
    if previous is not None and outgrown(previous):
        previous = None
    features = feature_names(agent.context)
    learned: list[pa.Table] = []
    rows = rewards_of(workspace, warehouse, name, catalog.keys, features, previous, learned)
    settings: dict[str, Any] = {
        "agent": name,
        "policy": kind_of(agent.policy),
        "actions": catalog.keys,
        "features": features,
        "as_of": seconds,
        "context_precision": getattr(agent.policy, "context_precision", "auto"),
        "half_life_days": getattr(agent.policy, "half_life_days", None),
        "units": shared_units(agent.policy, catalog.actions),
    }

    def fitted(parts: list[Rewards]) -> PolicyState:
        return learn(previous, parts, **settings) if previous else learn_anew(parts, **settings)

    parts = list(rows)
    new, before = fitted(parts), previous or initial_state(agent, catalog)
    if new.as_of == before.as_of:
        return summary(before, "too little evidence yet; the state stays")
    since = _moment(previous.as_of if previous else 0.0)
    gate = promotion(
        *read_held_out(workspace, warehouse, name, since, unwanted_of(outcomes)),
        lambda fold, *rows: chances_of(
            workspace, name, fitted([_without(part, fold) for part in parts]), *rows
        ),
    )
    if gate.holds_back and not promote:
        current = read_state(workspace, warehouse, name) or before
        return summary(current, f"{gate.words}; --promote {name} puts it to use all the same")
    if not dry_run:
        store(workspace, warehouse, new, as_of, outcomes, learned, is_anew=previous is None)
    return summary(new, "; ".join(filter(None, (remark(new), gate.words))))


def _without(part: Rewards, fold: int) -> Rewards:
    """But for the closed decisions of some customers."""
    return part.take(~(part.is_closed & (part.bucket % FOLDS == fold)))


def outcomes_of(workspace: Workspace, warehouse: Warehouse, agent: str) -> list[list[Any]]:
    """What the rewards were counted by when they were built.

    Event, weight, per, window, credit, from when on, what it is spent on. What weighs nothing is
    not among it. It counts from when the message leaves; it once did from the decision, and
    states of then are learned anew; and so are those that knew only of what was sent.
    """
    rows = warehouse.rows(
        "select event, weight, per, window_hours, sequence_credit, 'choosing',"
        f" coalesce(spent_on, '') from {workspace.engine('agent_outcomes')}"
        " where agent = ? and weight <> 0",
        [agent],
    )
    return sorted(list(row) for row in rows)


def resumable(
    workspace: Workspace, warehouse: Warehouse, agent: str, outcomes: list[list[Any]]
) -> PolicyState | None:
    """The current state if today's sums would go on from its own; None to learn anew.

    A changed context means that old sums are of other features. The decisions are all still
    there, but their logged x is of the old basis, so only those of the new basis count. Changed
    outcomes mean that old sums are of other rewards, and another window opens closed decisions
    again, which would then count twice. Another policy may have no usual reward, or another one.
    Under another half-life every weight is another one, and nobody could be taken out again.
    """
    state, config = read_state(workspace, warehouse, agent), workspace.agents[agent]
    if state is None or state.features != feature_names(config.context):
        return None
    half_life_days = getattr(config.policy, "half_life_days", None)
    if (state.policy, state.theta.half_life_days) != (kind_of(config.policy), half_life_days):
        return None
    (text,) = warehouse.rows(
        f"select summary from {workspace.engine('policy_states')} where agent = ? and is_current",
        [agent],
    )[0]
    return state if json.loads(text).get("outcomes") == outcomes else None


def rewards_of(
    workspace: Workspace,
    warehouse: Warehouse,
    agent: str,
    actions: tuple[str, ...],
    features: tuple[str, ...],
    previous: PolicyState | None,
    learned: list[pa.Table],
) -> Iterator[Rewards]:
    """Decisions that closed since the previous state, and all open ones, in batches.

    What is learned from each of them is put into `learned` too, as rows of `learned_rewards`.
    Those also say what the previous state has of closed decisions: not by when they closed alone,
    for that changes when somebody is erased with whom others were to be closed.
    """
    since = _EPOCH if previous is None else _moment(previous.as_of) - _LONGEST_WAIT
    closed_before = (
        f"select 1 from {workspace.engine('learned_rewards')} l"
        " where l.decision_id = d.decision_id and l.is_closed"
    )
    is_new = "" if previous is None else f" and not exists ({closed_before})"
    index = {key: i for i, key in enumerate(actions)}
    known_actions = pa.array(actions)
    plans = epochs_with(workspace, warehouse, agent, features)
    epochs = pa.array([epoch for epoch, _ in plans], pa.string())
    for batch in warehouse.query(
        "select d.decision_id, d.epoch_id, d.customer_id, d.action, d.x, d.decided_at,"
        " r.credited_reward as reward, r.is_closed, r.delay_weight"
        f" from {workspace.model(REWARDS)} r join {workspace.engine('decisions')} d"
        " using (decision_id) where d.agent = ? and r.is_learnable"
        f" and (not r.is_closed or r.closes_at > ?){is_new} order by d.decision_id",
        [agent, since],
    ):
        usable = pc.and_(
            pc.is_in(batch["action"], known_actions), pc.is_in(batch["epoch_id"], epochs)
        )
        if pc.any(usable).as_py():
            rows = _rewards(batch.filter(usable), index)
            learned.append(_learned(agent, batch.filter(usable)["decision_id"], rows))
            yield rows


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _rewards(batch: pa.RecordBatch, index: dict[str, int]) -> Rewards:
    def numbers(name: str) -> Any:
        # A warehouse adds up in any order: without rounding, the last bit is left to chance.
        return np.round(batch[name].to_numpy(zero_copy_only=False).astype(np.float64), 9)

    is_closed = batch["is_closed"].to_numpy(zero_copy_only=False).astype(bool)
    return Rewards(
        x=matrix_of(batch["x"]),
        action=np.array([index[a] for a in batch["action"].to_pylist()], dtype=np.int64),
        reward=numbers("reward"),
        weight=np.where(is_closed, 1.0, numbers("delay_weight")),
        is_closed=is_closed,
        bucket=buckets(batch["customer_id"].to_pylist()),
        order=keys.keys_of(batch["decision_id"].to_pylist()),
        decided_at=column_of_array(batch["decided_at"]).values,
    )


def _learned(agent: str, decision_ids: pa.Array, rows: Rewards) -> pa.Table:
    columns = [decision_ids, [agent] * len(rows), rows.reward, rows.weight, rows.is_closed]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, LEARNED_REWARDS, strict=True)],
        schema=LEARNED_REWARDS,
    )


def store(
    workspace: Workspace,
    warehouse: Warehouse,
    state: PolicyState,
    as_of: datetime,
    outcomes: list[list[Any]],
    learned: Sequence[pa.Table] = (),
    *,
    is_anew: bool = False,
) -> None:
    """Write the new version and make it the current one, at once or not at all.

    `learned` is what it was learned from beyond the version before, or from nothing (`is_anew`).
    """
    notes = workspace.engine("learned_rewards")
    open_ones = "" if is_anew else " and not is_closed"
    with warehouse.transaction():
        warehouse.rows(f"delete from {notes} where agent = ?{open_ones}", [state.agent])
        for table in learned:
            warehouse.append(notes, table)
        make_current(workspace, warehouse, state, as_of, outcomes)
        failpoint.hit("learn.store.before_commit")
    failpoint.hit("learn.store.after_commit")


def make_current(
    workspace: Workspace,
    warehouse: Warehouse,
    state: PolicyState,
    as_of: datetime,
    outcomes: list[list[Any]],
) -> None:
    """Write a version and make it the current one; to be called within a transaction."""
    table = workspace.engine("policy_states")
    row = {
        "agent": state.agent,
        "version": state.version,
        "as_of": as_of,
        "policy": state.policy,
        "closed_through": as_of,
        "n_decisions": state.decisions,
        "state": save(state),
        "summary": json.dumps({**summary(state, remark(state)), "outcomes": outcomes}),
        "is_current": True,
    }
    warehouse.rows(f"update {table} set is_current = false where agent = ?", [state.agent])
    warehouse.append(table, pa.Table.from_pylist([row], schema=POLICY_STATES))


def summary(state: PolicyState, note: str) -> dict[str, Any]:
    """What to tell about a state."""
    return {"version": state.version, "decisions": state.decisions, "note": note}


def remark(state: PolicyState) -> str:
    """Whether context is used, in words."""
    if state.policy not in PROPORTIONAL or not has_context(state):
        return "learned"
    precision = state.theta.context_precision
    if state.policy in LEARN_TOGETHER:
        own, shared = state.theta.precisions or Precisions()
        has_shared = any(len(unit) > 1 for unit in state.units.values())
        precision = min(own[1], shared[1]) if has_shared else own[1]
    if precision >= CONTEXT_FREE:
        return "learned; context shows no gain, so actions are judged without it"
    return f"learned; context counts with prior precision {precision:g}"
