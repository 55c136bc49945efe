"""Disjoint linear Thompson sampling: one Bayesian linear model per action over the context.

Let z be the standardised features led by a 1 and g'z the reward that a model of all actions
together expects. With A = sum w z z' + prior and b = sum w (r - g'z) z over one action's rows, its
expected reward has mean g'z + z' A^-1 b and sd v sqrt(z' A^-1 z) (Agrawal and Goyal 2013), v being
`WIDTH` times the noise sd of one reward. So the prior shrinks what an action does differently for
some customers, not what all actions share, and a new action starts from what is usual for such a
customer. With a usual reward (`Theta.usual`), rewards here are multiples of it: mean and sd are
multiplied by what is usual for the customer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from decision_engine.basis import normal_equations, prior_precision, usual
from decision_engine.finite import all_between
from decision_engine.state import PolicyState
from decision_engine.types import Family, Floats

FAMILY: Family = "gaussian"
WIDTH = 0.7
"""Draws a little narrower than the posterior earn more (posterior reshaping, Chapelle and Li 2011).
0.7 does on a public e-mail test and in simulated campaigns; 0.5 does no better, less reliably."""

_TILES = ((32, 8), (128, 6))
"""Rows of a tile, by the most actions it is for: a single row pays for the tile it is in."""
_SMALL_TILE = 2
_ROWS = 200
"""Rows of a block, about: its products stay in the second-level cache, and an odd number of cache
lines keeps them from falling on the same few."""
_LINE = 8  # numbers of a cache line


def posterior(state: PolicyState, actions: tuple[str, ...], x: Floats) -> tuple[Floats, Floats]:
    """Mean and sd (n, k) of each action's expected reward for raw features x (n, d).

    The bits of a row do not depend on its batch: rows go through the matrix product in tiles of
    one size, so the library always runs the same kernel over them, also for a single row.
    Raises ValueError when x is not finite or has not the state's features.
    """
    n, d = x.shape
    if d != len(state.features):
        raise ValueError(f"`x` has {d} features, the policy state has {len(state.features)}")
    k, weights = len(actions), _weights(state, actions)
    block = _ROWS // weights.tile * weights.tile
    if n == 1:
        mean, variance = _products_of_one(x, weights)
    elif n <= block:
        mean, variance = _products(x, weights, _room(weights, n))
    else:
        room = _room(weights, block)
        mean, variance = np.empty((n, k)), np.empty((n, k))
        for start in range(0, n, block):
            rows = slice(start, start + block)
            mean[rows], variance[rows] = _products(x[rows], weights, room)
    # What is below its least possible value is so by rounding.
    np.maximum(variance, weights.least, out=variance)
    sd = np.sqrt(variance, out=variance)
    if state.theta.usual is not None:
        times = usual(x, state.theta.usual)[:, None]
        mean *= times
        sd *= times
    return mean, sd


def weights(state: PolicyState, actions: tuple[str, ...]) -> Floats:
    """The weights (k, D) whose product with the standardised features, led by a 1, is the mean."""
    return np.ascontiguousarray(_weights(state, actions).mean.T)


def in_rewards(state: PolicyState, mean: Floats) -> Floats:
    """The means as they are: the model is in reward units."""
    return mean


@dataclass(frozen=True, eq=False)
class _Weights:
    """All actions' posteriors, ready to be multiplied; P pairs of features, as `_pairs` has them.

    `tile` the rows of one product. `centre`, `scale` (d, 1) of the raw features. `mean` (D, k):
    columns of common + A^-1 b. `spread` (P, k): v^2 z' A^-1 z as weights of the products of two
    features. `least` (k,): z' A^-1 z is at least |z|^2 / the largest eigenvalue of A, and so at
    least 1 / its trace. `memory` is what each thread keeps for single rows.
    """

    tile: int
    centre: Floats
    scale: Floats
    mean: Floats
    spread: Floats
    least: Floats
    memory: threading.local


@lru_cache(maxsize=32)
def _weights(state: PolicyState, actions: tuple[str, ...]) -> _Weights:
    theta = state.theta
    gram, moment = normal_equations(state.evidence(actions), theta)
    size = moment.shape[1]
    a = gram + np.diag(prior_precision(size - 1, theta.context_precision))
    root = np.linalg.inv(np.linalg.cholesky(a))
    inverse = root.transpose(0, 2, 1) @ root
    mean = inverse @ moment[:, :, None] + theta.common[:, None]
    apart, first = np.divmod(np.arange(size * (size // 2 + 1)), size)
    # Features half a circle apart meet twice; a feature meets itself once.
    times = np.where((apart == 0) | (2 * apart == size), 1.0, 2.0)
    square = (WIDTH * theta.noise) ** 2
    spread = inverse[:, first, (first + apart) % size] * (square * times)
    return _Weights(
        next((tile for most, tile in _TILES if len(actions) <= most), _SMALL_TILE),
        theta.feature_mean[:, None],
        theta.feature_scale[:, None],
        np.ascontiguousarray(mean[:, :, 0].T),
        np.ascontiguousarray(spread.T),
        square / np.trace(a, axis1=1, axis2=2),
        threading.local(),
    )


def _products(x: Floats, weights: _Weights, room: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (n, k) of the rows of a block; `room` is for the products of features."""
    n, d = x.shape
    tile = weights.tile
    z = _columns(x, weights, tile)
    pairs = _pairs(z, d + 1, room)
    mean, variance = _times(z[: d + 1], weights.mean, tile), _times(pairs, weights.spread, tile)
    # Without the padding of the last tile.
    return mean[:n], variance[:n]


