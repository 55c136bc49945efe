"""What an action causes, on average and for whom, from decisions of known chances.

Symbols as in `evaluate`; c is the action compared with (index 0, no_action, by default). The
score of a row, q_a - q_c + 1(a_i = a)(r - q_a)/p - 1(a_i = c)(r - q_c)/p, has the row's true
effect as expectation whatever the model q, because the propensities are known. What was sent to
whom by a policy that looks at the customer, or the plain means of those who got an action, say
what goes together; these say what would change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from decision_engine.evaluate import (
    MIN_EFFECTIVE,
    Estimate,
    Log,
    Scores,
    effective_sample_size,
    estimate_of,
)
from decision_engine.types import Bools, Floats, Ints

NO_EFFECT = -1
"""The choice where no action has an effect that is certainly above 0."""

_NIL = 1e-12


@dataclass(frozen=True)
class Effect:
    """The mean effect of `action` over that of the control, per decision in which both could be.

    `certain` is a lower bound that holds for all actions of one call at once (95%, Bonferroni):
    the number to rank by, since the largest of many estimates is flattered. NaN when refused.
    """

    action: int
    estimate: Estimate
    certain: float


def effects(
    log: Log,
    eligible: Bools,
    predictions: Floats,
    control: int = 0,
    min_effective: float = MIN_EFFECTIVE,
    by_lot: Bools | None = None,
) -> tuple[Effect, ...]:
    """The effect of every action but `control`, highest certain effect first, refused ones last.

    `eligible` (n, k) are the actions that could have been taken, each with a chance above 0;
    `predictions` (n, k) from `cross_fit` are the regression adjustment (Robins, Rotnitzky and
    Zhao 1994; zeros give the plain weighted difference in means). `by_lot` (n,) are the rows of
    groups that choose evenly, all of them by default. Either kind of rows counts for an action
    where it alone would be evidence enough.
    """
    k = predictions.shape[1]
    lot = np.ones(len(log), dtype=np.bool_) if by_lot is None else by_lot
    found = [
        _effect(log, eligible, predictions, a, control, min_effective, lot)
        for a in range(k)
        if a != control
    ]
    return tuple(sorted(found, key=lambda e: (np.isnan(e.certain), -e.certain)))


def _effect(
    log: Log,
    eligible: Bools,
    q: Floats,
    action: int,
    control: int,
    min_effective: float,
    by_lot: Bools,
) -> Effect:
    rows = np.flatnonzero(eligible[:, action] & eligible[:, control])
    if len(rows) < 2:
        nan = float("nan")
        reason = "there are no decisions in which it was possible"
        none = Estimate("effect", nan, nan, nan, nan, len(rows), 0.0, "refused", reason)
        return Effect(action, none, nan)
    part, lot = log.take(rows), by_lot[rows]
    weight = _weights(part, lot, action, control, min_effective)
    used = tuple(weight * (part.action == a) / part.propensity for a in (action, control))
    score = weight * _scores(part, q[rows], action, control)
    inside = score - weight * np.where(lot, _mean(score, weight, lot), _mean(score, weight, ~lot))
    scores = Scores(float(score.mean()), inside)
    estimate = estimate_of("effect", scores, part, used, min_effective)
    if estimate.effective_n < min_effective:
        reason = (
            f"it, or what it is compared with, was chosen too rarely: {estimate.effective_n:.0f}"
            f" effective decisions where {min_effective:.0f} are needed"
        )
        estimate = replace(estimate, reason=reason)
    level = 1 - 0.1 / (q.shape[1] - 1)  # one-sided 95% for all of them together
    certain = estimate_of("effect", scores, part, used, min_effective, level).low
    return Effect(action, estimate, certain)


def _weights(log: Log, by_lot: Bools, action: int, control: int, least: float) -> Floats:
    """Row weights of mean 1 that mix the two kinds of rows by what each knows of the difference.

    Each kind alone estimates the same effect. Its share is as the effective size of its
    difference, 1 / (1 / size of action + 1 / size of control), which no reward has a part in.
    """
    sizes = []
    for rows in (by_lot, ~by_lot):
        one, other = (
            effective_sample_size((log.action == a)[rows] / log.propensity[rows])
            for a in (action, control)
        )
        sizes.append(one * other / max(one + other, _NIL) if min(one, other) >= least else 0.0)
    if not any(sizes):
        sizes = [1.0, 0.0] if by_lot.any() else [0.0, 1.0]
    share = np.where(by_lot, sizes[0] / max(by_lot.sum(), 1), sizes[1] / max((~by_lot).sum(), 1))
    out: Floats = share / share.mean()
    return out


def _mean(score: Floats, weight: Floats, rows: Bools) -> float:
    return float(score[rows].sum()) / max(float(weight[rows].sum()), _NIL)


def _scores(log: Log, q: Floats, action: int, control: int) -> Floats:
    out: Floats = q[:, action] - q[:, control]
    for a, sign in ((action, 1.0), (control, -1.0)):
        out = out + sign * (log.action == a) * (log.reward - q[:, a]) / log.propensity
    return out


@dataclass(frozen=True, eq=False)
class PersonalEffect:
    """The effect of `action` as a linear function of the context: `value`, `low`, `high` of it.

    `coefficients` (1 + d,) of 1 and the standardised features, with their `covariance`.
    """

    action: int
    coefficients: Floats
    covariance: Floats
    centre: Floats
    scale: Floats
    degrees: float

    def at(self, x: Floats, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
        """Effect of each context `x` (m, d) with its interval: three arrays (m,)."""
        z = _design(x, self.centre, self.scale)
        value: Floats = z @ self.coefficients
        spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", z, self.covariance, z), 0.0))
        half = float(special.stdtrit(self.degrees, 0.5 + level / 2)) * spread
        return value, value - half, value + half


def personal_effect(
    log: Log,
    x: Floats,
    eligible: Bools,
    predictions: Floats,
    action: int,
    control: int = 0,
    by_lot: Bools | None = None,
) -> PersonalEffect:
    """DR-learner with a linear last stage: the scores regressed on the context (Kennedy 2023).

    `predictions` must be cross-fitted; then the line is the best linear approximation of the
    effect, with an honest interval (sandwich covariance, customers as units), even where the
    model of the rewards is wrong. `by_lot` as in `effects`. Raises ValueError when rows are fewer
    than 10 a coefficient.
    """
    rows = np.flatnonzero(eligible[:, action] & eligible[:, control])
    d = x.shape[1] + 1
    if len(rows) < 10 * d:
        raise ValueError(f"{len(rows)} decisions are too few for {d} coefficients")
    part = log.take(rows)
    lot = np.ones(len(rows), dtype=np.bool_) if by_lot is None else by_lot[rows]
    weight = _weights(part, lot, action, control, MIN_EFFECTIVE)[:, None]
    centre, spread = x[rows].mean(axis=0), x[rows].std(axis=0)
    scale = np.where(spread > _NIL, spread, np.inf)
    z = _design(x[rows], centre, scale)
    inverse = np.linalg.pinv(z.T @ (weight * z))
    score = _scores(part, predictions[rows], action, control)
    theta = inverse @ ((weight * z).T @ score)
    moved = weight * z * (score - z @ theta)[:, None]
    if part.customer is not None:
        _, unit = np.unique(part.customer, return_inverse=True)
        moved = np.stack([np.bincount(unit, column) for column in moved.T], axis=1)
    m = len(moved)
    covariance = inverse @ (moved.T @ moved) @ inverse * (m / max(m - d, 1))
    return PersonalEffect(action, theta, covariance, centre, scale, float(max(m - d, 1)))


def choose(effects_at: list[PersonalEffect], x: Floats, possible: Bools) -> tuple[Ints, Floats]:
    """The action of highest certain effect for each context, and that bound: (m,), (m,).

    `x` (m, d), `possible` (m, k). The bound is the lower end of an interval that holds for all
    the actions at once; where none is above 0 the choice is NO_EFFECT.
    """
    level = 1 - 0.1 / max(len(effects_at), 1)
    low = np.full(possible.shape, -np.inf)
    for effect in effects_at:
        low[:, effect.action] = effect.at(x, level)[1]
    low = np.where(possible, low, -np.inf)
    best = low.max(axis=1)
    return np.where(best > 0, low.argmax(axis=1), NO_EFFECT), best


def _design(x: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.concatenate([np.ones((len(x), 1)), (x - centre) / scale], axis=1)
