"""Changes and plateaus with known truth: how often they are called, rightly and wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.drift import ALPHA, detectable, drift, scores_of
from decision_engine.evaluate import Estimate, Log
from decision_engine.plateau import plateau
from decision_engine.types import Floats, Ints
from tests.decision_engine.simulated_campaigns import (
    DRIFT_DAYS,
    PER_DAY,
    drift_rates,
    gain_of,
    plateau_rates,
)


def day_of(n: int) -> Ints:
    return np.arange(n) // PER_DAY


def test_scores_of_an_action_have_its_mean_whoever_it_was_sent_to() -> None:
    rng, n = np.random.default_rng(1), 40_000
    u = rng.random(n)
    p = np.where(u > 0.5, 0.9, 0.1)
    action = (rng.random(n) < p).astype(np.int64)
    reward = (rng.random(n) < 0.2 + 0.4 * u).astype(float)
    log = Log(action, reward, np.where(action == 1, p, 1 - p))
    scores = scores_of(log, np.full((n, 2), 0.3), 1)
    assert scores.mean() == pytest.approx(0.4, abs=4 * scores.std() / np.sqrt(n))
    assert reward[action == 1].mean() > 0.45


def test_a_change_is_found_with_its_day_and_size() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=60 * PER_DAY)
    scores[20 * PER_DAY :] += 0.5
    found = drift(scores, day_of(len(scores)))
    assert found.found
    assert found.day is not None
    assert abs(found.day - 20) <= 2
    assert found.change == pytest.approx(0.5, abs=0.1)
    moved = drift(7 - 3 * scores, day_of(len(scores)))
    assert moved.change == pytest.approx(-3 * found.change)
    assert moved.p_value == pytest.approx(found.p_value, rel=1e-6)


def test_the_evidence_by_hand() -> None:
    # Two days of 10 scores, all -1 or 1: means 0 and 1, variance from all 20.
    first, second = np.array([-1.0, 1.0] * 5), np.ones(10)
    scores = np.concatenate([first, second])
    v = scores.var(ddof=1)
    noise, ratios = v * 0.2, []
    for s in (0.05, 0.1, 0.2, 0.4):
        t2 = s * s * v
        ratios.append(np.sqrt(noise / (noise + t2)) * np.exp(t2 / (2 * noise * (noise + t2))))
    evidence = np.mean(ratios) / 2 + 1 / 2
    assert drift(scores, np.repeat([3, 4], 10)).p_value == pytest.approx(1 / evidence, abs=1e-12)


def test_little_data_and_constant_scores_say_nothing() -> None:
    assert drift(np.ones(5), np.arange(5)).p_value == 1.0
    assert drift(np.ones(500), np.arange(500) // 10).p_value == pytest.approx(1.0)
    assert not drift(np.zeros(0), np.zeros(0, np.int64)).found
    with pytest.raises(ValueError, match="ascending"):
        drift(np.zeros(3), np.array([1, 0, 2]))


def test_false_alarms_and_power_of_drift() -> None:
    """50 seeded actions with daily looks; make bench-evaluate takes 2,000."""
    found = drift_rates(50, seed=3)
    assert found["false alarms"] <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / 50)
    assert found["found of the detectable"] >= 0.8 - 4 * np.sqrt(0.16 / 50)
    larger = detectable(np.random.default_rng(1).normal(size=500), DRIFT_DAYS, 5, PER_DAY)
    assert larger > detectable(np.random.default_rng(1).normal(size=500), DRIFT_DAYS, 30, PER_DAY)


def gain(value: float, error: float, n: int = 5000) -> Estimate:
    return Estimate("dr_difference", value, error, value - error, value + error, n, float(n))


def test_the_four_verdicts() -> None:
    assert plateau([gain(-0.01, 0.001), gain(0.0, 0.001)], 0.01, 1000).verdict == "plateau"
    assert plateau([gain(-0.01, 0.001), gain(0.02, 0.001)], 0.01, 1000).verdict == "gain"
    assert plateau([gain(0.0, 0.01)], 0.01, 1_000_000).verdict == "open"
    far = plateau([gain(0.0, 0.01)], 0.01, 1000)
    assert far.verdict == "undecidable"
    assert far.detectable > 0.01
    nan = float("nan")
    refused = Estimate("dr_difference", nan, nan, nan, nan, 10, 1.0, "refused", "few")
    assert plateau([gain(-0.01, 0.001), refused], 0.01, 10).verdict == "undecidable"


def test_the_detectable_gain_is_detected_and_more_decisions_detect_less() -> None:
    one, more = (plateau([gain(0.0, 0.01)], 0.01, m).detectable for m in (1000, 9000))
    assert more < one
    # With no decision to come: the half width of the sequence and 0.84 standard errors.
    still = plateau([gain(0.0, 0.01)], 0.01, 0)
    assert still.detectable == pytest.approx(still.possible + 0.8416212 * 0.01)


@pytest.mark.parametrize(("gains", "margin", "left"), [([], 1.0, 1), ([1], 0.0, 1), ([1], 1.0, -1)])
def test_bad_questions_are_named(gains: list[int], margin: float, left: int) -> None:
    with pytest.raises(ValueError, match="margin"):
        plateau([gain(0.0, 0.01) for _ in gains], margin, left)


def test_false_and_true_plateaus() -> None:
    found = plateau_rates(40, seed=4)
    assert found["called while there was more"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)
    assert found["called when there was no more"] >= 0.8


def test_the_simulated_gain_is_what_it_says() -> None:
    rng = np.random.default_rng(5)
    values: Floats = np.array([gain_of(rng, 4000, 0.05)[0].value for _ in range(60)])
    assert values.mean() == pytest.approx(0.05, abs=4 * values.std() / np.sqrt(60))
