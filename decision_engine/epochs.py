"""The frozen part of a batch: what every decision of one slot depends on besides its context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.base import Warehouse
from decision_engine import configurations, keys
from decision_engine.budgets import NO_PRICES, Prices, costs
from decision_engine.config import Agent, Group, Policy, hours
from decision_engine.decide import AgentPlan
from decision_engine.errors import StepError
from decision_engine.features import (
    ALL_TRUSTED,
    Distrusted,
    feature_names,
    needed_columns,
    ruling_columns,
    source_of,
)
from decision_engine.guardrails import MAX_PROFILE_AGE, columns_of
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.policies import (
    POLICIES,
    floor_of,
    kind_of,
    preference_of,
    shared_units,
)
from decision_engine.state import DEFAULT_PRECISION, PolicyState, load, save
from decision_engine.tables import EPOCHS, POLICY_STATES
from decision_engine.types import Catalog, Epoch, Floats, Ints
from decision_engine.workspace import Workspace

FEATURES = "dim_customer_features"
EVENTS = "events"
"""The slot of an epoch of the hot path: its decisions have slots of their own, an event or call."""


@dataclass(frozen=True)
class AgentInEpoch:
    """One agent with everything it decides with, frozen."""

    config: Agent
    plan: AgentPlan
    state: PolicyState
    groups: tuple[Group, ...]
    group_salt: str
    fact_columns: tuple[str, ...]
    overrides: Overrides = NO_OVERRIDES
    costs: Floats | None = None
    """What each action (k,) uses up of limits is worth; None when all prices are 0."""
    distrusted: Distrusted = field(default_factory=dict)
    """The columns it reads that failed a check."""
    ruling: frozenset[str] = frozenset()
    """The columns that settle what it may do."""

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.config.agent

    @cached_property
    def group_names(self) -> NDArray[Any]:
        """The names of the groups, as an object array."""
        return np.array([g.name for g in self.groups], dtype=object)

    @cached_property
    def floors(self) -> Mapping[str, float]:
        """The floor of each group's policy."""
        return {group: floor_of(policy) for group, policy in self.plan.policies.items()}

    @cached_property
    def held_by(self) -> Distrusted:
        """Columns not to trust that settle what it may do: with any of them, it does nothing."""
        return {c: why for c, why in self.distrusted.items() if c in self.ruling}

    @cached_property
    def dropped(self) -> Distrusted:
        """Columns not to trust that it only learns by: they are taken to be as usual."""
        return {c: why for c, why in self.distrusted.items() if c not in self.ruling}

    @cached_property
    def dropped_features(self) -> Ints:
        """The places of their features in the basis."""
        names = feature_names(self.config.context)
        return np.array([i for i, n in enumerate(names) if source_of(n) in self.dropped], int)

    def group_of(self, customer_ids: Any) -> Ints:
        """The index of each customer's group, (n,)."""
        return keys.group_of(self.group_salt, customer_ids, [g.share for g in self.groups])


class Begun(NamedTuple):
    """The epoch to decide under, and where its slot stands.

    `status`: "new", nobody is decided; "rest", an epoch was left open under other profiles or
    another configuration, and this one, not yet written, is for whom it did not come to;
    "open", begun and to be gone on with; "done".
    """

    epoch: Epoch
    status: str
    overrides: Overrides = NO_OVERRIDES

    @property
    def is_new(self) -> bool:
        """Whether the epoch is still to be committed."""
        return self.status in ("new", "rest")


