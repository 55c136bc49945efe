"""P(each action is chosen), computed, not sampled.

Thompson sampling draws one value per action from independent posteriors and takes the largest;
`quadrature` has the integral.

Stated bound: 1e-3 against adaptive quadrature for sd ratios up to 1,000 and 2 to 500 actions
(tests/decision_engine/test_propensity.py); the median error is about 3e-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, ndtr

from decision_engine.finite import all_between
from decision_engine.quadrature import NODES, Beta, gaussian_shares, integrate
from decision_engine.types import Bools, Family, Floats, Ints

MAX_FLOOR_MASS = 0.2
"""At most this share of a row's probability is given to the floor."""

_PRUNE_Z = 4.0
_CELLS = 32_768  # numbers per temporary array: a few of them fit in the second-level cache
_ROWS = 65_536
_TINY = 1e-300


def propensities(
    mean: Floats,
    sd: Floats,
    eligible: Bools,
    floor: float,
    family: Family,
    preference: Sequence[int] = (0,),
    share: Floats | None = None,
) -> Floats:
    """P(action) of the law that `choose` draws from: (n, k), rows sum to 1.

    `mean`, `sd` (n, k) of a Thompson family, in any unit for `gaussian` and in (0, 1) for `beta`;
    ignored (may be (n, 0)) for `uniform` and `fixed`. `preference` are the action indices of
    `fixed`, best first; `share` (n, k) is what `samples` draws by. 0 where not `eligible` (n, k).
    Raises ValueError when a row has no eligible action, or a posterior of an eligible action is
    not finite, or the shares of a row do not sum to 1.
    """
    require_eligible(eligible)
    if family == "uniform":
        even: Floats = eligible / eligible.sum(axis=1, keepdims=True)
        return even
    if family == "fixed":
        out = np.zeros(eligible.shape)
        out[np.arange(len(out)), first_eligible(eligible, preference)] = 1.0
        return out
    if family == "samples":
        return mix_floor(require_share(share, eligible), eligible, floor)
    argmax = beta_argmax if family == "beta" else gaussian_argmax
    return mix_floor(argmax(mean, sd, eligible), eligible, floor)


def mix_floor(q: Floats, eligible: Bools, floor: float) -> Floats:
    """Mix q with the floor f of `floor_of_rows`: f + (1 - n f) q over n eligible actions."""
    f = floor_of_rows(eligible, floor)[:, None]
    n = eligible.sum(axis=1)[:, None]
    return np.where(eligible, f + (1 - n * f) * q, 0.0)


def floor_of_rows(eligible: Bools, floor: float) -> Floats:
    """The least probability (n,) of an eligible action: min(floor, 0.2 / eligible actions)."""
    least: Floats = np.minimum(floor, MAX_FLOOR_MASS / eligible.sum(axis=1))
    return least


def floor_mass(count: Ints, floor: float) -> Floats:
    """How much of a row's probability the floor gives to its eligible actions (n,) together."""
    mass: Floats = np.minimum(count * floor, MAX_FLOOR_MASS)
    return mass


def first_eligible(eligible: Bools, preference: Sequence[int]) -> Ints:
    """The first eligible action of `preference` per row (n,); action 0 when none of it is."""
    out = np.zeros(len(eligible), dtype=np.int64)
    for action in reversed(preference):
        out[eligible[:, action]] = action
    return out


def require_eligible(eligible: Bools) -> Ints:
    """The number of eligible actions (n,); ValueError when some row has none."""
    if len(eligible) == 1:  # for one person a sum along an axis takes twice as long
        of_one = np.count_nonzero(eligible)
        count: Ints = np.array([of_one])
        if of_one:
            return count
    elif eligible.size and eligible.all():  # told at once
        return np.full(len(eligible), eligible.shape[1])
    else:
        count = np.add.reduce(eligible, axis=1, dtype=np.int64)
    if np.count_nonzero(count) < len(count):
        raise ValueError("`eligible` has a row without any eligible action")
    return count


def require_posterior(mean: Floats, sd: Floats, eligible: Bools) -> None:
    """Raise ValueError unless eligible actions have a finite mean and a positive finite sd."""
    if mean.shape != eligible.shape or sd.shape != eligible.shape:
        raise ValueError(f"`mean` {mean.shape}, `sd` {sd.shape}, `eligible` {eligible.shape}")
    if all_between(mean) and all_between(sd, low=0.0):
        return
    fit = np.isfinite(mean) & (sd > 0) & (sd < np.inf)
    if not (fit | ~eligible).all():
        raise ValueError("`mean` must be finite and `sd` positive and finite where eligible")


