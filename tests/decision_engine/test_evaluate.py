"""Off-policy estimates against known truth, direct formulas and their own promises."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.evaluate import (
    Estimate,
    Log,
    compare,
    dm,
    dr,
    effective_sample_size,
    ips,
    snips,
    switch_dr,
    weights,
)
from decision_engine.intervals import standard_error
from decision_engine.rejection import replay, uniform_rows
from decision_engine.types import Floats, Ints

# Two segments of equal size, three actions: success rates, logging and candidate probabilities.
RATES = np.array([[0.10, 0.30, 0.20], [0.40, 0.15, 0.25]])
LOGGING = np.array([[0.80, 0.15, 0.05], [0.10, 0.20, 0.70]])
TARGET = np.array([[0.10, 0.60, 0.30], [0.50, 0.20, 0.30]])
TRUTH = float((TARGET * RATES).sum(axis=1).mean())
WRONG = np.full((2, 3), 0.35)
REPEATS = 400
COVERAGE_ERROR = 4 * np.sqrt(0.95 * 0.05 / REPEATS)  # four binomial standard errors


def simulate(rng: np.random.Generator, n: int = 2000) -> tuple[Log, Ints]:
    segment = rng.integers(0, 2, n)
    action = (rng.random((n, 1)) > LOGGING[segment].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(n) < RATES[segment, action]).astype(float)
    return Log(action, reward, LOGGING[segment, action]), segment


def repeat(predictions: Floats) -> dict[str, list[Estimate]]:
    rng = np.random.default_rng(7)
    found: dict[str, list[Estimate]] = {"ips": [], "snips": [], "dm": [], "dr": []}
    for _ in range(REPEATS):
        log, segment = simulate(rng)
        target, q = TARGET[segment], predictions[segment]
        by_model = dm(log, target, q), dr(log, target, q)
        for e in (ips(log, target), snips(log, target), *by_model):
            found[e.estimator].append(e)
    return found


@pytest.fixture(scope="module")
def wrong_model() -> dict[str, list[Estimate]]:
    return repeat(WRONG)


@pytest.fixture(scope="module")
def right_model() -> dict[str, list[Estimate]]:
    return repeat(RATES)


def assert_unbiased_and_covering(found: list[Estimate]) -> None:
    values = np.array([e.value for e in found])
    assert abs(values.mean() - TRUTH) < 4 * values.std() / np.sqrt(REPEATS)
    assert abs(np.mean([e.low <= TRUTH <= e.high for e in found]) - 0.95) < COVERAGE_ERROR
    # A spread seen over 400 repeats has a relative error of 1/sqrt(800) = 3.5%.
    errors = np.mean([e.standard_error for e in found])
    assert errors == pytest.approx(values.std(), rel=4 * 0.036)


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_is_unbiased_and_covers_whatever_the_model(
    wrong_model: dict[str, list[Estimate]], name: str
) -> None:
    assert_unbiased_and_covering(wrong_model[name])


def test_a_right_model_makes_dm_right_and_dr_narrower(
    right_model: dict[str, list[Estimate]], wrong_model: dict[str, list[Estimate]]
) -> None:
    assert_unbiased_and_covering(right_model["dm"])
    assert_unbiased_and_covering(right_model["dr"])
    right = np.mean([e.standard_error for e in right_model["dr"]])
    assert right < np.mean([e.standard_error for e in wrong_model["dr"]])
    assert right < np.mean([e.standard_error for e in right_model["ips"]])


def test_dm_is_as_wrong_as_its_model(wrong_model: dict[str, list[Estimate]]) -> None:
    assert wrong_model["dm"][0].value == pytest.approx(0.35)


def test_estimates_equal_the_formulas_written_as_loops() -> None:
    rng = np.random.default_rng(3)
    log, segment = simulate(rng, n := 900)
    target, q = TARGET[segment], RATES[segment]
    w = [target[i, log.action[i]] / log.propensity[i] for i in range(n)]
    model = [sum(target[i, a] * q[i, a] for a in range(3)) for i in range(n)]
    rest = [w[i] * (log.reward[i] - q[i, log.action[i]]) for i in range(n)]
    weighted = sum(w[i] * log.reward[i] for i in range(n))
    assert ips(log, target).value == pytest.approx(weighted / n)
    assert snips(log, target).value == pytest.approx(weighted / sum(w))
    assert dm(log, target, q).value == pytest.approx(sum(model) / n)
    assert dr(log, target, q).value == pytest.approx((sum(model) + sum(rest)) / n)
    kept = [rest[i] if w[i] <= 3.5 else 0.0 for i in range(n)]
    switched = switch_dr(log, target, q, threshold=3.5).value
    assert switched == pytest.approx((sum(model) + sum(kept)) / n)
    expected = sum(w) ** 2 / sum(v * v for v in w)
    assert ips(log, target).effective_n == pytest.approx(expected)


def test_ips_of_the_logging_policy_is_the_mean_reward() -> None:
    log, segment = simulate(np.random.default_rng(5))
    estimate = ips(log, LOGGING[segment])
    assert estimate.value == pytest.approx(log.reward.mean())
    assert estimate.effective_n == pytest.approx(len(log))
    assert estimate.standard_error == pytest.approx(log.reward.std(ddof=1) / np.sqrt(len(log)))


def test_the_difference_is_paired() -> None:
    rng = np.random.default_rng(11)
    truth = TRUTH - float((LOGGING * RATES).sum(axis=1).mean())
    covered = {"dr_difference": 0, "snips_difference": 0}
    for _ in range(REPEATS):
        log, segment = simulate(rng)
        for predictions in (RATES[segment], None):
            found = compare(log, TARGET[segment], LOGGING[segment], predictions)
            covered[found.estimator] += found.low <= truth <= found.high
    for hits in covered.values():
        assert abs(hits / REPEATS - 0.95) < COVERAGE_ERROR
    same = compare(log, TARGET[segment], TARGET[segment], RATES[segment])
    assert (same.value, same.standard_error) == (0.0, 0.0)


def test_repeated_customers_are_one_unit() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=1000)
    error = standard_error(x)
    ten_times = standard_error(np.repeat(x, 10), np.repeat(np.arange(1000), 10))
    assert ten_times == pytest.approx(error)
    assert standard_error(np.repeat(x, 10)) < error / 3


def test_too_small_an_effective_sample_is_refused() -> None:
    log, segment = simulate(np.random.default_rng(5), 120)
    always_rare = np.tile([0.0, 0.0, 1.0], (120, 1))
    for estimate in (
        ips(log, always_rare),
        snips(log, always_rare),
        dm(log, always_rare, RATES[segment]),
        dr(log, always_rare, RATES[segment]),
        compare(log, LOGGING[segment], always_rare),
    ):
        assert estimate.verdict == "refused"
        assert "effective sample" in estimate.reason
        assert estimate.effective_n < 200
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    even, ones = np.full((120, 3), 1 / 3), Log(log.action, np.ones(120), np.full(120, 1 / 3))
    assert ips(ones, even, min_effective=1).verdict == "estimated"


def test_an_estimate_that_a_few_rows_decide_is_refused() -> None:
    rng = np.random.default_rng(5)
    even = np.full((1000, 2), 0.5)
    log = Log(rng.integers(0, 2, 1000), (np.arange(1000) < 3).astype(float), np.full(1000, 0.5))
    for estimate in (ips(log, even), dr(log, even, np.zeros((1000, 2)))):
        assert estimate.verdict == "refused"
        assert "a few rows" in estimate.reason


def test_an_action_the_log_never_takes_is_refused() -> None:
    rng = np.random.default_rng(5)
    log = Log(rng.integers(0, 2, 5000), rng.random(5000), np.full(5000, 0.5))
    estimate = ips(log, np.tile([0.4, 0.1, 0.5], (5000, 1)))
    assert estimate.verdict == "refused"
    assert "never takes some actions" in estimate.reason


def test_wrong_propensities_are_refused() -> None:
    log, segment = simulate(np.random.default_rng(5), 20_000)
    wrong = Log(log.action, log.reward, np.full(20_000, 0.2))
    assert "propensities do not fit" in ips(wrong, TARGET[segment]).reason


def test_no_weight_at_all_is_refused_without_a_warning() -> None:
    log = Log(np.zeros(300, dtype=np.int64), np.ones(300), np.ones(300))
    never = np.tile([0.0, 1.0], (300, 1))
    assert effective_sample_size(weights(log, never)) == 0.0
    assert snips(log, never).verdict == "refused"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("reward", np.array([0.0, np.nan])),
        ("reward", np.array([0.0])),
        ("propensity", np.array([0.5, 0.0])),
        ("propensity", np.array([0.5, 1.5])),
        ("customer", np.array([1])),
    ],
)
def test_a_bad_log_is_named(field: str, values: Floats) -> None:
    good = {"action": np.array([0, 1]), "reward": np.zeros(2), "propensity": np.full(2, 0.5)}
    with pytest.raises(ValueError, match=f"`{field}`"):
        Log(**{**good, field: values})


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (np.full((3, 2), 0.5), "`target`"),
        (np.full((2, 2), 0.6), "`target`"),
        (np.ones((2, 1)), "`action`"),
    ],
)
def test_a_bad_candidate_is_named(target: Floats, named: str) -> None:
    log = Log(np.array([0, 1]), np.zeros(2), np.full(2, 0.5))
    with pytest.raises(ValueError, match=named):
        ips(log, target)


def test_bad_predictions_are_named() -> None:
    log = Log(np.array([0, 1]), np.zeros(2), np.full(2, 0.5))
    with pytest.raises(ValueError, match="`predictions`"):
        dr(log, np.full((2, 2), 0.5), np.zeros((2, 3)))


class Always:
    """Chooses one action and remembers what it was given to learn from."""

    def __init__(self, action: int) -> None:
        self.action = action
        self.learned: list[int] = []

    def choose(self, rows: Ints) -> Ints:
        return np.full(len(rows), self.action)

    def learn(self, rows: Ints) -> None:
        self.learned += rows.tolist()


def test_replay_of_a_uniform_log_is_the_truth() -> None:
    rng = np.random.default_rng(13)
    log = Log(rng.integers(0, 3, 9000), rng.random(9000), np.full(9000, 1 / 3))
    order = rng.permutation(9000)
    learner = Always(2)
    run = replay(log, order, learner, 3)
    chosen = log.action == 2
    assert run.mean == pytest.approx(log.reward[chosen].mean())
    assert (run.offered, run.accepted) == (9000, int(chosen.sum()))
    assert run.shares == (0.0, 0.0, 1.0)
    assert learner.learned == order[chosen[order]].tolist()
    late = order[4500:]
    assert run.second_half == pytest.approx(log.reward[late[chosen[late]]].mean())


def test_a_skewed_log_is_thinned_to_a_uniform_one() -> None:
    rng = np.random.default_rng(17)
    log, segment = simulate(rng, 60_000)
    kept = np.flatnonzero(uniform_rows(log.propensity, rng))
    counts = np.bincount(segment[kept] * 3 + log.action[kept], minlength=6)
    # Each of the 6 cells keeps 60,000 x 1/2 x 0.05 = 1,500 rows; 4 Poisson standard errors.
    assert np.abs(counts - 1500).max() < 4 * np.sqrt(1500)
    run = replay(log, kept, Always(1), 3)
    assert run.mean == pytest.approx(RATES[:, 1].mean(), abs=4 * np.sqrt(0.18 / 3000))
