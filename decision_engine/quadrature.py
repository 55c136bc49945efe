"""P(each of several independent draws is the largest), by quadrature.

With F_a the distribution of draw a and F = their product, that of the maximum, P(a) is the
integral of dF_a times the other F_b. The nodes are quantiles of F: any arm that matters makes F
rise, so they fall where the mass is at every scale, also when one distribution is a thousand times
wider than another. A cell between two nodes adds (rise of F_a) x (average of the others' product),
which needs no density: a distribution may be as narrow as it likes.

Normal draws of like widths need none of this: their integrands are analytic and vanish at both
ends, so the trapezoidal rule on evenly spaced nodes converges faster than any power of the spacing
(Trefethen and Weideman 2014, "The exponentially convergent trapezoidal rule").

c arms, r rows, q nodes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.special import betainc, betaincinv, betaln, ndtr

from decision_engine.types import Floats, Ints

NODES = 40
_SPLITS = 8
_NEWTON_STEPS = 3
_LOW = (3e-5, 2e-4, 1e-3)
_HIGH = 0.996
_GRID_Z = np.linspace(-4.4, 5.4, 24)
_CROWD_Z = slice(10, None, 2)  # normal scores -0.1 to 5
_CLIP_Z = 6.0
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
    rest = np.arange(1, NODES - len(_LOW) + 1) / (NODES - len(_LOW))
    return np.concatenate([_LOW, _LOW[-1] + (_HIGH - _LOW[-1]) * rest**1.6])


_LOG_LEVELS = np.log(_levels())


_EVEN = np.array([20, 40, 80])
"""Numbers of evenly spaced nodes; rows that need more are for `integrate`."""
_SPACING = 1.25
"""In widths of the maximum's density. Measured at the worst, ties beside one wide arm: the error is
below 1e-5 for 30 arms and 2e-4 for 500; at twice the spacing it is 1e-2."""
_REACH = 4.6


class Law(Protocol):
    """c independent distributions in each of r rows."""

    def quantiles(self, z: Floats) -> Floats:
        """Each arm's quantiles at ndtr(z) (g,): (c, r, g)."""

    def terms(self, t: Floats) -> tuple[Floats, Floats]:
        """At t (r, q): 1/F_a and f_a/F_a, both (c, r, q)."""


class Gaussian:
    """Normal distributions with means and sds (c, r)."""

    def __init__(self, mean: Floats, sd: Floats) -> None:
        self.mean, self.sd = mean[:, :, None], sd[:, :, None]
        self.inverse = 1 / self.sd
        self.scale = self.inverse * _INV_SQRT_2PI

    def quantiles(self, z: Floats) -> Floats:
        """As in `Law`."""
        return self.mean + self.sd * z

    def terms(self, t: Floats) -> tuple[Floats, Floats]:
        """As in `Law`."""
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


class Beta:
    """Beta distributions with parameters (c, r)."""

    def __init__(self, alpha: Floats, beta: Floats) -> None:
        self.alpha, self.beta = alpha[:, :, None], beta[:, :, None]
        self.norm = betaln(self.alpha, self.beta)

    def quantiles(self, z: Floats) -> Floats:
        """As in `Law`."""
        return np.asarray(betaincinv(self.alpha, self.beta, ndtr(z)), dtype=np.float64)

    def terms(self, t: Floats) -> tuple[Floats, Floats]:
        """As in `Law`."""
        inside = np.clip(t, 1e-15, 1 - 1e-15)
        reciprocal = 1 / np.maximum(betainc(self.alpha, self.beta, inside), 1e-12)
        log_pdf = (self.alpha - 1) * np.log(inside) + (self.beta - 1) * np.log1p(-inside)
        return reciprocal, np.exp(log_pdf - self.norm) * reciprocal


def gaussian_shares(mean: Floats, sd: Floats) -> Floats:
    """P(arm is the largest) of normal draws, up to a common factor per row: (c, r).

    A mean may be -inf, for an arm that cannot win.
    """
    top = mean + _REACH * sd
    low, high = (mean - _REACH * sd).max(axis=0), top.max(axis=0)
    finest = np.where(top >= low, sd, np.inf).min(axis=0)
    # The largest of c draws is about sqrt(2 log c) times narrower than each of them.
    spacing = _SPACING * finest / max(1.3, float(np.sqrt(2 * np.log(len(mean)))))
    size = np.searchsorted(_EVEN - 1, (high - low) / spacing)
    out = np.empty(mean.shape)
    for i in np.unique(size):
        rows = np.flatnonzero(size == i)
        law = Gaussian(mean[:, rows], sd[:, rows])
        even = i < len(_EVEN)
        out[:, rows] = _evenly(law, low[rows], high[rows], _EVEN[i]) if even else integrate(law)
    return out


def _evenly(law: Law, low: Floats, high: Floats, nodes: int) -> Floats:
    """The trapezoidal rule; the ends are so far out that their halves do not matter."""
    t = low[:, None] + (high - low)[:, None] * (np.arange(nodes) / (nodes - 1))
    reciprocal, hazard = law.terms(t)
    with np.errstate(over="ignore"):
        hazard /= np.multiply.reduce(reciprocal, axis=0)
    total: Floats = np.add.reduce(hazard, axis=-1)
    return total


def integrate(law: Law) -> Floats:
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


def _nodes(law: Law) -> Floats:
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


def _grid(law: Law) -> Floats:
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


def _log_maximum(law: Law, t: Floats) -> tuple[Floats, Floats]:
    """For F, the distribution of the largest draw: log F and its slope at t (r, q)."""
    reciprocal, hazard = law.terms(t)
    with np.errstate(over="ignore"):
        product = np.minimum(np.multiply.reduce(reciprocal, axis=0), 1e300)
    return -np.log(product), np.maximum(np.add.reduce(hazard, axis=0), _TINY)


def _take(values: Floats, index: Ints) -> Floats:
    return np.take_along_axis(values, index, axis=1)
