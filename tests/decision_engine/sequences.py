"""A simulated market in which what a message is worth depends on the one before; truth is known.

A customer is written to four times, a week apart: `offer`, `teach` or nothing. An offer sells more
after a lesson, most of all to those who are not eager, and less after another offer; a lesson sells
nothing by itself. So who takes the best next step by what it earns at once sends offers only, and
loses. The best plan of a journey is known by going backwards from its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from decision_engine.choose import choose
from decision_engine.keys import draw_streams
from decision_engine.learn import BUCKETS, Rewards, fold, update
from decision_engine.policies import linear_thompson
from decision_engine.state import PolicyState
from decision_engine.types import Floats, Ints, Keys

ACTIONS = ("no_action", "offer", "teach")
FEATURES = ("eager", "step", "last_action=offer", "last_action=teach")
STEPS, NONE, OFFER, TEACH = 4, 0, 1, 2
FLOOR, WEEK = 0.005, 7 * 86_400.0

Chooser = Callable[[int, Floats, Ints, Ints, Keys], Ints]
"""(week, eager (n,), step (n,), last action (n,), keys (n,)) to an action (n,)."""


def chances(eager: Floats) -> Floats:
    """P(order) by the last action and the next one (n, 3, 3)."""
    found = np.full((len(eager), 3, 3), 0.01)
    for last, level, slope in ((NONE, -3.0, 0.7), (OFFER, -3.8, 0.7), (TEACH, -1.4, 0.0)):
        found[:, last, OFFER] = expit(level + slope * eager)
    return found


@dataclass(frozen=True)
class Market:
    """`per_week` customers begin a journey in each of `weeks` weeks."""

    seed: int
    weeks: int
    per_week: int

    def eager(self, week: int) -> Floats:
        """How eager the customers of a week's cohort are (per_week,)."""
        return np.random.default_rng([self.seed, week, 1]).normal(size=self.per_week)

    def luck(self, week: int) -> Floats:
        """Uniform numbers of a cohort, by step (STEPS, per_week)."""
        return np.random.default_rng([self.seed, week, 2]).random((STEPS, self.per_week))

    def keys(self, week: int) -> Keys:
        """The keys of a cohort's decisions (STEPS, per_week)."""
        rng = np.random.default_rng([self.seed, week, 3])
        return rng.integers(0, 2**64, (STEPS, self.per_week), dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class Journeys:
    """What happened so far (weeks, STEPS, per_week): -1 where a step is still to come."""

    action: Ints
    last: Ints
    reward: Floats


def run(
    market: Market, chooser: Chooser, learn: Callable[[int, Journeys], None]
) -> tuple[Floats, Journeys]:
    """The journeys, and before them the orders of each by cohort (weeks,), as chances."""
    shape = (market.weeks, STEPS, market.per_week)
    seen = Journeys(np.full(shape, -1), np.zeros(shape, dtype=np.int64), np.zeros(shape))
    earned = np.zeros(market.weeks)
    for week in range(market.weeks + STEPS - 1):
        for step in range(STEPS):
            cohort = week - step
            if not 0 <= cohort < market.weeks:
                continue
            eager, who = market.eager(cohort), np.arange(market.per_week)
            last = seen.action[cohort, step - 1] if step else np.zeros(market.per_week, np.int64)
            key = market.keys(cohort)[step]
            action = chooser(week, eager, np.full(len(eager), step), last, key)
            p = chances(eager)[who, last, action]
            seen.action[cohort, step], seen.last[cohort, step] = action, last
            seen.reward[cohort, step] = market.luck(cohort)[step] < p
            earned[cohort] += p.mean()
        learn(week, seen)
    return earned, seen


def credited(reward: Floats, share: float) -> Floats:
    """Rewards (weeks, STEPS, n) with this share of the next step's credited reward."""
    out = reward.copy()
    for step in range(STEPS - 2, -1, -1):
        out[:, step] += share * out[:, step + 1]
    return out


class Agent:
    """`linear_thompson` with history in its context, and the credit of `sequence_credit`."""

    def __init__(self, market: Market, sequence_credit: float) -> None:
        self._market, self._credit = market, sequence_credit
        self._hashes = draw_streams(ACTIONS)
        self.state = PolicyState.initial("bench", "linear_thompson", ACTIONS, FEATURES)

    def choose(self, week: int, eager: Floats, step: Ints, last: Ints, keys: Keys) -> Ints:
        """By the engine's own posterior and draws."""
        x = features(eager, step, last)
        every = np.ones((len(x), len(ACTIONS)), dtype=np.bool_)
        mean, sd = linear_thompson.posterior(self.state, ACTIONS, x)
        return choose(keys, mean, sd, every, FLOOR, "gaussian", self._hashes)

    def learn(self, week: int, seen: Journeys) -> None:
        """All that is known, anew: closed when the journey is over, else by the share arrived."""
        cohort, step, who = np.nonzero(seen.action >= 0)
        reward = credited(seen.reward, self._credit)[cohort, step, who]
        weight = self._arrived(seen)[np.minimum(week - cohort - step, STEPS - 1), step]
        x = np.empty((len(cohort), len(FEATURES)))
        for one in np.unique(cohort):
            at = cohort == one
            eager = self._market.eager(int(one))[who[at]]
            x[at] = features(eager, step[at], seen.last[one, step[at], who[at]])
        rows = Rewards(
            x=x,
            action=seen.action[cohort, step, who],
            reward=reward,
            weight=weight,
            is_closed=weight >= 1.0,
            bucket=who % BUCKETS,
            order=np.arange(len(who)),
            decided_at=((cohort + step) * WEEK).astype(np.float64),
        )
        found = fold([rows], len(ACTIONS), len(FEATURES), (week + 1) * WEEK)
        start = PolicyState.initial("bench", "linear_thompson", ACTIONS, FEATURES)
        self.state = update(start, found, ACTIONS, "linear_thompson", (week + 1) * WEEK)

    def _arrived(self, seen: Journeys) -> Floats:
        """The share of a step's credited reward that has come, by its age in weeks."""
        out = np.ones((STEPS, STEPS))
        done = seen.action[:, -1, 0] >= 0
        by_step = seen.reward[done].sum(axis=(0, 2)) if done.any() else np.ones(STEPS)
        for step in range(STEPS):
            parts = by_step[step:] * self._credit ** np.arange(STEPS - step)
            out[:, step] = np.cumsum(np.pad(parts, (0, step))) / max(parts.sum(), 1e-12)
        return np.minimum(out, 1.0)


def features(eager: Floats, step: Ints, last: Ints) -> Floats:
    """The context (n, 4): the customer, and the history of the journey."""
    return np.column_stack([eager, step, last == OFFER, last == TEACH]).astype(np.float64)


def at_once(week: int, eager: Floats, step: Ints, last: Ints, keys: Keys) -> Ints:
    """The best next action by what it earns at once; knows the truth."""
    best: Ints = chances(eager)[np.arange(len(eager)), last].argmax(axis=1)
    return best


def in_turn(week: int, eager: Floats, step: Ints, last: Ints, keys: Keys) -> Ints:
    """The script a marketer would write: a lesson, then an offer."""
    return np.where(step % 2 == 0, TEACH, OFFER)


def evenly(week: int, eager: Floats, step: Ints, last: Ints, keys: Keys) -> Ints:
    """Any action."""
    return (keys % np.uint64(len(ACTIONS))).astype(np.int64)


def best_plan(week: int, eager: Floats, step: Ints, last: Ints, keys: Keys) -> Ints:
    """The best next action of the whole journey, backwards from its end; knows the truth."""
    p, n = chances(eager), len(eager)
    worth = np.zeros((n, 3))
    for left in range(STEPS - 1, int(step[0]), -1):
        worth = (p + worth[:, None, :]).max(axis=2)
        assert left > 0
    best: Ints = (p + worth[:, None, :])[np.arange(n), last].argmax(axis=1)
    return best


def nothing(week: int, seen: Journeys) -> None:
    """For who does not learn."""
