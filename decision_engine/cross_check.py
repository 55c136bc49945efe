"""Do the files of a project fit together? Checks beyond the shape of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from connectors.destinations import DESTINATIONS, senders_of
from connectors.inbound import VENDORS
from decision_engine.catalog import NO_INCENTIVE, catalog_of
from decision_engine.config import (
    Agent,
    Creative,
    FixedPolicy,
    Group,
    Limit,
    Policy,
    Project,
    UniformPolicy,
)
from decision_engine.errors import RuleError, unknown
from decision_engine.rules import compile_rule
from decision_engine.structure import Problem
from decision_engine.types import REP, TREATMENT
from decision_engine.yaml_source import Where

SOURCES = frozenset(
    {
        "segment_events", "esp_events", "crm_contacts", "crm_accounts", "crm_deals", "crm_reps",
        "support_tickets", "orders", "order_items", "ad_clicks", "chats", "form_submissions",
        "consents", "suppressions", "products",
    }
)  # fmt: skip
"""Raw tables that the dbt package can read."""

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


def project_problems(project: Project, known: Known) -> Iterator[Problem]:
    """Problems of the project file by itself, and of its rule for the profiles there are."""
    if project.eligible_if is not None:
        yield from rule_problems(project.eligible_if, ("eligible_if",), known.columns)
    yield from group_problems(project.groups, ("groups",))
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
    if limit.max == "rep_capacity" and not (limit.channels or limit.creatives):
        yield (*where, "max"), "every message would count; name channels: [rep], or the creatives"
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
        elif not senders_of(destination.kind, channel):
            what = "bring what a rep is told" if channel == REP else f"send {channel} messages"
            able = ", ".join(kind for kind in DESTINATIONS if senders_of(kind, channel))
            yield ("channels", channel), f"{destination.kind} cannot {what}; {able} can"


def group_problems(groups: Sequence[Group], where: Where) -> Iterator[Problem]:
    """Groups whose shares do not sum to 1, or without a treatment that learns."""
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
    """Fixed policies of the project's groups must name an action that some agent has.

    Nothing is said while the actions of an agent cannot be spelled out: it may be one of those.
    """
    of_agents = [keys_of(agent, known) for agent in agents]
    keys = {key for of_agent in of_agents for key in of_agent} if all(of_agents) else set()
    for i, group in enumerate(project.groups):
        yield from fixed_policy_problems(group.policy, keys, ("groups", i, "policy"))


def rule_problems(rule: str, where: Where, columns: Mapping[str, str] | None) -> Iterator[Problem]:
    """What is wrong with a rule over these columns."""
    try:
        compile_rule(rule, columns)
    except RuleError as error:
        yield where, str(error)


def fixed_policy_problems(policy: Policy | None, keys: set[str], where: Where) -> Iterator[Problem]:
    """Actions of a fixed policy that nobody has."""
    if not isinstance(policy, FixedPolicy) or not keys:
        return
    for i, key in enumerate(policy.actions):
        if key not in keys:
            yield (*where, "actions", i), unknown("action", key, keys)


def keys_of(agent: Agent, known: Known) -> Sequence[str]:
    """The agent's action keys; empty when its catalog cannot be spelled out."""
    if known.project is None or known.creatives is None:
        return ()
    try:
        return catalog_of(agent, known.creatives, known.project.incentives).keys
    except (KeyError, ValueError):
        return ()
