"""Do the groups have the customers that their shares promise? A test for any number of looks.

A lost or doubled customer makes every comparison of groups unsound, so this comes first. The
expected share is that of each row: shares may change from week to week, or from agent to agent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from decision_engine.intervals import Verdict
from decision_engine.types import Floats, Ints

ALPHA = 0.0025
"""At most this share of sound experiments is ever refused, however often one looks."""

_TILTS = np.concatenate([sign * np.geomspace(0.01, 2.0, 10) for sign in (1.0, -1.0)])


@dataclass(frozen=True)
class SampleRatio:
    """`p_value` is valid at every look; `refused` when it is at most ALPHA.

    `expected` (k,) are the summed shares of the rows, `observed` (k,) the rows.
    """

    observed: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float
    verdict: Verdict
    reason: str = ""


def sample_ratio(counts: Ints, shares: Floats) -> SampleRatio:
    """Test `counts` (s, k) of s strata and k groups against `shares` (s, k), rows summing to 1.

    A stratum is all rows with the same shares. The test martingale is a mixture over tilts h and
    groups g of prod_rows q_g / p_g with odds q_g/(1-q_g) = e^h p_g/(1-p_g): each factor has
    expectation 1 when the shares are true, so by Ville's inequality it ever passes 1/ALPHA with
    probability at most ALPHA. Exact at any size, no approximation (as Lindon and Malek 2022,
    "Anytime-valid inference for multinomial count data", with a mixture in place of a Dirichlet).
    Raises ValueError.
    """
    n, p = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    if n.ndim != 2 or n.shape != p.shape or n.shape[1] < 2:
        raise ValueError("`counts` and `shares` must have the same shape (strata, groups)")
    if p.min() <= 0 or not np.allclose(p.sum(axis=1), 1.0):
        raise ValueError("`shares` must be above 0 and sum to 1 in every stratum")
    rows = n.sum(axis=1)
    growth = n.sum(axis=0) * _TILTS[:, None]
    norm = np.log1p(p * np.expm1(_TILTS)[:, None, None])
    log_martingale = growth - (rows[:, None] * norm).sum(axis=1)
    evidence = float(special.logsumexp(log_martingale) - np.log(log_martingale.size))
    p_value = float(np.exp(-max(evidence, 0.0)))
    observed, expected = tuple(n.sum(axis=0).astype(int).tolist()), tuple((rows @ p).tolist())
    if p_value > ALPHA:
        return SampleRatio(observed, expected, p_value, "estimated")
    reason = (
        f"group sizes do not fit their shares (p = {p_value:.2g}): something loses or adds "
        "customers before they are counted, as an audience does that depends on what other "
        "messages bring about, so the comparison is unsound"
    )
    return SampleRatio(observed, expected, p_value, "refused", reason)


def strata(group: Ints, probability: Floats) -> tuple[Ints, Floats]:
    """Counts (s, k) and shares (s, k) of rows: `group` (n,), `probability` (n, k) of each group."""
    shares, stratum = np.unique(probability, axis=0, return_inverse=True)
    k = probability.shape[1]
    cells = np.bincount(stratum.ravel() * k + group, minlength=len(shares) * k)
    return cells.reshape(len(shares), k).astype(np.int64), shares
