"""Estimators worked by hand, unbiased by enumeration, and their intervals on simulated logs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decision_engine.evaluate import Log, dm, dr, ips, snips, switch_dr, switch_threshold, weights
from decision_engine.intervals import Shape, bounds, shape, standard_error
from decision_engine.reward_model import cross_fit, folds_of
from decision_engine.types import Floats
from tests.decision_engine.simulated_logs import WORLDS, World, coverage

# Four rows, two actions. w = .5/.5, .5/.25, .25/.5, .75/.75 = 1, 2, .5, 1. Fifty times over.
ROWS = np.arange(200) % 4
HAND = Log(
    np.array([0, 1, 0, 1])[ROWS],
    np.array([1.0, 0.0, 2.0, 1.0])[ROWS],
    np.array([0.5, 0.25, 0.5, 0.75])[ROWS],
)
TARGET = np.array([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75], [0.25, 0.75]])[ROWS]
Q = np.array([[0.5, 1.0], [1.0, 0.5], [1.0, 1.0], [0.0, 1.0]])[ROWS]


def test_by_hand() -> None:
    assert weights(HAND, TARGET)[:4].tolist() == [1.0, 2.0, 0.5, 1.0]
    # IPS (1 + 0 + 1 + 1)/4; SNIPS 3/4.5; model .75, .75, 1, .75; rest .5, -1, .5, 0.
    expected = {"ips": 0.75, "snips": 2 / 3, "dm": 3.25 / 4, "dr": 3.25 / 4, "switch_dr": 4.25 / 4}
    found = {
        "ips": ips(HAND, TARGET, min_effective=0),
        "snips": snips(HAND, TARGET, min_effective=0),
        "dm": dm(HAND, TARGET, Q, min_effective=0),
        "dr": dr(HAND, TARGET, Q, min_effective=0),
        "switch_dr": switch_dr(HAND, TARGET, Q, threshold=1.5, min_effective=0),
    }
    for name, value in expected.items():
        assert abs(found[name].value - value) < 1e-12, name
    # (sum w)^2 / sum w^2 = 20.25 / 6.25.
    assert abs(found["ips"].effective_n - 50 * 3.24) < 1e-9
    # w r = 1, 0, 1, 1: the squared deviations of 200 rows sum to 50 x .75.
    assert abs(found["ips"].standard_error - np.sqrt(37.5 / 199 / 200)) < 1e-12


def test_an_interval_by_hand() -> None:
    # Units 0, 0, 0, 2: deviations -1/2 and 3/2, squares sum to 3, cubes to 3, fourths to 5.25.
    found = shape(np.array([0.0, 0.0, 0.0, 2.0]))
    assert abs(found.skewness - 3 / 3**1.5) < 1e-12
    assert abs(found.degrees - 8 / (4 * 5.25 / 9 - 1)) < 1e-12
    below, above = bounds(Shape(0.3, float("inf")))
    for x in (below, -above):  # the cubic takes each bound back to the normal quantile
        value = x + 0.1 * x**2 + 0.09 / 27 * x**3 + 0.05
        assert abs(abs(value) - 1.959963984540054) < 1e-8
    assert below < 1.96 < above
    assert bounds(Shape(0.0, 1e12)) == pytest.approx((1.959964, 1.959964), abs=1e-5)


def test_repeated_rows_of_a_customer_change_nothing() -> None:
    x = np.random.default_rng(1).normal(size=50) ** 2
    twice, customer = np.repeat(x, 2), np.repeat(np.arange(50), 2)
    assert shape(twice, customer) == pytest.approx(shape(x))
    assert standard_error(twice, customer) == pytest.approx(standard_error(x))


probability = st.floats(0.05, 0.95)
reward = st.floats(-3, 3)


@given(
    st.lists(st.tuples(probability, probability, reward, reward, reward), min_size=1, max_size=4)
)
def test_ips_and_dr_are_unbiased_by_enumeration(rows: list[tuple[float, ...]]) -> None:
    """Over all 2^n logs that could have been drawn, weighted by their probability."""
    logging, wanted, first, second, model = np.array(rows).T
    p, target = np.stack([logging, 1 - logging], 1), np.stack([wanted, 1 - wanted], 1)
    rewards, row = np.stack([first, second], 1), np.arange(len(rows))
    q = np.stack([model, -model], 1)
    truth = (target * rewards).sum(axis=1).mean()
    mean = {"ips": 0.0, "dr": 0.0}
    for drawn in itertools.product((0, 1), repeat=len(rows)):
        a = np.array(drawn)
        log = Log(a, rewards[row, a], p[row, a])
        w, chance = weights(log, target), float(p[row, a].prod())
        values = w * log.reward, (target * q).sum(axis=1) + w * (log.reward - q[row, a])
        for name, value in zip(mean, values, strict=True):
            mean[name] += chance * float(value.mean())
    assert mean["ips"] == pytest.approx(truth, abs=1e-9)
    assert mean["dr"] == pytest.approx(truth, abs=1e-9)


@given(st.floats(-5, 5), st.integers(0, 2**32 - 1))
def test_what_a_shift_of_all_rewards_does(by: float, seed: int) -> None:
    """SNIPS and DR with a shifted model move by the shift; relabelled actions change nothing."""
    rng = np.random.default_rng(seed)
    p, target = (rng.dirichlet([2, 2, 2], 40) for _ in range(2))
    a, q = rng.integers(0, 3, 40), rng.normal(size=(40, 3))
    log = Log(a, rng.normal(size=40), p[np.arange(40), a])
    moved = Log(a, log.reward + by, log.propensity)
    renamed = Log((a + 1) % 3, log.reward, log.propensity)

    def values(log: Log, target: Floats, q: Floats) -> list[float]:
        w = weights(log, target)
        residual = log.reward - q[np.arange(40), log.action]
        return [
            float((w * log.reward).sum() / w.sum()),
            float(((target * q).sum(axis=1) + w * residual).mean()),
        ]

    base = values(log, target, q)
    assert values(moved, target, q + by) == pytest.approx([v + by for v in base], abs=1e-9)
    rolled = values(renamed, np.roll(target, 1, axis=1), np.roll(q, 1, axis=1))
    assert rolled == pytest.approx(base, abs=1e-9)


def test_the_threshold_gives_up_only_what_is_nearly_all_noise() -> None:
    rng = np.random.default_rng(3)
    n = 5000
    p, even, q = np.full((n, 2), 0.5), rng.uniform(0.2, 0.8, n), np.full((n, 2), 0.5)
    log, target = Log(rng.integers(0, 2, n), rng.random(n), p[:, 0]), np.stack([even, 1 - even], 1)
    top = weights(log, target).max()
    assert switch_threshold(log, target, q) == top
    assert switch_threshold(log, target, q, p) == top
    # One row is of an action that was taken once in 10,000: its weight of 2,000 is noise, as
    # the candidate would hardly ever meet it.
    first = np.arange(n)[:, None] == 0
    rare = np.where(first, [1 - 1e-4, 1e-4], p)
    lucky = Log(np.where(first[:, 0], 1, log.action), log.reward, np.where(first[:, 0], 1e-4, 0.5))
    wanted = np.where(first, [0.8, 0.2], target)
    assert switch_threshold(lucky, wanted, q, rare) < 2000
    close = switch_dr(lucky, wanted, q, rare, min_effective=0)
    assert close.value == pytest.approx(0.5, abs=0.05)


def test_the_model_is_never_fitted_on_the_row_it_predicts() -> None:
    rng = np.random.default_rng(5)
    n = 200
    x, a, r = rng.normal(size=(n, 2)), rng.integers(0, 2, n), rng.normal(size=n)
    customer = np.arange(n) // 4
    log = Log(a, r, np.full(n, 0.5), customer)
    fold = folds_of(log, rng)
    assert all(len(set(fold[customer == c])) == 1 for c in range(50))
    before = cross_fit(log, x, 3, fold).predictions
    changed = np.where(customer == 7, 100.0, r)
    after = cross_fit(Log(a, changed, log.propensity, customer), x, 3, fold).predictions
    same = fold == fold[4 * 7]
    assert (before[same] == after[same]).all()
    assert not np.isclose(before[~same, :2], after[~same, :2]).any()
    # Action 2 was never taken: it is predicted the mean of the training rows.
    assert before[same, 2] == pytest.approx(r[~same].mean())


def test_the_sensitivity_is_the_derivative_of_the_direct_method() -> None:
    """Moving one reward by h moves the value by h/n times the slope the influence names."""
    rng = np.random.default_rng(6)
    n = 400
    x, a = rng.normal(size=(n, 2)), rng.integers(0, 2, n)
    log = Log(a, x[:, 0] + rng.normal(size=n), np.full(n, 0.5))
    fold, target = folds_of(log, rng, 2), rng.dirichlet([1, 1], n)
    fit = cross_fit(log, x, 2, fold)
    value, influence = (
        dm(log, target, fit.predictions, min_effective=0).value,
        fit.sensitivity(target),
    )
    for i in range(3):
        residual = fit._residual[1 - fold[i], i]
        moved = log.reward.copy()
        moved[i] += 1e-3
        again = cross_fit(Log(a, moved, log.propensity), x, 2, fold)
        slope = (dm(log, target, again.predictions, min_effective=0).value - value) / 1e-3
        assert residual * slope * n == pytest.approx(influence[i], rel=0.05, abs=0.02)


@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[1]], ids=lambda w: w.name)
def test_intervals_cover(world: World) -> None:
    """100 seeded logs, 4 binomial standard errors; make bench-evaluate takes 1,000."""
    for name, found in coverage(world, 100, seed=4).items():
        assert found.given >= 98, name
        assert abs(found.share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100), name
