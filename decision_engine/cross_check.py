"""Do the files of a project fit together? Checks beyond the shape of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from connectors.base import Lane
from connectors.destinations import DESTINATIONS, streams_of
from connectors.inbound import VENDORS
from decision_engine.banned import banned
from decision_engine.catalog import NO_INCENTIVE, action_key, catalog_of
from decision_engine.config import (
    Agent,
    AgentAction,
    ContextFeature,
    Creative,
    FactoredLinearThompson,
    FixedPolicy,
    Group,
    Limit,
    Policy,
    Project,
    UniformPolicy,
    hours,
)
from decision_engine.errors import RuleError, unknown
from decision_engine.factors import DIMENSIONS
from decision_engine.rule_check import kind_of_type
from decision_engine.rules import compile_rule
from decision_engine.structure import Problem
from decision_engine.types import NO_ACTION
from decision_engine.yaml_source import Where

TREATMENT = "treatment"
"""The group that follows the agents' own policies; what it earns is compared to the others."""

EVENTS = frozenset(
    {
        "order", "click", "open", "visit", "signup", "unsubscribe", "complaint",
        "onboarding_step", "feature_use", "bounce",
    }
)  # fmt: skip
"""Events that fct_outcomes attributes to decisions."""

SOURCES = frozenset(
    {
        "segment_events", "esp_events", "crm_contacts", "crm_accounts", "crm_deals", "crm_reps",
        "support_tickets", "orders", "order_items", "ad_clicks", "chats", "form_submissions",
        "consents", "suppressions", "products",
    }
)  # fmt: skip
"""Raw tables that the dbt package can read."""

EVENT_COLUMNS = dict.fromkeys(("type", "event", "page_class", "platform", "ticket_kind"), "TEXT")
"""What the `on` of a trigger may ask of an event, with its type."""

LONGEST_DESTINATION = 40


@dataclass(frozen=True)
class Known:
    """What the other files say; None for what could not be read."""

    project: Project | None
    creatives: Mapping[str, Creative] | None
    columns: Mapping[str, str] | None


def twice(names: Iterable[str]) -> set[str]:
    """The names that occur more than once."""
    return {name for name, count in Counter(names).items() if count > 1}


# --- nextmove.yml ---


def project_problems(project: Project, known: Known) -> Iterator[Problem]:
    """Problems of the project file by itself, and of its rule for the profiles there are."""
    if project.eligible_if is not None:
        yield from _rule_problems(project.eligible_if, ("eligible_if",), known.columns)
    yield from _group_problems(project.groups, ("groups",))
    yield from _channel_problems(project)
    yield from _destination_problems(project)
    yield from _alert_problems(project)
    yield from _service_problems(project)
    for i, source in enumerate(project.sources):
        if source not in SOURCES:
            yield ("sources", i), unknown("source", source, SOURCES)
    for i, incentive in enumerate(project.incentives):
        if incentive.incentive in twice([NO_INCENTIVE, *(x.incentive for x in project.incentives)]):
            yield ("incentives", i), f"incentive '{incentive.incentive}' is there already"
    for i, limit in enumerate(project.limits):
        yield from _limit_problems(limit, ("limits", i), project, known)
    if project.quiet_hours.start >= project.quiet_hours.end:
        yield ("quiet_hours",), "start must be before end: messages leave in between"
    for i, blackout in enumerate(project.blackouts):
        if blackout.last < blackout.first:
            yield ("blackouts", i, "last"), "is before `first`"


def _limit_problems(
    limit: Limit, where: Where, project: Project, known: Known
) -> Iterator[Problem]:
    if limit.limit in twice(x.limit for x in project.limits):
        yield (*where, "limit"), f"limit '{limit.limit}' is there twice"
    if limit.max == "rep_capacity" and (limit.unit, limit.days) != ("messages", 1):
        yield (*where, "max"), "rep_capacity is a number of messages a day"
    incentives = {i.incentive for i in project.incentives}
    for name, given, there in (
        ("incentives", limit.incentives, incentives),
        ("creatives", limit.creatives, known.creatives),
    ):
        for i, one in enumerate(given if there is not None else ()):
            if one not in (there or ()):
                yield (*where, name, i), unknown(name[:-1], one, there or ())


