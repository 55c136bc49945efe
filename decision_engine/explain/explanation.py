"""Why one decision was made, as data: what was possible, what was expected, what would change it.

Every figure is that of the record, or follows from it and the policy state that it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from decision_engine.explain.case import USUAL, Case
from decision_engine.explain.reasons import because
from decision_engine.guardrails import REASON_NAMES
from decision_engine.types import Reason
from decision_engine.waivers import FACT, names_of


@dataclass(frozen=True)
class Alternative:
    """One action of the catalog.

    `ruled_out_by` is the stage that took it away and `because` why; None when it was possible.
    `expected` and `uncertainty` are mean and standard deviation of the posterior as logged:
    reward for linear policies, a score from 0 to 1 for Beta ones, None without a learned policy.
    `chance` is its probability.
    """

    action: str
    text: str
    ruled_out_by: str | None
    because: str | None
    expected: float | None
    uncertainty: float | None
    chance: float


@dataclass(frozen=True)
class Contribution:
    """What a column adds to the expected reward of the chosen action over the next best.

    Compared with a customer who is usual in it. `column` None: what such a customer brings.
    """

    column: str | None
    value: Any
    reward: float


@dataclass(frozen=True)
class Counterfactual:
    """Had `column` been `value` and not `was`, `action` would have been chosen.

    By the same draws, and it would have been the best expected one too: both were found by
    deciding again. `distance` in standard deviations of the column among those learned from;
    1 for another text, for yes instead of no.
    """

    column: str
    was: Any
    value: Any
    action: str
    text: str
    distance: float


@dataclass(frozen=True)
class Replay:
    """What deciding again from the record alone gave."""

    same_action: bool
    propensity_difference: float


@dataclass(frozen=True)
class Explanation:
    """One decision. The `contributions` sum to `difference`, what was expected over `next_best`.

    `text` is for the reader who was asked for; the rest is the same for all of them.
    """

    decision_id: str
    epoch_id: str
    agent: str
    customer_id: str
    decided_at: datetime
    group: str
    policy: str
    policy_version: str
    action: str
    propensity: float
    seen: dict[str, Any]
    not_applied: list[str]
    alternatives: list[Alternative]
    next_best: str | None
    difference: float | None
    contributions: list[Contribution]
    counterfactuals: list[Counterfactual]
    replay: Replay | None
    text: str


def explanation(
    case: Case,
    text: str,
    counterfactuals: Sequence[Counterfactual] = (),
    replayed: Replay | None = None,
) -> Explanation:
    """The case as data, with `text` for its reader."""
    record, best = case.record, case.next_best
    gap = None if best is None else record["mean"][case.chosen] - record["mean"][best]
    return Explanation(
        decision_id=record["decision_id"],
        epoch_id=record["epoch_id"],
        agent=record["agent"],
        customer_id=record["customer_id"],
        decided_at=record["decided_at"],
        group=record["group_name"],
        policy=record["policy"],
        policy_version=record["policy_version"],
        action=record["action"],
        propensity=float(record["propensity"]),
        seen=case.values,
        not_applied=names_of(record["facts"].get(FACT)),
        alternatives=[_alternative(case, i) for i in range(len(case.keys))],
        next_best=None if best is None else case.keys[best],
        difference=gap,
        contributions=_contributions(case),
        counterfactuals=list(counterfactuals),
        replay=replayed,
        text=text,
    )


def _alternative(case: Case, i: int) -> Alternative:
    reason = Reason(case.record["reasons"][i])
    possible = reason is Reason.ELIGIBLE
    return Alternative(
        action=case.keys[i],
        text=case.move(i),
        ruled_out_by=None if possible else REASON_NAMES[reason],
        because=None if possible else because(case, reason),
        expected=float(case.record["mean"][i]) if case.learns else None,
        uncertainty=float(case.record["sd"][i]) if case.learns else None,
        chance=float(case.chances[i]),
    )


def _contributions(case: Case) -> list[Contribution]:
    """The largest first, what is usual last."""
    found = [Contribution(c, case.values.get(c), v) for c, v in case.strongest()]
    if case.parts:
        found.append(Contribution(None, None, case.parts[USUAL]))
    return found
