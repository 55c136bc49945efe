"""Decisions as they are learned from, for tests that care about what was decided and earned."""

from __future__ import annotations

import numpy as np

from decision_engine.learn import BUCKETS, Rewards
from decision_engine.types import Bools, Floats, Ints


def closed(
    x: Floats, action: Ints, reward: Floats | Bools, decided_at: Floats | float = 0.0
) -> Rewards:
    """Closed decisions about as many people, with features x (n, d); Unix seconds."""
    n = len(action)
    return Rewards(
        x=x,
        action=action,
        reward=np.asarray(reward, dtype=np.float64),
        weight=np.ones(n),
        is_closed=np.ones(n, dtype=np.bool_),
        bucket=np.arange(n) % BUCKETS,
        order=np.arange(n),
        decided_at=np.full(n, decided_at, dtype=np.float64),
    )
