"""Do an agent and a creative fit the rest of their project?"""

from __future__ import annotations

from collections.abc import Iterator

from connectors.destinations import senders_of
from decision_engine.banned import banned
from decision_engine.catalog import NO_INCENTIVE, Combination, action_key, combinations
from decision_engine.config import (
    Agent,
    AgentAction,
    ContextFeature,
    Creative,
    FactoredLinearThompson,
    Project,
    hours,
)
from decision_engine.cross_check import (
    Known,
    fixed_policy_problems,
    group_problems,
    keys_of,
    rule_problems,
    twice,
)
from decision_engine.errors import unknown
from decision_engine.factors import DIMENSIONS
from decision_engine.rule_check import kind_of_type
from decision_engine.structure import Problem
from decision_engine.types import NO_ACTION, REP
from decision_engine.yaml_source import Where

EVENTS = frozenset(
    {
        "order", "click", "open", "visit", "signup", "unsubscribe", "complaint",
        "onboarding_step", "feature_use", "bounce", "retained",
    }
)  # fmt: skip
"""Events that fct_outcomes attributes to decisions."""

SPENT = frozenset({"message", "incentive"})
"""What we spend on a decision: it counts as an event too, with a price."""

EVENT_COLUMNS = dict.fromkeys(("type", "event", "page_class", "platform", "ticket_kind"), "TEXT")
"""What the `on` of a trigger may ask of an event, with its type."""


def agent_problems(agent: Agent, known: Known) -> Iterator[Problem]:
    """Problems of one agent file, given the rest of the project."""
    yield from _banned_problems(agent)
    if agent.eligible_if is not None:
        yield from rule_problems(agent.eligible_if, ("eligible_if",), known.columns)
    yield from _list_problems(agent, known)
    yield from rule_problems(agent.audience, ("audience",), known.columns)
    for i, trigger in enumerate(agent.triggers):
        yield from rule_problems(trigger.on, ("triggers", i, "on"), EVENT_COLUMNS)
        if trigger.when is not None:
            yield from rule_problems(trigger.when, ("triggers", i, "when"), known.columns)
    for i, action in enumerate(agent.actions):
        yield from _action_problems(action, ("actions", i), known)
    yield from _repeated_actions(agent, known)
    yield from _outcome_problems(agent)
    yield from _spent_problems(agent)
    for i, feature in enumerate(agent.context):
        yield from _feature_problems(feature, ("context", i), known)
    for column in twice(f"{f.column} as {f.transform}" for f in agent.context):
        yield ("context",), f"{column} is there twice"
    if hours(agent.time_to_live) == 0:
        yield ("time_to_live",), "must be at least 1h"
    if agent.groups is not None:
        yield from group_problems(agent.groups, ("groups",))
    yield from _agent_fixed_problems(agent, known)
    yield from _pair_problems(agent, known)


def _banned_problems(agent: Agent) -> Iterator[Problem]:
    texts: list[tuple[Where, str]] = [(("goal",), agent.goal), (("audience",), agent.audience)]
    texts += [(("context", i, "column"), f.column) for i, f in enumerate(agent.context)]
    for where, text in texts:
        if (why := banned(text)) is not None:
            yield where, why


def _list_problems(agent: Agent, known: Known) -> Iterator[Problem]:
    keys = set(keys_of(agent, known))
    for i, small in enumerate(agent.lists):
        yield from rule_problems(small.members, ("lists", i, "members"), known.columns)
        if small.name in twice(x.name for x in agent.lists):
            yield ("lists", i, "name"), f"list '{small.name}' is there twice"
        for j, key in enumerate(small.actions if keys else ()):
            if key not in keys:
                yield ("lists", i, "actions", j), unknown("action", key, keys)


def _action_problems(action: AgentAction, where: Where, known: Known) -> Iterator[Problem]:
    if action.eligible_if is not None:
        yield from rule_problems(action.eligible_if, (*where, "eligible_if"), known.columns)
    if known.creatives is not None and action.creative not in known.creatives:
        yield (*where, "creative"), unknown("creative", action.creative, known.creatives)
    if known.project is not None:
        yield from _combination_problems(action, where, known.project)


def _combination_problems(action: AgentAction, where: Where, project: Project) -> Iterator[Problem]:
    incentives = {NO_INCENTIVE, *(i.incentive for i in project.incentives)}
    for i, incentive in enumerate(action.incentives):
        if incentive not in incentives:
            yield (*where, "incentives", i), unknown("incentive", incentive, incentives)
    if not action.incentives:
        yield (*where, "incentives"), f"is empty; write [{NO_INCENTIVE}]"
    if not action.wait_days:
        yield (*where, "wait_days"), "is empty; write [0], or leave it out"
    quiet = project.quiet_hours
    for i, hour in enumerate(action.send_hours if quiet.start < quiet.end else ()):
        if not quiet.start <= hour < quiet.end:
            window = f"{quiet.start}:00 to {quiet.end}:00"
            yield (*where, "send_hours", i), f"{hour} is never sendable; messages leave {window}"


