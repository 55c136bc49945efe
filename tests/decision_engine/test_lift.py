"""Lift, its intervals and the checks before it, against known truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from decision_engine.lift import (
    Group,
    Interval,
    adjusted,
    always_valid_half_width,
    group_of,
    lift,
    mean_interval,
    moments_of,
    paired_interval,
)
from decision_engine.sample_ratio import sample_ratio, strata
from tests.decision_engine.simulated_experiments import EXPERIMENTS, rates


def test_lift_by_hand() -> None:
    found = lift(Group(400, 0.20, 0.16), Group(100, 0.16, 0.09))
    error = np.sqrt(0.16 / 400 + 0.09 / 100)
    assert found.difference.value == pytest.approx(0.04)
    assert found.difference.high - 0.04 == pytest.approx(1.959964 * error)
    assert found.relative.value == pytest.approx(0.25)
    half = 1.959964 * np.sqrt(0.16 / 400 + 1.25**2 * 0.09 / 100) / 0.16
    assert found.relative.high == pytest.approx(0.25 + half)
    assert found.always_valid.high > found.difference.high


def test_the_interval_covers_at_one_look_and_the_sequence_at_every_look() -> None:
    rng = np.random.default_rng(23)
    looks, repeats, at_the_end, at_any_look, naive_any = range(200, 4001, 200), 300, 0, 0, 0
    for _ in range(repeats):
        a, b = (rng.random((2, 4000)) < 0.2).astype(np.float64)
        found = [lift(group_of(a[:n]), group_of(b[:n])) for n in looks]
        at_the_end += found[-1].difference.excludes_zero
        naive_any += any(f.difference.excludes_zero for f in found)
        at_any_look += any(f.always_valid.excludes_zero for f in found)
    # 5% of 300 at one look, +- 4 binomial standard errors; at every look at most that.
    assert abs(at_the_end / repeats - 0.05) < 4 * np.sqrt(0.05 * 0.95 / repeats)
    assert at_any_look / repeats < 0.05
    assert naive_any / repeats > 0.15


def test_the_sequence_is_tightest_near_the_planned_sample() -> None:
    ratio = {n: always_valid_half_width(1.0, n) for n in (50, 5_000, 500_000)}
    assert ratio[5_000] < ratio[50]
    assert ratio[5_000] < ratio[500_000]
    assert 2.7 < ratio[5_000] < 3.2  # against 1.96 for a single look


def test_a_small_group_is_refused() -> None:
    found = lift(Group(5000, 0.2, 0.16), Group(99, 0.1, 0.09))
    assert found.verdict == "refused"
    assert "99" in found.reason
    assert np.isnan(found.difference.low)


def test_relative_lift_needs_a_positive_control() -> None:
    found = lift(Group(500, 0.2, 0.16), Group(500, -0.1, 0.09))
    assert found.verdict == "estimated"
    assert np.isnan(found.relative.value)


def test_groups_from_rewards() -> None:
    assert group_of(np.array([1.0, 3.0])) == Group(2, 2.0, 2.0)
    assert group_of(np.array([])) == Group(0, 0.0, 0.0)
    assert mean_interval(Group(1, 2.0, 0.0)) == Interval(2.0, -np.inf, np.inf)
    assert mean_interval(Group(100, 2.0, 4.0)).high == pytest.approx(2.0 + 0.391993)


def test_sample_ratio_by_hand() -> None:
    fine = sample_ratio(np.array([[905, 95]]), np.array([[0.9, 0.1]]))
    assert fine.expected == pytest.approx((900, 100))
    assert (fine.p_value, fine.verdict) == (1.0, "estimated")
    # One row: its factor is e^h / (1 + p (e^h - 1)), the mean over tilts and groups the evidence.
    tilts = [s * h for h in np.geomspace(0.01, 2.0, 10) for s in (1, -1)]
    factors = [np.exp(h) / (1 + 0.1 * np.expm1(h)) for h in tilts]
    factors += [1 / (1 + 0.9 * np.expm1(h)) for h in tilts]
    one = sample_ratio(np.array([[0, 1]]), np.array([[0.9, 0.1]]))
    assert abs(one.p_value - 1 / np.mean(factors)) < 1e-12


def test_lost_customers_are_noticed_and_changed_shares_are_no_loss() -> None:
    bad = sample_ratio(np.array([[8700, 1300]]), np.array([[0.9, 0.1]]))
    assert bad.verdict == "refused"
    assert "group sizes" in bad.reason
    rng = np.random.default_rng(3)
    shares = np.where(np.arange(20_000)[:, None] < 8000, [0.9, 0.1], [0.5, 0.5])
    group = (rng.random(20_000) > shares[:, 0]).astype(np.int64)
    counts, distinct = strata(group, shares)
    assert counts.sum() == 20_000
    assert distinct.tolist() == [[0.5, 0.5], [0.9, 0.1]]
    assert sample_ratio(counts, distinct).verdict == "estimated"
    # A constant share would have called this a defect.
    assert sample_ratio(counts.sum(axis=0)[None], np.array([[0.9, 0.1]])).verdict == "refused"


@pytest.mark.parametrize(
    ("counts", "shares", "named"),
    [
        ([[1]], [[1.0]], "same shape"),
        ([[1, 2]], [[0.5, 0.5], [0.5, 0.5]], "same shape"),
        ([[1, 1]], [[1.0, 0.0]], "above 0"),
        ([[1, 1]], [[0.5, 0.6]], "sum to 1"),
    ],
)
def test_bad_shares_are_named(counts: list[Any], shares: list[Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sample_ratio(np.array(counts), np.array(shares))


def test_cuped_by_hand() -> None:
    # Reward = covariate + noise orthogonal to it: b = 1 in both groups.
    x, noise = np.array([-1.0, 1.0, -1.0, 1.0]), np.array([1.0, 1.0, -1.0, -1.0])
    high, low = adjusted(
        moments_of(5 + x + noise, x[:, None] + 2), moments_of(x + noise, x[:, None])
    )
    # Covariate means 2 and 0, together 1: the lead of 5 holds 2 that were there before.
    assert abs(high.mean - 4) < 1e-12
    assert abs(low.mean - 1) < 1e-12
    assert abs(high.variance - 4 / 3 * 3 / 2) < 1e-12


def test_cuped_is_unbiased_narrower_and_ignores_the_units_of_covariates() -> None:
    rng = np.random.default_rng(8)
    found, plain = [], []
    for _ in range(300):
        before = rng.gamma(1.0, 1.0, 800)
        in_treatment = rng.random(800) < 0.3
        reward = before + rng.normal(0, 0.5, 800) + 0.2 * in_treatment
        x = np.column_stack([before, np.ones(800)])
        groups = [moments_of(reward[g], x[g]) for g in (in_treatment, ~in_treatment)]
        scaled = [moments_of(reward[g], 100 * x[g] - 7) for g in (in_treatment, ~in_treatment)]
        found.append(lift(*adjusted(groups[0], groups[1])).difference)
        again = lift(*adjusted(scaled[0], scaled[1])).difference
        assert again.value == pytest.approx(found[-1].value)
        plain.append(
            lift(group_of(reward[in_treatment]), group_of(reward[~in_treatment])).difference
        )
    values = np.array([f.value for f in found])
    assert abs(values.mean() - 0.2) < 4 * values.std() / np.sqrt(300)
    assert abs(np.mean([f.low < 0.2 < f.high for f in found]) - 0.95) < 4 * 0.0126
    assert values.std() < 0.5 * np.std([p.value for p in plain])


def test_paired_runs() -> None:
    found = paired_interval(np.array([0.1, 0.2, 0.3]))
    assert found.value == pytest.approx(0.2)
    assert found.high - 0.2 == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert paired_interval(np.array([0.1])).high == np.inf


def test_daily_looks_at_nothing_find_a_winner_no_more_often_than_promised() -> None:
    """60 seeded experiments with 28 looks each; make bench-evaluate takes 2,000."""
    found = rates(EXPERIMENTS[0], 60, seed=5)
    assert found["valid"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)
    assert found["cuped"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)
    assert found["sizes"] == 0.0
    assert found["naive"] > 0.1
    lost = rates(replace(EXPERIMENTS[3], lost=0.25), 10, seed=5)
    assert lost["sizes"] > 0.8
