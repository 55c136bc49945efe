"""Every eligible action with the same probability: the clean randomised comparison."""

from __future__ import annotations

from decision_engine.policies.fixed import in_rewards, posterior, weights
from decision_engine.types import Family

FAMILY: Family = "uniform"

__all__ = ["FAMILY", "in_rewards", "posterior", "weights"]  # as little is learned as by `fixed`
