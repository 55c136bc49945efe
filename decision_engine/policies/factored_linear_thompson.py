"""Factored linear Thompson sampling: combinations learn from each other by what they share.

An action's weights are a common model, plus a block of its own creative, plus one block for each
value it shares with other actions (`factors`). The posteriors of actions are therefore correlated,
and the chance that one of them is the best has no formula that is quick enough. So `SAMPLES` weight
vectors are drawn once per policy state, from the joint posterior and by the state's version alone.
An action is chosen with the share of these samples that it wins among the possible actions: exact
for the law that runs. How far that is from samples without end: docs/concepts/learning.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from decision_engine.basis import normal_equations, usual
from decision_engine.factors import Design, Equations, Precisions, diagonal, solver
from decision_engine.keys import streams, uniforms
from decision_engine.state import PolicyState, Theta
from decision_engine.types import Bools, Family, Floats

FAMILY: Family = "samples"
SAMPLES = 128
"""A power of 2, so that shares are exact numbers."""
WIDTH = 0.6
"""Samples narrower than the posterior earn more, as in `linear_thompson`; 0.4 to 0.7 are alike."""

_TILE = 8
_CELLS = 131_072  # numbers of one intermediate product; it stays in the second-level cache


class Samples(NamedTuple):
    """The weights of k actions: `mean` (k, D) and `offset` (m, k, D); samples are mean +- offset.

    So their mean is the posterior's, to the last digit.
    """

    mean: Floats
    offset: Floats


class _Weights(NamedTuple):
    """`moments` (D, k + r k): means, then a root of the samples' spread; `draws` (b, D, c k)."""

    moments: Floats
    draws: Floats


def posterior(state: PolicyState, actions: tuple[str, ...], x: Floats) -> tuple[Floats, Floats]:
    """Mean and sd (n, k) over the samples of each action's expected reward, for x (n, d).

    The bits of a row do not depend on its batch (tiles of 8, as in `linear_thompson`).
    Raises ValueError when x is not finite or has not the state's features.
    """
    _require_features(state, x)
    weights, k = _weights(state, actions).moments, len(actions)
    mean, sd = np.empty((len(x), k)), np.empty((len(x), k))
    for rows, tiles in _blocks(x, state.theta, weights.shape[1]):
        product = np.matmul(tiles, weights).reshape(-1, weights.shape[1])
        product = product[: rows.stop - rows.start]
        mean[rows] = product[:, :k]
        spread = np.square(product[:, k:]).reshape(len(product), -1, k)
        sd[rows] = np.sqrt(np.add.reduce(spread, axis=1))
    times = usual(x, state.theta.usual)[:, None]
    return mean * times, sd * times


def shares(state: PolicyState, actions: tuple[str, ...], x: Floats, eligible: Bools) -> Floats:
    """The share (n, k) of the samples that each action wins among the eligible ones (n, k)."""
    _require_features(state, x)
    draws, (n, k) = _weights(state, actions).draws, eligible.shape
    wins, handicap = np.zeros((n, k)), np.where(eligible, 0.0, -np.inf)
    for rows, tiles in _blocks(x, state.theta, draws.shape[2]):
        m = rows.stop - rows.start
        first = np.arange(m)[:, None] * k
        for part in draws:
            score = np.matmul(tiles, part).reshape(len(tiles) * _TILE, -1, k)[:m]
            score += handicap[rows, None, :]
            won = first + score.argmax(axis=2)
            wins[rows] += np.bincount(won.ravel(), minlength=m * k).reshape(m, k)
    return wins / SAMPLES


def weights(state: PolicyState, actions: tuple[str, ...]) -> Floats:
    """The weights (k, D) whose product with the standardised features, led by a 1, is the mean."""
    k = len(actions)
    return np.ascontiguousarray(_weights(state, actions).moments[:, :k].T)


def in_rewards(state: PolicyState, mean: Floats) -> Floats:
    """The means as they are: the model is in reward units."""
    return mean


