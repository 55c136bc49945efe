"""What may not be done to whom: the first guardrail that says no, for every person and action.

One function per guardrail, in the order of `Reason`. Unknown is never permission: a NULL
consent, address, zone, counter or suppression blocks, and a column that was not read is an
error. `no_action` is never blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np

from decision_engine.config import Cap, Project
from decision_engine.errors import MissingColumnError
from decision_engine.rules import parsed
from decision_engine.send_times import SendTimes, send_times, utc
from decision_engine.types import (
    NO_ACTION,
    Action,
    Bools,
    Catalog,
    Column,
    Contexts,
    Epoch,
    Floats,
    Reason,
    Reasons,
    column_of,
    seconds_of,
)

REASON_NAMES: Mapping[int, str] = {reason.value: reason.name.lower() for reason in Reason}
"""Code in the log -> name in reports and receipts."""

ADDRESS = {"email": "has_email", "push": "has_push", "sms": "has_phone"}
"""Channel -> the column that says a person can be reached on it."""

MAX_PROFILE_AGE = timedelta(hours=48)
"""Profiles older than this are no ground for a decision, nor for a send."""

EXPIRED, UNKNOWN_PERSON = "expired", "unknown_person"
"""Reasons that only the send boundary has."""


@dataclass(frozen=True)
class Scene:
    """What the guardrails look at. `contexts` has n people, `catalog` k actions.

    `channel` is the only one that was asked for; None when any will do.
    """

    contexts: Contexts
    catalog: Catalog
    project: Project
    epoch: Epoch
    channel: str | None = None

    @cached_property
    def times(self) -> SendTimes:
        """When each action would reach each person."""
        return send_times(self.column("time_zone"), self.catalog, self.epoch)

    def column(self, name: str) -> Column:
        """A column that must have been read."""
        if name not in self.contexts.columns:
            raise MissingColumnError(name)
        return self.contexts.columns[name]

    def is_true(self, name: str) -> Bools:
        """(n,): known to be true."""
        column = self.column(name)
        return np.asarray(column.values.astype(bool) & column.valid)

    def is_false(self, name: str) -> Bools:
        """(n,): known to be false."""
        column = self.column(name)
        return np.asarray(~column.values.astype(bool) & column.valid)

    def where(self, wanted: Callable[[Action], bool]) -> Bools:
        """(k,): the messages (never no_action) for which `wanted` holds."""
        return np.array([bool(a.channel) and wanted(a) for a in self.catalog.actions], dtype=bool)

    def on(self, channel: str | None) -> Bools:
        """(k,): the messages on a channel; None for all messages."""
        return self.where(lambda a: channel in (None, a.channel))

    @property
    def messages(self) -> Bools:
        """(k,): everything that reaches a person."""
        return self.on(None)

    def nothing(self) -> Bools:
        """(n, k) of False."""
        return np.zeros((len(self.contexts), len(self.catalog)), dtype=bool)


Guardrail = Callable[[Scene], Bools]
"""(n, k) bool: True where the action is not allowed."""


def kill_switch(scene: Scene) -> Bools:
    """Everything stops."""
    stopped = np.full(len(scene.contexts), scene.epoch.kill_switch)
    return _outer(stopped, scene.messages)


def stale_profile(scene: Scene) -> Bools:
    """Nobody is written to on the ground of a profile that is too old, or of unknown age."""
    built = scene.column("as_of")
    oldest = seconds_of(scene.epoch.as_of) - MAX_PROFILE_AGE.total_seconds()
    return _outer(~(built.valid & (built.values >= oldest)), scene.messages)


def suppression(scene: Scene) -> Bools:
    """Erased people and people who objected get nothing at all."""
    return _outer(~scene.is_false("is_suppressed"), scene.messages)


def consent(scene: Scene) -> Bools:
    """Each channel needs consent that was given and not withdrawn."""
    return _per_channel(scene, "consent_{}".format)


def reachability(scene: Scene) -> Bools:
    """Each channel needs an address."""
    return _per_channel(scene, ADDRESS.__getitem__)


def open_complaint(scene: Scene) -> Bools:
    """Promotions stop while a complaint is open, or not known to be closed."""
    promotional = scene.where(lambda a: a.is_promotional)
    return _outer(~scene.is_false("has_open_complaint"), promotional)


def eligibility(scene: Scene) -> Bools:
    """The action's own rule; and a resolution is only for people with an open complaint."""
    resolution = scene.where(lambda a: a.is_resolution)
    blocked = _outer(~scene.is_true("has_open_complaint"), resolution)
    for i, action in enumerate(scene.catalog.actions):
        if action.eligible_if and action.channel:
            blocked[:, i] |= ~parsed(action.eligible_if).holds(scene.contexts)
    return blocked


def unknown_zone(scene: Scene) -> Bools:
    """Nobody is written to whose clock we do not know."""
    return _outer(~scene.times.zone_known, scene.messages)


