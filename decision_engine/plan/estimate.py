"""What a change would have earned on the decisions that are closed: off-policy, or refused.

Each logged decision of a group that draws is given both configurations: with the policy state
that it was made with, which was learned before it, and the guardrail facts of its record; limits
are worth what they are at the moment of the plan. The
estimate is of decisions taken one at a time: what they change for later ones is not in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.base import Warehouse
from decision_engine.agent_in_epoch import AgentInEpoch, in_epoch
from decision_engine.arrow import matrix_of
from decision_engine.budgets import lots, worth_it
from decision_engine.decide import gains, probabilities
from decision_engine.decrees import with_lists
from decision_engine.epochs import read_state
from decision_engine.errors import MissingColumnError
from decision_engine.evaluate import Estimate, Log, compare
from decision_engine.features import feature_names
from decision_engine.guardrails import judge
from decision_engine.logged import REWARDS, contexts_of_facts, daily_epochs
from decision_engine.overrides import pinned
from decision_engine.plan.sides import Side
from decision_engine.reward_model import cross_fit, folds_of
from decision_engine.scene import Scene
from decision_engine.state import PolicyState
from decision_engine.types import TREATMENT, Contexts, Epoch, Floats, Reason
from decision_engine.workspace import Workspace

LATEST = 50_000
"""So many closed decisions are looked at."""

_SEED = 1  # of the folds: the same log gives the same estimate
_NAME = "dr_difference"
_SAME = 1e-12


@dataclass(frozen=True)
class Expected:
    """The change in reward per decision of the treatment, and the mean reward of the log."""

    change: Estimate
    logged_mean: float


@dataclass(frozen=True, eq=False)
class Part:
    """n decisions of one epoch: `customers` (n,) ids, `before`, `after` (n, k) probabilities."""

    customers: NDArray[Any]
    log: Log
    x: Floats
    before: Floats
    after: Floats


class RefusedError(Exception):
    """Why nothing can be said."""


def expected(
    workspace: Workspace, warehouse: Warehouse, before: Side, after: Side, wanted: Collection[str]
) -> dict[str, Expected]:
    """An estimate for the wanted agents that decide daily on both sides."""
    names = [a.name for a in after.agents if a.name in wanted and before.agent(a.name) is not None]
    return {name: _expected(workspace, warehouse, before, after, name) for name in names}


def _expected(
    workspace: Workspace, warehouse: Warehouse, before: Side, after: Side, name: str
) -> Expected:
    try:
        pair = Pair.of(before, after, name)
        return _compared(list(parts_of(workspace, warehouse, pair)))
    except RefusedError as refusal:
        nan = float("nan")
        change = Estimate(_NAME, nan, nan, nan, nan, 0, 0.0, "refused", str(refusal))
        return Expected(change, nan)


def _compared(parts: list[Part]) -> Expected:
    if not parts:
        raise RefusedError("no closed decision was made with these actions and features")
    _, customer = np.unique(np.concatenate([p.customers for p in parts]), return_inverse=True)
    log = Log(
        np.concatenate([p.log.action for p in parts]),
        np.concatenate([p.log.reward for p in parts]),
        np.concatenate([p.log.propensity for p in parts]),
        customer.astype(np.int64),
    )
    x, before, after = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "before", "after")
    )
    mean = float(log.reward.mean())
    if np.abs(after - before).max() < _SAME:
        n = len(log)
        return Expected(Estimate(_NAME, 0.0, 0.0, 0.0, 0.0, n, float(n)), mean)
    fold = folds_of(log, np.random.default_rng(_SEED))
    fit = cross_fit(log, x, before.shape[1], fold)
    return Expected(compare(log, after, before, fit.predictions), mean)


@dataclass(frozen=True, eq=False)
class Pair:
    """One agent on both sides; `actions` are the keys of both together, k of them."""

    name: str
    sides: tuple[Side, Side]
    agents: tuple[AgentInEpoch, AgentInEpoch]
    actions: tuple[str, ...]

    @classmethod
    def of(cls, before: Side, after: Side, name: str) -> Pair:
        """The agent of this name; RefusedError when its logs say nothing of the change."""
        old, new = before.agent(name), after.agent(name)
        if old is None or new is None:
            raise RefusedError("the agent is not on both sides")
        if old.config.audience != new.config.audience:
            raise RefusedError(
                "the audience is another one, and the log does not say who would be in it"
            )
        actions = dict.fromkeys((*old.plan.catalog.keys, *new.plan.catalog.keys))
        return cls(name, (before, after), (old, new), tuple(actions))


def parts_of(workspace: Workspace, warehouse: Warehouse, pair: Pair) -> Iterator[Part]:
    """The latest closed decisions with what both sides would have done, epoch by epoch."""
    log = _logged(workspace, warehouse, pair.name)
    features = [list(feature_names(agent.config.context)) for agent in pair.agents]
    for epoch, plan in daily_epochs(workspace, warehouse, pair.name):
        rows = log.filter(pc.equal(log["epoch_id"], epoch.epoch_id)).combine_chunks()
        known = {action["key"] for action in plan["actions"]} <= set(pair.actions)
        if rows.num_rows and known and features == [plan["features"]] * 2:
            state = read_state(workspace, warehouse, pair.name, plan["policy_version"])
            if state is not None:  # it goes with a person who is erased
                yield _part(pair, epoch, state, rows)


def _part(pair: Pair, epoch: Epoch, state: PolicyState, rows: pa.Table) -> Part:
    index = {key: i for i, key in enumerate(pair.actions)}
    action = np.array([index[key] for key in rows["action"].to_pylist()], dtype=np.int64)
    reward, propensity = (np.asarray(rows[c].to_numpy(), float) for c in ("reward", "p_action"))
    x = matrix_of(rows["x"].combine_chunks()).astype(np.float64).reshape(rows.num_rows, -1)
    contexts = contexts_of_facts(rows)
    before, after = (_chances(pair, i, epoch, state, contexts, x) for i in (0, 1))
    return Part(contexts.customer_ids, Log(action, reward, propensity), x, before, after)


def _chances(
    pair: Pair, side: int, epoch: Epoch, state: PolicyState, contexts: Contexts, x: Floats
) -> Floats:
    """What the side's treatment does with each row: (n, k) over the actions of both sides."""
    workspace = pair.sides[side].workspace
    agent = in_epoch(workspace, pair.name, state, pair.agents[side].overrides)
    catalog, policies = agent.plan.catalog, agent.plan.policies
    config, overrides = agent.config, agent.overrides
    try:
        project = workspace.project
        reasons = judge(Scene(contexts, catalog, project, epoch, None, config, overrides))
        if (cost := pair.agents[side].costs) is not None:
            lot = lots(project.salt, contexts.customer_ids)
            reasons = worth_it(reasons, gains(agent.plan, config.policy, x), cost, lot)
        reasons = agent.ramped(reasons, project.salt, contexts.customer_ids)
        reasons = with_lists(reasons, config.lists, catalog, contexts)
        pins, everybody = overrides.on("pin", epoch.as_of), np.ones(len(x), dtype=bool)
        reasons = pinned(reasons, catalog, contexts, pins, everybody)
    except MissingColumnError as error:
        raise RefusedError(f"the log does not hold {error.column}, which is looked at") from None
    policy = policies.get(TREATMENT, agent.config.policy)
    out = np.zeros((len(x), len(pair.actions)))
    places = [pair.actions.index(key) for key in catalog.keys]
    out[:, places] = probabilities(agent.plan, policy, x, reasons == Reason.ELIGIBLE)
    return out


def _logged(workspace: Workspace, warehouse: Warehouse, agent: str) -> pa.Table:
    """The agent's latest closed decisions that were drawn, not fixed."""
    tables = [workspace.model(REWARDS), workspace.engine("decisions")]
    if any(warehouse.columns(table) is None for table in tables):
        raise RefusedError("no decision is closed yet")
    batches = list(
        warehouse.query(
            "select d.epoch_id, r.customer_id, d.action, d.p_action, d.x, d.facts, r.reward"
            f" from {tables[0]} r join {tables[1]} d using (decision_id)"
            " where d.agent = ? and r.is_closed and d.policy <> 'fixed'"
            " and d.p_action is not null"
            f" order by d.decided_at desc, d.decision_id limit {LATEST}",
            [agent],
        )
    )
    if not sum(batch.num_rows for batch in batches):
        raise RefusedError("no decision is closed yet")
    return pa.Table.from_batches(batches)
