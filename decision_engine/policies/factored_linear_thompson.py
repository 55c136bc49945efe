"""Factored linear Thompson sampling: actions learn from each other by what they share.

An action's weights are a common model, plus a block of its own creative, plus one block for each
value it shares with other actions (`factors`). Its posteriors are therefore correlated, and the
chance that an action is the best has no formula that is quick enough. So M weight vectors are drawn
once per policy state, from the joint posterior and from nothing but the state; an action's share of
the M draws that it wins among the possible actions is the probability it is chosen with. That is
exact for the law that runs; how far it is from M without end is measured (docs/concepts/learning).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from decision_engine.factors import Design, Equations, Precisions, prior
from decision_engine.keys import streams, uniforms
from decision_engine.policies.linear_thompson import normal_equations
from decision_engine.state import PolicyState, Theta
from decision_engine.types import Bools, Family, Floats

FAMILY: Family = "samples"
SAMPLES = 128
WIDTH = 0.7

_TILE = 8
_CELLS = 131_072


class Samples(NamedTuple):
    """The frozen draws: `mean` (k, D), `delta` (M / 2, k, D); each draw is mean +- one delta."""

    mean: Floats
    delta: Floats


class Weights(NamedTuple):
    """`moments` (D, k + r k): means and root of the spread; `draws` (M / c, D, c k)."""

    moments: Floats
    draws: Floats


def posterior(state: PolicyState, actions: tuple[str, ...], x: Floats) -> tuple[Floats, Floats]:
    weights = _weights(state, actions).moments
    k = len(actions)
    mean, sd = np.empty((len(x), k)), np.empty((len(x), k))
    for rows, tiles in _blocks(x, state.theta, weights.shape[1]):
        product = np.matmul(tiles, weights).reshape(-1, weights.shape[1])[: rows.stop - rows.start]
        mean[rows] = product[:, :k]
        np.sqrt(np.square(product[:, k:]).reshape(len(product), -1, k).sum(axis=1), out=sd[rows])
    return mean, sd


def shares(
    state: PolicyState, actions: tuple[str, ...], x: Floats, eligible: Bools
) -> Floats:
    draws = _weights(state, actions).draws
    n, k = eligible.shape
    wins = np.zeros((n, k))
    out = np.where(eligible, 0.0, -np.inf)
    for rows, tiles in _blocks(x, state.theta, draws.shape[2]):
        m = rows.stop - rows.start
        penalty = out[rows][:, None, :]
        base = np.arange(m)[:, None] * k
        for part in draws:
            scores = np.matmul(tiles, part).reshape(-1, part.shape[1] // k, k)[:m]
            scores += penalty
            best = scores.argmax(axis=2)
            wins[rows] += np.bincount((base + best).ravel(), minlength=m * k).reshape(m, k)
    return wins / (draws.shape[0] * draws.shape[2] // k)


def in_rewards(state: PolicyState, mean: Floats) -> Floats:  # noqa: ARG001
    return mean


def samples(state: PolicyState, actions: tuple[str, ...], m: int = SAMPLES, seed: str = "") -> Samples:
    theta = state.theta
    gram, moment = normal_equations(state.evidence(actions), theta)
    design = Design.of(state.units, actions)
    precisions = theta.precisions or Precisions()
    solver = Equations(design, gram, moment).solver(precisions)
    mean_own, mean_shared = solver.solve(
        design.to_own(moment)[:, :, None], design.to_shared(moment)[:, :, None]
    )
    mean = design.weights(mean_own[:, :, 0], mean_shared[:, :, 0]) + theta.common
    size, half = gram.shape[1], m // 2
    numbers = streams([str(i) for i in range(half * size)])
    def noise(kind: str, names):
        keys = streams([f"{state.version}\x1f{seed}\x1f{kind}\x1f{n}" for n in names])
        return ndtri(uniforms(keys, numbers)).reshape(len(names), size, half)
    from_data = _root(gram) @ noise("action", actions)
    own = design.to_own(from_data) + np.sqrt(prior(size, *precisions.own))[:, None] * noise("own", design.own_names)
    shared = design.to_shared(from_data) + np.sqrt(prior(size, *precisions.shared))[:, None] * noise("shared", design.shared_names)
    d_own, d_shared = solver.solve(own, shared)
    delta = design.weights(d_own, d_shared).transpose(2, 0, 1)
    return Samples(mean, WIDTH * theta.noise * delta)


def _root(gram: Floats) -> Floats:
    """A square root (k, D, D) of each gram, which may be singular."""
    values, vectors = np.linalg.eigh(gram)
    return vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]


@lru_cache(maxsize=8)
def _weights(state: PolicyState, actions: tuple[str, ...]) -> Weights:
    mean, delta = samples(state, actions)
    k, size = mean.shape
    half = len(delta)
    root = np.linalg.qr(delta.transpose(1, 0, 2) / np.sqrt(half), mode="r")  # (k, r, D)
    moments = np.concatenate([mean.T, root.transpose(2, 1, 0).reshape(size, -1)], axis=1)
    draws = np.concatenate([mean + delta, mean - delta])  # (M, k, D)
    c = 1
    while c < len(draws) and c * k < 4096: c *= 2
    draws = draws.reshape(len(draws) // c, c * k, size).transpose(0, 2, 1)
    return Weights(np.ascontiguousarray(moments), np.ascontiguousarray(draws))


def _blocks(x, theta, columns):
    n, d = x.shape
    count = -(-n // _TILE)
    out = np.zeros((count * _TILE, d + 1))
    out[:n, 0] = 1.0
    out[:n, 1:] = (x - theta.feature_mean) / theta.feature_scale
    tiles = out.reshape(count, _TILE, d + 1)
    step = max(1, _CELLS // (_TILE * columns))
    for start in range(0, count, step):
        part = tiles[start : start + step]
        yield slice(start * _TILE, min(n, (start + len(part)) * _TILE)), part
