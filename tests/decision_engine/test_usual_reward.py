"""Effects in proportion to what is usual for a customer: the same laws hold, and it learns more."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from decision_engine.basis import LEAST_USUAL, MOST_USUAL, usual
from decision_engine.learn import Rewards, fold, learn, learn_anew, outgrown, subtract
from decision_engine.policies import POLICIES
from decision_engine.state import PolicyState, Sums, load, save
from decision_engine.types import Floats
from tests.rewards import closed

ACTIONS, FEATURES = ("a", "b", "c"), ("x0", "x1", "x2")
COMMON = np.array([0.6, -0.3, 0.0])
SLOPES = np.array([[0.0, 0.0, 0.3], [0.0, 0.2, -0.2], [0.2, 0.0, 0.0]])
SETTINGS: dict[str, Any] = {"agent": "a", "actions": ACTIONS, "features": FEATURES}


def chances(x: Floats) -> Floats:
    """P(convert) by action (n, 3): what an action does is in proportion to the base."""
    return np.asarray(0.05 * np.exp((x @ COMMON)[:, None] + x @ SLOPES.T))


def rows(n: int, seed: int = 1) -> Rewards:
    rng = np.random.default_rng(seed)
    x, action = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    return closed(x, action, rng.random(n) < chances(x)[np.arange(n), action])


def anew(data: Rewards, policy: str = "linear_thompson") -> PolicyState:
    return learn_anew([data], policy=policy, as_of=86_400.0, **SETTINGS)


def same(a: Sums, b: Sums) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Sums))


def test_more_is_learned_where_effects_are_in_proportion() -> None:
    x = np.random.default_rng(9).normal(size=(4000, 3))
    truth, gained = chances(x), []
    for seed in range(4):
        data = rows(20_000, seed)
        plain = learn(None, [data], policy="linear_thompson", as_of=86_400.0, **SETTINGS)
        for state in (anew(data), plain):
            mean, _ = POLICIES["linear_thompson"].posterior(state, ACTIONS, x)
            gained.append(truth[np.arange(len(x)), mean.argmax(axis=1)].mean())
    proportional, constant = np.array(gained).reshape(-1, 2).mean(axis=0) - truth.mean()
    assert proportional > 1.05 * constant


@pytest.mark.parametrize("policy", ["linear_thompson", "factored_linear_thompson"])
def test_means_are_rewards_and_bits_are_of_the_row_alone(policy: str) -> None:
    state, x = anew(rows(20_000), policy), np.random.default_rng(3).normal(size=(50, 3))
    assert state.theta.usual is not None
    mean, sd = POLICIES[policy].posterior(state, ACTIONS, x)
    assert abs(mean.mean() - chances(x).mean()) < 0.01
    flat = replace(state, theta=replace(state.theta, usual=None))
    times = usual(x, state.theta.usual)[:, None]
    assert times.std() > 0.2
    one, width = POLICIES[policy].posterior(flat, ACTIONS, x)
    np.testing.assert_allclose(mean, one * times, rtol=1e-9)
    # Another state has other samples, so their width is only about the same.
    rtol = 1e-9 if policy == "linear_thompson" else 0.5
    np.testing.assert_allclose(sd, width * times, rtol=rtol)
    for i in (0, 17, 49):
        alone = POLICIES[policy].posterior(state, ACTIONS, x[i : i + 1])
        assert np.array_equal(alone[0][0], mean[i])
        assert np.array_equal(alone[1][0], sd[i])
    again = load(save(state)).theta.usual
    assert again is not None
    assert np.array_equal(again, state.theta.usual)
    assert load(save(state)).version == state.version


def test_sums_under_one_usual_reward_add_and_a_person_is_subtracted() -> None:
    data = rows(3000)
    state = anew(data)
    weights = state.theta.usual
    parts = [data.take(np.flatnonzero(data.bucket % 2 == i)) for i in (0, 1)]
    whole = fold([data], 3, 3, 86_400.0, None, weights)
    assert same(whole.closed, fold(parts[::-1], 3, 3, 86_400.0, None, weights).closed)
    gone = data.bucket == 5
    left = subtract(state, data.take(np.flatnonzero(gone)), ACTIONS)
    never = fold([data.take(np.flatnonzero(~gone))], 3, 3, 86_400.0, None, weights)
    assert np.allclose(left.closed.gram, never.closed.gram)
    assert np.allclose(left.closed.moment, never.closed.moment)


def test_later_rows_are_summed_under_the_same_usual_reward_until_there_are_twice_as_many() -> None:
    first, more = rows(2000), rows(1900, seed=2)
    state = anew(first)
    assert not outgrown(state)
    later = learn(state, [more], policy="linear_thompson", as_of=2 * 86_400.0, **SETTINGS)
    assert later.theta.usual is state.theta.usual
    assert not outgrown(later)
    last = learn(later, [rows(100, 3)], policy="linear_thompson", as_of=3 * 86_400.0, **SETTINGS)
    assert outgrown(last)
    assert not outgrown(replace(last, policy="weighted_thompson"))


def test_without_a_clearly_positive_reward_it_is_the_same_for_all() -> None:
    data = rows(2000)
    losses = replace(data, reward=-data.reward)
    both = replace(data, reward=data.x[:, 0] + 0.2)
    assert anew(losses).theta.usual is None
    assert anew(both).theta.usual is None
    assert anew(data, "weighted_thompson").theta.usual is None
    assert anew(rows(900)).theta.usual is None


def test_what_is_usual_stays_within_its_bounds() -> None:
    found = usual(np.array([[-9.0], [0.0], [9.0]]), np.array([1.0, 1.0]))
    assert found.tolist() == [LEAST_USUAL, 1.0, MOST_USUAL]
    assert usual(np.zeros((2, 1)), None).tolist() == [1.0, 1.0]
