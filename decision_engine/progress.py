"""Is anything left to gain from the actions that exist? Asked of the decisions made at random.

What runs is compared with the best that these decisions know of: for each customer the action of
which a model, fitted without that customer, expects most. Both are valued on the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decision_engine.evaluate import Estimate, Log, compare
from decision_engine.plateau import Plateau, plateau
from decision_engine.types import Bools, Floats

DAYS = 28
WORTH = 0.05
"""The least gain worth having, as a share of the mean reward."""


@dataclass(frozen=True)
class Progress:
    """`found` says what is left, by `gain`; None when that is refused or nothing is earned."""

    gain: Estimate
    found: Plateau | None


def progress(
    log: Log, eligible: Bools, predictions: Floats, ran: Floats, mean: float, per_day: float
) -> Progress:
    """Judge what runs, `ran` (n, k) its chances on random rows, by `predictions` of `cross_fit`.

    `mean` is the reward per decision of what runs, `per_day` how many it makes; it is asked what
    the next `DAYS` days can still show.
    """
    gain = compare(log, best_known(eligible, predictions), ran, predictions)
    margin = WORTH * abs(mean)
    if gain.verdict == "refused" or margin == 0:
        return Progress(gain, None)
    return Progress(gain, plateau([gain], margin, round(per_day * DAYS)))


def best_known(eligible: Bools, predictions: Floats) -> Floats:
    """The law (n, k) that always takes the possible action of which most is expected."""
    law: Floats = np.eye(eligible.shape[1])[np.where(eligible, predictions, -np.inf).argmax(axis=1)]
    return law
