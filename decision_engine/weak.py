"""Which creatives would an agent be better off without? Asked of the decisions made at random.

A creative is weak when two things are certain: what runs would earn more without it; and the best
that is known of these decisions, for each customer the action of which a model fitted without that
customer expects most, would hardly earn less. The first alone could be said of one that is the
best for a few whom the learner has not told apart yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from decision_engine.evaluate import Log
from decision_engine.intervals import standard_error
from decision_engine.lift import Interval, always_valid_half_width
from decision_engine.progress import WORTH, best_known
from decision_engine.types import Bools, Floats, Ints

ALPHA = 0.05
LEAST_DRAWN = 200
"""Decisions for a creative, of those made at random, below which nothing is said of it."""


@dataclass(frozen=True)
class Without:
    """What becomes of the reward per decision without a creative, in intervals valid at each look.

    `drawn` is how often the lot has chosen it · `gain` of what runs · `loss` of the best that is
    known, of no weight below `margin` · `is_weak` when it is better to pause it.
    """

    drawn: int
    gain: Interval
    loss: Interval
    margin: float
    is_weak: bool


def without_each(
    log: Log,
    eligible: Bools,
    predictions: Floats,
    chances: Callable[[Bools], Floats],
    creatives: Mapping[str, Ints],
) -> dict[str, Without]:
    """Each creative's `Without`, the worst first.

    `log` has n decisions made at random; `eligible` and `predictions` (of `cross_fit`) are (n, k);
    `chances(eligible)` (n, k) is what runs, given what is possible; `creatives` has the actions of
    each. The bounds hold for all creatives together: at most 5% of runs ever call one weak without
    which what runs would earn no more.
    """
    ran, best = chances(eligible), best_known(eligible, predictions)
    alpha, margin = ALPHA / max(len(creatives), 1), WORTH * abs(float(log.reward.mean()))
    found = {}
    for name, actions in creatives.items():
        rest = eligible.copy()
        rest[:, actions] = False
        # Where nothing else is possible, it is not to be missed.
        rest = np.where(rest.any(axis=1, keepdims=True), rest, eligible)
        gain = _change(log, chances(rest) - ran, predictions, alpha)
        loss = _change(log, best - best_known(rest, predictions), predictions, alpha)
        drawn = int(np.isin(log.action, actions).sum())
        is_weak = drawn >= LEAST_DRAWN and gain.low > 0 and loss.high < margin
        found[name] = Without(drawn, gain, loss, margin, is_weak)
    return dict(sorted(found.items(), key=lambda of: -of[1].gain.low))


def _change(log: Log, change: Floats, predictions: Floats, alpha: float) -> Interval:
    """Reward per decision of one law minus that of another, `change` (n, k), by DR.

    An action that was drawn a few hundred times and has never earned anything looks as if it were
    known exactly. So no row is taken to be less noisy than rows are on average.
    """
    rows = np.arange(len(log))
    residual = log.reward - predictions[rows, log.action]
    ratio = change[rows, log.action] / log.propensity
    per_row = (change * predictions).sum(axis=1) + ratio * residual
    value = float(per_row.mean())
    least = np.sqrt(np.square(residual).mean() * np.square(ratio).sum()) / len(log)
    error = max(standard_error(per_row - value, log.customer), float(least))
    half = always_valid_half_width(error, len(log), alpha)
    return Interval(value, value - half, value + half)
