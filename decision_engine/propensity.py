"""P(each action is chosen), computed, not sampled.

Thompson sampling draws one value per action from independent posteriors and takes the largest,
so P(a) = integral of dF_a times the product of the other actions' F_b. With F the distribution of
the maximum, the nodes of the quadrature are quantiles of F: any action that matters makes F rise,
so they fall where the mass is at every scale, also when one posterior is a thousand times wider
than another. A cell between two nodes adds (rise of F_a) x (average of the others' product).

Stated bound: 1e-3 against adaptive quadrature for sd ratios up to 1,000 and 2 to 500 actions
(tests/decision_engine/test_propensity.py); the median error is about 3e-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln, ndtr

from decision_engine.types import Bools, Family, Floats, Ints

MAX_FLOOR_MASS = 0.2
"""At most this share of a row's probability is given to the floor."""

_NODES = 40
_SPLITS = 8
_NEWTON_STEPS = 3
_LOW = (3e-5, 2e-4, 1e-3)
_HIGH = 0.996
_GRID_Z = np.linspace(-4.4, 5.4, 24)
_CROWD_Z = slice(10, None, 2)  # normal scores -0.1 to 5
_PRUNE_Z = 4.0
_CLIP_Z = 6.0
_CELLS = 32_768  # numbers per temporary array: a few of them fit in the second-level cache
_ROWS = 65_536
_TINY = 1e-300
_INV_SQRT_2PI = 0.3989422804014327
# Least squares fit of logit(ndtr(z)) / z in z*z on |z| <= 6; ndtr is within 2.4e-6 of exact.
_LOGIT_NDTR = (
    1.595740017039332,
    0.07278455021725849,
    -0.000165768994032611,
    -8.179919615193497e-05,
    4.670866871884159e-06,
    -1.1120188980418432e-07,
    9.880574414171233e-10,
)


def _levels() -> Floats:
    """Values of F the nodes aim at: dense at the low end, where narrow posteriors end."""
    rest = np.arange(1, _NODES - len(_LOW) + 1) / (_NODES - len(_LOW))
    return np.concatenate([_LOW, _LOW[-1] + (_HIGH - _LOW[-1]) * rest**1.6])


_LOG_LEVELS = np.log(_levels())


def propensities(
    mean: Floats,
    sd: Floats,
    eligible: Bools,
    floor: float,
    family: Family,
    preference: Sequence[int] = (0,),
) -> Floats:
    """P(action) of the law that `decide.choose` draws from: (n, k), rows sum to 1.

    `mean`, `sd` (n, k) of a Thompson family, in any unit for `gaussian` and in (0, 1) for `beta`;
    ignored (may be (n, 0)) for `uniform` and `fixed`. `preference` are the action indices of
    `fixed`, best first. 0 where not `eligible` (n, k). Raises ValueError when a row has no
    eligible action, or a posterior of an eligible action is not finite.
    """
    require_eligible(eligible)
    if family == "uniform":
        even: Floats = eligible / eligible.sum(axis=1, keepdims=True)
        return even
    if family == "fixed":
        out = np.zeros(eligible.shape)
        out[np.arange(len(out)), first_eligible(eligible, preference)] = 1.0
        return out
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


def first_eligible(eligible: Bools, preference: Sequence[int]) -> Ints:
    """The first eligible action of `preference` per row (n,); action 0 when none of it is."""
    out = np.zeros(len(eligible), dtype=np.int64)
    for action in reversed(preference):
        out[eligible[:, action]] = action
    return out


def require_eligible(eligible: Bools) -> None:
    """Raise ValueError when some row has no eligible action."""
    if not eligible.any(axis=1).all():
        raise ValueError("`eligible` has a row without any eligible action")


def require_posterior(mean: Floats, sd: Floats, eligible: Bools) -> None:
    """Raise ValueError unless eligible actions have a finite mean and a positive finite sd."""
    if mean.shape != eligible.shape or sd.shape != eligible.shape:
        raise ValueError(f"`mean` {mean.shape}, `sd` {sd.shape}, `eligible` {eligible.shape}")
    if not (np.isfinite(mean) & (sd > 0) & (sd < np.inf) | ~eligible).all():
        raise ValueError("`mean` must be finite and `sd` positive and finite where eligible")