def _destination_problems(project: Project) -> Iterator[Problem]:
    tokens: dict[str, str] = {}
    for name, destination in project.destinations.items():
        if destination.kind not in DESTINATIONS:
            kind = unknown("kind of destination", destination.kind, DESTINATIONS)
            yield ("destinations", name, "kind"), kind
        if len(name) > LONGEST_DESTINATION:
            # It is part of a table's name, which warehouses cut.
            yield ("destinations", name), f"a name has at most {LONGEST_DESTINATION} characters"
        token = destination.webhook_key_env
        if token is None:
            continue
        where = ("destinations", name, "webhook_key_env")
        if destination.kind not in VENDORS:
            yield where, f"{destination.kind} posts no webhooks; leave it out"
        elif tokens.setdefault(destination.kind, token) != token:
            # The address of a webhook only says the kind.
            yield where, f"all {destination.kind} destinations must use {tokens[destination.kind]}"


def _service_problems(project: Project) -> Iterator[Problem]:
    service = project.service
    if service is None:
        return
    kinds = {d.kind for d in project.destinations.values() if d.webhook_key_env}
    for vendor in service.webhooks:
        where = ("service", "webhooks", vendor)
        if vendor not in VENDORS:
            yield where, unknown("vendor of webhooks", vendor, VENDORS)
        elif vendor in kinds:
            yield where, f"the destination of kind {vendor} has a webhook_key_env; keep one"
    needs_url = {v for v in {*service.webhooks, *kinds} & VENDORS.keys() if VENDORS[v].needs_url}
    if needs_url and not service.public_url:
        yield ("service", "public_url"), f"{', '.join(sorted(needs_url))} signs it; give it"
    if service.public_url and not service.public_url.startswith("https://"):
        yield ("service", "public_url"), "must begin with https://"


def _alert_problems(project: Project) -> Iterator[Problem]:
    alerts = project.alerts
    if alerts is None:
        return
    destination = project.destinations.get(alerts.destination)
    if destination is None:
        where = ("alerts", "destination")
        yield where, unknown("destination", alerts.destination, project.destinations)
    elif destination.kind not in ("slack", "webhook"):
        yield ("alerts", "destination"), f"{destination.kind} takes no alerts; slack and webhook do"
    elif (destination.kind == "slack") != bool(alerts.slack_channel):
        yield ("alerts", "slack_channel"), "is needed for slack, and for slack only"


def _channel_problems(project: Project) -> Iterator[Problem]:
    for channel, name in project.channels.items():
        destination = project.destinations.get(name)
        if destination is None:
            yield ("channels", channel), unknown("destination", name, project.destinations)
        elif not streams_of(destination.kind, Lane.SEND):
            yield ("channels", channel), f"{destination.kind} cannot send messages"


def _group_problems(groups: Sequence[Group], where: Where) -> Iterator[Problem]:
    total = sum(group.share for group in groups)
    if abs(total - 1) > 1e-9:
        yield where, f"shares sum to {total:.6g}; they must sum to 1"
    for i, group in enumerate(groups):
        place = (*where, i)
        if group.name in twice(g.name for g in groups):
            yield place, f"group '{group.name}' is there twice"
        if group.name == TREATMENT and group.policy is not None:
            yield (*place, "policy"), "must be absent: treatment follows the agent's own policy"
        if not isinstance(group.policy, UniformPolicy | FixedPolicy | None):
            yield (*place, "policy"), "a group's policy is uniform or fixed: it never learns"
    if TREATMENT not in {group.name for group in groups}:
        yield where, f"group '{TREATMENT}' is missing; it follows the agents' own policies"


def fixed_problems(project: Project, agents: Iterable[Agent], known: Known) -> Iterator[Problem]:
    """Fixed policies of the project's groups must name an action that some agent has."""
    keys = {key for agent in agents for key in _keys(agent, known)}
    for i, group in enumerate(project.groups):
        yield from _fixed_problems(group.policy, keys, ("groups", i, "policy"))


# --- agents ---


def agent_problems(agent: Agent, known: Known) -> Iterator[Problem]:
    """Problems of one agent file, given the rest of the project."""
    yield from _banned_problems(agent)
    if agent.eligible_if is not None:
        yield from _rule_problems(agent.eligible_if, ("eligible_if",), known.columns)
    yield from _list_problems(agent, known)
    yield from _rule_problems(agent.audience, ("audience",), known.columns)
    for i, trigger in enumerate(agent.triggers):
        yield from _rule_problems(trigger.on, ("triggers", i, "on"), EVENT_COLUMNS)
        if trigger.when is not None:
            yield from _rule_problems(trigger.when, ("triggers", i, "when"), known.columns)
    for i, action in enumerate(agent.actions):
        yield from _action_problems(action, ("actions", i), known)
    yield from _repeated_actions(agent, known)
    yield from _outcome_problems(agent)
    for i, feature in enumerate(agent.context):
        yield from _feature_problems(feature, ("context", i), known)
    for column in twice(f"{f.column} as {f.transform}" for f in agent.context):
        yield ("context",), f"{column} is there twice"
    if hours(agent.time_to_live) == 0:
        yield ("time_to_live",), "must be at least 1h"
    if agent.groups is not None:
        yield from _group_problems(agent.groups, ("groups",))
    yield from _agent_fixed_problems(agent, known)
    yield from _pair_problems(agent, known)


