from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine.learn import (
    BUCKETS,
    Evidence,
    Rewards,
    buckets,
    fold,
    learn,
    log_evidence,
    subtract,
    update,
)
from decision_engine.state import CONTEXT_FREE, DEFAULT_PRECISION, PolicyState, Sums, Theta
from decision_engine.testing import ACTIONS, FEATURES, sample_rewards

K, D = len(ACTIONS), len(FEATURES)
DAY = 86_400.0
T = 10 * DAY


def run(
    previous: PolicyState | None,
    *rows: Rewards,
    as_of: float = T,
    precision: float | str = "auto",
    half_life: float | None = None,
) -> PolicyState:
    return learn(
        previous,
        rows,
        agent="welcome",
        policy="linear_thompson",
        actions=ACTIONS,
        features=FEATURES,
        as_of=as_of,
        context_precision=precision,
        half_life_days=half_life,
    )


def some(n: int = 600, seed: int = 1) -> Rewards:
    return sample_rewards(np.random.default_rng(seed), n)


def same(a: Sums, b: Sums) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Sums))


def near(a: Sums, b: Sums) -> bool:
    return all(
        np.allclose(getattr(a, f.name), getattr(b, f.name), rtol=1e-10, atol=1e-9)
        for f in fields(Sums)
    )


