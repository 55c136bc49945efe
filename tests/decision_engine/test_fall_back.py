"""Where context shows no gain, actions are judged without it, and learn says so."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.learn import learn_anew
from decision_engine.policies import POLICIES
from decision_engine.state import PolicyState
from decision_engine.training import remark
from tests.rewards import closed

ACTIONS = ("no_action", "a", "b")
FEATURES = ("x0", "x1", "x2")
UNITS = {"a": ("creative=a", "tone=calm"), "b": ("creative=b", "tone=calm")}
N = 8000


def learned(policy: str, personal: float, *, is_same: bool = False) -> PolicyState:
    """From decisions in which b earns 0.2 more, and a or b more by the sign of a feature.

    `is_same`: what is seen of it is the same for all.
    """
    rng = np.random.default_rng(11)
    x, action = rng.normal(size=(N, 3)), rng.integers(0, 3, N)
    reward = 1 + 0.2 * (action == 2) + rng.normal(0, 1, N)
    reward += personal * x[:, 0] * ((action == 1) * 1.0 - (action == 2))
    rows = closed(np.full_like(x, 3.7) if is_same else x, action, reward)
    names = {"agent": "a", "actions": ACTIONS, "features": FEATURES, "as_of": 1.0}
    return learn_anew([rows], policy=policy, units=UNITS, **names)


@pytest.mark.parametrize("policy", ["linear_thompson", "factored_linear_thompson"])
def test_a_context_without_gain_is_left_out_and_told(policy: str) -> None:
    state = learned(policy, 0.0)
    assert remark(state) == "learned; context shows no gain, so actions are judged without it"
    x = np.random.default_rng(1).normal(size=(50, 3))
    mean, _ = POLICIES[policy].posterior(state, ACTIONS, x)
    gap = mean[:, 2] - mean[:, 1]
    np.testing.assert_allclose(gap, gap[0], rtol=0.2)


@pytest.mark.parametrize("policy", ["linear_thompson", "factored_linear_thompson"])
def test_one_that_has_a_gain_counts(policy: str) -> None:
    state = learned(policy, 0.3)
    assert remark(state).startswith("learned; context counts with prior precision ")
    mean, _ = POLICIES[policy].posterior(state, ACTIONS, np.array([[2.0, 0, 0], [-2.0, 0, 0]]))
    assert mean[:, 1:].argmax(axis=1).tolist() == [0, 1]


def test_a_policy_without_context_says_nothing_of_it() -> None:
    assert remark(learned("weighted_thompson", 0.3)) == "learned"


@pytest.mark.parametrize("policy", ["linear_thompson", "factored_linear_thompson"])
def test_a_context_that_is_the_same_for_all_is_not_said_to_count(policy: str) -> None:
    assert remark(learned(policy, 0.3, is_same=True)) == "learned"
