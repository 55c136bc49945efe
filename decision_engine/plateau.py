"""Is there anything left to gain from the actions that exist, or are new ones needed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from decision_engine.evaluate import Estimate
from decision_engine.lift import always_valid_half_width

_ALPHA = 0.05
_POWER = 0.8

Progress = Literal["plateau", "gain", "open", "undecidable"]


@dataclass(frozen=True)
class Plateau:
    """What is left, in reward per decision.

    `possible` is the largest gain that no evidence rules out, `certain` the largest that is
    shown; `detectable` the smallest gain that the remaining decisions would show with 80% chance.
    plateau: nothing worth the margin is possible, so ask for new actions · gain: something
    better is shown already · undecidable: the remaining decisions cannot show a gain of the
    margin · open: they can, so go on.
    """

    verdict: Progress
    possible: float
    certain: float
    detectable: float
    margin: float


def plateau(gains: Sequence[Estimate], margin: float, remaining: int) -> Plateau:
    """Judge what each alternative would gain over the policy that runs (`compare`).

    `margin` is the least gain worth having, `remaining` the decisions still to come. The bounds
    hold for all alternatives together and at every look: at most 5% of runs ever call a plateau
    while an alternative gains the margin or more. A refused estimate rules nothing out. Raises
    ValueError.
    """
    if not gains or margin <= 0 or remaining < 0:
        raise ValueError("needs one alternative or more, a `margin` above 0, `remaining` >= 0")
    alpha = _ALPHA / len(gains)
    halves = [_half(g, g.n, g.standard_error, alpha) for g in gains]
    possible = max(_or(g, g.value + h, float("inf")) for g, h in zip(gains, halves, strict=True))
    certain = max(_or(g, g.value - h, float("-inf")) for g, h in zip(gains, halves, strict=True))
    detectable = max(_or(g, _detectable(g, remaining, alpha), float("inf")) for g in gains)
    if possible < margin:
        verdict: Progress = "plateau"
    elif certain > 0:
        verdict = "gain"
    else:
        verdict = "undecidable" if detectable > margin else "open"
    return Plateau(verdict, possible, certain, detectable, margin)


def _half(of: Estimate, n: float, error: float, alpha: float) -> float:
    return 0.0 if of.verdict == "refused" else always_valid_half_width(error, n, alpha)


def _detectable(of: Estimate, remaining: int, alpha: float) -> float:
    """Errors shrink with the root of the decisions; 0.84 of them for the estimate's own noise."""
    n = of.n + remaining
    error = of.standard_error * float(np.sqrt(of.n / n))
    return _half(of, n, error, alpha) + float(special.ndtri(_POWER)) * error


def _or(of: Estimate, value: float, refused: float) -> float:
    return refused if of.verdict == "refused" else value
