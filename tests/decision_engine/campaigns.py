"""Simulated campaigns whose truth is known, and a day-by-day run of anything that learns on them.

Logistic truth: P(convert | x, variant) with x standard normal. A conversion comes after Exp(2 days)
and within 7 days or not at all; that a message does not convert is known after 7 days. Every random
number of a run belongs to campaign and seed alone, so learners are compared on the same customers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from decision_engine.factors import Units
from decision_engine.types import Bools, Floats, Ints, Keys

DELAY, WINDOW = 2.0, 7


@dataclass(frozen=True, eq=False)
class Campaign:
    """`days` days of `per_day` messages, k variants, d features.

    `level` (periods, k) and `slope` (periods, k, d) are the variants' logits and change every
    `period` days; `common` (d,) is shared. `attributes` (k, a) are codes, known to the learners.
    """

    name: str
    days: int
    per_day: int
    period: int
    base: float
    common: Floats
    level: Floats
    slope: Floats
    x: Floats
    luck: Floats
    delay: Floats
    attributes: Ints
    half_life_days: float | None = None

    @property
    def k(self) -> int:
        """Variants."""
        return int(self.level.shape[1])

    @property
    def variants(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"variant-{i}" for i in range(self.k))

    @property
    def units(self) -> Units:
        """What they share."""
        values = [[f"a{j}={v}" for j, v in enumerate(row)] for row in self.attributes.tolist()]
        return {n: (f"creative={n}", *v) for n, v in zip(self.variants, values, strict=True)}

    def rows(self, day: int) -> slice:
        """The messages of a day."""
        return slice(day * self.per_day, (day + 1) * self.per_day)

    def chances(self, day: int) -> Floats:
        """P(convert) of the day's messages by variant (per_day, k)."""
        x, at = self.x[self.rows(day)], min(day // self.period, len(self.level) - 1)
        logit = self.base + (x @ self.common)[:, None] + self.level[at] + x @ self.slope[at].T
        return np.asarray(expit(logit))


@dataclass(frozen=True, eq=False)
class Feedback:
    """What is known at the end of a day about all messages so far (n,)."""

    x: Floats
    action: Ints
    day: Ints
    age: Ints
    converted: Bools
    delay: Floats

    @property
    def is_closed(self) -> Bools:
        """Whether nothing more can happen."""
        return self.age >= WINDOW

    @property
    def reward(self) -> Floats:
        """1 where a conversion has been seen."""
        return (self.converted & (self.delay < self.age)).astype(np.float64)


class Learner(Protocol):
    """Anything that chooses and learns."""

    def choose(self, x: Floats, keys: Keys) -> Ints:
        """A variant for each of n customers."""

    def learn(self, feedback: Feedback) -> None:
        """The end of a day."""


def run(campaign: Campaign, learner: Learner, seed: int) -> Floats:
    """The mean chance of what was chosen, by day (days,)."""
    rng, n = np.random.default_rng([seed, 5]), campaign.days * campaign.per_day
    keys = rng.integers(0, 2**64, n, dtype=np.uint64)
    action, converted = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    day_of, earned = np.repeat(np.arange(campaign.days), campaign.per_day), []
    for day in range(campaign.days):
        at, chances = campaign.rows(day), campaign.chances(day)
        action[at] = learner.choose(campaign.x[at], keys[at])
        chance = chances[np.arange(campaign.per_day), action[at]]
        earned.append(chance.mean())
        converted[at] = (campaign.luck[at] < chance) & (campaign.delay[at] < WINDOW)
        seen = slice(0, at.stop)
        learner.learn(
            Feedback(
                x=campaign.x[seen],
                action=action[seen],
                day=day_of[seen],
                age=day + 1 - day_of[seen],
                converted=converted[seen],
                delay=campaign.delay[seen],
            )
        )
    return np.array(earned)


def bounds(campaign: Campaign) -> Floats:
    """By day: the mean chance of uniform choice, of the best variant, of the oracle (days, 3)."""
    found = []
    for day in range(campaign.days):
        chances = campaign.chances(day)
        found.append([chances.mean(), chances.mean(axis=0).max(), chances.max(axis=1).mean()])
    return np.array(found)


def gap_share(campaign: Campaign, earned: Floats, first: int = 0, last: int | None = None) -> float:
    """The captured share of the gap from uniform choice to the oracle, over some of the days."""
    uniform, _, oracle = bounds(campaign)[first:last].mean(axis=0)
    return float((earned[first:last].mean() - uniform) / (oracle - uniform))


def email(seed: int) -> Campaign:
    """10 variants, 2,000 messages on each of 60 days; half the variants change on day 30.

    Base about 5 %; the best variant of each period earns about 22 % more than uniform choice, the
    oracle 80 %, in the mean over seeds.
    """
    rng, k, d = np.random.default_rng([seed, 1]), 10, 12
    level, slope = _periods(rng, 2, 0.5, k, d, (0.14, 0.13))
    return _campaign(rng, "email", 60, 2000, 30, level, slope, np.zeros((k, 0), dtype=np.int64))


def attributes(seed: int, k: int = 300, days: int = 24, per_day: int = 500) -> Campaign:
    """300 creatives of 4 attributes; 12,000 messages are 40 for each, too few to know any."""
    rng, d, values = np.random.default_rng([seed, 2]), 6, (6, 5, 4, 3)
    codes = np.stack([rng.integers(0, v, k) for v in values], axis=1)
    level, slope = rng.normal(size=(1, k)) * 0.05, rng.normal(size=(1, k, d)) * 0.03
    for j, v in enumerate(values):
        level[0] += (rng.normal(size=v) * 0.22)[codes[:, j]]
        slope[0] += (rng.normal(size=(v, d)) * 0.14)[codes[:, j]]
    return _campaign(rng, "attributes", days, per_day, days, level, slope, codes)


def drift(seed: int) -> Campaign:
    """6 variants over 90 days, of which half change every 15 days."""
    rng, k, d = np.random.default_rng([seed, 3]), 6, 4
    level, slope = _periods(rng, 6, 0.5, k, d, (0.35, 0.25))
    none = np.zeros((k, 0), dtype=np.int64)
    return _campaign(rng, "drift", 90, 2000, 15, level, slope, none, 8.0)


CAMPAIGNS: dict[str, Callable[[int], Campaign]] = {
    "email": email,
    "attributes": attributes,
    "drift": drift,
}


def _periods(
    rng: np.random.Generator, periods: int, changed: float, k: int, d: int, sd: tuple[float, float]
) -> tuple[Floats, Floats]:
    level, slope = [rng.normal(size=k) * sd[0]], [rng.normal(size=(k, d)) * sd[1]]
    for _ in range(periods - 1):
        again = rng.permutation(k)[: int(k * changed)]
        level.append(level[-1].copy())
        slope.append(slope[-1].copy())
        level[-1][again] = rng.normal(size=len(again)) * sd[0]
        slope[-1][again] = rng.normal(size=(len(again), d)) * sd[1]
    return np.array(level), np.array(slope)


def _campaign(
    rng: np.random.Generator,
    name: str,
    days: int,
    per_day: int,
    period: int,
    level: Floats,
    slope: Floats,
    codes: Ints,
    half_life_days: float | None = None,
) -> Campaign:
    n, d = days * per_day, slope.shape[2]
    common = np.asarray(rng.normal(size=d)) * 0.2
    x = rng.normal(size=(n, d))
    luck, delay = rng.random(n), rng.exponential(DELAY, n)
    return Campaign(
        name=name,
        days=days,
        per_day=per_day,
        period=period,
        base=-3.1,
        common=common,
        level=level,
        slope=slope,
        x=x,
        luck=luck,
        delay=delay,
        attributes=codes,
        half_life_days=half_life_days,
    )