class _Memory:
    """The tile of one row, the others of which are 0: to make it takes as long as to fill it."""

    def __init__(self, weights: _Weights) -> None:
        size, tile = len(weights.mean), weights.tile
        z, room = np.zeros((size + size // 2, tile)), np.zeros(len(weights.spread) * tile)
        z[0, 0] = 1.0
        self.inside, self.first, self.again = z[1:size, 0], z[: size // 2, 0], z[size:, 0]
        self.centre, self.scale = weights.centre[:, 0], weights.scale[:, 0]
        further, found = _circle(z, size, room)
        self.factors = further[0, :, :1], further[:, :, :1], found[:, :, :1]
        self.features, self.pairs = z[:size].T, found.reshape(-1, tile).T


def _products_of_one(x: Floats, weights: _Weights) -> tuple[Floats, Floats]:
    """`_products` of one row, to the bit."""
    memory: _Memory | None = getattr(weights.memory, "of_thread", None)
    if memory is None:
        memory = weights.memory.of_thread = _Memory(weights)
    if not all_between(x):
        raise ValueError("`x` must be finite")
    np.subtract(x[0], memory.centre, out=memory.inside)
    np.divide(memory.inside, memory.scale, out=memory.inside)
    memory.again[:] = memory.first
    one, further, found = memory.factors
    np.multiply(one, further, out=found)
    return memory.features.dot(weights.mean)[:1], memory.pairs.dot(weights.spread)[:1]


def _room(weights: _Weights, n: int) -> Floats:
    """Memory for the products of n rows."""
    room = np.empty(len(weights.spread) * (n + weights.tile) + _LINE)
    # What begins with a cache line is read quicker.
    return room[-room.ctypes.data // 8 % _LINE :]


def _columns(x: Floats, weights: _Weights, tile: int) -> Floats:
    """Standardised features led by a 1, (D, rows), then the first D // 2 of them once more.

    Rows are padded with zeros to whole tiles, at least one. Raises ValueError when x is not finite.
    """
    n, d = x.shape
    if not all_between(x):
        raise ValueError("`x` must be finite")
    shape = (d + 1 + (d + 1) // 2, -(-max(n, 1) // tile) * tile)
    z = np.empty(shape) if shape[1] == n else np.zeros(shape)
    z[0, :n] = 1.0
    inside = z[1 : d + 1, :n]
    np.subtract(x.T, weights.centre, out=inside)
    inside /= weights.scale
    z[d + 1 :] = z[: (d + 1) // 2]
    return z


def _pairs(z: Floats, size: int, room: Floats) -> Floats:
    """The products (P, rows) of each of `size` features with those 0, 1, ... size // 2 further on.

    `room` holds the result.
    """
    further, found = _circle(z, size, room)
    np.multiply(further[0], further, out=found)
    return found.reshape(-1, z.shape[1])


def _circle(z: Floats, size: int, room: Floats) -> tuple[Floats, Floats]:
    """The features 0, 1, ... size // 2 further on, and room for their products with the first ones.

    Both (size // 2 + 1, size, rows). The features stand in a circle, so that every two meet, and
    those of one distance apart are one run of memory times another: quick for many rows as for a
    few.
    """
    apart, rows = size // 2 + 1, z.shape[1]
    found = room[: apart * size * rows].reshape(apart, size, rows)
    below = z.strides[0]
    further = np.ndarray((apart, size, rows), buffer=z, strides=(below, below, z.itemsize))
    return further, found


def _times(columns: Floats, weights: Floats, tile: int) -> Floats:
    """The rows of (C, rows), tile by tile, times weights (C, k): (rows, k)."""
    if columns.shape[1] == tile:
        found: Floats = columns.T.dot(weights)  # the same call of the library, sooner
    else:
        tiles = columns.reshape(len(columns), -1, tile).transpose(1, 2, 0)
        found = np.matmul(tiles, weights).reshape(-1, weights.shape[1])
    return found
