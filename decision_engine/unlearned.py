"""What policies have in common that learn nothing."""

from __future__ import annotations

import numpy as np

from decision_engine.state import PolicyState
from decision_engine.types import Floats


def posterior(
    state: PolicyState,
    actions: tuple[str, ...],
    x: Floats,
) -> tuple[Floats, Floats]:
    """Empty (n, 0): the law has no parameters."""
    return np.empty((len(x), 0)), np.empty((len(x), 0))


def weights(
    state: PolicyState,
    actions: tuple[str, ...],
) -> Floats:
    """Empty (0, D): nothing is expected of any action."""
    return np.empty((0, len(state.features) + 1))


def in_rewards(state: PolicyState, mean: Floats) -> Floats:
    """The same empty array."""
    return mean
