"""Lift, its intervals and the checks before it, against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.lift import (
    Group,
    Interval,
    always_valid_half_width,
    group_of,
    lift,
    mean_interval,
    paired_interval,
    sample_ratio,
)


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
    fine = sample_ratio({"treatment": 905, "holdout": 95}, {"treatment": 0.9, "holdout": 0.1})
    assert fine.chi_square == pytest.approx(25 / 900 + 25 / 100)
    assert fine.p_value == pytest.approx(0.598161, abs=1e-6)
    assert fine.verdict == "estimated"


def test_lost_customers_are_noticed() -> None:
    bad = sample_ratio({"treatment": 8700, "holdout": 1300}, {"treatment": 0.9, "holdout": 0.1})
    assert bad.verdict == "refused"
    assert "group sizes" in bad.reason


@pytest.mark.parametrize(
    ("counts", "shares", "named"),
    [
        ({"a": 1}, {"a": 0.5, "b": 0.5}, "same groups"),
        ({"a": 1}, {"a": 1.0}, "two or more"),
        ({"a": 1, "b": 1}, {"a": 1.0, "b": 0.0}, "above 0"),
        ({"a": 0, "b": 0}, {"a": 0.5, "b": 0.5}, "`counts`"),
    ],
)
def test_bad_groups_are_named(counts: dict[str, int], shares: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sample_ratio(counts, shares)


def test_paired_runs() -> None:
    found = paired_interval(np.array([0.1, 0.2, 0.3]))
    assert found.value == pytest.approx(0.2)
    assert found.high - 0.2 == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert paired_interval(np.array([0.1])).high == np.inf
