"""What a person should look at before a change goes live, in sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from decision_engine.config import Agent, Outcome
from decision_engine.features import feature_names
from decision_engine.guardrails import REASON_NAMES
from decision_engine.plan.baseline import Baseline
from decision_engine.plan.result import Plan
from decision_engine.plan.sides import Side
from decision_engine.plan.tally import Change, Tally
from decision_engine.types import NO_ACTION, Reason

TWICE = 2.0
"""From this factor on, more or less is worth a warning ..."""
NOTICEABLE = 20
"""... when it is at least so many."""


def risks(
    plan: Plan, base: Baseline, before: Side, after: Side, tally: Tally, empty: Collection[str]
) -> Iterator[str]:
    """Warnings, the gravest first; `empty` are the agents without an audience."""
    if after.is_stopped:
        yield "The kill switch is on (the file STOP): nothing would be sent."
    if not base.is_whole:
        yield (
            "The salt is another one than that of the last epoch: every customer gets other"
            " groups and draws. That is not in the numbers below, which use the new salt twice."
        )
    yield from _audiences(plan, after, empty)
    yield from _learning(before, after)
    if plan.moved:
        yield (
            f"{plan.moved:,} customers change groups: evaluate counts them where they were first,"
            " so from here on lift mixes two treatments."
        )
    yield from _volumes(plan)
    yield from _caps(plan)
    yield from _never(plan, after, tally)
    for name, agent in plan.agents.items():
        if agent.expected and agent.expected.change.high < 0:
            yield f"{name}: the log says that this earns less."


def _audiences(plan: Plan, after: Side, empty: Collection[str]) -> Iterator[str]:
    for name, agent in plan.agents.items():
        n = agent.decisions
        if after.agent(name) is None:
            yield f"{name} is gone: its {n.before:,} decisions fall to others or to nobody."
        elif name in empty:
            yield f"{name}: no customer is in its audience. `nextmove decide` will refuse."
        elif _is_far(n):
            yield f"{name}: {n.after:,} decisions instead of {n.before:,}."


def _learning(before: Side, after: Side) -> Iterator[str]:
    for agent in after.agents:
        old = before.agent(agent.name)
        if old is None:
            continue
        if feature_names(old.config.context) != feature_names(agent.config.context):
            yield f"{agent.name}: with another context it begins to learn from nothing."
        if _counting(old.config) != _counting(agent.config):
            yield (
                f"{agent.name}: outcomes count otherwise, so what was learned and estimated is of"
                " the old ones until the next `learn`."
            )


def _counting(agent: Agent) -> list[Outcome]:
    """The outcomes that rewards are made of."""
    return [outcome for outcome in agent.outcomes if outcome.weight]


def _volumes(plan: Plan) -> Iterator[str]:
    for channel, n in plan.sends.items():
        if _is_far(n):
            yield f"{channel}: {n.after:,} messages instead of {n.before:,}."
    for channel, cents in plan.incentive_cents.items():
        if cents.after > TWICE * cents.before and cents.after >= NOTICEABLE * 100:
            yield (
                f"{channel}: gives away up to ${cents.after / 100:,.0f} instead of"
                f" ${cents.before / 100:,.0f}."
            )


def _caps(plan: Plan) -> Iterator[str]:
    n = plan.guardrails.get(REASON_NAMES[Reason.FREQUENCY_CAP], Change(0, 0))
    if n.after > n.before and _is_far(n):
        yield f"A cap is hit in {n.after:,} decisions instead of {n.before:,}."


def _never(plan: Plan, after: Side, tally: Tally) -> Iterator[str]:
    """New actions that nobody gets, although their agent decides."""
    moves = tally.moves
    for agent in after.agents:
        new = moves.places[1][agent.name]
        old = set(moves.places[0].get(agent.name, ()))
        taken = {b for _, b in tally.pairs}
        unused = [i for i in new if i not in old | taken and moves.actions[i] != NO_ACTION]
        if unused and plan.agents[agent.name].decisions.after >= NOTICEABLE:
            names = ", ".join(moves.actions[i] for i in unused[:3])
            rest = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
            yield f"{agent.name}: nobody gets {names}{rest}. Is its rule right?"


def _is_far(n: Change) -> bool:
    """Twice as much or more, or half or less."""
    low, high = sorted(n)
    return high >= TWICE * low and high - low >= NOTICEABLE
