"""The promotion gate: may a new policy state be put to use?

Asked of the newest closed decisions of the treatment, which were made before anything was known
of their outcome. The candidate is fitted once more without each of `FOLDS` parts of the customers,
and each part is judged by the fit that has not seen it, against what was really done: so neither
side knows the answers. It is held back when it would certainly earn less, or when certainly more
of what nobody wants would follow (the outcomes of negative weight); and when only what was done
by actions that the agent has lost since could have told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from decision_engine.evaluate import MIN_EFFECTIVE, Estimate, Log, gain
from decision_engine.reward_model import cross_fit
from decision_engine.types import Bools, Floats, Ints

FOLDS = 4
LEVEL = 0.99
"""Of the intervals: a candidate as good as what ran is held back once in two hundred times."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """n closed decisions of the treatment, of which the state in use has not learned.

    `log` with p(action | group, one of today's actions) · `x` (n, d) · `eligible` (n, k) ·
    `fold` (n,) the part of each row's customer, below `FOLDS` · `unwanted` how often each event
    nobody wants followed (n,).
    """

    log: Log
    x: Floats
    eligible: Bools
    fold: Ints
    unwanted: Mapping[str, Floats]


class Looked(NamedTuple):
    """At what there was to look: `judged` decisions of `epochs`, and those that are left out.

    `taken_off` were done by actions that the agent has not got any more, `other_features` were
    made with other columns than today's.
    """

    epochs: int = 0
    judged: int = 0
    taken_off: int = 0
    other_features: int = 0

    @property
    def words(self) -> str:
        """The counts."""
        left_out = [
            f"{count:,} {why}"
            for count, why in (
                (self.taken_off, "of actions taken off since"),
                (self.other_features, "of other features"),
            )
            if count
        ]
        without = f", without {' and '.join(left_out)}" if left_out else ""
        epochs = f"{self.epochs:,} epoch{'s' if self.epochs != 1 else ''}"
        return f"{self.judged:,} of {epochs}{without}"


@dataclass(frozen=True)
class Promotion:
    """What held-out decisions say of a candidate, per decision against what was done.

    `reward` is None when there were too few of them to ask.
    """

    looked: Looked
    reward: Estimate | None = None
    unwanted: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def worse(self) -> list[str]:
        """What would certainly be worse, in words."""
        found = []
        if self.reward is not None and self.reward.verdict == "estimated" and self.reward.high < 0:
            found.append(f"reward {_shown(self.reward)}")
        found += [
            f"{event} {_shown(change)}"
            for event, change in self.unwanted.items()
            if change.verdict == "estimated" and change.low > 0
        ]
        return found

    @property
    def is_blind(self) -> bool:
        """Whether there would be evidence enough, had no action been taken off."""
        judged, whole = self.looked.judged, self.looked.judged + self.looked.taken_off
        effective = self.reward.effective_n if self.reward else float(judged)
        return effective < MIN_EFFECTIVE <= (effective * whole / judged if judged else whole)

    @property
    def holds_back(self) -> bool:
        """Whether only a person may put the candidate to use."""
        return bool(self.worse) or self.is_blind

    @property
    def words(self) -> str:
        """The finding, for who reads what was learned."""
        against = f"per decision against what was done, on {self.looked.words}, not seen before"
        if self.worse:
            return f"held back: {', '.join(self.worse)} {against}"
        if self.is_blind:
            return f"held back: too little is left to judge it by, {self.looked.words}"
        if self.reward is None:
            return (
                f"not judged: it takes {MIN_EFFECTIVE:.0f} decisions that have closed since, there"
                f" are {self.looked.words}"
            )
        if self.reward.verdict == "refused":
            return f"not judged, on {self.looked.words}: {self.reward.reason}"
        return f"{_shown(self.reward)} {against}"


def promotion(
    looked: Looked, held_out: HeldOut | None, chances: Callable[[int, Floats, Bools], Floats]
) -> Promotion:
    """Judge a candidate; without `held_out` there is too little to judge it by.

    `chances(fold, x, eligible)` are its chances of each action (n, k) for some rows when it is
    fitted without the customers of `fold`.
    """
    if held_out is None:
        return Promotion(looked)
    log, k = held_out.log, held_out.eligible.shape[1]
    target = np.empty((len(log), k))
    for fold in np.unique(held_out.fold).tolist():
        at = np.flatnonzero(held_out.fold == fold)
        target[at] = chances(fold, held_out.x[at], held_out.eligible[at])

    def change(reward: Floats) -> Estimate:
        of = Log(log.action, reward, log.propensity, log.customer)
        model = cross_fit(of, held_out.x, k, held_out.fold)
        return gain(of, target, model.predictions, LEVEL)

    unwanted = {event: change(counts) for event, counts in held_out.unwanted.items()}
    return Promotion(looked, change(log.reward), unwanted)


def _shown(change: Estimate) -> str:
    return f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
