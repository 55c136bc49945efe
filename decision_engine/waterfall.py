"""Where the lift comes from: sending at all, guardrails, content, timing, and the model.

Six ways to decide, each a small step from the one before, from doing nothing to the treatment.
The value of each is a mean reward per decision, from customers drawn at random for it:

nothing     the holdout's mean
blind       any action with the same chance; one that a guardrail rules out becomes no_action
possible    any possible action with the same chance
content     contents as often as the treatment uses them, every timing with the same chance
timing      content and timing as often as the treatment uses them, whoever the customer is
treatment   the treatment's mean: the same actions, each for whom the model thinks best

The second to the fifth are doubly robust estimates on the `random` group, by its logged
propensities. A part is the difference of two neighbours, so the parts add up to the lift. In
another order they would be other numbers. What earlier messages did to later contexts is in
"sending" and "model", whose two ends are different customers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from decision_engine.evaluate import Estimate, Log, dr
from decision_engine.intervals import Verdict, bounds, shape, standard_error
from decision_engine.lift import MIN_GROUP, Interval
from decision_engine.types import Bools, Floats, Ints

PARTS = ("sending", "guardrails", "content", "timing", "model")


@dataclass(frozen=True)
class Waterfall:
    """`parts` in the order of PARTS; their values sum to `total.value`, to the last bit.

    Reward per decision, 95% intervals. The parts are NaN when refused, the total only when a
    group is too small.
    """

    total: Interval
    parts: dict[str, Interval]
    verdict: Verdict = "estimated"
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Randomised:
    """The groups' decisions, customers coded alike in all three; k actions, 0 is no_action.

    `eligible`, `predictions` (n, k) belong to the rows of `random`, the latter from `cross_fit`;
    `content` (k,) codes: actions of the same content differ in their timing only.
    """

    holdout: Log
    random: Log
    treatment: Log
    eligible: Bools
    predictions: Floats
    content: Ints


def waterfall(groups: Randomised) -> Waterfall:
    """The lift of treatment over holdout in its five parts."""
    sizes = {name: len(getattr(groups, name)) for name in ("holdout", "random", "treatment")}
    few = min(sizes, key=lambda name: sizes[name])
    if sizes[few] < MIN_GROUP:
        return _refused(f"the group {few} has {sizes[few]} decisions, fewer than {MIN_GROUP}")
    for target in _targets(groups):
        estimate: Estimate = dr(groups.random, target, groups.predictions)
        if estimate.verdict == "refused":
            return _refused(estimate.reason, _total(groups))
    scores = [_scores(groups.random, t, groups.predictions) for t in _targets(groups)]
    rows = [groups.holdout.reward, *scores, groups.treatment.reward]
    values = [float(r.mean()) for r in rows]
    steps = [b - a for a, b in pairwise(values)]
    influence, customer = _influence(groups, rows)
    parts = {
        name: _interval(step, influence[j + 1] - influence[j], customer)
        for j, (name, step) in enumerate(zip(PARTS, steps, strict=True))
    }
    return Waterfall(_interval(sum(steps), influence[-1] - influence[0], customer), parts)


def _total(groups: Randomised) -> Interval:
    ends = [groups.holdout.reward, groups.treatment.reward]
    influence, customer = _influence(groups, ends)
    value = float(ends[1].mean()) - float(ends[0].mean())
    return _interval(value, influence[1] - influence[0], customer)


def mix(shares: Floats, eligible: Bools) -> Floats:
    """Actions in proportion to `shares` (k,) among the possible ones: (n, k), rows sum to 1.

    Evenly where no possible action has a share.
    """
    wanted = np.where(eligible, shares, 0.0)
    empty = wanted.sum(axis=1, keepdims=True) <= 0
    wanted = np.where(empty, eligible, wanted)
    out: Floats = wanted / wanted.sum(axis=1, keepdims=True)
    return out


def _targets(groups: Randomised) -> list[Floats]:
    """What the blind, the possible, the content and the timing way do on the random rows."""
    k, eligible = len(groups.content), groups.eligible
    blind = np.where(eligible, 1 / k, 0.0)
    blind[:, 0] += 1 - blind.sum(axis=1)
    used = np.bincount(groups.treatment.action, minlength=k) / len(groups.treatment)
    of_content = np.bincount(groups.content, used)
    timings = np.bincount(groups.content)
    evenly_timed = (of_content / np.maximum(timings, 1))[groups.content]
    return [blind, mix(np.ones(k), eligible), mix(evenly_timed, eligible), mix(used, eligible)]


def _scores(log: Log, target: Floats, q: Floats) -> Floats:
    row = np.arange(len(log))
    w = target[row, log.action] / log.propensity
    out: Floats = (target * q).sum(axis=1) + w * (log.reward - q[row, log.action])
    return out


def _influence(groups: Randomised, rows: list[Floats]) -> tuple[list[Floats], Ints]:
    """Influence values of the six means over the rows of all groups, with their customers."""
    logs = (groups.holdout, groups.random, groups.treatment)
    starts = np.cumsum([0, *(len(log) for log in logs)])
    out = []
    for j, values in enumerate(rows):
        group = 0 if j == 0 else 2 if j == len(rows) - 1 else 1
        full = np.zeros(starts[-1])
        centred = (values - values.mean()) * (starts[-1] / len(values))
        full[starts[group] : starts[group + 1]] = centred
        out.append(full)
    codes = [
        starts[i] + np.arange(len(log)) if log.customer is None else log.customer
        for i, log in enumerate(logs)
    ]
    return out, np.concatenate(codes).astype(np.int64)


def _interval(value: float, influence: Floats, customer: Ints) -> Interval:
    error = standard_error(influence, customer)
    below, above = bounds(shape(influence, customer))
    return Interval(value, value - error * below, value + error * above)


def _refused(reason: str, total: Interval | None = None) -> Waterfall:
    none = Interval(float("nan"), float("nan"), float("nan"))
    return Waterfall(total or none, dict.fromkeys(PARTS, none), "refused", reason)
