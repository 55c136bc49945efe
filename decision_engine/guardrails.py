"""What may not be done to whom: the first guardrail that says no, for every person and action.

One function per guardrail, in the order of `GUARDRAILS`; those of the clock and the calendar are
in `timing`. Unknown is never permission: a NULL consent, address, zone, place, counter or
suppression blocks, and a column that was not read is an error. `no_action` is never blocked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from decision_engine.caps import columns_of_caps, frequency_caps
from decision_engine.config import Agent, Project, needs_approval
from decision_engine.decrees import excluded, frozen, paused
from decision_engine.errors import MissingColumnError
from decision_engine.legal_windows import regulated
from decision_engine.overrides import NO_OVERRIDES, Overrides, is_approved
from decision_engine.rules import parsed
from decision_engine.scene import Guardrail, Ruling, Scene
from decision_engine.send_times import send_times, utc
from decision_engine.timing import blackout, legal_window, quiet_hours, unknown_zone
from decision_engine.types import (
    ANY_DEVICE,
    NO_ACTION,
    Action,
    Bools,
    Catalog,
    Contexts,
    Epoch,
    Floats,
    Reason,
    Reasons,
    column_of,
)
from decision_engine.waiting import WAITING

REASON_NAMES: Mapping[int, str] = {reason.value: reason.name.lower() for reason in Reason}
"""Code in the log -> name in reports and receipts."""

ADDRESS = {"email": "has_email", "push": "has_push", "sms": "has_phone", "rep": "has_rep"}
"""Channel -> the column that says a person can be reached on it."""

MAX_PROFILE_AGE = timedelta(hours=48)
"""Profiles older than this are no ground for a decision, nor for a send."""
_MAX_AGE_SECONDS = MAX_PROFILE_AGE.total_seconds()

EXPIRED, UNKNOWN_PERSON, OVERRIDDEN = "expired", "unknown_person", "overridden"
NOT_APPROVED, UNKNOWN_AGENT = "not_approved", "unknown_agent"
OTHER_GROUP = "other_group"
"""Reasons that only the send boundary has."""


def kill_switch(scene: Scene) -> Iterator[Ruling]:
    """Everything stops."""
    if scene.epoch.kill_switch:
        yield scene.nobody(), scene.catalog.on[None]


def stale_profile(scene: Scene) -> Iterator[Ruling]:
    """Nobody is written to on the ground of a profile that is too old, or of unknown age."""
    built, known = scene.column("as_of")
    yield known & (built >= scene.epoch.seconds - _MAX_AGE_SECONDS), scene.catalog.on[None]


def suppression(scene: Scene) -> Iterator[Ruling]:
    """Erased people and people who objected get nothing at all."""
    yield scene.is_false("is_suppressed"), scene.catalog.on[None]


def consent(scene: Scene) -> Iterator[Ruling]:
    """Each channel needs consent for the purpose, given and not withdrawn."""
    for channel, actions in scene.catalog.promotions_on.items():
        yield scene.is_true(f"consent_{channel}"), actions
    for channel, actions in scene.catalog.services_on.items():
        yield scene.is_true(f"service_consent_{channel}"), actions


def refused(channel: str) -> dict[str, Any]:
    """What an opt-out at a vendor makes of the consents in a profile, as in dbt."""
    return {f"consent_{channel}": False, f"service_consent_{channel}": False}


def reachability(scene: Scene) -> Iterator[Ruling]:
    """Each channel needs an address."""
    for channel, actions in scene.catalog.on.items():
        if channel is not None:
            yield scene.is_true(ADDRESS[channel]), actions


def open_complaint(scene: Scene) -> Iterator[Ruling]:
    """Promotions stop while a complaint is open, or not known to be closed."""
    yield scene.is_false("has_open_complaint"), scene.catalog.promotions


def project_rule(scene: Scene) -> Iterator[Ruling]:
    """The rule of the project, for all messages of all agents."""
    if scene.project.eligible_if is not None:
        yield scene.holds(scene.project.eligible_if), scene.catalog.on[None]


def agent_rule(scene: Scene) -> Iterator[Ruling]:
    """The rule of the agent, for all of its messages."""
    if scene.agent is not None and scene.agent.eligible_if is not None:
        yield scene.holds(scene.agent.eligible_if), scene.catalog.on[None]


def eligibility(scene: Scene) -> Iterator[Ruling]:
    """The action's own rule; and a resolution is only for people with an open complaint."""
    yield scene.is_true("has_open_complaint"), scene.catalog.resolutions
    for rule, actions in scene.catalog.ruled.items():
        yield scene.holds(rule), actions


def other_channel(scene: Scene) -> Iterator[Ruling]:
    """Who asks for one channel is answered with that channel, or with nothing."""
    if scene.channel is not None:
        on = {**scene.catalog.on, ANY_DEVICE: scene.catalog.to_devices}
        yield scene.nobody(), np.setdiff1d(on[None], on.get(scene.channel, []))


GUARDRAILS: Mapping[Reason, Guardrail] = {
    Reason.KILL_SWITCH: kill_switch,
    Reason.STALE_PROFILE: stale_profile,
    Reason.SUPPRESSED: suppression,
    Reason.NO_CONSENT: consent,
    Reason.UNREACHABLE: reachability,
    Reason.OPEN_COMPLAINT: open_complaint,
    Reason.PROJECT_RULE: project_rule,
    Reason.AGENT_RULE: agent_rule,
    Reason.NOT_ELIGIBLE: eligibility,
    Reason.UNKNOWN_ZONE: unknown_zone,
    Reason.LEGAL_WINDOW: legal_window,
    Reason.QUIET_HOURS: quiet_hours,
    Reason.FREQUENCY_CAP: frequency_caps,
    Reason.BLACKOUT: blackout,
    Reason.OTHER_CHANNEL: other_channel,
    Reason.EXCLUDED: excluded,
    Reason.PAUSED: paused,
    Reason.FROZEN: frozen,
}


