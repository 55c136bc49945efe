"""Experiments in which nothing differs between the groups, looked at every day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decision_engine.lift import Interval, Lift, adjusted, group_of, lift, moments_of
from decision_engine.sample_ratio import sample_ratio
from decision_engine.types import Floats

DAYS = 28


@dataclass(frozen=True)
class Experiment:
    """`customers` split by `share`; a day's reward is 1, or log-normal money, with chance `rate`.

    `stay`: the same customers all the time, whose rewards add up, some buying more than others by
    nature; else new customers come every day with one reward each. `lost`: this share of the
    treatment's customers is never counted. `effect` is added to the treatment's rate.
    """

    name: str
    customers: int = 3000
    share: float = 0.5
    rate: float = 0.1
    money: bool = False
    stay: bool = True
    lost: float = 0.0
    effect: float = 0.0


EXPERIMENTS = (
    Experiment("clicks, the same customers"),
    Experiment("money, the same customers", money=True),
    Experiment("money, a tenth held out", money=True, share=0.9, customers=6000),
    Experiment("new customers every day", stay=False, customers=6000),
)


@dataclass
class Looks:
    """Whether any daily look called it: naively, always-valid, with CUPED; and the sizes."""

    naive: bool = False
    valid: bool = False
    cuped: bool = False
    sizes: bool = False


def run(of: Experiment, rng: np.random.Generator) -> Looks:
    """One experiment, looked at on every day."""
    n, looks = of.customers, Looks()
    nature = rng.gamma(2.0, 0.5, n)
    treated = rng.random(n) < of.share
    before = rng.poisson(28 * of.rate * nature).astype(np.float64)
    counted = ~(treated & (rng.random(n) < of.lost))
    arrives = rng.integers(0, DAYS, n)
    total = np.zeros(n)
    for day in range(DAYS):
        total += _reward(of, nature, treated, rng) * (True if of.stay else arrives == day)
        seen = counted & (True if of.stay else arrives <= day)
        a, b = seen & treated, seen & ~treated
        looks.sizes |= _sizes(int(a.sum()), int(b.sum()), of.share)
        if min(a.sum(), b.sum()) < 100:
            continue
        rows = int(seen.sum()) * (day + 1 if of.stay else 1)
        plain = lift(group_of(total[a]), group_of(total[b]), rows)
        x = before[:, None]
        pair = adjusted(moments_of(total[a], x[a]), moments_of(total[b], x[b]))
        _note(looks, plain, lift(*pair, rows).always_valid)
    return looks


def _reward(
    of: Experiment, nature: Floats, treated: np.ndarray, rng: np.random.Generator
) -> Floats:
    got = rng.random(of.customers) < of.rate * nature + of.effect * treated
    worth = np.exp(rng.normal(size=of.customers)) if of.money else 1.0
    return np.asarray(got * worth, dtype=np.float64)


def _sizes(first: int, second: int, share: float) -> bool:
    shares = np.array([[share, 1 - share]])
    return sample_ratio(np.array([[first, second]]), shares).verdict == "refused"


def _note(looks: Looks, plain: Lift, cuped: Interval) -> None:
    looks.naive |= plain.difference.excludes_zero
    looks.valid |= plain.always_valid.excludes_zero
    looks.cuped |= cuped.excludes_zero


def rates(of: Experiment, repeats: int, seed: int) -> dict[str, float]:
    """The share of experiments that any look called."""
    found = [run(of, np.random.default_rng([seed, r])) for r in range(repeats)]
    return {name: float(np.mean([getattr(f, name) for f in found])) for name in vars(Looks())}
