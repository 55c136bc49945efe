"""What `nextmove plan` finds, as plain data; the same in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from decision_engine.plan.edits import Edit
from decision_engine.plan.estimate import Expected
from decision_engine.plan.tally import Change, Segment


@dataclass(frozen=True)
class AgentChange:
    """One agent: whom it decides for and what it would do, and the states it decides by."""

    decisions: Change
    sends: Change
    states: tuple[str, str]
    expected: Expected | None


@dataclass(frozen=True)
class Plan:
    """The change from `against` to the project as it is.

    Counts are of decisions over `days`, the first of them `as_of`. `kinds` says what becomes of
    each decision · `learned` of them differ already because policies have learned since ·
    `moved` customers are in another group · `incentive_cents` is what the sends give away, if
    everybody takes it · `seconds` is what each destination needs at its limits, at least ·
    `gained`, `lost` customers decided for on both sides who can be reached now, or not any more,
    by the guardrail that took most of their messages · `approvals` of the sends, by agent, those
    that a person must approve before they leave · `daily` sends, by the day they leave.
    """

    against: str
    as_of: datetime
    days: int
    customers: int
    edits: tuple[Edit, ...]
    kinds: Mapping[str, int]
    learned: int
    moved: int
    agents: Mapping[str, AgentChange]
    sends: Mapping[str, Change]
    approvals: Mapping[str, Change]
    incentive_cents: Mapping[str, Change]
    seconds: Mapping[str, Change]
    actions: Mapping[str, Change]
    guardrails: Mapping[str, Change]
    gained: int
    lost: Mapping[str, int]
    segments: Mapping[str, Mapping[str, Segment]]
    daily: tuple[Change, ...]
    warnings: tuple[str, ...] = ()

    @property
    def different(self) -> int:
        """Decisions that are not the same any more."""
        return sum(count for kind, count in self.kinds.items() if kind != "same")

    @property
    def has_changes(self) -> bool:
        """Whether anything was edited or is decided differently."""
        return bool(self.edits) or self.different > 0
