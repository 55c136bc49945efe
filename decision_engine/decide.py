"""From what is possible and what is known to one choice per customer.

The same functions serve a batch and a single event: n rows or one. No draw depends on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decision_engine import config
from decision_engine.choose import choose
from decision_engine.keys import draw_streams, uniforms
from decision_engine.policies import POLICIES, floor_of, kind_of, preference_of, shares
from decision_engine.propensity import propensities
from decision_engine.send_times import SendTimes
from decision_engine.state import PolicyState
from decision_engine.types import (
    Bools,
    Catalog,
    Column,
    Decisions,
    Floats,
    Ints,
    Keys,
    Reason,
    Reasons,
)

_ELIGIBLE = np.array(Reason.ELIGIBLE, dtype=np.uint8)


def arbitrate(keys: Keys, values: Floats, available: Bools, explore: float) -> tuple[Ints, Floats]:
    """Which agent may decide for each customer, and with what probability: (n,), (n,).

    `values` (n, a) is what each agent expects to gain, `available` (n, a) where it has the
    customer in its audience. `keys` are `customer_keys(salt, "arbiter\\x1f" + slot, ids)`, so they
    belong to no agent. With probability `explore` an available agent is picked evenly, else
    the one of highest value (the first one on a tie). No agent available: index -1, probability 1.
    """
    count = available.sum(axis=1)
    best = np.where(available, values, -np.inf).argmax(axis=1)
    u = uniforms(keys, "arbiter")[:, 0]
    nth = np.minimum((uniforms(keys, "arbiter even")[:, 0] * count).astype(np.int64), count - 1)
    even = (np.cumsum(available, axis=1) <= nth[:, None]).sum(axis=1)
    agent = np.where(u < explore, even, best)
    p = explore / np.maximum(count, 1) + (1 - explore) * (agent == best)
    return np.where(count > 0, agent, -1), np.where(count > 1, p, 1.0)


@dataclass(frozen=True, eq=False)
class AgentPlan:
    """What one agent decides with in one epoch; the same for every row.

    `policies` maps each group's name to its policy. `state` holds what every Thompson policy
    needs, whichever kind it is; without one they raise ValueError.
    """

    agent: str
    catalog: Catalog
    policies: Mapping[str, config.Policy]
    state: PolicyState | None = None

    @cached_property
    def draws(self) -> Keys:
        """The streams (k + 1,) of a decision between the catalog's actions."""
        return draw_streams(self.catalog.keys)

    @cached_property
    def has_samples(self) -> bool:
        """Whether a group's policy draws by the shares of frozen samples."""
        return any(POLICIES[kind_of(p)].FAMILY == "samples" for p in self.policies.values())


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows one agent decides about: n customers, k actions, d features.

    `keys`, `slots`, `decision_ids`, `customer_ids`, `group` (the name of it) (n,) ·
    `reasons` (n, k) uint8 · `x` (n, d) raw features · `times` when each action would leave ·
    `p_agent` (n,) · `facts` columns of n guardrail facts, logged as they are.
    """

    keys: Keys
    slots: NDArray[Any]
    decision_ids: NDArray[Any]
    customer_ids: NDArray[Any]
    group: NDArray[Any]
    reasons: Reasons
    x: Floats
    times: SendTimes
    p_agent: Floats
    facts: Mapping[str, Column] = field(default_factory=dict)


def decide(plan: AgentPlan, rows: Candidates, *, with_propensity: bool = True) -> Decisions:
    """One decision per row, whatever the number of rows.

    Rows of `uniform` and `fixed` groups have NaN in `mean` and `sd`. Without `with_propensity`
    p_action and propensity are NaN where they cost time (not for `samples`): the record suffices
    to compute them later (`replay`).
    """
    drawn = _drawn_by_group(plan, rows, rows.reasons == _ELIGIBLE, with_propensity)
    return Decisions(
        agent=plan.agent,
        keys=rows.keys,
        slots=rows.slots,
        decision_ids=rows.decision_ids,
        customer_ids=rows.customer_ids,
        group=rows.group,
        policy=drawn.policy,
        action=drawn.action,
        p_agent=rows.p_agent,
        p_action=drawn.p_action,
        propensity=rows.p_agent * drawn.p_action,
        mean=drawn.mean,
        sd=drawn.sd,
        share=drawn.share,
        reasons=rows.reasons,
        x=rows.x,
        send_at=rows.times.of(drawn.action),
        facts=rows.facts,
    )


class _Drawn(NamedTuple):
    """What was drawn for m rows, and by what: columns of `Decisions`."""

    policy: NDArray[Any]
    action: Ints
    p_action: Floats
    mean: Floats
    sd: Floats
    share: Floats


def _drawn_by_group(
    plan: AgentPlan, rows: Candidates, eligible: Bools, with_propensity: bool
) -> _Drawn:
    """Each group's rows by its policy, in the order of the rows."""
    groups = sorted(set(rows.group.tolist()))
    if len(groups) == 1:
        return _drawn(plan, groups[0], rows.keys, rows.x, eligible, with_propensity)
    n, k = eligible.shape
    out = _Drawn(
        np.empty(n, dtype=object),
        np.empty(n, dtype=np.int64),
        np.empty(n),
        np.empty((n, k)),
        np.empty((n, k)),
        np.empty((n, k if plan.has_samples else 0)),
    )
    for group in groups:
        at = (rows.group == group).nonzero()[0]
        part = _drawn(plan, group, rows.keys[at], rows.x[at], eligible[at], with_propensity)
        for column, of_group in zip(out, part, strict=True):
            column[at] = of_group
    return out


