"""What a policy would have earned, from the log of another one; and what a group has earned.

Symbols: n logged rows, k actions, pi (n, k) the candidate's probabilities, p (n,) the logged
propensity of the action taken, q (n, k) a model's predicted rewards, w = pi[i, a_i] / p_i.
Every estimate has a standard error from its influence values, a 95% interval corrected for
their skewness, and a verdict: an estimate without enough evidence is refused, with the reason,
instead of shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from decision_engine.intervals import Verdict, bounds, shape, standard_error
from decision_engine.types import Bools, Floats, Ints

MIN_EFFECTIVE = 200.0
"""Below this many effective rows an interval is not to be trusted, so none is given."""

MAX_SKEWNESS = 0.5
"""Above it a few rows decide the estimate; a rate that rests on 4 events has this."""

_WEIGHT_TOLERANCE_SE = 4.0
_THRESHOLDS = 20


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


class Scores(NamedTuple):
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


def ips(log: Log, target: Floats, min_effective: float = MIN_EFFECTIVE) -> Estimate:
    """Inverse propensity score: mean(w r). Unbiased (Horvitz and Thompson 1952)."""
    w = weights(log, target)
    return estimate_of("ips", _ips(log, w), log, (w,), min_effective)


def snips(log: Log, target: Floats, min_effective: float = MIN_EFFECTIVE) -> Estimate:
    """Self-normalised IPS: sum(w r) / sum(w) (Swaminathan and Joachims 2015).

    Biased by O(1/n), bounded by the rewards seen, and usually of smaller variance.
    """
    w = weights(log, target)
    return estimate_of("snips", _snips(log, w), log, (w,), min_effective)


def dm(
    log: Log,
    target: Floats,
    predictions: Floats,
    sensitivity: Floats | None = None,
    min_effective: float = MIN_EFFECTIVE,
) -> Estimate:
    """Direct method: mean_i(sum_a pi[i, a] q[i, a]).

    As biased as the model. `sensitivity` (n,) is how each row moved the value through the model
    (`CrossFit.sensitivity`); without it the interval holds the noise of the contexts only. It is
    refused where the log has no support, like the others: a model only extrapolates there.
    """
    w = weights(log, target)
    per_row = _model_value(target, predictions)
    influence = per_row - per_row.mean()
    if sensitivity is not None:
        influence = influence + sensitivity
    return estimate_of("dm", Scores(float(per_row.mean()), influence), log, (w,), min_effective)


def dr(
    log: Log, target: Floats, predictions: Floats, min_effective: float = MIN_EFFECTIVE
) -> Estimate:
    """Doubly robust: mean_i(sum_a pi q + w (r - q[i, a_i])) (Dudik, Langford and Li 2011).

    Unbiased when the propensities are right, whatever the model, if that was not fitted on
    these rows; the better the model, the narrower the interval.
    """
    w = weights(log, target)
    return estimate_of("dr", _dr(log, target, w, predictions), log, (w,), min_effective)


def switch_dr(
    log: Log,
    target: Floats,
    predictions: Floats,
    logging: Floats | None = None,
    threshold: float | None = None,
    min_effective: float = MIN_EFFECTIVE,
) -> Estimate:
    """DR for rows with w <= `threshold`, the model alone for the others (Wang et al. 2017).

    `logging` (n, k) are the logged probabilities of all actions, when they are known. Without a
    `threshold`, that of `switch_threshold`.
    """
    w = weights(log, target)
    if threshold is None:
        threshold = switch_threshold(log, target, predictions, logging)
    kept = np.where(w <= threshold, w, 0.0)
    return estimate_of("switch_dr", _dr(log, target, kept, predictions), log, (w,), min_effective)


def switch_threshold(
    log: Log, target: Floats, predictions: Floats, logging: Floats | None = None
) -> float:
    """The weight above which the model is trusted more than the reward: least squared error.

    Minimises variance + bound^2 over 20 thresholds between the 5% quantile and the largest
    weight, at which it is DR. The bound on the bias is conservative (Wang, Agarwal and Dudik
    2017, section 4.1): the candidate's probability of weights above the threshold, from all
    actions with `logging` and else from those taken, times the largest residual seen.
    """
    w = weights(log, target)
    residual = log.reward - predictions[np.arange(len(log)), log.action]
    largest, top = float(np.abs(residual).max()), float(w.max())
    low = max(float(np.quantile(w, 0.05)), 1e-3 * top)
    if top <= 0 or low >= top:
        return top
    every = w if logging is None else target / np.maximum(logging, 1e-300)
    mass = w if logging is None else target

    def squared_error(t: float) -> float:
        bias = largest * float(np.where(every > t, mass, 0.0).sum()) / len(log)
        noise = standard_error(np.where(w <= t, w * residual, 0.0), log.customer)
        return noise**2 + (0.0 if t == top else bias**2)

    # From the largest down, so that a tie goes to the unbiased estimator.
    candidates: list[float] = [top, *np.geomspace(top, low, _THRESHOLDS)[1:].tolist()]
    return min(candidates, key=squared_error)


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
    scores = Scores(first.value - second.value, first.influence - second.influence)
    return estimate_of(name, scores, log, (w, v), min_effective)


def gain(log: Log, target: Floats, predictions: Floats, level: float = 0.95) -> Estimate:
    """Value of `target` (n, k) minus what the policy that was logged has earned on these rows.

    By DR for both: mean_i(sum_a pi q - q[i, a_i] + (w - 1) (r - q[i, a_i])). What is alike in the
    two adds no noise.
    """
    w = weights(log, target)
    taken = predictions[np.arange(len(log)), log.action]
    per_row = _model_value(target, predictions) - taken + (w - 1) * (log.reward - taken)
    value = float(per_row.mean())
    return estimate_of("dr_gain", Scores(value, per_row - value), log, (w,), level=level)


def _ips(log: Log, w: Floats) -> Scores:
    value = float((w * log.reward).mean())
    return Scores(value, w * log.reward - value)


def _snips(log: Log, w: Floats) -> Scores:
    mean_weight = float(w.mean())
    if mean_weight == 0.0:
        return Scores(float("nan"), np.zeros(len(w)))
    value = float((w * log.reward).mean()) / mean_weight
    return Scores(value, w * (log.reward - value) / mean_weight)


def _dr(log: Log, target: Floats, w: Floats, predictions: Floats) -> Scores:
    model = _model_value(target, predictions)
    per_row = model + w * (log.reward - predictions[np.arange(len(log)), log.action])
    value = float(per_row.mean())
    return Scores(value, per_row - value)


def _model_value(target: Floats, predictions: Floats) -> Floats:
    if predictions.shape != target.shape or not np.isfinite(predictions).all():
        raise ValueError(f"`predictions` must be finite and have shape {target.shape}")
    values: Floats = (target * predictions).sum(axis=1)
    return values


def estimate_of(
    name: str,
    scores: Scores,
    log: Log,
    used: Sequence[Floats],
    min_effective: float = MIN_EFFECTIVE,
    level: float = 0.95,
) -> Estimate:
    """The estimate with its interval, or the refusal that the weights `used` ask for."""
    size = min(effective_sample_size(w) for w in used)
    found = shape(scores.influence, log.customer)
    reasons = [_refusal(log, w, min_effective) for w in used] + [_too_skewed(found.skewness)]
    reason = next(filter(None, reasons), "")
    if reason:
        nan = float("nan")
        return Estimate(name, nan, nan, nan, nan, len(log), size, "refused", reason)
    error = standard_error(scores.influence, log.customer)
    below, above = (error * reach for reach in bounds(found, level))
    value = scores.value
    return Estimate(name, value, error, value - below, value + above, len(log), size)


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


def _too_skewed(skew: float) -> str:
    if abs(skew) <= MAX_SKEWNESS:
        return ""
    return (
        f"a few rows with large weights or rewards decide the estimate (skewness {skew:.2f}, "
        f"at most {MAX_SKEWNESS} allowed): wait for more data"
    )
