"""What a policy would have earned, from the log of another one; and what a group has earned.

Symbols: n logged rows, k actions, pi (n, k) the candidate's probabilities, p (n,) the logged
propensity of the action taken, q (n, k) a model's predicted rewards, w = pi[i, a_i] / p_i.
Every estimate has a standard error from its influence values, a 95% normal interval, and a
verdict: an estimate without enough evidence is refused, with the reason, instead of shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy import special

from decision_engine.types import Bools, Floats, Ints

Verdict = Literal["estimated", "refused"]

MIN_EFFECTIVE = 100.0
"""Below this many effective rows a normal interval is not to be trusted, so none is given."""

Z95 = float(special.ndtri(0.975))
_WEIGHT_TOLERANCE_SE = 4.0


@dataclass(frozen=True)
class Log:
    """Logged decisions with their rewards.

    `action` (n,) index in 0..k-1 · `reward` (n,) finite · `propensity` (n,) in (0, 1], of the
    action taken · `customer` (n,) any integer code of the person, when a person may have several
    rows: their rows are then one unit in every standard error. Raises ValueError.
    """

    action: Ints
    reward: Floats
    propensity: Floats
    customer: Ints | None = None

    def __post_init__(self) -> None:
        n = len(self.action)
        for name in ("action", "reward", "propensity", "customer"):
            values = getattr(self, name)
            if values is not None and values.shape != (n,):
                raise ValueError(f"`{name}` must have shape ({n},), not {values.shape}")
        if n == 0:
            raise ValueError("the log has no rows")
        if not np.isfinite(self.reward).all():
            raise ValueError("`reward` must be finite")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise ValueError("`propensity` must be above 0 and at most 1")

    def __len__(self) -> int:
        return len(self.action)

    def take(self, rows: Ints | Bools) -> Log:
        """The given rows."""
        customer = None if self.customer is None else self.customer[rows]
        return Log(self.action[rows], self.reward[rows], self.propensity[rows], customer)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; all four numbers are NaN when it is refused.

    `effective_n` is Kish's effective sample size of the weights, in rows.
    """

    estimator: str
    value: float
    standard_error: float
    low: float
    high: float
    n: int
    effective_n: float
    verdict: Verdict = "estimated"
    reason: str = ""


class _Scores(NamedTuple):
    """An estimator's value and its n influence values, whose mean is about 0."""

    value: float
    influence: Floats


def weights(log: Log, target: Floats) -> Floats:
    """Importance weights w (n,) of the candidate `target` (n, k), whose rows sum to 1."""
    n, k = len(log), target.shape[-1]
    if target.shape != (n, k):
        raise ValueError(f"`target` must have shape ({n}, k), not {target.shape}")
    if log.action.min() < 0 or log.action.max() >= k:
        raise ValueError(f"`action` must be between 0 and {k - 1}")
    if target.min() < 0 or not np.allclose(target.sum(axis=1), 1.0, atol=1e-6):
        raise ValueError("`target` must have non-negative rows that sum to 1")
    w: Floats = target[np.arange(n), log.action] / log.propensity
    return w


