"""From sums in the raw feature basis to the standardised basis that models are fitted in."""

from __future__ import annotations

import numpy as np

from decision_engine.state import Sums, Theta
from decision_engine.types import Floats

INTERCEPT_PRECISION = 1.0
LEAST_USUAL, MOST_USUAL = 0.25, 4.0
"""Between these multiples of the mean reward is what counts as usual for anybody."""


def usual(x: Floats, weights: Floats | None) -> Floats:
    """What is usual for each customer (n,), in units of the mean reward; 1 without weights.

    The bits of a row depend on nothing but the row.
    """
    if weights is None:
        return np.ones(len(x))
    found: Floats = np.add.reduce(np.ascontiguousarray(x) * weights[1:], axis=1) + weights[0]
    return np.clip(found, LEAST_USUAL, MOST_USUAL)


def normal_equations(evidence: Sums, theta: Theta) -> tuple[Floats, Floats]:
    """The evidence in the standardised basis, without the prior.

    Returns sum w z z' (k, D, D) and sum w (r - theta.common'z) z (k, D).
    """
    d = len(theta.feature_mean)
    change = np.zeros((d + 1, d + 1))
    change[0, 0] = 1.0
    change[1:, 1:] = np.diag(1 / theta.feature_scale)
    change[1:, 0] = -theta.feature_mean / theta.feature_scale
    gram = change @ evidence.gram @ change.T
    return (gram + gram.transpose(0, 2, 1)) / 2, evidence.moment @ change.T - gram @ theta.common


def prior_precision(d: int, context_precision: float) -> Floats:
    """The diagonal (D,) of the prior precision in the standardised basis."""
    return np.concatenate([[INTERCEPT_PRECISION], np.full(d, context_precision)])