def reasons(
    contexts: Contexts,
    catalog: Catalog,
    project: Project,
    epoch: Epoch,
    channel: str | None = None,
) -> Reasons:
    """(n, k) uint8 `Reason` codes: 0 where the action is possible, else the first guardrail.

    With a `channel`, only its actions (and no_action) are possible.
    Raises MissingColumnError when a column that a guardrail needs was not read.
    """
    return judge(Scene(contexts, catalog, project, epoch, channel))


_LAST_FIRST = [(int(reason), guardrail) for reason, guardrail in reversed(list(GUARDRAILS.items()))]


def judge(scene: Scene) -> Reasons:
    """`reasons` of a scene. The last guardrail writes first, so the first one's code stays."""
    n = len(scene.contexts)
    codes = np.zeros((n, len(scene.catalog)), dtype=np.uint8)
    of_one = codes[0] if n == 1 else None
    for reason, guardrail in _LAST_FIRST:
        for may, actions in guardrail(scene):
            if of_one is not None:  # the same as below, in a tenth of the time
                if not may:
                    of_one[actions] = reason
            elif np.count_nonzero(may) < n:
                codes[_where(~may), actions] = reason
    return codes


def _where(ruled_out: Bools) -> Any:
    """The rows, as an index that goes with one of actions; for all of them, a slice is quicker."""
    if np.count_nonzero(ruled_out) == len(ruled_out):
        return slice(None)
    return ruled_out.nonzero()[0][:, np.newaxis]


def send_at(contexts: Contexts, catalog: Catalog, epoch: Epoch) -> Floats:
    """(n, k) Unix seconds at which each action would leave.

    NaN for no_action, and where it depends on a zone that is not known.
    """
    if "time_zone" not in contexts.columns:
        raise MissingColumnError("time_zone")
    return send_times(contexts.columns["time_zone"], catalog, epoch).send_at


def columns_of(catalog: Catalog, project: Project, agent: Agent | None = None) -> set[str]:
    """Columns the guardrails read for these actions, but for those of overrides."""
    channels = {channel for channel in catalog.on if channel}
    of_law = {"country", "region"} if catalog.promotions_on.keys() & regulated() else set()
    fixed = {"as_of", "is_suppressed", "has_open_complaint", "time_zone"}
    rules = {a.eligible_if for a in catalog.actions} | {project.eligible_if}
    if agent is not None:
        rules |= {agent.eligible_if, *(small.members for small in agent.lists)}
    of_rules = {column for text in rules if text for column in parsed(text).columns}
    return (
        fixed
        | columns_of_caps(catalog, project)
        | of_rules
        | of_law
        | {f"service_consent_{c}" for c in catalog.services_on}
        | {f"consent_{c}" for c in channels}
        | {ADDRESS[c] for c in channels}
    )


def at_send(
    intent: Mapping[str, Any],
    fresh: Mapping[str, Any] | None,
    project: Project,
    now: datetime,
    kill_switch: bool,
    agent: Agent | None = None,
    overrides: Overrides = NO_OVERRIDES,
    rules: Action | None = None,
) -> str | None:
    """Why one intended message may not leave at `now`; None when it may.

    `intent` is what the delivery journal has of it; `fresh` is the person's row of guardrail
    columns now, None when there is no such person any more. The counters in `fresh` must not
    count this message; others that wait do not count either, each is asked about when it leaves.
    The same guardrails as `reasons`, but for the action's own eligibility rule, which belongs to
    the decision and is asked only when that was made for somebody else (`rules`, the action as
    the agent has it); and the zone known at decision time must agree as well. `agent` is the
    intent's; `overrides` are all there are.
    """
    if utc(now) >= utc(datetime.fromisoformat(intent["expires_at"])):
        return EXPIRED
    if fresh is None:
        return UNKNOWN_PERSON
    last_word = overrides.decisions.get(intent["decision_id"])
    if last_word is not None and last_word.kind == "stop":
        return OVERRIDDEN
    owner = None if agent is None else agent.owner
    if needs_approval(agent) and not is_approved(last_word, intent, owner):
        return NOT_APPROVED
    message = message_of(intent)
    if rules is not None:
        message = replace(message, eligible_if=rules.eligible_if, is_resolution=rules.is_resolution)
    catalog, epoch = _only(message), Epoch("", "", now, "", "", kill_switch)
    mine = overrides.of(intent["agent"])
    who = np.array([intent["customer_id"]], dtype=object)
    for zone in dict.fromkeys((fresh.get("time_zone"), intent.get("time_zone"))):
        row = {name: column_of([value]) for name, value in fresh.items()}
        row |= {"time_zone": column_of([zone]), WAITING: column_of([""])}
        contexts = Contexts(who, row)
        code = int(judge(Scene(contexts, catalog, project, epoch, None, agent, mine))[0, 1])
        if code:
            return REASON_NAMES[code]
    return None


def message_of(intent: Mapping[str, Any]) -> Action:
    """What an intended message is, for the guardrails."""
    fields = intent["fields"]
    return Action(
        intent["action"],
        intent["channel"],
        fields["creative"],
        fields["incentive"],
        is_promotional=bool(intent["is_promotional"]),
    )


@lru_cache(maxsize=1024)
def _only(message: Action) -> Catalog:
    return Catalog((Action(NO_ACTION), message))