def _drawn(
    plan: AgentPlan, group: str, keys: Keys, x: Floats, eligible: Bools, with_propensity: bool
) -> _Drawn:
    """All rows by the policy of one group."""
    policy, (n, k) = plan.policies[group], eligible.shape
    kind, (mean, sd) = kind_of(policy), _posterior(plan, policy, x)
    law = (mean, sd, eligible, floor_of(policy), POLICIES[kind].FAMILY)
    preference = preference_of(policy, plan.catalog.keys)
    share = _shares(plan, policy, x, eligible)
    action = choose(keys, *law, plan.draws, preference, share)
    p_action, policies = np.empty(n), np.empty(n, dtype=object)
    policies.fill(kind)
    p_action.fill(np.nan)
    if with_propensity or share is not None:
        p_action = propensities(*law, preference, share)[np.arange(n), action]
    if not mean.shape[1]:
        mean = sd = np.full((n, k), np.nan)
    if share is None:
        share = np.empty((n, k if plan.has_samples else 0))
        share.fill(np.nan)
    return _Drawn(policies, action, p_action, mean, sd, share)


def values(
    plan: AgentPlan,
    policy: config.Policy,
    x: Floats,
    eligible: Bools,
    costs: Floats | None = None,
) -> Floats:
    """What the agent expects to gain over doing nothing (n,), in reward units, at least 0.

    The posterior mean of the best eligible action less that of no_action, and less what the
    action uses up of limits (`costs` (k,), what that is worth today). The comparison is
    between touches, so a customer who buys anyway is no reason to prefer an agent. 0 for agents
    without a posterior.
    """
    net = gains(plan, policy, x) - (0.0 if costs is None else costs)
    best: Floats = np.where(eligible, net, -np.inf).max(axis=1)
    return np.maximum(best, 0.0)


def gains(plan: AgentPlan, policy: config.Policy, x: Floats) -> Floats:
    """What each action is expected to gain over doing nothing (n, k), in reward units.

    0 for agents without a posterior.
    """
    mean, _ = _posterior(plan, policy, x)
    if not mean.shape[1] or plan.state is None:
        return np.zeros((len(x), len(plan.catalog)))
    rewards = POLICIES[kind_of(policy)].in_rewards(plan.state, mean)
    over: Floats = rewards - rewards[:, :1]
    return over


def probabilities(plan: AgentPlan, policy: config.Policy, x: Floats, eligible: Bools) -> Floats:
    """Chances (n, k) of each action for raw features x (n, d): the law that `decide` draws by."""
    law = (
        *_posterior(plan, policy, x),
        eligible,
        floor_of(policy),
        POLICIES[kind_of(policy)].FAMILY,
    )
    preference = preference_of(policy, plan.catalog.keys)
    return propensities(*law, preference, _shares(plan, policy, x, eligible))


def _posterior(plan: AgentPlan, policy: config.Policy, x: Floats) -> tuple[Floats, Floats]:
    module = POLICIES[kind_of(policy)]
    if module.FAMILY in ("uniform", "fixed"):
        return np.empty((len(x), 0)), np.empty((len(x), 0))
    if plan.state is None:
        raise ValueError(f"agent {plan.agent}: {kind_of(policy)} has no policy state")
    return module.posterior(plan.state, plan.catalog.keys, x)


def _shares(plan: AgentPlan, policy: config.Policy, x: Floats, eligible: Bools) -> Floats | None:
    if plan.state is None:
        return None
    return shares(kind_of(policy), plan.state, plan.catalog.keys, x, eligible)