def quiet_hours(scene: Scene) -> Bools:
    """Messages leave when start <= hour < end on the person's own clock."""
    quiet, hour = scene.project.quiet_hours, scene.times.local_hour
    outside: Bools = (hour < quiet.start) | (hour >= quiet.end)
    return outside & scene.messages


def frequency_caps(scene: Scene) -> Bools:
    """No cap, over all channels or of the action's channel, is used up."""
    blocked = scene.nothing()
    for cap in scene.project.caps:
        counted = scene.column(cap_column(cap))
        full = ~counted.valid | ~(counted.values.astype(np.float64) < cap.max)
        blocked |= _outer(full, scene.on(cap.channel))
    return blocked


def other_channel(scene: Scene) -> Bools:
    """Who asks for one channel is answered with that channel, or with nothing."""
    other = scene.where(lambda a: scene.channel not in (None, a.channel))
    return _outer(np.ones(len(scene.contexts), dtype=bool), other)


def cap_column(cap: Cap) -> str:
    """The column that counts what a cap limits: `sends_7d`, `email_sends_1d`."""
    return f"sends_{cap.days}d" if cap.channel is None else f"{cap.channel}_sends_{cap.days}d"


def _outer(people: Bools, actions: Bools) -> Bools:
    """(n,) and (k,) -> (n, k): both."""
    return people[:, np.newaxis] & actions[np.newaxis, :]


def _per_channel(scene: Scene, column_name: Callable[[str], str]) -> Bools:
    blocked = scene.nothing()
    for channel in sorted({a.channel for a in scene.catalog.actions if a.channel}):
        refused = ~scene.is_true(column_name(channel))
        blocked |= _outer(refused, scene.on(channel))
    return blocked


GUARDRAILS: Mapping[Reason, Guardrail] = {
    Reason.KILL_SWITCH: kill_switch,
    Reason.STALE_PROFILE: stale_profile,
    Reason.SUPPRESSED: suppression,
    Reason.NO_CONSENT: consent,
    Reason.UNREACHABLE: reachability,
    Reason.OPEN_COMPLAINT: open_complaint,
    Reason.NOT_ELIGIBLE: eligibility,
    Reason.UNKNOWN_ZONE: unknown_zone,
    Reason.QUIET_HOURS: quiet_hours,
    Reason.FREQUENCY_CAP: frequency_caps,
    Reason.OTHER_CHANNEL: other_channel,
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
    scene = Scene(contexts, catalog, project, epoch, channel)
    codes = np.zeros((len(contexts), len(catalog)), dtype=np.uint8)
    for reason, guardrail in GUARDRAILS.items():
        codes[(codes == Reason.ELIGIBLE) & guardrail(scene)] = reason
    return codes


def send_at(contexts: Contexts, catalog: Catalog, epoch: Epoch) -> Floats:
    """(n, k) Unix seconds at which each action would leave; NaN for no_action and unknown zones."""
    if "time_zone" not in contexts.columns:
        raise MissingColumnError("time_zone")
    return send_times(contexts.columns["time_zone"], catalog, epoch).send_at


def columns_of(catalog: Catalog, project: Project) -> set[str]:
    """Columns the guardrails read for these actions."""
    channels = {a.channel for a in catalog.actions if a.channel}
    fixed = {"as_of", "is_suppressed", "has_open_complaint", "time_zone"}
    caps = {cap_column(cap) for cap in project.caps}
    rules = {a.eligible_if for a in catalog.actions if a.eligible_if}
    of_rules = {column for text in rules for column in parsed(text).columns}
    return (
        fixed
        | caps
        | of_rules
        | {f"consent_{c}" for c in channels}
        | {ADDRESS[c] for c in channels}
    )


def at_send(
    intent: Mapping[str, Any],
    fresh: Mapping[str, Any] | None,
    project: Project,
    now: datetime,
    kill_switch: bool,
) -> str | None:
    """Why one intended message may not leave at `now`; None when it may.

    `intent` has channel, is_promotional, time_zone and expires_at (ISO, UTC); `fresh` is the
    person's row of guardrail columns now, None when there is no such person any more. The
    counters in `fresh` must not count this message. The same guardrails as `reasons`, but
    for the action's own eligibility rule, which belongs to the decision; and the zone known
    at decision time must agree as well.
    """
    if utc(now) >= utc(datetime.fromisoformat(intent["expires_at"])):
        return EXPIRED
    if fresh is None:
        return UNKNOWN_PERSON
    action = Action(
        key="intended", channel=intent["channel"], is_promotional=bool(intent["is_promotional"])
    )
    catalog = Catalog((Action(NO_ACTION), action))
    epoch = Epoch("", "", now, "", "", kill_switch)
    for zone in dict.fromkeys((fresh.get("time_zone"), intent.get("time_zone"))):
        row = {name: column_of([value]) for name, value in fresh.items()}
        contexts = Contexts(np.array([""], dtype=object), {**row, "time_zone": column_of([zone])})
        code = int(reasons(contexts, catalog, project, epoch)[0, 1])
        if code:
            return REASON_NAMES[code]
    return None
