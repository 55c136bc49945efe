from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine import config
from decision_engine.policies import (
    POLICIES,
    floor_of,
    kind_of,
    linear_thompson,
    preference_of,
    weighted_thompson,
)
from decision_engine.state import PolicyState, Sums
from decision_engine.testing import check_policy
from decision_engine.types import Floats

K, D = 6, 5
ACTIONS = tuple(f"action-{i}" for i in range(K))
FEATURES = tuple(f"feature-{i}" for i in range(D))


def learned(seed: int = 1, k: int = K, d: int = D) -> PolicyState:
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.ones((k, 200, 1)), rng.normal(2, 3, size=(k, 200, d))], axis=2)
    reward = rng.random((k, 200)) < 0.2
    gram, moment = x.transpose(0, 2, 1) @ x, (reward[:, None, :] @ x)[:, 0]
    sums = Sums(np.full(k, 200.0), reward.sum(axis=1).astype(float), gram, moment)
    state = PolicyState.initial(
        "welcome",
        "linear_thompson",
        tuple(f"action-{i}" for i in range(k)),
        tuple(f"feature-{i}" for i in range(d)),
    )
    theta = replace(
        state.theta,
        feature_mean=np.full(d, 2.0),
        feature_scale=np.full(d, 3.0),
        common=rng.normal(size=d + 1) * 0.05,
        noise=0.4,
        context_precision=30.0,
    )
    return replace(state, closed=sums, theta=theta)


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("seed", [1, 2])
def test_every_policy_keeps_the_laws(policy: str, seed: int) -> None:
    check_policy(policy, seed)


def by_hand(state: PolicyState, action: int, x: Floats) -> tuple[float, float]:
    theta = state.theta
    z = np.r_[1.0, (x - theta.feature_mean) / theta.feature_scale]
    change = np.zeros((len(z), len(z)))
    change[0, 0] = 1
    for j in range(len(x)):
        change[j + 1, j + 1] = 1 / theta.feature_scale[j]
        change[j + 1, 0] = -theta.feature_mean[j] / theta.feature_scale[j]
    gram = change @ state.closed.gram[action] @ change.T
    precision = gram + np.diag(np.r_[1.0, np.full(len(x), theta.context_precision)])
    moment = change @ state.closed.moment[action] - gram @ theta.common
    mean = z @ theta.common + z @ np.linalg.solve(precision, moment)
    v = linear_thompson.WIDTH * theta.noise
    return float(mean), float(v * np.sqrt(z @ np.linalg.solve(precision, z)))


def test_linear_posterior_is_bayesian_linear_regression() -> None:
    state = learned()
    x = np.random.default_rng(2).normal(2, 3, size=(4, D))
    mean, sd = linear_thompson.posterior(state, ACTIONS, x)
    for row in range(4):
        for action in range(K):
            expected = by_hand(state, action, x[row])
            assert (mean[row, action], sd[row, action]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", range(1, 301))
def test_a_row_has_the_same_bits_in_a_batch_of_any_size(n: int) -> None:
    state = learned()
    rng = np.random.default_rng(n)
    x = rng.normal(2, 3, size=(n, D))
    mean, sd = linear_thompson.posterior(state, ACTIONS, x)
    row = int(rng.integers(n))
    alone_mean, alone_sd = linear_thompson.posterior(state, ACTIONS, x[row : row + 1])
    assert np.array_equal(alone_mean[0], mean[row])
    assert np.array_equal(alone_sd[0], sd[row])
    order = rng.permutation(n)
    moved_mean, moved_sd = linear_thompson.posterior(state, ACTIONS, x[order])
    assert np.array_equal(moved_mean, mean[order])
    assert np.array_equal(moved_sd, sd[order])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60) | st.integers(127, 150), st.integers(0, 40), st.integers(1, 70))