def begin(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> Begun:
    """The epoch of this date. Nothing is written yet.

    An open epoch goes on only when profiles, configuration and overrides are still the ones it
    froze.
    Otherwise the rest of the date is for another epoch: no epoch has decisions by two sets of
    rules, and no customer has decisions by two epochs of a date.
    """
    slot = as_of.date().isoformat()
    build = profile_build(workspace, warehouse)
    overrides, digest = workspace.overrides(), workspace.digest
    found = warehouse.rows(
        "select status, epoch_id, slot, as_of, profile_build, config_digest, kill_switch"
        f" from {workspace.engine('epochs')} where slot = ?",
        [slot],
    )
    begun = {
        epoch_id: Begun(Epoch(epoch_id, *rest), status, overrides)
        for status, epoch_id, *rest in found
    }
    left_open = next((b for b in begun.values() if b.status == "open"), None)
    if left_open and is_of(left_open.epoch, build, digest):
        plan = _plan(workspace, warehouse, left_open.epoch)
        if plan["overrides"] == _decreed(map(overrides.of, daily_agents(workspace))):
            return left_open
    if begun and not left_open:
        last = _epoch_id(workspace, slot, len(begun) - 1)
        return begun.get(last, next(iter(begun.values())))
    _require_recent(workspace, warehouse, as_of)
    name = _epoch_id(workspace, slot, len(begun))
    epoch = Epoch(name, slot, as_of, build, digest, workspace.is_stopped)
    return Begun(epoch, "rest" if begun else "new", overrides)


def is_of(epoch: Epoch, build: str, digest: str) -> bool:
    """Whether profiles and configuration are those that the epoch froze."""
    return (epoch.profile_build, epoch.config_digest) == (build, digest)


def _epoch_id(workspace: Workspace, slot: str, number: int) -> str:
    """The id of the first (0), second, ... epoch of a date."""
    name = f"{slot}\x1f{number}" if number else slot
    text = f"{workspace.project.salt}\x1fepoch\x1f{name}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_recent(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> None:
    """Profiles of the future know the outcomes already; those of long ago know too little."""
    (built,) = warehouse.rows(f"select max(as_of) from {workspace.model(FEATURES)}")[0]
    if built is None:  # nobody to decide for
        return
    if not timedelta(0) <= as_of - built <= MAX_PROFILE_AGE:
        raise StepError(
            f"the profiles are as of {built:%Y-%m-%d %H:%M}, which is no ground for decisions"
            f" as of {as_of:%Y-%m-%d %H:%M}; run `nextmove build` for that time first"
        )


def profile_build(workspace: Workspace, warehouse: Warehouse) -> str:
    """The one build that all profiles come from."""
    table = workspace.model(FEATURES)
    if warehouse.columns(table) is None:
        raise StepError(f"{table} does not exist; run `nextmove build` first")
    builds = warehouse.rows(f"select distinct profile_build from {table} limit 2")
    if len(builds) != 1:
        raise StepError(
            f"{table} has no rows; load customers and run `nextmove build`"
            if not builds
            else f"{table} mixes two builds; run `nextmove build` again"
        )
    return str(builds[0][0])


def freeze(
    workspace: Workspace, warehouse: Warehouse, begun: Begun, distrusted: Distrusted = ALL_TRUSTED
) -> list[AgentInEpoch]:
    """The daily agents with the states they use in this epoch, in the order of their names.

    An epoch that goes on has its own `distrusted`.
    """
    plan = {"agents": {}} if begun.is_new else _plan(workspace, warehouse, begun.epoch)
    found = []
    for name in daily_agents(workspace):
        then = plan["agents"].get(name, {})
        state = read_state(workspace, warehouse, name, then.get("policy_version"))
        failed = then.get("distrusted", ALL_TRUSTED) if then else distrusted
        agent = in_epoch(workspace, name, state, begun.overrides, distrusted=failed)
        costs = then.get("costs")
        found.append(agent if costs is None else replace(agent, costs=np.array(costs)))
    return found


def daily_agents(workspace: Workspace) -> list[str]:
    """The agents that the batch decides for, sorted: those without triggers."""
    return sorted(name for name, agent in workspace.agents.items() if not agent.triggers)


def _plan(workspace: Workspace, warehouse: Warehouse, epoch: Epoch) -> dict[str, Any]:
    (text,) = warehouse.rows(
        f"select plan from {workspace.engine('epochs')} where epoch_id = ?", [epoch.epoch_id]
    )[0]
    return {"overrides": [], **json.loads(text)}


def _decreed(of_agents: Iterable[Overrides]) -> list[dict[str, Any]]:
    """The overrides of some agents as plain data, oldest first."""
    found = {o.override_id: o for mine in of_agents for o in mine.frozen}
    oldest_first = sorted(found.values(), key=lambda o: (o.at, o.override_id))
    return [msgspec.to_builtins(o) for o in oldest_first]


def in_epoch(
    workspace: Workspace,
    name: str,
    state: PolicyState | None,
    overrides: Overrides = NO_OVERRIDES,
    prices: Prices = NO_PRICES,
    distrusted: Distrusted = ALL_TRUSTED,
) -> AgentInEpoch:
    """One agent with a learned state; from its prior when there is none that fits."""
    agent, catalog = workspace.agents[name], workspace.catalog(name)
    groups = agent.groups or workspace.project.groups
    if state is None or state.features != feature_names(agent.context):
        # What was learned of other features says nothing about these.
        state = initial_state(agent, catalog)
    state = state.with_units(shared_units(agent.policy, catalog.actions))
    policies: Mapping[str, Policy] = {g.name: g.policy or agent.policy for g in groups}
    text = {f.column for f in agent.context if f.transform == "one_of"}
    mine = overrides.of(name)
    own_salt = f"{workspace.project.salt}\x1f{name}" if agent.groups else workspace.project.salt
    return AgentInEpoch(
        config=agent,
        plan=AgentPlan(name, catalog, policies, state),
        state=state,
        groups=groups,
        group_salt=own_salt,
        fact_columns=tuple(
            sorted(text | mine.columns | columns_of(catalog, workspace.project, agent))
        ),
        overrides=mine,
        costs=_costs(workspace, catalog, prices),
        distrusted={
            c: distrusted[c]
            for c in (needed_columns(agent, catalog, workspace.project) if distrusted else ())
            if c in distrusted
        },
        ruling=frozenset(ruling_columns(agent, catalog, workspace.project) | mine.columns),
    )


def _costs(workspace: Workspace, catalog: Catalog, prices: Prices) -> Floats | None:
    if not prices:
        return None
    return costs(workspace.project.limits, prices, catalog, workspace.project.incentives)


def at_prices(
    workspace: Workspace, agents: Iterable[AgentInEpoch], prices: Prices
) -> list[AgentInEpoch]:
    """The agents with what their actions cost at these prices."""
    return [replace(a, costs=_costs(workspace, a.plan.catalog, prices)) for a in agents]


def read_state(
    workspace: Workspace, warehouse: Warehouse, agent: str, version: str | None = None
) -> PolicyState | None:
    """A learned state: the given version, else the current one; None when there is none."""
    where = "is_current" if version is None else "version = ?"
    found = warehouse.rows(
        f"select state from {workspace.engine('policy_states')} where agent = ? and {where}",
        [agent] if version is None else [agent, version],
    )
    return load(found[0][0]) if found else None


def initial_state(agent: Agent, catalog: Catalog) -> PolicyState:
    """What an agent starts from: the prior of its policy."""
    precision = getattr(agent.policy, "context_precision", "auto")
    prior = PolicyState.initial(
        agent.agent,
        kind_of(agent.policy),
        catalog.keys,
        feature_names(agent.context),
        0.0,
        DEFAULT_PRECISION if precision == "auto" else float(precision),
        getattr(agent.policy, "half_life_days", None),
    )
    return prior.with_units(shared_units(agent.policy, catalog.actions))


def commit(
    workspace: Workspace, warehouse: Warehouse, epoch: Epoch, agents: list[AgentInEpoch]
) -> None:
    """Write the epoch, open; to be called before its first decision.

    One of the same date that was left open is closed: nothing more is decided under it.
    StepError when another process has begun the same one in the meantime.
    """
    row = {
        "epoch_id": epoch.epoch_id,
        "slot": epoch.slot,
        "as_of": epoch.as_of,
        "profile_build": epoch.profile_build,
        "config_digest": epoch.config_digest,
        "kill_switch": epoch.kill_switch,
        "plan": json.dumps(plan_of(workspace, agents)),
        "status": "open",
    }
    with warehouse.transaction():
        for agent in agents:
            keep_prior(workspace, warehouse, agent.state, epoch.as_of)
        configurations.keep(workspace, warehouse, epoch.config_digest, epoch.as_of)
        _close(workspace, warehouse, "slot", epoch.slot)
        begun = warehouse.insert_absent(
            workspace.engine("epochs"), pa.Table.from_pylist([row], schema=EPOCHS), ["epoch_id"]
        )
        if not begun:
            raise StepError(
                f"another process has just begun to decide for {epoch.slot};"
                " let it end, or stop it and run again"
            )


def keep_prior(
    workspace: Workspace, warehouse: Warehouse, state: PolicyState, as_of: datetime
) -> None:
    """Store a state that no learn has stored, so that its decisions can be made again."""
    if read_state(workspace, warehouse, state.agent, state.version) is not None:
        return
    row = {
        "agent": state.agent,
        "version": state.version,
        "as_of": as_of,
        "policy": state.policy,
        "closed_through": None,
        "n_decisions": 0,
        "state": save(state),
        "summary": json.dumps({"version": state.version, "decisions": 0, "note": "prior"}),
        "is_current": False,
    }
    table = pa.Table.from_pylist([row], schema=POLICY_STATES)
    warehouse.append(workspace.engine("policy_states"), table)


def start_from_prior(
    workspace: Workspace, warehouse: Warehouse, agent: str, as_of: datetime
) -> None:
    """Have a current state: the prior, when nothing was learned of the agent's features yet."""
    state = read_state(workspace, warehouse, agent)
    config = workspace.agents[agent]
    if state is not None and state.features == feature_names(config.context):
        return
    prior, table = (
        initial_state(config, workspace.catalog(agent)),
        workspace.engine("policy_states"),
    )
    with warehouse.transaction():
        keep_prior(workspace, warehouse, prior, as_of)
        warehouse.rows(
            f"update {table} set is_current = (version = ?) where agent = ?", [prior.version, agent]
        )


def finish(workspace: Workspace, warehouse: Warehouse, epoch: Epoch) -> None:
    """Mark the epoch as done."""
    _close(workspace, warehouse, "epoch_id", epoch.epoch_id)


def _close(workspace: Workspace, warehouse: Warehouse, column: str, value: str) -> None:
    warehouse.rows(
        f"update {workspace.engine('epochs')} set status = 'done'"
        f" where status = 'open' and {column} = ?",
        [value],
    )


def plan_of(workspace: Workspace, agents: list[AgentInEpoch]) -> dict[str, Any]:
    """What `explain` and `replay` need to read a decision of this epoch, as plain data."""
    return {
        "agents": {a.name: _agent_plan(a) for a in agents},
        "arbiter_explore": workspace.project.arbiter_explore,
        "overrides": _decreed(a.overrides for a in agents),
    }


def _agent_plan(agent: AgentInEpoch) -> dict[str, Any]:
    policy = agent.config.policy
    return {
        "policy_version": agent.state.version,
        "family": POLICIES[kind_of(policy)].FAMILY,
        "floor": floor_of(policy),
        "features": list(feature_names(agent.config.context)),
        "actions": [
            {
                "key": a.key,
                "channel": a.channel,
                "creative": a.creative,
                "incentive": a.incentive,
                "send_hour": a.send_hour,
            }
            for a in agent.plan.catalog.actions
        ],
        "policies": {
            group: {
                "kind": kind_of(p),
                "family": POLICIES[kind_of(p)].FAMILY,
                "floor": floor_of(p),
                "preference": list(preference_of(p, agent.plan.catalog.keys)),
            }
            for group, p in agent.plan.policies.items()
        },
        "groups": [{"name": g.name, "share": g.share} for g in agent.groups],
        "costs": None if agent.costs is None else agent.costs.tolist(),
        "distrusted": dict(agent.distrusted),
        "audience": agent.config.audience,
        "time_to_live_hours": hours(agent.config.time_to_live),
    }
