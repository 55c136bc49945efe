"""What an action causes, on average and for whom, from decisions made at random.

Symbols as in `evaluate`; c is the action compared with (index 0, no_action, by default). The
score of a row, q_a - q_c + 1(a_i = a)(r - q_a)/p - 1(a_i = c)(r - q_c)/p, has the row's true
effect as expectation whatever the model q, because the propensities are known. What was sent to
whom by a policy that looks at the customer, or the plain means of those who got an action, say
what goes together; these say what would change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from decision_engine.evaluate import MIN_EFFECTIVE, Estimate, Log, Scores, estimate_of
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
) -> tuple[Effect, ...]:
    """The effect of every action but `control`, highest certain effect first, refused ones last.

    `eligible` (n, k) are the actions that could have been taken, each with a chance above 0;
    `predictions` (n, k) from `cross_fit` are the regression adjustment (Robins, Rotnitzky and
    Zhao 1994; zeros give the plain weighted difference in means).
    """
    k = predictions.shape[1]
    found = [
        _effect(log, eligible, predictions, a, control, min_effective)
        for a in range(k)
        if a != control
    ]
    return tuple(sorted(found, key=lambda e: (np.isnan(e.certain), -e.certain)))


def _effect(
    log: Log, eligible: Bools, q: Floats, action: int, control: int, min_effective: float
) -> Effect:
    rows = np.flatnonzero(eligible[:, action] & eligible[:, control])
    if len(rows) < 2:
        nan = float("nan")
        reason = "there are no decisions in which it was possible"
        none = Estimate("effect", nan, nan, nan, nan, len(rows), 0.0, "refused", reason)
        return Effect(action, none, nan)
    part = log.take(rows)
    used = tuple((part.action == a) / part.propensity for a in (action, control))
    score = _scores(part, q[rows], action, control)
    scores = Scores(float(score.mean()), score - score.mean())
    estimate = estimate_of("effect", scores, part, used, min_effective)
    level = 1 - 0.1 / (q.shape[1] - 1)  # one-sided 95% for all of them together
    certain = estimate_of("effect", scores, part, used, min_effective, level).low
    return Effect(action, estimate, certain)


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
    log: Log, x: Floats, eligible: Bools, predictions: Floats, action: int, control: int = 0
) -> PersonalEffect:
    """DR-learner with a linear last stage: the scores regressed on the context (Kennedy 2023).

    `predictions` must be cross-fitted; then the line is the best linear approximation of the
    effect, with an honest interval (sandwich covariance, customers as units), even where the
    model of the rewards is wrong. Raises ValueError when rows are fewer than 10 a coefficient.
    """
    rows = np.flatnonzero(eligible[:, action] & eligible[:, control])
    d = x.shape[1] + 1
    if len(rows) < 10 * d:
        raise ValueError(f"{len(rows)} decisions are too few for {d} coefficients")
    part = log.take(rows)
    centre, spread = x[rows].mean(axis=0), x[rows].std(axis=0)
    scale = np.where(spread > _NIL, spread, np.inf)
    z = _design(x[rows], centre, scale)
    inverse = np.linalg.pinv(z.T @ z)
    score = _scores(part, predictions[rows], action, control)
    theta = inverse @ (z.T @ score)
    moved = z * (score - z @ theta)[:, None]
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
