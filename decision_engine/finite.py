"""Whether all numbers of an array are fit to be reckoned with, quickly for a few as for many."""

from __future__ import annotations

import math

from decision_engine.types import Floats


def all_between(x: Floats, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether low < x < high everywhere; not where a number is NaN. True of nothing."""
    if not x.size:
        return True
    # Where the least and the largest are found takes a tenth of what they themselves take, of a
    # few; of a NaN, both are the place.
    return low < x.item(x.argmin()) and x.item(x.argmax()) < high