def gaussian_argmax(mean: Floats, sd: Floats, eligible: Bools) -> Floats:
    """P(each action has the largest of independent normal draws): (n, k), rows sum to 1.

    A row's result does not depend on the other rows, to the last bit.
    """
    require_eligible(eligible)
    require_posterior(mean, sd, eligible)
    out = np.zeros(mean.shape)
    for start in range(0, len(mean), _ROWS):
        part = slice(start, start + _ROWS)
        m = np.where(eligible[part], mean[part], -np.inf)
        s = np.where(eligible[part], sd[part], 1.0)
        for rows, arms in _blocks(m - _PRUNE_Z * s, m + _PRUNE_Z * s):
            law = _Gaussian(m[rows[:, None], arms].T, s[rows[:, None], arms].T)
            out[part][rows[:, None], arms] = _integrate(law).T
    out[~eligible] = 0.0
    out /= out.sum(axis=1, keepdims=True)
    return out


def beta_argmax(mean: Floats, sd: Floats, eligible: Bools) -> Floats:
    """The same for independent Beta draws with these means and sds: (n, k).

    Rows of a context-free policy repeat: each distinct row is integrated once and remembered.
    """
    require_eligible(eligible)
    require_posterior(mean, sd, eligible)
    table = np.concatenate([mean, sd, eligible], axis=1)
    distinct, inverse = np.unique(table, axis=0, return_inverse=True)
    k = mean.shape[1]
    return np.array([_beta_row(row.tobytes(), k) for row in distinct])[inverse.reshape(-1)]


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
    p[eligible[kept]] = _integrate(_Beta(alpha[kept], beta[kept]))[:, 0]
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
        step = max(1, _CELLS // (int(size) * _NODES))
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


class _Law(Protocol):
    """c independent distributions in each of r rows."""

    def quantiles(self, z: Floats) -> Floats:
        """Each arm's quantiles at ndtr(z) (g,): (c, r, g)."""

    def terms(self, t: Floats) -> tuple[Floats, Floats]:
        """At t (r, q): 1/F_a and f_a/F_a, both (c, r, q)."""


class _Gaussian:
    def __init__(self, mean: Floats, sd: Floats) -> None:
        self.mean, self.sd = mean[:, :, None], sd[:, :, None]
        self.inverse = 1 / self.sd
        self.scale = self.inverse * _INV_SQRT_2PI

    def quantiles(self, z: Floats) -> Floats:
        return self.mean + self.sd * z

    def terms(self, t: Floats) -> tuple[Floats, Floats]:
        z = t - self.mean
        z *= self.inverse
        np.clip(z, -_CLIP_Z, _CLIP_Z, out=z)
        square = z * z
        reciprocal = square * _LOGIT_NDTR[-1]
        for c in _LOGIT_NDTR[-2:0:-1]:
            reciprocal += c
            reciprocal *= square
        reciprocal += _LOGIT_NDTR[0]
        reciprocal *= z
        np.negative(reciprocal, out=reciprocal)
        np.exp(reciprocal, out=reciprocal)
        reciprocal += 1.0
        square *= -0.5
        np.exp(square, out=square)
        square *= reciprocal
        square *= self.scale
        return reciprocal, square


class _Beta:
    def __init__(self, alpha: Floats, beta: Floats) -> None:
        self.alpha, self.beta = alpha[:, :, None], beta[:, :, None]
        self.norm = betaln(self.alpha, self.beta)

    def quantiles(self, z: Floats) -> Floats:
        return np.asarray(betaincinv(self.alpha, self.beta, ndtr(z)), dtype=np.float64)

    def terms(self, t: Floats) -> tuple[Floats, Floats]:
        inside = np.clip(t, 1e-15, 1 - 1e-15)
        reciprocal = 1 / np.maximum(betainc(self.alpha, self.beta, inside), 1e-12)
        log_pdf = (self.alpha - 1) * np.log(inside) + (self.beta - 1) * np.log1p(-inside)
        return reciprocal, np.exp(log_pdf - self.norm) * reciprocal


def _integrate(law: _Law) -> Floats:
    """P(arm is the largest) up to a common factor per row: (c, r)."""
    reciprocal, hazard = law.terms(_nodes(law))
    cdf = 1 / reciprocal
    others = reciprocal / np.multiply.reduce(reciprocal, axis=0)
    # Below the first node by the arms' hazards; above the last the others are as good as 1.
    first = hazard[..., 0]
    tail = first / np.add.reduce(first, axis=0) * (cdf[..., 0] * others[..., 0])
    rise = cdf[..., 1:] - cdf[..., :-1]
    rise *= others[..., 1:] + others[..., :-1]
    total: Floats = 0.5 * np.add.reduce(rise, axis=-1) + tail + (1 - cdf[..., -1])
    return total


def _nodes(law: _Law) -> Floats:
    """Increasing nodes (r, q): near the quantiles of F, and more where F turns sharply.

    log F is concave, so a tangent reaches a level before F does: from a point below the root
    every Newton step stays below it, and no step can overshoot.
    """
    grid = _grid(law)
    log_f, slope = _log_maximum(law, grid)
    above = (log_f[:, None, :] < _LOG_LEVELS[:, None]).sum(axis=-1)
    above = np.clip(above, 1, grid.shape[1] - 1)
    low, high = _take(grid, above - 1), _take(grid, above)
    t = np.maximum(
        low + (_LOG_LEVELS - _take(log_f, above - 1)) / _take(slope, above - 1),
        high + (_LOG_LEVELS - _take(log_f, above)) / _take(slope, above),
    )
    np.clip(t, low, high, out=t)
    for _ in range(_NEWTON_STEPS):
        log_f, slope = _log_maximum(law, t)
        previous, t = t, np.clip(t + (_LOG_LEVELS - log_f) / slope, low, high)
    return np.sort(np.concatenate([t, *_splits(previous, log_f, slope)], axis=1), axis=1)


def _grid(law: _Law) -> Floats:
    """Increasing first nodes (r, g): at every scale on which F may rise.

    The largest of the arms' quantiles follows the arm that leads. A crowd of narrow arms below
    one wide arm makes F rise where that arm barely moves: the 8th, 16th, ... largest quantiles
    are in every such crowd.
    """
    quantiles = law.quantiles(_GRID_Z)
    c, parts = len(quantiles), [quantiles.max(axis=0)]
    crowd = [c - 2**i for i in range(3, c.bit_length()) if 2**i <= c]
    if crowd:
        parts += list(np.partition(quantiles[:, :, _CROWD_Z], crowd, axis=0)[crowd])
    return np.sort(np.concatenate(parts, axis=1), axis=1)


def _splits(t: Floats, log_f: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """Two more nodes in each of the cells where the rise of F sits at the left end.

    There the tangent at the left reaches the right value of F long before the right node.
    """
    width = np.maximum(t[:, 1:] - t[:, :-1], 0.0)
    rise = np.maximum(log_f[:, 1:] - log_f[:, :-1], 0.0)
    reach = np.minimum(rise / slope[:, :-1], 0.5 * width)
    bend = np.clip(1 - rise / np.maximum(slope[:, :-1] * width, _TINY), 0.0, 1.0)
    weight = np.where(width > 0, np.exp(log_f[:, 1:]) * np.minimum(rise, 1.0) ** 2 * bend, -1.0)
    worst = np.argsort(-weight, axis=1, kind="stable")[:, :_SPLITS]
    left, right, reach = _take(t[:, :-1], worst), _take(t[:, 1:], worst), _take(reach, worst)
    return left + reach, np.minimum(left + 2 * reach, (right + left + reach) / 2)


def _log_maximum(law: _Law, t: Floats) -> tuple[Floats, Floats]:
    """For F, the distribution of the largest draw: log F and its slope at t (r, q)."""
    reciprocal, hazard = law.terms(t)
    with np.errstate(over="ignore"):
        product = np.minimum(np.multiply.reduce(reciprocal, axis=0), 1e300)
    return -np.log(product), np.maximum(np.add.reduce(hazard, axis=0), _TINY)


def _take(values: Floats, index: NDArray[np.int64]) -> Floats:
    return np.take_along_axis(values, index, axis=1)
