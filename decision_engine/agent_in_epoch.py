"""An agent with everything it decides with, as it is frozen for an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from decision_engine import keys
from decision_engine.budgets import NO_PRICES, Prices, costs
from decision_engine.config import Agent, Group, Policy, Project, hours
from decision_engine.decide import AgentPlan
from decision_engine.features import (
    ALL_TRUSTED,
    Distrusted,
    feature_names,
    needed_columns,
    ruling_columns,
    source_of,
)
from decision_engine.guardrails import columns_of
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.policies import (
    POLICIES,
    floor_of,
    kind_of,
    preference_of,
    shared_units,
)
from decision_engine.ramp import ramped, reaches
from decision_engine.state import DEFAULT_PRECISION, PolicyState
from decision_engine.types import Catalog, Floats, Ints, Reasons
from decision_engine.workspace import Workspace


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
    def group_shares(self) -> tuple[float, ...]:
        """The share of customers in each group."""
        return tuple(g.share for g in self.groups)

    @cached_property
    def reach(self) -> Floats | None:
        """The share of customers (k,) that each action is open to; None for all to all."""
        return reaches(self.plan.catalog, self.state)

    def ramped(self, reasons: Reasons, salt: str, customer_ids: Iterable[str]) -> Reasons:
        """The reasons (n, k), with what is not open to a customer yet ruled out."""
        return ramped(reasons, self.reach, self.plan.catalog, salt, self.name, customer_ids)

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
        """The places in the basis of features of columns not to trust.

        Those by which it holds too: that it did nothing is learned from as well.
        """
        names = feature_names(self.config.context)
        return np.array([i for i, n in enumerate(names) if source_of(n) in self.distrusted], int)

    def group_of(self, customer_ids: Any) -> Ints:
        """The index of each customer's group, (n,)."""
        return keys.group_of(self.group_salt, customer_ids, self.group_shares)


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
    read = mine.columns.union(
        needed_columns(agent, catalog, workspace.project) if distrusted else ()
    )
    return AgentInEpoch(
        config=agent,
        plan=AgentPlan(name, catalog, policies, state),
        state=state,
        groups=groups,
        group_salt=group_salt(workspace.project, agent),
        fact_columns=tuple(
            sorted(text | mine.columns | columns_of(catalog, workspace.project, agent))
        ),
        overrides=mine,
        costs=_costs(workspace, catalog, prices),
        distrusted={c: distrusted[c] for c in sorted(read & distrusted.keys())},
        ruling=frozenset(ruling_columns(agent, catalog, workspace.project) | mine.columns),
    )


def group_salt(project: Project, agent: Agent) -> str:
    """By which customers are put into groups: the agent's own when its groups are."""
    return f"{project.salt}\x1f{agent.agent}" if agent.groups else project.salt


def at_prices(
    workspace: Workspace, agents: Iterable[AgentInEpoch], prices: Prices
) -> list[AgentInEpoch]:
    """The agents with what their actions cost at these prices."""
    return [replace(a, costs=_costs(workspace, a.plan.catalog, prices)) for a in agents]


def _costs(workspace: Workspace, catalog: Catalog, prices: Prices) -> Floats | None:
    if not prices:
        return None
    return costs(workspace.project.limits, prices, catalog, workspace.project.incentives)


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


def plan_of(workspace: Workspace, agents: list[AgentInEpoch]) -> dict[str, Any]:
    """What `explain` and `replay` need to read a decision of this epoch, as plain data."""
    return {
        "agents": {a.name: _agent_plan(a) for a in agents},
        "arbiter_explore": workspace.project.arbiter_explore,
        "overrides": decreed(a.overrides for a in agents),
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
                "wait_days": a.wait_days,
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
        "reach": None if agent.reach is None else agent.reach.tolist(),
        "distrusted": dict(agent.distrusted),
        "audience": agent.config.audience,
        "time_to_live_hours": hours(agent.config.time_to_live),
    }


def decreed(of_agents: Iterable[Overrides]) -> list[dict[str, Any]]:
    """The overrides of some agents as plain data, oldest first."""
    found = {o.override_id: o for mine in of_agents for o in mine.frozen}
    oldest_first = sorted(found.values(), key=lambda o: (o.at, o.override_id))
    return [msgspec.to_builtins(o) for o in oldest_first]
