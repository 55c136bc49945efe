"""What people have decreed: pauses, exclusions, frozen and pinned actions, stopped decisions.

An override takes effect when it is in the log (`override_log`), without retraining and without
another configuration. It can take messages away, or settle which possible action is taken;
what the guardrails before it forbid stays forbidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np

from decision_engine.rules import parsed
from decision_engine.types import (
    Action,
    Bools,
    Catalog,
    Contexts,
    Ints,
    Reason,
    Reasons,
    seconds_of,
)

Kind = Literal["pause", "exclude", "freeze", "pin", "stop", "approve", "release"]


KINDS: Mapping[Reason, Kind] = {
    Reason.EXCLUDED: "exclude",
    Reason.PAUSED: "pause",
    Reason.FROZEN: "freeze",
    Reason.PINNED: "pin",
}
"""What a reason says that a person did."""


class Override(msgspec.Struct, frozen=True, omit_defaults=True):
    """One act of one person; times are ISO text in UTC.

    `pause` an agent. `exclude` the people of a rule, from one agent or from all. `freeze` or `pin`
    an action of an agent, by its key or its creative; a pin is for the people of a rule, or for
    all. `stop` or `approve` a decision; `content` is the digest of what was approved. `release`
    ends another override. All but the last three
    end by themselves at `until`, if it is given.
    """

    override_id: str
    at: str
    by: str
    why: str
    kind: Kind
    agent: str | None = None
    action: str | None = None
    rule: str | None = None
    decision_id: str | None = None
    releases: str | None = None
    until: str | None = None
    content: str | None = None

    def holds_at(self, moment: datetime) -> bool:
        """Whether it has not ended by itself."""
        if self.until is None:
            return True
        return seconds_of(moment) < seconds_of(datetime.fromisoformat(self.until))

    def is_of(self, action: Action) -> bool:
        """Whether it names this action, or its creative."""
        return self.action in (action.key, action.creative)


def digest_of(intent: Mapping[str, Any]) -> str:
    """SHA-256 of what an intended message says and by what way: what an approval is for."""
    way = [intent[name] for name in ("agent", "action", "destination", "stream", "campaign_id")]
    fields = {name: v for name, v in intent["fields"].items() if name != "unsubscribe_url"}
    return hashlib.sha256(msgspec.json.encode([way, fields], order="sorted")).hexdigest()


def may_approve(by: str, owner: str | None) -> bool:
    """Not without an owner, and not the owner."""
    return owner is not None and by.strip().casefold() != owner.strip().casefold()


def is_approved(word: Override | None, intent: Mapping[str, Any], owner: str | None) -> bool:
    """Whether the last word on a decision lets its message leave, as it is now."""
    if word is None or word.kind != "approve":
        return False
    return may_approve(word.by, owner) and word.content == digest_of(intent)


@dataclass(frozen=True)
class Overrides:
    """Those that are in force. `is_known` is false when the log cannot be read: nothing is sent."""

    standing: tuple[Override, ...] = ()
    is_known: bool = True

    def of(self, agent: str) -> Overrides:
        """Those that concern an agent."""
        if not self.standing:
            return self
        # Whichever agent's message was stopped, it does not count for the others either.
        mine = tuple(o for o in self.standing if o.agent in (None, agent) or o.kind == "stop")
        return Overrides(mine, self.is_known)

    def on(self, kind: Kind, moment: datetime) -> Sequence[Override]:
        """Those of a kind at a moment, oldest first."""
        if not self.standing:
            return ()
        return [o for o in self.standing if o.kind == kind and o.holds_at(moment)]

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that their rules read."""
        return frozenset(c for o in self.standing if o.rule for c in parsed(o.rule).columns)

    @cached_property
    def decisions(self) -> Mapping[str, Override]:
        """The last word on single decisions, by id."""
        return {o.decision_id: o for o in self.standing if o.decision_id is not None}

    @cached_property
    def stopped(self) -> frozenset[str]:
        """The ids of the decisions whose messages do not leave."""
        return frozenset(key for key, word in self.decisions.items() if word.kind == "stop")

    @cached_property
    def frozen(self) -> tuple[Override, ...]:
        """Those that an epoch freezes: all but those of single decisions."""
        return tuple(o for o in self.standing if o.decision_id is None)


NO_OVERRIDES = Overrides()


def standing(log: Sequence[Override]) -> tuple[Override, ...]:
    """Those of a log that were not released."""
    released = {o.releases for o in log if o.kind == "release"}
    return tuple(o for o in log if o.kind != "release" and o.override_id not in released)


def settled(reasons: Reasons, wanted: Sequence[int], rows: Bools, code: Reason) -> Reasons:
    """(n, k): for these rows, only the first possible one of the wanted actions is left.

    Every other possible action, doing nothing included, gets the code. A row for which none of
    the wanted is possible stays as it is.
    """
    out = reasons.copy()
    possible = reasons == Reason.ELIGIBLE
    first = np.full(len(reasons), -1)
    for action in reversed(wanted):
        first[possible[:, action]] = action
    rows = rows & (first >= 0)
    others = possible & rows[:, np.newaxis] & (np.arange(reasons.shape[1]) != first[:, np.newaxis])
    out[others] = code
    return out


def pinned(
    reasons: Reasons, catalog: Catalog, contexts: Contexts, pins: Sequence[Override], rows: Bools
) -> Reasons:
    """The reasons after the pins, of which the last one wins; only for these rows (n,)."""
    for pin in reversed(pins):
        wanted = actions_of(pin, catalog)
        here = rows if pin.rule is None else rows & parsed(pin.rule).holds(contexts)
        reasons = settled(reasons, wanted.tolist(), here, Reason.PINNED)
        rows = rows & ~(reasons == Reason.PINNED).any(axis=1)
    return reasons


def actions_of(override: Override, catalog: Catalog) -> Ints:
    """The indices of the actions that an override names; none when the agent lost them since."""
    return np.array([i for i, a in enumerate(catalog.actions) if override.is_of(a)], dtype=np.int64)
