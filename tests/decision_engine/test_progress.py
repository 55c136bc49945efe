"""Is anything left to gain? What runs against the best that random decisions know of."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.evaluate import Log
from decision_engine.progress import DAYS, Progress, progress
from decision_engine.reward_model import cross_fit, folds_of
from decision_engine.types import Floats

N, K = 12_000, 3


def judged(
    ran: Floats, gain: float = 0.5, per_day: float = 1000.0, n: int = N, noise: float = 0.3
) -> Progress:
    """Evenly drawn decisions; the last action earns `gain` more, the mean reward is about 1."""
    rng = np.random.default_rng(5)
    action, x = rng.integers(0, K, n), rng.normal(size=(n, 2))
    reward = 1 + 0.2 * x[:, 0] + gain * (action == K - 1) + rng.normal(0, noise, n)
    log = Log(action, reward, np.full(n, 1 / K), np.arange(n))
    every = np.ones((n, K), dtype=bool)
    fit = cross_fit(log, x, K, folds_of(log, np.random.default_rng(1)))
    return progress(log, every, fit.predictions, np.tile(ran, (n, 1)), 1.0, per_day)


def test_a_policy_that_has_found_the_best_is_on_a_plateau() -> None:
    found = judged(np.array([0.01, 0.01, 0.98])).found
    assert found is not None
    assert (found.verdict, found.margin) == ("plateau", 0.05)
    assert 0.01 < found.possible < 0.05


def test_one_that_has_not_is_told_how_much_there_is() -> None:
    found = judged(np.array([0.4, 0.4, 0.2])).found
    assert found is not None
    assert found.verdict == "gain"
    assert 0.3 < found.certain < 0.5 * 0.8


@pytest.mark.parametrize(("per_day", "verdict"), [(4000.0, "open"), (1.0, "undecidable")])
def test_what_the_coming_weeks_can_show(per_day: float, verdict: str) -> None:
    found = judged(np.full(K, 1 / K), gain=0.0, per_day=per_day, n=1500, noise=1.0).found
    assert found is not None
    assert found.verdict == verdict
    more = judged(
        np.full(K, 1 / K), gain=0.0, per_day=per_day + 1000 / DAYS, n=1500, noise=1.0
    ).found
    assert more is not None
    assert more.detectable < found.detectable


def test_too_little_says_nothing() -> None:
    assert judged(np.array([1.0, 0.0, 0.0]), n=300).found is None
