"""Campaigns that change, have nothing left to gain, or weak creatives; with known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from decision_engine.drift import detectable, drift
from decision_engine.evaluate import Estimate, Log, compare
from decision_engine.plateau import plateau
from decision_engine.reward_model import cross_fit, folds_of
from decision_engine.types import Bools, Floats
from decision_engine.weak import Without, without_each

PER_DAY = 40
DRIFT_DAYS = 30
"""Days before a change, and days after it to find it in."""

MARGIN = 0.06
_WORTH = 0.30

LOOKS = (500, 1000, 2000, 4000, 8000)


def drift_rates(repeats: int, seed: int) -> dict[str, float]:
    """Of actions that never change how many are ever reported; of those that change by what is
    said to be detectable, how many are found in time, and after how many days in the median.

    Scores are exponential, so they are skewed.
    """
    false, found, delays = 0, 0, []
    for r in range(repeats):
        rng = np.random.default_rng([seed, r])
        day = np.arange(2 * DRIFT_DAYS * PER_DAY) // PER_DAY
        still = rng.exponential(size=len(day))
        looks = range(2, 2 * DRIFT_DAYS + 1)
        false += any(drift(still[: d * PER_DAY], day[: d * PER_DAY]).found for d in looks)
        by = detectable(still, DRIFT_DAYS, DRIFT_DAYS, PER_DAY)
        moved = rng.exponential(size=len(day)) + np.where(day < DRIFT_DAYS, 0.0, by)
        after = (
            d
            for d in range(DRIFT_DAYS + 1, 2 * DRIFT_DAYS + 1)
            if drift(moved[: d * PER_DAY], day[: d * PER_DAY]).found
        )
        first = next(after, None)
        found += first is not None
        delays.append(np.inf if first is None else first - DRIFT_DAYS)
    return {
        "false alarms": false / repeats,
        "found of the detectable": found / repeats,
        "median days to find it": float(np.median(delays)),
    }


def gain_of(rng: np.random.Generator, n: int, best: float) -> list[Estimate]:
    """Gains of two actions over action 0: `best` and -0.02, from n rows."""
    return _gains(_campaign(rng, n, best))


def plateau_rates(repeats: int, seed: int) -> dict[str, float]:
    """How often 10 looks at a campaign of 10,000 decisions ever call a plateau."""
    called = {MARGIN: 0, 0.0: 0}
    for r in range(repeats):
        for best in called:
            log = _campaign(np.random.default_rng([seed, r]), 10_000, best)
            looks = (log.take(np.arange(n)) for n in range(1000, 10_001, 1000))
            called[best] += any(
                plateau(_gains(part), MARGIN, 10_000 - len(part)).verdict == "plateau"
                for part in looks
            )
    return {
        "called while there was more": called[MARGIN] / repeats,
        "called when there was no more": called[0.0] / repeats,
    }


def _campaign(rng: np.random.Generator, n: int, best: float) -> Log:
    """Action 0, which the policy prefers, earns 0.30; all three are logged often enough."""
    p = np.array([0.4, 0.3, 0.3])
    rates = _WORTH + np.array([0.0, best, -0.02])
    action = rng.choice(3, n, p=p)
    reward = (rng.random(n) < rates[action]).astype(float)
    return Log(action, reward, p[action])


def _gains(log: Log) -> list[Estimate]:
    """Each action for everyone against action 0 for everyone."""
    n = len(log)
    every = np.eye(3)
    q = np.full((n, 3), _WORTH)
    base = np.tile(every[0], (n, 1))
    return [compare(log, np.tile(every[a], (n, 1)), base, q) for a in (1, 2)]


def withouts(
    seed: int, rate: Callable[[Floats], Floats], looks: tuple[int, ...] = LOOKS
) -> list[dict[str, Without]]:
    """At each look, what is said of creatives 1.. by decisions of an even lot; rewards are 0 or 1.

    `rate(x)` (n, k) are the chances of a reward. What runs prefers what has earned most so far.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(looks[-1], 2))
    rates = rate(x)
    k = rates.shape[1]
    action = rng.integers(0, k, len(x))
    reward = (rng.random(len(x)) < rates[np.arange(len(x)), action]).astype(np.float64)
    creatives = {f"c{i}": np.array([i]) for i in range(1, k)}
    found = []
    for n in looks:
        log = Log(action[:n], reward[:n], np.full(n, 1 / k), np.arange(n))
        fit = cross_fit(log, x[:n], k, folds_of(log, np.random.default_rng(1)))
        mean = np.bincount(log.action, log.reward, k) / np.bincount(log.action, minlength=k)
        liking = np.exp((mean - mean.max()) / (0.15 * mean.max() + 1e-9))

        def chances(eligible: Bools, liking: Floats = liking) -> Floats:
            law = np.where(eligible, liking + 0.02, 0.0)
            out: Floats = law / law.sum(axis=1, keepdims=True)
            return out

        every = np.ones((n, k), dtype=bool)
        found.append(without_each(log, every, fit.predictions, chances, creatives))
    return found


def weak(found: dict[str, Without]) -> set[str]:
    """The creatives that are called weak."""
    return {name for name, without in found.items() if without.is_weak}


def flat(*rates: float) -> Callable[[Floats], Floats]:
    """The same chances for everybody."""
    return lambda x: np.tile(rates, (len(x), 1))


def weak_rates(repeats: int, seed: int) -> dict[str, float]:
    """How many campaigns ever call one of five equals weak; and one that earns 40% of the others.

    Five creatives and doing nothing; the others earn 0.05 a decision.
    """
    seeds = range(seed, seed + repeats)
    equal = [withouts(s, flat(0.02, *[0.05] * 5)) for s in seeds]
    unequal = [withouts(s, flat(0.02, *[0.05] * 4, 0.02)) for s in seeds]
    by_then = {n: sum("c5" in weak(run[i]) for run in unequal) for i, n in enumerate(LOOKS)}
    return {
        "an equal is ever called weak": sum(any(map(weak, run)) for run in equal) / repeats,
        "another than the weak one is": sum(
            any(weak(found) - {"c5"} for found in run) for run in unequal
        )
        / repeats,
        **{f"the weak one is, at {n:,}": count / repeats for n, count in by_then.items()},
    }
