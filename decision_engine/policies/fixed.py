"""The first eligible action of a list: business as usual, or the holdout (`no_action`)."""

from __future__ import annotations

from decision_engine.types import Family
from decision_engine.unlearned import in_rewards, posterior, weights

FAMILY: Family = "fixed"

__all__ = ["FAMILY", "in_rewards", "posterior", "weights"]
