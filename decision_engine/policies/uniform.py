"""Every eligible action with the same probability: the clean randomised comparison."""

from __future__ import annotations

from decision_engine.types import Family
from decision_engine.unlearned import in_rewards, posterior, weights

FAMILY: Family = "uniform"

__all__ = ["FAMILY", "in_rewards", "posterior", "weights"]
