"""From decisions and their rewards to the next policy state.

Closed decisions (outcome window over) are folded into additive sums once. Open ones are summed
anew at every learn, with the share F of the reward that usually has arrived by their age:
A += F x x' and b += r x, r being what was observed so far. As E[r | x] = F x'theta, both sides of
the normal equations A theta = b have the same expectation as if the row weighed F and its final
reward were known, so the estimate is unbiased and a fresh action is not punished for being fresh.

Who usually earns more also differs more between actions, and scatters more: effects and noise are
taken as proportional to the usual reward g(x) of a customer (`Theta.usual`). A row then weighs g
and its reward is r / g, so the sums are of the same shape: A += g x x' and b += r x.

Order of summation is fixed (64 buckets of customers, each in decision order, buckets added as a
binary tree), so the sums have the same bits however the rows were split into batches, and
workers that own aligned halves, quarters, ... of the buckets merge to the same bits by addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_engine.basis import LEAST_USUAL, normal_equations, prior_precision, usual
from decision_engine.factors import Design, Equations, Units, credible_precisions
from decision_engine.keys import streams
from decision_engine.state import CONTEXT_FREE, DEFAULT_PRECISION, PolicyState, Sums, Theta
from decision_engine.types import Bools, Floats, Ints

BUCKETS = 64
LEAST_EVIDENCE = 30.0
"""Decisions (by weight) below which nothing is learned."""

LEARN_TOGETHER = frozenset({"factored_linear_thompson"})
"""Policies whose actions learn from each other; their prior has precisions of its own."""

PROPORTIONAL = frozenset({"linear_thompson", "factored_linear_thompson"})
"""Policies whose effects are proportional to the usual reward of a customer."""

_AUTO_EVIDENCE = 1000.0
_MOSTLY = 0.75
_PRECISIONS = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, CONTEXT_FREE)
_COMMON_PRECISION = 100.0
_NIL = 1e-12
_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Rewards:
    """n learnable decisions.

    `x` (n, d) raw features · `action` (n,) index into the actions · `reward` (n,) as observed so
    far · `weight` (n,) 1 for closed rows, the arrived share F of the reward for open ones ·
    `is_closed` (n,) · `bucket` (n,) from `buckets` · `order` (n,) any integers that sort the
    decisions of a bucket, distinct within it (the decision keys will do) · `decided_at` (n,)
    Unix seconds.
    """

    x: Floats
    action: Ints
    reward: Floats
    weight: Floats
    is_closed: Bools
    bucket: Ints
    order: NDArray[Any]
    decided_at: Floats

    def __len__(self) -> int:
        return len(self.action)

    def take(self, rows: NDArray[Any]) -> Rewards:
        """The given rows (index or bool array)."""
        return Rewards(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Evidence:
    """The sums of some rows at one reference time; `lowest` is the smallest reward, at most 0."""

    closed: Sums
    open: Sums
    lowest: float = 0.0

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.closed + other.closed, self.open + other.open, min(self.lowest, other.lowest)
        )


def buckets(customer_ids: Sequence[str]) -> Ints:
    """The bucket (n,) in 0..63 of each customer."""
    return (streams(customer_ids) >> np.uint64(58)).astype(np.int64)


def learn(
    previous: PolicyState | None,
    rows: Iterable[Rewards],
    *,
    agent: str,
    policy: str,
    actions: tuple[str, ...],
    features: tuple[str, ...],
    as_of: float,
    context_precision: float | str = "auto",
    half_life_days: float | None = None,
    units: Units | None = None,
    usual_reward: tuple[Floats | None, float] = (None, 0.0),
) -> PolicyState:
    """The next state of a policy at `as_of` (Unix seconds).

    `rows` are batches with the decisions that closed since `previous.as_of` (all closed ones when
    there is no previous state) and all open ones; `actions` and `features` name their axes,
    `units` say what actions share. With too little evidence the previous state comes back as it
    was, or the prior without one. `usual_reward` (weights, decisions it was fitted to) is for a
    first state; later ones keep theirs.
    Raises ValueError, naming the field, on malformed rows and when the features have changed:
    the sums are of other features then, learn again from all decisions with `previous` None.
    """
    prior = DEFAULT_PRECISION if context_precision == "auto" else float(context_precision)
    start = previous or PolicyState.initial(
        agent, policy, actions, features, context_precision=prior, half_life_days=half_life_days
    )
    if start.features != features:
        raise ValueError("`features` differ from those of the previous state")
    start = start.with_units(units or {})
    if previous is None:
        weights, since = usual_reward
        start = replace(start, theta=replace(start.theta, usual=weights, usual_from=since))
    found = fold(rows, len(actions), len(features), as_of, half_life_days, start.theta.usual)
    return update(start, found, actions, policy, as_of, context_precision, half_life_days)


def learn_anew(rows: Sequence[Rewards], *, policy: str, **settings: Any) -> PolicyState:
    """The state that all decisions so far give, by `learn` without a previous state.

    Twice, if the policy is one of `PROPORTIONAL`: what is usual for a customer comes first.
    """
    plain = learn(None, rows, policy=policy, **settings)
    count = float(plain.closed.count.sum())
    if policy not in PROPORTIONAL or count < _AUTO_EVIDENCE:
        return plain
    found = usual_reward_of(plain, rows)
    return learn(None, rows, policy=policy, usual_reward=(found, count), **settings)


def outgrown(state: PolicyState) -> bool:
    """Whether there is twice the evidence that the usual reward was fitted to: learn anew then."""
    count = float(state.closed.count.sum())
    return state.policy in PROPORTIONAL and count >= max(_AUTO_EVIDENCE, 2 * state.theta.usual_from)


def usual_reward_of(plain: PolicyState, rows: Iterable[Rewards]) -> Floats | None:
    """Weights (D,) for `basis.usual` from a state learned without them.

    None where the usual reward is not clearly positive for most customers.
    """
    theta = plain.theta
    slope = theta.common[1:] / theta.feature_scale
    weights = np.concatenate([[theta.common[0] - slope @ theta.feature_mean], slope])
    if theta.common[0] <= 0:
        return None
    weights /= theta.common[0]
    of = [usual(part.x, weights) > LEAST_USUAL for part in rows]
    return weights if of and np.concatenate(of).mean() >= _MOSTLY else None


def fold(
    batches: Iterable[Rewards],
    k: int,
    d: int,
    as_of: float,
    half_life_days: float | None = None,
    usual_reward: Floats | None = None,
) -> Evidence:
    """The sums of the rows, decayed to `as_of`, under the weights of the usual reward.

    Raises ValueError on malformed rows.
    """
    parts = [part for part in batches if len(part)]
    if not parts:
        return Evidence(Sums.zeros(k, d), Sums.zeros(k, d))
    rows = parts[0]
    if len(parts) > 1:
        rows = Rewards(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rewards))
        )
    _check(rows, k, d)
    decay = _decay(as_of - rows.decided_at, half_life_days)
    times = usual(rows.x, usual_reward)
    weight, relative = rows.weight * decay, rows.reward / times
    return Evidence(
        _sum(rows, rows.is_closed, weight * times, weight * rows.reward, relative, k),
        # What was seen of an open reward already is the share that has arrived: no second F.
        _sum(rows, ~rows.is_closed, weight * times, decay * rows.reward, relative, k),
        min(0.0, float(rows.reward.min())),
    )


def update(
    start: PolicyState,
    found: Evidence,
    actions: tuple[str, ...],
    policy: str,
    as_of: float,
    context_precision: float | str = "auto",
    half_life_days: float | None = None,
) -> PolicyState:
    """`start` with new evidence: `found.closed` is added, `found.open` replaces the open sums.

    `actions` name the rows of `found`. The settings theta are refitted from the sums alone.
    """
    if as_of < start.as_of:
        raise ValueError("`as_of` is before that of the previous state")
    state = start.with_actions(actions)
    into = [actions.index(a) if a in actions else -1 for a in state.actions]
    kept = state.closed.scaled(float(_decay(np.array(as_of - start.as_of), half_life_days)))
    closed, not_closed = kept + found.closed.take(into), found.open.take(into)
    total = closed + not_closed
    if total.weight.sum() < LEAST_EVIDENCE:
        return start
    low = min(start.theta.low, found.lowest)
    theta = _refit(total, low, context_precision, half_life_days)
    theta = replace(theta, usual=start.theta.usual, usual_from=start.theta.usual_from)
    if policy in LEARN_TOGETHER and total.weight.sum() >= _AUTO_EVIDENCE:
        design = Design.of(state.units, state.actions)
        equations = Equations(design, *normal_equations(total, theta))
        theta = replace(theta, precisions=credible_precisions(equations, theta.noise))
    return replace(state, policy=policy, as_of=as_of, closed=closed, open=not_closed, theta=theta)


def subtract(state: PolicyState, rows: Rewards, actions: tuple[str, ...]) -> PolicyState:
    """The state without a person: what `rows` once added is taken out again.

    `rows` must be the person's rows as they were learned (`actions` name their action axis). The
    sums agree with never having seen them up to rounding; theta is refitted at the next learn.
    """
    d, theta = len(state.features), state.theta
    found = fold([rows], len(actions), d, state.as_of, theta.half_life_days, theta.usual)
    into = [actions.index(a) if a in actions else -1 for a in state.actions]
    return replace(
        state,
        closed=_without(state.closed, found.closed.take(into)),
        open=_without(state.open, found.open.take(into)),
    )


def _without(sums: Sums, gone: Sums) -> Sums:
    """The difference; an action of which nothing is left has exactly nothing."""
    left = sums - gone
    is_left = left.count > 0
    return Sums(
        left.count,
        left.square * is_left,
        left.gram * is_left[:, None, None],
        left.moment * is_left[:, None],
    )


def _check(rows: Rewards, k: int, d: int) -> None:
    if rows.x.shape[1] != d or not np.isfinite(rows.x).all():
        raise ValueError(f"`x` must be finite with {d} features")
    if ((rows.action < 0) | (rows.action >= k)).any():
        raise ValueError(f"`action` must be in 0..{k - 1}")
    for name in ("reward", "decided_at"):
        if not np.isfinite(getattr(rows, name)).all():
            raise ValueError(f"`{name}` must be finite")
    if not ((rows.weight >= 0) & (rows.weight <= 1)).all():
        raise ValueError("`weight` must be in 0..1")
    if ((rows.bucket < 0) | (rows.bucket >= BUCKETS)).any():
        raise ValueError(f"`bucket` must be in 0..{BUCKETS - 1}")


def _decay(age_seconds: Floats, half_life_days: float | None) -> Floats:
    if half_life_days is None:
        return np.ones_like(age_seconds, dtype=np.float64)
    out: Floats = np.exp2(-np.maximum(age_seconds, 0.0) / (_DAY * half_life_days))
    return out


def _sum(
    rows: Rewards, which: Bools, weight: Floats, reward: Floats, relative: Floats, k: int
) -> Sums:
    """Sums of the rows `which`: weights of x x', weighted and relative rewards, all (n,)."""
    at = np.flatnonzero(which)
    at = at[np.argsort(rows.order[at], kind="stable")]
    group = rows.bucket[at] * k + rows.action[at]
    # Numbers of 16 bits are sorted by radix, which is several times faster.
    narrow = group.astype(np.int16) if BUCKETS * k < 2**15 else group
    by_group = np.argsort(narrow, kind="stable")
    at, edges = at[by_group], np.searchsorted(group[by_group], np.arange(BUCKETS * k + 1))

    def tree(low: int, high: int) -> Sums:
        if high - low > 1 and edges[low * k] < edges[high * k]:
            middle = (low + high) // 2
            return tree(low, middle) + tree(middle, high)
        out = Sums.zeros(k, rows.x.shape[1])
        starts = edges[low * k : high * k + 1]
        for action in np.flatnonzero(np.diff(starts)):
            part = at[starts[action] : starts[action + 1]]
            x = np.concatenate([np.ones((len(part), 1)), rows.x[part]], axis=1)
            out.count[action] = len(part)
            out.square[action] = reward[part] @ relative[part]
            out.gram[action] = (x.T * weight[part]) @ x
            out.moment[action] = reward[part] @ x
        return out

    return tree(0, BUCKETS)