def test_sums_are_what_they_say() -> None:
    rows = some(200)
    found = fold([rows], K, D, T)
    for action in range(K):
        for part, closed in ((found.closed, True), (found.open, False)):
            at = (rows.action == action) & (rows.is_closed == closed)
            x = np.c_[np.ones(at.sum()), rows.x[at]]
            w, r = rows.weight[at], rows.reward[at]
            assert part.count[action] == at.sum()
            assert np.allclose(part.gram[action], (x * w[:, None]).T @ x)
            assert np.allclose(part.moment[action], (r * (w if closed else 1)) @ x)
            assert np.allclose(part.square[action], (r**2 * (w if closed else 1)).sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_batches_and_their_order_change_no_bit(seed: int, parts: int) -> None:
    rows, rng = some(300), np.random.default_rng(seed)
    whole = fold([rows], K, D, T, 5.0)
    split = np.array_split(rng.permutation(len(rows)), parts)
    found = fold([rows.take(part) for part in split], K, D, T, 5.0)
    assert same(found.closed, whole.closed)
    assert same(found.open, whole.open)


@pytest.mark.parametrize("workers", [2, 4, 16, 64])
def test_workers_merge_to_the_same_bits(workers: int) -> None:
    rows = some(2000)
    whole = fold([rows], K, D, T)
    owner = rows.bucket * workers // BUCKETS
    found = [fold([rows.take(owner == w)], K, D, T) for w in range(workers)]
    while len(found) > 1:
        found = [found[i] + found[i + 1] for i in range(0, len(found), 2)]
    assert same(found[0].closed, whole.closed)
    assert same(found[0].open, whole.open)
    assert found[0].lowest == whole.lowest


def test_any_partition_merges_up_to_rounding() -> None:
    rows = some()
    owner = np.random.default_rng(2).integers(0, 3, len(rows))
    parts = [fold([rows.take(owner == w)], K, D, T) for w in range(3)]
    whole = fold([rows], K, D, T)
    merged = sum(parts[1:], start=parts[0])
    assert near(merged.closed, whole.closed)
    assert near(merged.open, whole.open)


def closed_only(rows: Rewards) -> Rewards:
    return replace(rows, is_closed=np.ones(len(rows), dtype=bool), weight=np.ones(len(rows)))


@pytest.mark.parametrize("half_life", [None, 3.0])
def test_learning_in_steps_is_learning_at_once(half_life: float | None) -> None:
    rows = closed_only(some(900))
    first = rows.decided_at < 5 * DAY
    early = run(None, rows.take(first), as_of=5 * DAY, half_life=half_life)
    steps = run(early, rows.take(~first), half_life=half_life)
    at_once = run(None, rows, half_life=half_life)
    assert near(steps.closed, at_once.closed)
    assert np.isclose(steps.theta.noise, at_once.theta.noise)


def test_half_life_halves_old_evidence() -> None:
    rows = replace(closed_only(some(400)), decided_at=np.full(400, T - 6 * DAY))
    assert np.allclose(
        run(None, rows, half_life=3.0).closed.weight, run(None, rows).closed.weight / 4
    )


def test_open_rows_are_replaced_and_closed_ones_kept() -> None:
    rows = some(500)
    state = run(None, rows)
    again = run(state, rows.take(~rows.is_closed))
    assert same(again.closed, state.closed)
    assert same(again.open, state.open)
    assert run(state, rows.take(rows.is_closed)).open.count.sum() == 0


def test_open_rows_do_not_bias_a_fresh_action() -> None:
    rng = np.random.default_rng(8)
    n, rate = 200_000, 0.1
    age, delay = rng.uniform(0.2, 6.0, n), rng.exponential(2.0, n)
    final = (rng.random(n) < rate) & (delay < 7)
    share = (1 - np.exp(-age / 2)) / (1 - np.exp(-3.5))
    rows = Rewards(
        x=rng.normal(size=(n, D)),
        action=np.ones(n, dtype=np.int64),
        reward=(final & (delay < age)).astype(float),
        weight=share,
        is_closed=np.zeros(n, dtype=bool),
        bucket=rng.integers(0, BUCKETS, n),
        order=np.arange(n),
        decided_at=np.full(n, T),
    )
    found = fold([rows], K, D, T).open
    rate_in_window = rate * (1 - np.exp(-3.5))
    assert found.reward[1] / found.weight[1] == pytest.approx(rate_in_window, rel=0.03)


def test_a_person_is_subtracted_exactly() -> None:
    rows = some(800)
    person = rows.bucket == 7
    state = run(None, rows, half_life=9.0)
    without = subtract(state, rows.take(person), ACTIONS)
    expected = fold([rows.take(~person)], K, D, T, 9.0)
    assert near(without.closed, expected.closed)
    assert near(without.open, expected.open)
    assert without.version != state.version
    # One by one everybody who ever got an action: of it, no rounding is left either.
    nobody = state
    for bucket in np.unique(rows.bucket):
        part = rows.take((rows.action == 1) & (rows.bucket == bucket))
        nobody = subtract(nobody, part, ACTIONS)
    for sums in (nobody.closed, nobody.open):
        assert not any(getattr(sums, f.name)[1].any() for f in fields(Sums))


def test_too_little_evidence_changes_nothing() -> None:
    state = run(None, some())
    start = run(None, some(20))
    assert start.closed.count.sum() == 0
    assert start.as_of == 0.0
    assert run(start, some(5), as_of=T + 1) is start
    assert run(state, as_of=T + DAY).closed.count.sum() == state.closed.count.sum()


def test_new_actions_join_and_old_ones_stay() -> None:
    rows = some()
    state = run(None, rows)
    more = learn(
        state,
        [sample_rewards(np.random.default_rng(5), 50, 2)],
        agent="welcome",
        policy="linear_thompson",
        actions=("brand_new", "gift"),
        features=FEATURES,
        as_of=T + DAY,
    )
    assert more.actions == (*ACTIONS, "brand_new")
    assert np.array_equal(more.closed.gram[0], state.closed.gram[0])
    assert more.closed.count[-1] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("x", np.nan),
        ("reward", np.inf),
        ("decided_at", np.nan),
        ("weight", 1.5),
        ("weight", -0.1),
        ("action", K),
        ("action", -1),
        ("bucket", BUCKETS),
    ],
)
def test_malformed_rows_are_refused_by_field(field: str, value: float) -> None:
    rows = some(50)
    column = getattr(rows, field).copy()
    column[3] = value
    with pytest.raises(ValueError, match=f"`{field}`"):
        run(None, replace(rows, **{field: column}))


