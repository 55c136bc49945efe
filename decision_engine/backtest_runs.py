"""The runs of a backtest: truth by action, replays while learning, held-out values.

Every shuffle is used for all policies alike, so differences between policies are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from decision_engine.backtest_data import Campaign
from decision_engine.backtest_policies import BEST, LINEAR, UNIFORM, learners, predictions
from decision_engine.evaluate import Estimate, Log, compare, dr, ips, snips, switch_dr
from decision_engine.lift import Interval, group_of, mean_interval, paired_interval
from decision_engine.rejection import Replay, replay, uniform_rows
from decision_engine.types import Floats

Progress = Callable[[str], None]

ESTIMATORS = ("ips", "snips", "dr", "switch_dr")


@dataclass(frozen=True)
class ArmTruth:
    """What an action earned: rows that got it, mean reward (SNIPS when propensities differ)."""

    arm: str
    n: int
    mean: Interval


@dataclass(frozen=True)
class ReplayValue:
    """Mean reward of a policy replayed over every shuffle.

    Intervals are Student's t over shuffles: they hold the luck of order and draws, not of which
    customers are in the file. `shares` by arm are of the second half; `per_shuffle` (s,) means.
    """

    policy: str
    mean: Interval
    second_half: float
    shares: dict[str, float]
    accepted: float
    against_uniform: Interval
    against_best: Interval
    per_shuffle: tuple[float, ...]


@dataclass(frozen=True)
class HeldOut:
    """Value of a policy on rows it was not learned from, and its DR differences."""

    policy: str
    ips: Estimate
    snips: Estimate
    dr: Estimate
    switch_dr: Estimate
    against_uniform: Interval
    against_best: Interval


def truth_of(campaign: Campaign) -> tuple[ArmTruth, ...]:
    """What each action earned, in the order of `campaign.arms`."""
    counts = np.bincount(campaign.log.action, minlength=len(campaign.arms))
    return tuple(
        ArmTruth(arm, int(n), _arm_mean(campaign.log, a))
        for a, (arm, n) in enumerate(zip(campaign.arms, counts, strict=True))
    )


def _arm_mean(log: Log, action: int) -> Interval:
    got = log.action == action
    if (log.propensity == log.propensity[0]).all():
        return mean_interval(group_of(log.reward[got]))
    target = np.zeros((len(log), int(log.action.max()) + 1))
    target[:, action] = 1.0
    return interval_of(snips(log, target))


def replays_of(
    campaign: Campaign, best: int, shuffles: int, seed: int, progress: Progress
) -> tuple[ReplayValue, ...]:
    """Every policy replayed over the same `shuffles`; `best` is the best arm in hindsight."""
    runs: dict[str, list[Replay]] = {}
    for s in range(shuffles):
        rng = np.random.default_rng([seed, s])
        kept = np.flatnonzero(uniform_rows(campaign.log.propensity, rng))
        order = rng.permutation(kept)
        for name, learner in learners(campaign, best, rng).items():
            progress(f"shuffle {s + 1} of {shuffles}: replay of {name}")
            run = replay(campaign.log, order, learner, len(campaign.arms))
            runs.setdefault(name, []).append(run)
    means = {name: np.array([r.mean for r in of]) for name, of in runs.items()}
    return tuple(_replay_value(campaign.arms, name, of, means) for name, of in runs.items())


def _replay_value(
    arms: tuple[str, ...], name: str, runs: list[Replay], means: dict[str, Floats]
) -> ReplayValue:
    shares = np.mean([r.shares for r in runs], axis=0)
    return ReplayValue(
        policy=name,
        mean=paired_interval(means[name]),
        second_half=float(np.mean([r.second_half for r in runs])),
        shares={arm: round(float(s), 4) for arm, s in zip(arms, shares, strict=True)},
        accepted=float(np.mean([r.accepted for r in runs])),
        against_uniform=paired_interval(means[name] - means[UNIFORM]),
        against_best=paired_interval(means[name] - means[BEST]),
        per_shuffle=tuple(means[name].tolist()),
    )


def held_out_of(
    campaign: Campaign, shuffles: int, seed: int, progress: Progress
) -> tuple[tuple[HeldOut, ...], Estimate]:
    """Policies valued on rows they were not learned from; context against the best action."""
    found: dict[tuple[str, str], list[Estimate]] = {}
    for s in range(shuffles):
        progress(f"shuffle {s + 1} of {shuffles}: held out")
        rng = np.random.default_rng([seed, s, 1])
        for key, estimate in _cross_fitted(campaign, rng).items():
            found.setdefault(key, []).append(estimate)
    combined = {key: over_splits(estimates) for key, estimates in found.items()}
    held_out = tuple(
        HeldOut(
            policy=name,
            **{estimator: combined[name, estimator] for estimator in ESTIMATORS},
            against_uniform=interval_of(combined[name, UNIFORM]),
            against_best=interval_of(combined[name, BEST]),
        )
        for name in (UNIFORM, BEST, LINEAR)
    )
    return held_out, combined[LINEAR, BEST]


def _cross_fitted(campaign: Campaign, rng: np.random.Generator) -> dict[tuple[str, str], Estimate]:
    """Every held-out estimate of one split; each row is valued by what the other half taught."""
    n, k, log = len(campaign), len(campaign.arms), campaign.log
    fold = rng.permutation(n) % 2
    q, best = np.empty((n, k)), np.empty(n, dtype=np.int64)
    for half in (0, 1):
        q[fold == half] = predictions(
            campaign, np.flatnonzero(fold != half), np.flatnonzero(fold == half)
        )
        best[fold == half] = best_arm(log.take(fold != half), k)
    targets = {
        UNIFORM: np.full((n, k), 1 / k),
        BEST: np.eye(k)[best],
        LINEAR: np.eye(k)[q.argmax(axis=1)],
    }
    found = {}
    for name, target in targets.items():
        by_model = (method(log, target, q) for method in (dr, switch_dr))
        for e in (ips(log, target), snips(log, target), *by_model):
            found[name, e.estimator] = e
        for other in (UNIFORM, BEST):
            found[name, other] = compare(log, target, targets[other], q)
    return found


def best_arm(log: Log, k: int) -> int:
    """The arm of the highest mean reward, self-normalised by propensity."""
    w = 1 / log.propensity
    sums = np.bincount(log.action, w * log.reward, minlength=k)
    return int((sums / np.maximum(np.bincount(log.action, w, minlength=k), 1e-300)).argmax())


def over_splits(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate of several of the same value on the same rows, split differently.

    Median value m, and the median of error^2 + (value - m)^2 as squared error (Chernozhukov et
    al. 2018, definition 3.3), so that the luck of the split widens the interval. Refused when
    any of them is.
    """
    refused = next((e for e in estimates if e.verdict == "refused"), None)
    if refused is not None:
        return refused
    values = np.array([e.value for e in estimates])
    errors = np.array([e.standard_error for e in estimates])
    value = float(np.median(values))
    error = float(np.sqrt(np.median(errors**2 + (values - value) ** 2)))
    below, above = (error * _median_reach(estimates, end) for end in ("low", "high"))
    size = float(np.median([e.effective_n for e in estimates]))
    first = estimates[0]
    return Estimate(first.estimator, value, error, value - below, value + above, first.n, size)


def _median_reach(estimates: Sequence[Estimate], end: str) -> float:
    """How many standard errors the intervals reach to one end, in the median."""
    reach = [
        abs(getattr(e, end) - e.value) / e.standard_error for e in estimates if e.standard_error > 0
    ]
    return float(np.median(reach)) if reach else 0.0


def interval_of(estimate: Estimate) -> Interval:
    """The value and bounds of an estimate."""
    return Interval(estimate.value, estimate.low, estimate.high)
