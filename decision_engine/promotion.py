"""The promotion gate: may a new policy state be put to use?

Asked of the newest closed decisions of the treatment, which were made before anything was known
of their outcome. The candidate is fitted once more without each of `FOLDS` parts of the customers,
and each part is judged by the fit that has not seen it, against what was really done: so neither
side knows the answers. It is held back when it would certainly earn less, or when certainly more
of what nobody wants would follow (the outcomes of negative weight).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from decision_engine.evaluate import Estimate, Log, gain
from decision_engine.reward_model import cross_fit
from decision_engine.types import Bools, Floats, Ints

FOLDS = 4
LEVEL = 0.99
"""Of the intervals: a candidate as good as what ran is held back once in two hundred times."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """n closed decisions of the treatment, of which the state in use has not learned.

    `log` with p(action | group) · `x` (n, d) · `eligible` (n, k) · `fold` (n,) the part of each
    row's customer, below `FOLDS` · `unwanted` how often each event nobody wants followed (n,).
    """

    log: Log
    x: Floats
    eligible: Bools
    fold: Ints
    unwanted: Mapping[str, Floats]


@dataclass(frozen=True)
class Promotion:
    """What held-out decisions say of a candidate, per decision against what was done.

    `reward` is None when there were too few of them to ask.
    """

    decisions: int = 0
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
    def words(self) -> str:
        """The finding, for who reads what was learned; "" without one."""
        against = f"per decision against what was done, on {self.decisions:,} it had not seen"
        if self.worse:
            return f"held back: {', '.join(self.worse)} {against}"
        if self.reward is None or self.reward.verdict == "refused":
            return ""
        return f"{_shown(self.reward)} {against}"


def promotion(held_out: HeldOut, chances: Callable[[int, Floats, Bools], Floats]) -> Promotion:
    """Judge a candidate.

    `chances(fold, x, eligible)` are its chances of each action (n, k) for some rows when it is
    fitted without the customers of `fold`.
    """
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
    return Promotion(len(log), change(log.reward), unwanted)


def _shown(change: Estimate) -> str:
    return f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
