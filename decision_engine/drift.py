"""Has an action begun to earn more or less than it did? A test for any number of looks.

The scores of an action are one number per decision whose mean is what the action earns,
whoever it was sent to: use `scores_of`, not the rewards of those who got it, for a policy that
changes whom it sends to changes those by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from decision_engine.evaluate import Log
from decision_engine.types import Floats, Ints

ALPHA = 0.01
"""At most this share of actions that never change is ever reported, however often one looks."""

MIN_DAY = 10
"""Days with fewer scores are joined with the next ones; what is not yet enough waits."""

_SHIFTS = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Drift:
    """`p_value` is valid at every look. When `found`: since which day, and by how much.

    `day` is the first one of the new regime, `change` the mean after it less the mean before.
    """

    found: bool
    p_value: float
    day: int | None
    change: float


def scores_of(log: Log, predictions: Floats, action: int) -> Floats:
    """Scores (n,) of an action: q_a + 1(a_i = a)(r - q_a)/p, of mean E[reward of a]."""
    q = predictions[:, action]
    out: Floats = q + (log.action == action) * (log.reward - q) / log.propensity
    return out


def drift(scores: Floats, day: Ints) -> Drift:
    """Test (n,) scores on ascending `day` (n,) numbers for one change of their mean.

    For a change at day s the likelihood ratio of "two means" against "one mean", both unknown:
    sqrt(v/(v+t^2)) exp(D^2/2 t^2/(v(v+t^2))) with D the difference of means, v its variance and
    t the spread of changes (a mixture over 5 to 40% of a score's standard deviation). With the
    flat prior on the common mean it is a test martingale from day s on (Perez-Ortiz et al. 2022,
    "E-statistics, group invariance and anytime-valid testing"); so is its mixture over s with
    weights 1/(s(s+1)) (Shin, Ramdas and Rinaldo 2023, "E-detectors"). By Ville's inequality it
    ever passes 1/ALPHA with probability at most ALPHA. Days are nearly normal sums of scores.
    """
    days, count, total = _daily(scores, day)
    if len(days) < 2:
        return Drift(False, 1.0, None, 0.0)
    variance = float(scores.var(ddof=1))
    before_n, before = np.cumsum(count)[:-1], np.cumsum(total)[:-1]
    after_n, after = count.sum() - before_n, total.sum() - before
    change = after / after_n - before / before_n
    start = np.arange(1, len(days))
    weight = 1 / (start * (start + 1.0))
    log_ratio = _log_ratio(change, variance * (1 / before_n + 1 / after_n), variance)
    # Starts that are still to come have ratio 1 and what is left of the weight.
    terms = np.append(log_ratio + np.log(weight), -np.log(len(days)))
    p_value = float(np.exp(-max(float(special.logsumexp(terms)), 0.0)))
    best = int((log_ratio + np.log(weight)).argmax())
    if p_value > ALPHA:
        return Drift(False, p_value, None, 0.0)
    return Drift(True, p_value, int(days[best + 1]), float(change[best]))


def detectable(scores: Floats, before: int, after: int, per_day: float) -> float:
    """The change found with 80% chance, `after` days from a change after `before` days.

    `per_day` are the scores of a day, spread after the change as they were before. It is the D
    that just passes, and 0.84 of its standard errors for the noise of D.
    """
    variance = float(scores.var(ddof=1))
    noise = np.array([variance * (1 / before + 1 / after) / per_day])
    needed = np.log(before * (before + 1.0) / ALPHA)
    low, high = 0.0, 100 * float(np.sqrt(variance))
    for _ in range(60):
        middle = (low + high) / 2
        passes = _log_ratio(np.array([middle]), noise, variance)[0] >= needed
        low, high = (low, middle) if passes else (middle, high)
    return high + float(special.ndtri(0.8)) * float(np.sqrt(noise[0]))


def _log_ratio(change: Floats, noise: Floats, variance: float) -> Floats:
    if variance <= 0:
        return np.zeros(len(change))
    t2 = np.array([[s * s * variance] for s in _SHIFTS])
    each = np.log(noise / (noise + t2)) / 2 + change**2 / 2 * t2 / (noise * (noise + t2))
    out: Floats = special.logsumexp(each, axis=0) - np.log(len(_SHIFTS))
    return out


def _daily(scores: Floats, day: Ints) -> tuple[Ints, Floats, Floats]:
    """First day, number and sum of scores of each run of days with at least MIN_DAY scores."""
    if scores.shape != day.shape or (np.diff(day) < 0).any():
        raise ValueError("`day` must be ascending and as long as `scores`")
    names, start = np.unique(day, return_index=True)
    ends, edges = [*start[1:].tolist(), len(day)][: len(names)], [0]
    first: list[int] = []
    for name, end in zip(names.tolist(), ends, strict=True):
        if len(first) < len(edges):
            first.append(name)
        if end - edges[-1] >= MIN_DAY:
            edges.append(end)
    runs = len(edges) - 1
    count = np.diff(edges).astype(np.float64)
    running = np.append(0.0, np.cumsum(scores))
    return np.array(first[:runs], dtype=np.int64), count, np.diff(running[edges])