def _refit(
    total: Sums, low: float, context_precision: float | str, half_life_days: float | None
) -> Theta:
    weight = total.weight.sum()
    mean, variance = _features(total)
    reward = float(total.reward.sum() / weight)
    spread = float(total.square.sum() / weight - reward**2)
    # Equal rewards say nothing about their scale; any positive noise keeps exploring then.
    spread = spread if spread > _NIL * (1 + reward**2) else 1.0
    theta = Theta(
        feature_mean=mean,
        feature_scale=np.sqrt(np.where(variance > 0, variance, 1.0)),
        common=np.zeros(len(mean) + 1),
        low=low,
        high=reward + spread / (reward - low) if reward > low else low + 1.0,
        half_life_days=half_life_days,
    )
    theta = _with_common(total, theta, spread)
    return replace(theta, context_precision=_precision(total, theta, context_precision))


def _features(total: Sums) -> tuple[Floats, Floats]:
    """Mean and variance (d,) of the features; a variance that is only rounding is 0."""
    gram, weight = total.gram.sum(axis=0), max(float(total.weight.sum()), _NIL)
    mean = gram[0, 1:] / weight
    variance = np.diag(gram)[1:] / weight - mean**2
    return mean, np.where(variance > _NIL * (1 + mean**2), variance, 0.0)