def effective_sample_size(w: Floats) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965; Owen, Monte Carlo theory, 2013, section 9.3)."""
    squares = float(np.square(w).sum())
    return float(w.sum()) ** 2 / squares if squares > 0 else 0.0


def standard_error(influence: Floats, customer: Ints | None = None) -> float:
    """Standard error of the mean of (n,) influence values, customers as units when given.

    sqrt(m/(m-1) sum_g (sum_{i in g} (x_i - mean))^2) / n over m units g (Liang and Zeger 1986).
    """
    centred = influence - influence.mean()
    if customer is not None:
        _, unit = np.unique(customer, return_inverse=True)
        centred = np.bincount(unit, centred)
    m = len(centred)
    if m < 2:
        return float("inf")
    return float(np.sqrt(m / (m - 1) * np.square(centred).sum()) / len(influence))


def ips(log: Log, target: Floats, min_effective: float = MIN_EFFECTIVE) -> Estimate:
    """Inverse propensity score: mean(w r). Unbiased (Horvitz and Thompson 1952)."""
    w = weights(log, target)
    return _estimate("ips", _ips(log, w), log, (w,), min_effective)


def snips(log: Log, target: Floats, min_effective: float = MIN_EFFECTIVE) -> Estimate:
    """Self-normalised IPS: sum(w r) / sum(w) (Swaminathan and Joachims 2015).

    Biased by O(1/n), bounded by the rewards seen, and usually of smaller variance.
    """
    w = weights(log, target)
    return _estimate("snips", _snips(log, w), log, (w,), min_effective)


def dm(
    log: Log, target: Floats, predictions: Floats, min_effective: float = MIN_EFFECTIVE
) -> Estimate:
    """Direct method: mean_i(sum_a pi[i, a] q[i, a]).

    As biased as the model: the interval holds sampling noise only. It is refused where the log
    has no support, like the others, since a model only extrapolates there.
    """
    w = weights(log, target)
    per_row = _model_value(target, predictions)
    scores = _Scores(float(per_row.mean()), per_row - per_row.mean())
    return _estimate("dm", scores, log, (w,), min_effective)


def dr(
    log: Log, target: Floats, predictions: Floats, min_effective: float = MIN_EFFECTIVE
) -> Estimate:
    """Doubly robust: mean_i(sum_a pi q + w (r - q[i, a_i])) (Dudik, Langford and Li 2011).

    Unbiased when the propensities are right, whatever the model, if that was not fitted on
    these rows; the better the model, the narrower the interval.
    """
    w = weights(log, target)
    return _estimate("dr", _dr(log, target, w, predictions), log, (w,), min_effective)


def compare(
    log: Log,
    target: Floats,
    baseline: Floats,
    predictions: Floats | None = None,
    min_effective: float = MIN_EFFECTIVE,
) -> Estimate:
    """Value of `target` minus value of `baseline` (both (n, k)), paired row by row.

    By DR with `predictions` (n, k), else by SNIPS. Refused when either of the two would be.
    """
    w, v = weights(log, target), weights(log, baseline)
    if predictions is None:
        name, first, second = "snips_difference", _snips(log, w), _snips(log, v)
    else:
        name = "dr_difference"
        first, second = _dr(log, target, w, predictions), _dr(log, baseline, v, predictions)
    scores = _Scores(first.value - second.value, first.influence - second.influence)
    return _estimate(name, scores, log, (w, v), min_effective)


def _ips(log: Log, w: Floats) -> _Scores:
    value = float((w * log.reward).mean())
    return _Scores(value, w * log.reward - value)


def _snips(log: Log, w: Floats) -> _Scores:
    mean_weight = float(w.mean())
    if mean_weight == 0.0:
        return _Scores(float("nan"), np.zeros(len(w)))
    value = float((w * log.reward).mean()) / mean_weight
    return _Scores(value, w * (log.reward - value) / mean_weight)


def _dr(log: Log, target: Floats, w: Floats, predictions: Floats) -> _Scores:
    model = _model_value(target, predictions)
    per_row = model + w * (log.reward - predictions[np.arange(len(log)), log.action])
    value = float(per_row.mean())
    return _Scores(value, per_row - value)


def _model_value(target: Floats, predictions: Floats) -> Floats:
    if predictions.shape != target.shape or not np.isfinite(predictions).all():
        raise ValueError(f"`predictions` must be finite and have shape {target.shape}")
    values: Floats = (target * predictions).sum(axis=1)
    return values


def _estimate(
    name: str, scores: _Scores, log: Log, used: Sequence[Floats], min_effective: float
) -> Estimate:
    size = min(effective_sample_size(w) for w in used)
    reason = next(filter(None, (_refusal(log, w, min_effective) for w in used)), "")
    if reason:
        nan = float("nan")
        return Estimate(name, nan, nan, nan, nan, len(log), size, "refused", reason)
    error = standard_error(scores.influence, log.customer)
    low, high = scores.value - Z95 * error, scores.value + Z95 * error
    return Estimate(name, scores.value, error, low, high, len(log), size)


def _refusal(log: Log, w: Floats, min_effective: float) -> str:
    size = effective_sample_size(w)
    if size < min_effective:
        return (
            f"effective sample {size:.0f} is below {min_effective:.0f}: "
            "the log has too few rows with the actions this policy chooses"
        )
    # E[w] = 1 whenever every action the candidate may choose could be logged.
    mean, error = float(w.mean()), standard_error(w, log.customer)
    if abs(mean - 1.0) > _WEIGHT_TOLERANCE_SE * error + 1e-6:
        return (
            f"the weights average {mean:.3f} where 1 is expected: the propensities do not fit "
            "the log, or the log never takes some actions this policy chooses"
        )
    return ""


class Learner(Protocol):
    """A policy that learns while it is replayed; rows are indices into the log."""

    def choose(self, rows: Ints) -> Ints:
        """The action (m,) for each of m offered rows, from what was learned so far."""

    def learn(self, rows: Ints) -> None:
        """Learn from the accepted rows, whose logged action is the chosen one."""


@dataclass(frozen=True)
class Replay:
    """A replayed run: `mean` reward of the accepted rows, and of the second half of the offers.

    `shares` (k,) are the arm shares among the rows accepted in the second half.
    """

    offered: int
    accepted: int
    mean: float
    second_half: float
    shares: tuple[float, ...]


def replay(log: Log, order: Ints, learner: Learner, k: int, batch: int = 500) -> Replay:
    """Rejection-sampling replay of a log with uniform propensities (Li et al. 2011).

    Rows are offered in `order`, `batch` at a time; a row counts, and is learned from, when the
    learner chooses its logged action. The mean is unbiased for the learner run live on the
    accepted rows. Rows of a log with other propensities first go through `uniform_rows`.
    """
    kept = [_offer(log, order[i : i + batch], learner) for i in range(0, len(order), batch)]
    late = np.concatenate(kept[len(kept) // 2 :])
    rows = np.concatenate(kept)
    counts = np.bincount(log.action[late], minlength=k)
    return Replay(
        offered=len(order),
        accepted=len(rows),
        mean=_mean(log.reward[rows]),
        second_half=_mean(log.reward[late]),
        shares=tuple(float(c) / max(len(late), 1) for c in counts),
    )


def uniform_rows(propensity: Floats, rng: np.random.Generator) -> Bools:
    """Rows (n,) to keep so that the kept log is uniform: each with probability min(p) / p.

    Needs the smallest propensity of any action to be among the logged ones.
    """
    keep: Bools = rng.random(len(propensity)) * propensity < propensity.min()
    return keep


def _offer(log: Log, rows: Ints, learner: Learner) -> Ints:
    accepted: Ints = rows[learner.choose(rows) == log.action[rows]]
    learner.learn(accepted)
    return accepted


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