def _banned_problems(agent: Agent) -> Iterator[Problem]:
    texts: list[tuple[Where, str]] = [(("goal",), agent.goal), (("audience",), agent.audience)]
    texts += [(("context", i, "column"), f.column) for i, f in enumerate(agent.context)]
    for where, text in texts:
        if (why := banned(text)) is not None:
            yield where, why


def _list_problems(agent: Agent, known: Known) -> Iterator[Problem]:
    keys = set(_keys(agent, known))
    for i, small in enumerate(agent.lists):
        yield from _rule_problems(small.members, ("lists", i, "members"), known.columns)
        if small.name in twice(x.name for x in agent.lists):
            yield ("lists", i, "name"), f"list '{small.name}' is there twice"
        for j, key in enumerate(small.actions if keys else ()):
            if key not in keys:
                yield ("lists", i, "actions", j), unknown("action", key, keys)


def _rule_problems(rule: str, where: Where, columns: Mapping[str, str] | None) -> Iterator[Problem]:
    try:
        compile_rule(rule, columns)
    except RuleError as error:
        yield where, str(error)


def _action_problems(action: AgentAction, where: Where, known: Known) -> Iterator[Problem]:
    if action.eligible_if is not None:
        yield from _rule_problems(action.eligible_if, (*where, "eligible_if"), known.columns)
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
    quiet = project.quiet_hours
    for i, hour in enumerate(action.send_hours):
        if not quiet.start <= hour < quiet.end:
            window = f"{quiet.start}:00 to {quiet.end}:00"
            yield (*where, "send_hours", i), f"{hour} is never sendable; messages leave {window}"


def _repeated_actions(agent: Agent, known: Known) -> Iterator[Problem]:
    seen: set[tuple[str, str, int | None]] = set()
    for i, action in enumerate(agent.actions):
        for incentive, hour in product(action.incentives, action.send_hours or (None,)):
            key = (action.creative, incentive, hour)
            if key in seen:
                yield ("actions", i), f"{_shown(key, known)} is there already"
            seen.add(key)


def _shown(key: tuple[str, str, int | None], known: Known) -> str:
    creative = (known.creatives or {}).get(key[0])
    return action_key(creative, *key[1:]) if creative else f"creative '{key[0]}'"


def _outcome_problems(agent: Agent) -> Iterator[Problem]:
    for i, outcome in enumerate(agent.outcomes):
        if outcome.event not in EVENTS:
            yield ("outcomes", i, "event"), unknown("event", outcome.event, EVENTS)
        if outcome.event in twice(o.event for o in agent.outcomes):
            yield ("outcomes", i), f"event '{outcome.event}' is there twice"
        if outcome.per == "dollar" and outcome.event != "order":
            yield ("outcomes", i, "per"), "only order has a value in dollars"
        if hours(outcome.window) == 0:
            yield ("outcomes", i, "window"), "must be at least 1h"


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
    keys = set(_keys(agent, known))
    yield from _fixed_problems(agent.policy, keys, ("policy",))
    for i, group in enumerate(agent.groups or ()):
        yield from _fixed_problems(group.policy, keys, ("groups", i, "policy"))


def _fixed_problems(policy: Policy | None, keys: set[str], where: Where) -> Iterator[Problem]:
    if not isinstance(policy, FixedPolicy) or not keys:
        return
    for i, key in enumerate(policy.actions):
        if key not in keys:
            yield (*where, "actions", i), unknown("action", key, keys)


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


def _keys(agent: Agent, known: Known) -> Sequence[str]:
    """The agent's action keys; empty when its catalog cannot be spelled out."""
    if known.project is None or known.creatives is None:
        return ()
    try:
        return catalog_of(agent, known.creatives, known.project.incentives).keys
    except (KeyError, ValueError):
        return ()


# --- creatives ---


def _stream_problems(creative: Creative, project: Project | None) -> Iterator[Problem]:
    sender = project.channels.get(creative.channel) if project else None
    destination = project.destinations.get(sender) if project and sender else None
    streams = streams_of(destination.kind, Lane.SEND) if destination else []
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
        yield ("channel",), unknown("channel", creative.channel, channels) + " (nextmove.yml)"
    yield from _stream_problems(creative, known.project)


def is_reserved(name: str) -> bool:
    """Names an agent or creative may not have."""
    return name == NO_ACTION