def require_share(share: Floats | None, eligible: Bools) -> Floats:
    """The shares (n, k); ValueError unless rows sum to 1 over the eligible actions."""
    if share is None or share.shape != eligible.shape:
        raise ValueError(f"`share` must have shape {eligible.shape} for policies that draw by it")
    if not (np.abs(np.where(eligible, share, 0.0).sum(axis=1) - 1) < 1e-9).all():
        raise ValueError("`share` must sum to 1 over the eligible actions of each row")
    return share


def gaussian_argmax(mean: Floats, sd: Floats, eligible: Bools) -> Floats:
    """P(each action has the largest of independent normal draws): (n, k), rows sum to 1.

    Which other rows there are changes a result by rounding at most, 1e-15.
    """
    require_eligible(eligible)
    require_posterior(mean, sd, eligible)
    out = np.zeros(mean.shape)
    for start in range(0, len(mean), _ROWS):
        part = slice(start, start + _ROWS)
        m = np.where(eligible[part], mean[part], -np.inf)
        s = np.where(eligible[part], sd[part], 1.0)
        for rows, arms in _blocks(m - _PRUNE_Z * s, m + _PRUNE_Z * s):
            at = rows[:, None], arms
            out[part][at] = gaussian_shares(m[at].T, s[at].T).T
    out[~eligible] = 0.0
    out /= out.sum(axis=1, keepdims=True)
    return out


def beta_argmax(mean: Floats, sd: Floats, eligible: Bools) -> Floats:
    """The same for independent Beta draws with these means and sds: (n, k).

    Rows of a context-free policy repeat: each distinct row is integrated once and remembered.
    """
    require_eligible(eligible)
    require_posterior(mean, sd, eligible)
    table, k = np.concatenate([mean, sd, eligible], axis=1), mean.shape[1]
    distinct: dict[bytes, int] = {}
    which = [distinct.setdefault(row.tobytes(), len(distinct)) for row in table]
    out = np.array([_beta_row(row, k) for row in distinct]).reshape(-1, k)
    return out[np.array(which, dtype=np.int64)]


def beta_parameters(mean: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """The (alpha, beta) of Beta distributions from their means and sds.

    The record of a decision has mean and sd only, so everything that draws from or integrates a
    Beta posterior starts here and a replay sees the same numbers.
    """
    total = np.maximum(mean * (1 - mean) / (sd * sd) - 1, _TINY)
    return mean * total, (1 - mean) * total


@lru_cache(maxsize=4096)
def _beta_row(row: bytes, k: int) -> Floats:
    mean, sd, mask = np.frombuffer(row).reshape(3, k)
    eligible = np.flatnonzero(mask)
    alpha, beta = (v[:, None] for v in beta_parameters(mean[eligible], sd[eligible]))
    reach = betaincinv(alpha, beta, ndtr([-_PRUNE_Z, _PRUNE_Z]))
    kept = reach[:, 1] >= reach[:, 0].max()
    p = np.zeros(k)
    p[eligible[kept]] = integrate(Beta(alpha[kept], beta[kept]))[:, 0]
    p /= p.sum()
    return p


def _blocks(low: Floats, high: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Blocks of (rows (r,), arms (r, c)) that can win, rows of one block having equal c.

    An arm whose reach `high` is below the `low` of another has no chance worth computing.
    """
    k = low.shape[1]
    counts = (high >= low.max(axis=1, keepdims=True)).sum(axis=1)
    sizes = np.minimum(_SIZES[np.searchsorted(_SIZES, counts)], k) if k <= _SIZES[-1] else counts
    order = None if (sizes == k).all() else np.argsort(-high, axis=1, kind="stable")
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        step = max(1, _CELLS // (int(size) * NODES))
        for start in range(0, len(members), step):
            rows = members[start : start + step]
            top = np.arange(k) if order is None else order[rows, :size]
            yield rows, np.broadcast_to(top, (len(rows), size))


def _sizes() -> Ints:
    """Counts of arms that are computed together: exact up to 8, then at most 1/4 too many."""
    sizes = list(range(1, 9))
    while sizes[-1] < 4096:
        sizes.append(sizes[-1] * 5 // 4)
    return np.array(sizes)


_SIZES = _sizes()