def _repeated_actions(agent: Agent, known: Known) -> Iterator[Problem]:
    seen: set[tuple[str, Combination]] = set()
    for i, action in enumerate(agent.actions):
        for combination in combinations(action):
            if (action.creative, combination) in seen:
                shown = _shown(action.creative, combination, known)
                yield ("actions", i), f"{shown} is there already"
            seen.add((action.creative, combination))


def _shown(name: str, combination: Combination, known: Known) -> str:
    creative = (known.creatives or {}).get(name)
    return action_key(creative, *combination) if creative else f"creative '{name}'"


def _outcome_problems(agent: Agent) -> Iterator[Problem]:
    for i, outcome in enumerate(agent.outcomes):
        if outcome.event not in EVENTS | SPENT:
            yield ("outcomes", i, "event"), unknown("event", outcome.event, EVENTS | SPENT)
        if outcome.event in twice(o.event for o in agent.outcomes):
            yield ("outcomes", i), f"event '{outcome.event}' is there twice"
        if outcome.per == "dollar" and outcome.event not in ("order", *SPENT):
            valued = ", ".join(("order", *sorted(SPENT)))
            yield ("outcomes", i, "per"), f"only these have a value in dollars: {valued}"
        if hours(outcome.window) == 0:
            yield ("outcomes", i, "window"), "must be at least 1h"


def _spent_problems(agent: Agent) -> Iterator[Problem]:
    named = {o.event for o in agent.outcomes}
    for i, outcome in enumerate(agent.outcomes):
        if outcome.event in SPENT and outcome.weight >= 0:
            yield ("outcomes", i, "weight"), "must be below 0: it is what we spend"
        if outcome.event == "incentive" and "order" not in named:
            yield ("outcomes", i), "counts when an order follows; name the event order too"


def _feature_problems(feature: ContextFeature, where: Where, known: Known) -> Iterator[Problem]:
    chooses = feature.transform == "one_of"
    if chooses != bool(feature.one_of):
        yield where, "`transform: one_of` and the list `one_of` belong together"
    if twice(feature.one_of):
        yield (*where, "one_of"), f"{min(twice(feature.one_of))!r} is there twice"
    if known.columns is None:
        return
    if feature.column not in known.columns:
        yield (*where, "column"), unknown("column", feature.column, known.columns)
        return
    kind = kind_of_type(known.columns[feature.column])
    if kind not in (("text",) if chooses else ("number", "boolean")):
        wanted = "a text column" if chooses else "a number or boolean column"
        yield (*where, "column"), f"{feature.transform} needs {wanted}, this is {kind or 'neither'}"


def _agent_fixed_problems(agent: Agent, known: Known) -> Iterator[Problem]:
    keys = set(keys_of(agent, known))
    yield from fixed_policy_problems(agent.policy, keys, ("policy",))
    for i, group in enumerate(agent.groups or ()):
        yield from fixed_policy_problems(group.policy, keys, ("groups", i, "policy"))


def _pair_problems(agent: Agent, known: Known) -> Iterator[Problem]:
    """The pairs of a factored policy name dimensions, or attributes of the agent's creatives."""
    if not isinstance(agent.policy, FactoredLinearThompson) or known.creatives is None:
        return
    creatives = [known.creatives.get(action.creative) for action in agent.actions]
    names = {*DIMENSIONS, *(name for c in creatives if c is not None for name in c.attributes)}
    for i, pair in enumerate(agent.policy.pairs):
        for j, name in enumerate(pair):
            if name not in names:
                yield ("policy", "pairs", i, j), unknown("dimension or attribute", name, names)
        if pair[0] == pair[1]:
            yield ("policy", "pairs", i), f"pairs {pair[0]} with itself"


def _stream_problems(creative: Creative, project: Project | None) -> Iterator[Problem]:
    sender = project.channels.get(creative.channel) if project else None
    destination = project.destinations.get(sender) if project and sender else None
    found = senders_of(destination.kind, creative.channel) if destination else []
    streams = [stream.name for stream in found]
    if streams and creative.stream not in streams:
        yield ("stream",), unknown(f"stream of {sender} for messages", creative.stream, streams)


def creative_problems(creative: Creative, known: Known) -> Iterator[Problem]:
    """Problems of one creative; `where` is relative to it."""
    for name in DIMENSIONS:
        if name in creative.attributes:
            yield ("attributes", name), "every action has that already; take another name"
    if creative.resolution and creative.promotional:
        yield ("promotional",), "a resolution is not promotional; write promotional: false"
    if known.project is not None and creative.channel not in known.project.channels:
        channels = known.project.channels
        why = " (nextmove.yml)"
        if creative.channel == REP:
            why = " (nextmove.yml); `channels: {rep: ...}` names who tells the reps"
        yield ("channel",), unknown("channel", creative.channel, channels) + why
    yield from _stream_problems(creative, known.project)


def is_reserved(name: str) -> bool:
    """Names an agent or creative may not have."""
    return name == NO_ACTION
