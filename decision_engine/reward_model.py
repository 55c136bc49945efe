"""A linear model of each action's reward, fitted so that no row is predicted from itself.

It is the q of `dm`, `dr` and `switch_dr`. Cross-fitting (Chernozhukov et al. 2018, "Double/
debiased machine learning") keeps DR unbiased whatever the model learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decision_engine.evaluate import Log
from decision_engine.types import Floats, Ints

FOLDS = 5

_PRECISION = 1.0
_NIL = 1e-12


@dataclass(frozen=True, eq=False)
class CrossFit:
    """`predictions` (n, k): rewards of all actions, from the rows of the other folds."""

    predictions: Floats
    _log: Log
    _z: Floats
    _fold: Ints
    _inverse: Floats
    _residual: Floats

    def sensitivity(self, target: Floats) -> Floats:
        """How each row (n,) moved mean_i(sum_a target q) through the fitted models, times n.

        For a row of action a in the training rows of fold f: n g'A^-1 z e, where g is the mean
        of target[:, a] z over that fold, A the model's normal matrix and e the row's residual
        (the delta method of least squares, sandwich form).
        """
        out = np.zeros(len(self._z))
        row = np.arange(len(out))
        for f, inverse in enumerate(self._inverse):
            inside = self._fold == f
            g = target[inside].T @ self._z[inside]
            slope = np.einsum("ad,ade->ae", g, inverse)[self._log.action]
            moved = (slope * self._z).sum(axis=1) * self._residual[f, row]
            out += np.where(inside, 0.0, moved)
        return out


def folds_of(log: Log, rng: np.random.Generator, count: int = FOLDS) -> Ints:
    """The fold (n,) of each row, drawn evenly; all rows of a customer share one."""
    if log.customer is None:
        return rng.permutation(len(log)) % count
    codes, unit = np.unique(log.customer, return_inverse=True)
    return (rng.permutation(len(codes)) % count)[unit]


def cross_fit(log: Log, x: Floats, k: int, fold: Ints) -> CrossFit:
    """Ridge regressions of reward on the context `x` (n, d), one for each action and fold.

    Features are standardised, rewards centred on the training mean, and every coefficient has
    prior precision 1, so an action without training rows is predicted that mean.
    """
    n, folds = len(log), int(fold.max()) + 1
    if x.ndim != 2 or len(x) != n or not np.isfinite(x).all():
        raise ValueError(f"`x` must be finite and have shape ({n}, d)")
    z = _standardised(x)
    q, residual = np.empty((n, k)), np.zeros((folds, n))
    inverse = np.empty((folds, k, z.shape[1], z.shape[1]))
    for f in range(folds):
        train = fold != f
        centre = float(log.reward[train].mean()) if train.any() else 0.0
        theta = np.empty((k, z.shape[1]))
        for a in range(k):
            rows = np.flatnonzero(train & (log.action == a))
            gram = z[rows].T @ z[rows] + _PRECISION * np.eye(z.shape[1])
            inverse[f, a] = np.linalg.inv(gram)
            theta[a] = inverse[f, a] @ (z[rows].T @ (log.reward[rows] - centre))
        fitted = centre + z @ theta.T
        q[~train] = fitted[~train]
        residual[f] = log.reward - fitted[np.arange(n), log.action]
    return CrossFit(q, log, z, fold, inverse, residual)


def _standardised(x: Floats) -> Floats:
    spread = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(spread > _NIL, spread, 1.0)
    return np.concatenate([np.ones((len(x), 1)), scaled], axis=1)