def test_bits_do_not_depend_on_the_batch_for_any_shape(k: int, d: int, n: int) -> None:
    state = learned(3, k, d)
    x = np.random.default_rng(n).normal(size=(n, d))
    mean, sd = linear_thompson.posterior(state, state.actions, x)
    for row in {0, n // 2, n - 1}:
        one = linear_thompson.posterior(state, state.actions, x[row : row + 1])
        assert np.array_equal(one[0][0], mean[row])
        assert np.array_equal(one[1][0], sd[row])


def test_the_spread_of_near_copies_of_a_feature_is_still_right() -> None:
    """Much evidence on two features that are almost the same: large terms that cancel."""
    rng = np.random.default_rng(3)
    one = rng.normal(size=(4_000, 1))
    x = np.concatenate([np.ones((4_000, 1)), one, one + 1e-7 * rng.normal(size=one.shape)], axis=1)
    gram = 1e5 * (x.T @ x)[None].repeat(2, axis=0)
    state = PolicyState.initial("a", "linear_thompson", ("p", "q"), ("x", "y"))
    sums = Sums(np.full(2, 4e8), np.zeros(2), gram, np.zeros((2, 3)))
    state = replace(state, closed=sums, theta=replace(state.theta, context_precision=30.0))
    _, sd = linear_thompson.posterior(state, ("p", "q"), x[:50, 1:])
    for row, z in zip(sd, x[:50], strict=True):
        expected = by_hand(state, 0, z[1:])[1]
        assert np.allclose(row, expected, rtol=1e-6, atol=0)


def test_a_new_action_starts_from_what_is_usual_for_the_customer() -> None:
    state = learned()
    x = np.random.default_rng(4).normal(2, 3, size=(3, D))
    mean, sd = linear_thompson.posterior(state, ("action-1", "new"), x)
    known = linear_thompson.posterior(state, ACTIONS, x)
    z = np.c_[np.ones(3), (x - 2.0) / 3.0]
    assert np.allclose(mean[:, 0], known[0][:, 1])
    assert np.allclose(mean[:, 1], z @ state.theta.common)
    assert (sd[:, 1] > sd[:, 0]).all()


def test_an_infinite_precision_ignores_the_context_of_an_action() -> None:
    state = learned()
    theta = replace(state.theta, context_precision=1e9, common=np.zeros(D + 1))
    x = np.random.default_rng(4).normal(2, 3, size=(50, D))
    mean, sd = linear_thompson.posterior(replace(state, theta=theta), ACTIONS, x)
    assert np.ptp(mean, axis=0).max() < 1e-5
    assert np.ptp(sd, axis=0).max() < 1e-4


@pytest.mark.parametrize("bad", [np.zeros((2, D + 1)), np.full((2, D), np.nan)])
def test_unusable_features_are_refused(bad: Floats) -> None:
    with pytest.raises(ValueError, match="`x`"):
        linear_thompson.posterior(learned(), ACTIONS, bad)


def test_beta_posterior_counts_successes() -> None:
    state = learned()
    mean, sd = weighted_thompson.posterior(state, (*ACTIONS, "new"), np.zeros((2, D)))
    wins = state.closed.reward
    alpha, total = np.r_[1 + wins, 1.0], np.r_[np.full(K, 202.0), 2.0]
    assert np.allclose(mean, alpha / total)
    assert np.allclose(sd, np.sqrt(mean * (1 - mean) / (total + 1)))


def test_beta_means_go_back_to_rewards() -> None:
    theta = replace(learned().theta, low=-1.0, high=4.0)
    state = replace(learned(), theta=theta)
    assert weighted_thompson.in_rewards(state, np.array([[0.0, 0.5, 1.0]])).tolist() == [
        [-1.0, 1.5, 4.0]
    ]


def test_settings_are_read_from_the_configuration() -> None:
    assert [kind_of(p) for p in (config.UniformPolicy(), config.LinearThompson())] == [
        "uniform",
        "linear_thompson",
    ]
    assert floor_of(config.WeightedThompson(floor=0.03)) == 0.03
    assert floor_of(config.FixedPolicy()) == 0.0
    usual = config.FixedPolicy(actions=("action-4", "gone", "action-2"))
    assert preference_of(usual, ACTIONS) == (4, 2)
    assert preference_of(config.UniformPolicy(), ACTIONS) == (0,)