def samples(state: PolicyState, actions: tuple[str, ...], count: int = SAMPLES) -> Samples:
    """`count` samples (even) of the actions' weights from the joint posterior.

    Solving for a right-hand side with the noise of the data and the prior added gives a sample of
    the posterior (perturb and solve; Papandreou and Yuille 2010). Each noise belongs to the name
    of its action or block, so an action that is added, and has no evidence, changes no other.
    """
    gram, moment = normal_equations(state.evidence(actions), state.theta)
    design, precisions = Design.of(state.units, actions), state.theta.precisions or Precisions()
    equations = Equations(design, gram, moment)
    system, (size, half) = solver(equations, precisions), (gram.shape[1], count // 2)
    own, shared = system.solve(*(side[:, :, None] for side in equations.moments))
    mean = design.weights(own[:, :, 0], shared[:, :, 0]) + state.theta.common

    def noise(kind: str, names: Sequence[str]) -> Floats:
        return _normal([f"{state.version}\x1f{kind}\x1f{n}" for n in names], size, half)

    of_data = _roots(gram) @ noise("action", actions)
    prior = [np.sqrt(diagonal(size, p))[:, None] for p in precisions]
    own, shared = system.solve(
        design.to_own(of_data) + prior[0] * noise("own", design.own_names),
        design.to_shared(of_data) + prior[1] * noise("shared", design.shared_names),
    )
    offset = WIDTH * state.theta.noise * design.weights(own, shared)
    return Samples(mean, offset.transpose(2, 0, 1))


def _normal(names: Sequence[str], size: int, count: int) -> Floats:
    """Standard normal numbers (names, size, count), each row a function of its name alone."""
    if not names:
        return np.empty((0, size, count))
    numbers = streams([str(i) for i in range(size * count)])
    drawn: Floats = ndtri(uniforms(streams(names), numbers))
    return drawn.reshape(len(names), size, count)


def _roots(gram: Floats) -> Floats:
    """A square root (k, D, D) of each gram, which may be singular."""
    values, vectors = np.linalg.eigh(gram)
    roots: Floats = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return roots


@lru_cache(maxsize=16)
def _weights(state: PolicyState, actions: tuple[str, ...]) -> _Weights:
    mean, offset = samples(state, actions)
    k, size = mean.shape
    root = np.asarray(np.linalg.qr(offset.transpose(1, 0, 2) / np.sqrt(len(offset)), mode="r"))
    moments = np.concatenate([mean.T, root.transpose(2, 1, 0).reshape(size, -1)], axis=1)
    together = min(SAMPLES, 1 << (4096 // k).bit_length())
    draws = np.concatenate([mean + offset, mean - offset]).reshape(-1, together * k, size)
    return _Weights(np.ascontiguousarray(moments), np.ascontiguousarray(draws.transpose(0, 2, 1)))


def _require_features(state: PolicyState, x: Floats) -> None:
    if x.shape[1] != len(state.features):
        raise ValueError(f"`x` has {x.shape[1]} features, the policy state {len(state.features)}")
    if not np.isfinite(x).all():
        raise ValueError("`x` must be finite")


def _blocks(x: Floats, theta: Theta, columns: int) -> Iterator[tuple[slice, Floats]]:
    """Rows, and their standardised features led by a 1 in tiles (t, 8, D), padded with zeros."""
    n, d = x.shape
    count = -(-n // _TILE)
    z = np.zeros((count * _TILE, d + 1))
    z[:n, 0] = 1.0
    z[:n, 1:] = (x - theta.feature_mean) / theta.feature_scale
    tiles = z.reshape(count, _TILE, d + 1)
    step = max(1, _CELLS // (_TILE * columns))
    for start in range(0, count, step):
        part = tiles[start : start + step]
        yield slice(start * _TILE, min(n, (start + len(part)) * _TILE)), part