def has_context(state: PolicyState) -> bool:
    """Whether any feature was not the same for all it has learned from."""
    return bool(_features(state.closed + state.open)[1].any())


def _with_common(total: Sums, theta: Theta, spread: float) -> Theta:
    """Theta with the model of all actions together and the sd of what it leaves unexplained."""
    gram, moment = (part.sum(axis=0) for part in normal_equations(total, theta))
    prior = np.concatenate([[0.0], np.full(len(moment) - 1, _COMMON_PRECISION)])
    common = np.linalg.solve(gram + np.diag(prior), moment)
    explained = (2 * moment - gram @ common)[1:] @ common[1:] / gram[0, 0]
    return replace(theta, common=common, noise=max(spread - explained, 0.01 * spread) ** 0.5)


def _precision(total: Sums, theta: Theta, wanted: float | str) -> float:
    """The prior precision of the context weights: the wanted one, or the most credible one.

    Choosing too early can end in one action for all and no data left to see that it is wrong.
    """
    if wanted != "auto":
        return float(wanted)
    if total.weight.sum() < _AUTO_EVIDENCE:
        return DEFAULT_PRECISION
    return max(_PRECISIONS, key=lambda c: log_evidence(total, theta, c))


def log_evidence(total: Sums, theta: Theta, context_precision: float) -> float:
    """The log marginal likelihood of the rewards, up to a constant, summed over the actions.

    For a linear model with known noise sd v and prior precision P / v^2 it is
    (log|P| - log|A + P| + b'(A + P)^-1 b / v^2) / 2, from the sums alone.
    """
    gram, moment = normal_equations(total, theta)
    prior = prior_precision(gram.shape[1] - 1, context_precision)
    factor = np.linalg.cholesky(gram + np.diag(prior))
    log_det = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum()
    fit = np.linalg.solve(factor, moment[:, :, None])
    explained = float(np.square(fit).sum()) / theta.noise**2
    return float(len(gram) * np.log(prior).sum() - log_det + explained) / 2
