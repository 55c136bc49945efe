"""Beta-Bernoulli Thompson sampling per action, without context.

A reward r becomes y = (r - low) / (high - low). `learn` chooses `high` so that a 0/1 variable with
the mean of y has the variance of y too; then Beta(1 + sum w y, 1 + sum w (1 - y)) has the right
width for a reward that is not 0/1 (clicks, dollars) as well.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from decision_engine.state import PolicyState
from decision_engine.types import Family, Floats

FAMILY: Family = "beta"


def posterior(state: PolicyState, actions: tuple[str, ...], x: Floats) -> tuple[Floats, Floats]:
    """Mean and sd (n, k) of the scaled reward y, in (0, 1); the same for every row of x."""
    mean, sd = _posterior(state, actions)
    shape = (len(x), len(actions))
    return np.broadcast_to(mean, shape).copy(), np.broadcast_to(sd, shape).copy()


def weights(state: PolicyState, actions: tuple[str, ...]) -> Floats:
    """The weights (k, D) whose product with the standardised features, led by a 1, is the mean."""
    out = np.zeros((len(actions), len(state.features) + 1))
    out[:, 0] = _posterior(state, actions)[0]
    return out


def in_rewards(state: PolicyState, mean: Floats) -> Floats:
    """The inverse of the scaling: low + (high - low) * mean."""
    return state.theta.low + (state.theta.high - state.theta.low) * mean


@lru_cache(maxsize=64)
def _posterior(state: PolicyState, actions: tuple[str, ...]) -> tuple[Floats, Floats]:
    evidence, theta = state.evidence(actions), state.theta
    weight = np.maximum(evidence.weight, 0.0)
    total = (evidence.reward - theta.low * weight) / (theta.high - theta.low)
    alpha = 1 + np.clip(total, 0.0, weight)
    n = 2 + weight
    mean = alpha / n
    return mean, np.sqrt(mean * (1 - mean) / (n + 1))
