"""Decisions for a batch of customers: who may get what, which agent has the turn, its choice.

The same for a million rows and for one: `batch` streams the warehouse through it, the service
gives it the people of its events, a plan those of a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_engine import keys
from decision_engine.agent_in_epoch import AgentInEpoch
from decision_engine.budgets import lots, worth_it
from decision_engine.columns import only, seen
from decision_engine.config import Project
from decision_engine.decide import Candidates, arbitrate, decide, gains, values
from decision_engine.decrees import with_lists
from decision_engine.features import DROPPED, HELD, design, text_of
from decision_engine.guardrails import judge
from decision_engine.overrides import pinned
from decision_engine.rules import parsed
from decision_engine.scene import Scene
from decision_engine.send_times import SendTimes
from decision_engine.types import (
    TREATMENT,
    Bools,
    Column,
    Contexts,
    Decisions,
    Epoch,
    Floats,
    Ints,
    Reason,
    Reasons,
)
from decision_engine.waiting import without
from decision_engine.waivers import waived_facts


@dataclass(frozen=True, eq=False)
class Audience:
    """The rows of a batch that one agent may decide about, with what is possible for them."""

    agent: AgentInEpoch
    rows: Ints
    contexts: Contexts
    x: Floats
    reasons: Reasons
    times: SendTimes

    def values(self, wanted: Bools) -> Floats:
        """What the agent expects to gain from the wanted ones of its rows.

        Below 0 where it has nothing to send: it is not to take the turn of an agent that has.
        """
        plan, possible = self.agent.plan, self.reasons[wanted] == Reason.ELIGIBLE
        policy, costs = self.agent.config.policy, self.agent.costs
        gained = values(plan, policy, self.x[wanted], possible, costs)
        return np.where(possible[:, plan.catalog.on[None]].any(axis=1), gained, -1.0)

    def take(self, wanted: Bools) -> Audience:
        """The wanted ones of its rows."""
        if np.count_nonzero(wanted) == len(wanted):
            return self
        return Audience(
            self.agent,
            self.rows[wanted],
            self.contexts.take(wanted),
            self.x[wanted],
            self.reasons[wanted],
            self.times.take(wanted),
        )


def decide_batch(
    contexts: Contexts,
    agents: list[AgentInEpoch],
    epoch: Epoch,
    project: Project,
    *,
    slots: Sequence[str] | None = None,
    channel: str | None = None,
    with_propensity: bool = True,
) -> Iterator[tuple[AgentInEpoch, Decisions]]:
    """All decisions for n customers: arbitrate among the agents first, then decide for each.

    Every row has its slot in `slots`, or they all have the epoch's.
    With a `channel`, nothing goes out on another one. Without `with_propensity`, p_action and
    propensity are NaN, to be computed from the record later (`replay`); p_agent is always there.
    """
    slot_of = np.empty(len(contexts), dtype=object)
    slot_of[:] = epoch.slot if slots is None else slots
    # A person may have stopped them after the profiles were built.
    contexts = without(contexts, frozenset[str]().union(*(a.overrides.stopped for a in agents)))
    audiences = [audience_of(contexts, agent, epoch, project, channel) for agent in agents]
    winner, p_agent = arbitrated(contexts, audiences, slot_of, project)
    for i, audience in enumerate(audiences):
        mine = audience.take(winner[audience.rows] == i)
        candidates = candidates_of(mine, slot_of[mine.rows], epoch, project, p_agent[mine.rows])
        yield (
            audience.agent,
            decide(audience.agent.plan, candidates, with_propensity=with_propensity),
        )


def audience_of(
    contexts: Contexts, agent: AgentInEpoch, epoch: Epoch, project: Project, channel: str | None
) -> Audience:
    """Who is in the audience, and what is possible for them."""
    n, columns = len(contexts), seen(contexts)
    suppressed, known = columns["is_suppressed"]
    # Who objected is not even considered; of whom it is not known, nothing is possible.
    objected = (suppressed == np.True_) & known
    found = parsed(agent.config.audience).truth(columns, n) & ~objected
    wanted = found if n != 1 else np.array([found])
    return possible(contexts.take(wanted), wanted.nonzero()[0], agent, epoch, project, channel)


def possible(
    contexts: Contexts,
    rows: Ints,
    agent: AgentInEpoch,
    epoch: Epoch,
    project: Project,
    channel: str | None = None,
) -> Audience:
    """What the agent may do for people who are in its audience, the rows of a batch."""
    config, catalog = agent.config, agent.plan.catalog
    scene = Scene(contexts, catalog, project, epoch, channel, config, agent.overrides)
    x = design(contexts, config.context)
    if len(agent.dropped_features):
        x[:, agent.dropped_features] = agent.state.theta.feature_mean[agent.dropped_features]
    reasons = judge(scene)
    if agent.held_by:
        reasons[:, catalog.on[None]] = np.where(
            reasons[:, catalog.on[None]] == Reason.ELIGIBLE,
            Reason.BAD_DATA,
            reasons[:, catalog.on[None]],
        )
    if agent.costs is not None:
        gained = gains(agent.plan, config.policy, x)
        reasons = worth_it(reasons, gained, agent.costs, lots(project.salt, contexts.customer_ids))
    reasons = agent.ramped(reasons, project.salt, contexts.customer_ids)
    reasons = with_lists(reasons, config.lists, catalog, contexts)
    return Audience(agent, rows, contexts, x, reasons, scene.times)


def arbitrated(
    contexts: Contexts, audiences: list[Audience], slots: NDArray[Any], project: Project
) -> tuple[Ints, Floats]:
    """Which agent may decide for each customer (n,), -1 for none, and with what probability."""
    if len(audiences) == 1:
        winner, p_agent = np.empty(len(contexts), np.int64), np.empty(len(contexts))
        p_agent.fill(1.0)
        winner.fill(-1)
        winner[audiences[0].rows] = 0
        return winner, p_agent
    available = np.zeros((len(contexts), len(audiences)), dtype=bool)
    for i, audience in enumerate(audiences):
        available[audience.rows, i] = True
    count = available.sum(axis=1)
    winner, p_agent = np.where(count > 0, available.argmax(axis=1), -1), np.ones(len(contexts))
    contested = count > 1
    if np.count_nonzero(contested):
        value = np.zeros(available.shape)
        for i, audience in enumerate(audiences):
            wanted = contested[audience.rows]
            value[audience.rows[wanted], i] = audience.values(wanted)
        who = zip(slots[contested], contexts.customer_ids[contested], strict=True)
        touch = keys.customer_keys(project.salt, "arbiter", ["\x1f".join(w) for w in who])
        winner[contested], p_agent[contested] = arbitrate(
            touch, value[contested], available[contested], project.arbiter_explore
        )
    return winner, p_agent


def candidates_of(
    audience: Audience, slots: NDArray[Any], epoch: Epoch, project: Project, p_agent: Floats
) -> Candidates:
    """The rows that the arbiter gave to this agent, ready to be decided.

    What is pinned is pinned for the treatment: the other groups are there to compare with.
    """
    agent, contexts, reasons = audience.agent, audience.contexts, audience.reasons
    group = agent.group_names[agent.group_of(contexts.customer_ids)]
    if pins := agent.overrides.on("pin", epoch.as_of):
        reasons = pinned(reasons, agent.plan.catalog, contexts, pins, group == TREATMENT)
    row_keys, ids = keys.decision_keys(project.salt, agent.name, slots, contexts.customer_ids)
    return Candidates(
        keys=row_keys,
        slots=slots,
        decision_ids=ids,
        customer_ids=contexts.customer_ids,
        group=group,
        reasons=reasons,
        x=audience.x,
        times=audience.times,
        p_agent=p_agent,
        facts=_facts(contexts, agent, project),
    )


def _facts(contexts: Contexts, agent: AgentInEpoch, project: Project) -> Mapping[str, Column]:
    """What goes into the record of n decisions."""
    seen = only(contexts.columns, agent.fact_columns)
    more = waived_facts(project, contexts.customer_ids) | _distrust_facts(agent, len(contexts))
    return {**seen, **more} if more else seen


def _distrust_facts(agent: AgentInEpoch, n: int) -> dict[str, Column]:
    """What goes into the record of n decisions when a column failed a check."""
    named = {DROPPED: agent.dropped, HELD: agent.held_by}
    return {
        fact: Column(np.full(n, text_of(failed), dtype=object), np.ones(n, dtype=bool))
        for fact, failed in named.items()
        if failed
    }