def test_other_features_or_an_earlier_time_are_refused() -> None:
    state = run(None, some())
    with pytest.raises(ValueError, match="`as_of`"):
        run(state, some(), as_of=T - 1)
    with pytest.raises(ValueError, match="`features`"):
        run(replace(state, features=("a", "b", "c")), some())


def test_settings_come_from_the_sums() -> None:
    rows = closed_only(some(5000))
    theta = run(None, rows).theta
    assert np.allclose(theta.feature_mean, rows.x.mean(axis=0))
    assert np.allclose(theta.feature_scale, rows.x.std(axis=0))
    assert theta.low == 0.0
    assert theta.high == pytest.approx(1.0)
    assert 0.9 * rows.reward.std() < theta.noise <= rows.reward.std()


def test_constant_features_and_rewards_are_harmless() -> None:
    rows = closed_only(some(300))
    x = rows.x.copy()
    x[:, 1] = 7.0
    theta = run(None, replace(rows, x=x, reward=np.zeros(300))).theta
    assert theta.feature_scale[1] == 1.0
    assert (theta.noise, theta.low, theta.high) == (1.0, 0.0, 1.0)


def test_negative_and_large_rewards_are_scaled_by_their_moments() -> None:
    rows = closed_only(some(4000))
    reward = np.where(rows.reward > 0, 40.0, -1.0)
    theta = run(None, replace(rows, reward=reward)).theta
    assert theta.low == -1.0
    assert theta.high == pytest.approx(40.0)


def heterogeneous(n: int, effect: float) -> Rewards:
    rng = np.random.default_rng(12)
    rows = closed_only(sample_rewards(rng, n))
    sign = np.where(rows.action % 2, 1.0, -1.0)
    shared = 0.1 * rows.x[:, 1]
    return replace(rows, reward=shared + effect * sign * rows.x[:, 0] + rng.normal(0, 0.5, n))


def test_precision_is_chosen_by_evidence() -> None:
    assert run(None, heterogeneous(4000, 0.3)).theta.context_precision <= 30.0
    assert run(None, heterogeneous(4000, 0.0)).theta.context_precision >= 3000.0
    assert run(None, heterogeneous(300, 0.3)).theta.context_precision == DEFAULT_PRECISION
    assert run(None, heterogeneous(4000, 0.3), precision=77.0).theta.context_precision == 77.0


def test_log_evidence_is_the_marginal_likelihood() -> None:
    rng = np.random.default_rng(9)
    x, noise = rng.normal(size=(30, 2)), 0.7
    z = np.c_[np.ones(30), x]
    y = z @ np.array([0.2, 0.5, -0.3]) + rng.normal(0, noise, 30)
    sums = Sums(np.array([30.0]), np.array([y @ y]), (z.T @ z)[None], (y @ z)[None])
    theta = replace(Theta.initial(2, 1.0, None), noise=noise)

    def direct(precision: float) -> float:
        prior = np.diag(1 / np.array([1.0, precision, precision]))
        cov = noise**2 * (np.eye(30) + z @ prior @ z.T)
        return float(-np.linalg.slogdet(cov)[1] / 2 - y @ np.linalg.solve(cov, y) / 2)

    for precision in (0.1, 10.0, CONTEXT_FREE):
        found = log_evidence(sums, theta, precision) - log_evidence(sums, theta, 1.0)
        assert found == pytest.approx(direct(precision) - direct(1.0), abs=1e-5)


def test_buckets_are_even_and_fixed() -> None:
    ids = [f"c{i}" for i in range(6400)]
    found = np.bincount(buckets(ids), minlength=BUCKETS)
    assert found.min() > 50
    assert np.array_equal(buckets(ids[:3]), buckets(ids)[:3])


def test_update_needs_only_the_merged_evidence() -> None:
    rows = some()
    parts = [fold([rows.take(rows.bucket % 2 == i)], K, D, T) for i in (0, 1)]
    start = PolicyState.initial("welcome", "linear_thompson", ACTIONS, FEATURES)
    merged: Evidence = parts[0] + parts[1]
    state = update(start, merged, ACTIONS, "linear_thompson", T)
    assert near(state.closed, run(None, rows).closed)
