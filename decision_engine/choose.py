"""The draw: one action for each person, with exactly the probabilities of `propensity`.

n rows or one; no draw depends on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, logit, ndtr, ndtri

from decision_engine.keys import uniforms
from decision_engine.propensity import (
    MAX_FLOOR_MASS,
    beta_parameters,
    first_eligible,
    floor_mass,
    propensities,
    require_eligible,
    require_posterior,
)
from decision_engine.types import Bools, Family, Floats, Ints, Keys

_DRAWS = 65_536  # draws per block: the temporaries stay in the second-level cache
_NEVER = np.array(-np.inf)


def choose(
    keys: Keys,
    mean: Floats,
    sd: Floats,
    eligible: Bools,
    floor: float,
    family: Family,
    draws: Keys,
    preference: Sequence[int] = (0,),
    share: Floats | None = None,
) -> Ints:
    """The chosen action (n,) of each row, with exactly the probabilities of `propensities`.

    `keys` (n,), `mean`, `sd` (n, k) ((n, 0) allowed for `uniform` and `fixed`), `eligible`
    (n, k), `draws` = `keys.draw_streams(action keys)` (k + 1,), `preference` the action indices of
    `fixed`. With probability n * floor every eligible action is equally likely; else the largest
    posterior draw wins; for `samples`, actions are drawn by their `share` (n, k). Each action's
    draw depends on the row's key and that action's key alone.
    Raises ValueError as `propensities` does.
    """
    step = max(1, _DRAWS // len(draws))
    if len(keys) > step and family in ("gaussian", "beta"):
        rows = [slice(i, i + step) for i in range(0, len(keys), step)]
        law = (floor, family, draws)
        return np.concatenate([choose(keys[r], mean[r], sd[r], eligible[r], *law) for r in rows])
    count = require_eligible(eligible)
    if family == "fixed":
        return first_eligible(eligible, preference)
    if family == "uniform":
        return _largest(uniforms(keys, draws[:-1]), eligible, count)
    if family == "samples":
        p = propensities(mean, sd, eligible, floor, family, preference, share)
        return _race(keys, p, draws[:-1])
    require_posterior(mean, sd, eligible)
    u = uniforms(keys, draws)
    of_actions, of_floor = u[:, :-1], u[:, -1]
    out = _largest(_draw(mean, sd, of_actions, family), eligible, count)
    if of_floor.item(of_floor.argmin()) < MAX_FLOOR_MASS:  # one person mostly ends here
        even = (of_floor < floor_mass(count, floor)).nonzero()[0]
        # The largest of even draws is any with the same chance; the floor's says nothing of them.
        out[even] = _largest(of_actions[even], eligible[even], count[even])
    return out


def _draw(mean: Floats, sd: Floats, u: Floats, family: Family) -> Floats:
    if family == "beta":
        return _draw_beta(mean, sd, u)
    draws: Floats = ndtri(u)
    draws *= sd
    draws += mean
    return draws


def _largest(draws: Floats, eligible: Bools, count: Ints) -> Ints:
    """The eligible action (n,) of the largest draw (n, k); `count` (n,) actions are eligible."""
    if len(count) and count.item(count.argmin()) < draws.shape[1]:
        draws = np.where(eligible, draws, _NEVER)
    out: Ints = draws.argmax(axis=1)
    return out


def _race(keys: Keys, p: Floats, draws: Keys) -> Ints:
    """Each action with probability p (n, k): the first arrival of waits with the rates p.

    As in all draws, an action's wait depends on the row's key and its own key alone.
    """
    out = np.empty(len(keys), dtype=np.int64)
    step = max(1, _DRAWS // len(draws))
    for start in range(0, len(keys), step):
        rows = slice(start, start + step)
        waits = -np.log(uniforms(keys[rows], draws))
        out[rows] = (p[rows] / waits).argmax(axis=1)
    return out


_TABLE_Z = np.linspace(-8.25, 8.25, 529)
_TABLE_STEP = _TABLE_Z[1] - _TABLE_Z[0]


def _draw_beta(mean: Floats, sd: Floats, u: Floats) -> Floats:
    """Beta draws by their quantile function, on the logit scale (the order is what counts).

    The exact inverse costs microseconds a draw; the rows of a context-free policy share a few
    posteriors, so each gets a table of exact quantiles at 529 normal scores.
    """
    k = u.shape[1]
    position = np.clip((ndtri(u) - _TABLE_Z[0]) / _TABLE_STEP, 0, len(_TABLE_Z) - 1.000001)
    index = position.astype(np.int64)
    position -= index
    index += np.arange(k) * len(_TABLE_Z)
    distinct: dict[bytes, list[int]] = {}
    for i, row in enumerate(np.concatenate([mean, sd], axis=1)):
        distinct.setdefault(row.tobytes(), []).append(i)
    out = np.empty(u.shape)
    for row, at in distinct.items():
        table, left = _table(row, k), index[at]
        low = table[left]
        out[at] = low + (table[left + 1] - low) * position[at]
    return out


@lru_cache(maxsize=32)
def _table(row: bytes, k: int) -> Floats:
    """The quantiles of k posteriors, one after the other."""
    mean, sd = np.frombuffer(row).reshape(2, k).tolist()
    return np.concatenate([_quantiles(m, s) for m, s in zip(mean, sd, strict=True)])


@lru_cache(maxsize=4096)
def _quantiles(mean: float, sd: float) -> Floats:
    alpha, beta = beta_parameters(np.array(mean), np.array(sd))
    out = logit(betaincinv(alpha, beta, ndtr(_TABLE_Z)))
    # Near 1 the complement keeps the digits that the quantile itself has lost.
    upper = out > 0
    out[upper] = -logit(betaincinv(beta, alpha, ndtr(-_TABLE_Z[upper])))
    return np.clip(out, -700.0, 700.0)
