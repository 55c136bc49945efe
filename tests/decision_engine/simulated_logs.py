"""Randomised logs with known truth, for the tests of evaluation and for make bench-evaluate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from decision_engine.evaluate import Estimate, Log, compare, dm, dr, ips, snips, switch_dr
from decision_engine.reward_model import cross_fit, folds_of
from decision_engine.types import Floats

EFFECTS = np.array([[0.5, 0.2, 0.0], [-0.3, 0.4, 0.2], [0.0, -0.5, 0.3], [0.2, 0.1, -0.6]])
LEVELS = np.array([0.0, 0.3, -0.2, 0.4])


@dataclass(frozen=True)
class World:
    """Four actions and three features: `n` rows, rewards near `base`, logging of strength `skew`.

    `linear`: the model of the rewards is right; else they are logistic. `money`: a reward is
    log-normal with mean 1 when there is one. `rows` a customer: that many decisions each.
    """

    name: str
    n: int
    base: float
    skew: float
    linear: bool = False
    money: bool = False
    rows: int = 1

    def contexts(self, rng: np.random.Generator, n: int) -> Floats:
        people = n // self.rows
        x = rng.normal(size=(people, 3))
        return np.repeat((x > 0).astype(float) if self.linear else x, self.rows, axis=0)

    def rates(self, x: Floats, taste: Floats | float = 0.0) -> Floats:
        """Mean reward (n, 4), given what only the customer knows, `taste` (n, 1)."""
        if self.linear:
            return np.asarray(self.base * (1 + 0.4 * (x @ EFFECTS.T + LEVELS) + 0.3 * taste))
        score = x @ EFFECTS.T + LEVELS + special.logit(self.base) + 0.5 * taste
        return np.asarray(special.expit(score))

    def logging(self, x: Floats) -> Floats:
        return np.asarray(0.9 * special.softmax(self.skew * (x @ EFFECTS.T), axis=1) + 0.025)

    def target(self, x: Floats) -> Floats:
        wish = x @ EFFECTS[::-1].T - self.skew * (x @ EFFECTS.T)
        return np.asarray(0.9 * special.softmax(wish, axis=1) + 0.025)

    def tastes(self, rng: np.random.Generator, n: int) -> Floats:
        if self.rows == 1:
            return np.zeros((n, 1))
        return np.repeat(rng.choice([-1.0, 1.0], n // self.rows), self.rows)[:, None]

    def truth(self, n: int = 500_000) -> tuple[float, float]:
        """The value of the target, and what it gains over the logging policy."""
        rng = np.random.default_rng(99)
        x = self.contexts(rng, n)
        rates = self.rates(x, self.tastes(rng, n))
        value = float((self.target(x) * rates).sum(axis=1).mean())
        return value, value - float((self.logging(x) * rates).sum(axis=1).mean())

    def draw(self, rng: np.random.Generator) -> tuple[Log, Floats]:
        """A log and its contexts (n, 3)."""
        x = self.contexts(rng, self.n)
        n = len(x)
        p = self.logging(x)
        action = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 3)
        row = np.arange(n)
        reward = (rng.random(n) < self.rates(x, self.tastes(rng, n))[row, action]).astype(float)
        if self.money:
            reward *= np.exp(rng.normal(size=n) - 0.5)
        customer = row // self.rows if self.rows > 1 else None
        return Log(action, reward, p[row, action], customer), x


WORLDS = (
    World("common reward", 1500, 0.30, 1.0),
    World("linear reward", 2000, 0.20, 1.0, linear=True),
    World("rare reward", 8000, 0.03, 1.0),
    World("skewed logging", 4000, 0.10, 1.5),
    World("little overlap", 4000, 0.30, 3.0),
    World("money", 4000, 0.20, 1.0, money=True),
    World("ten rows a customer", 6000, 0.20, 1.0, rows=10),
)


def estimates(world: World, rng: np.random.Generator) -> dict[str, Estimate]:
    """Every estimator on one log, with a cross-fitted model."""
    log, x = world.draw(rng)
    fit = cross_fit(log, x, 4, folds_of(log, rng))
    target, q = world.target(x), fit.predictions
    found = [
        ips(log, target),
        snips(log, target),
        dr(log, target, q),
        switch_dr(log, target, q, world.logging(x)),
        compare(log, target, world.logging(x), q),
    ]
    if world.linear:  # elsewhere its model is wrong, and so is it
        found.append(dm(log, target, q, fit.sensitivity(target)))
    return {e.estimator: e for e in found}


@dataclass
class Coverage:
    """How often the intervals of the estimates that were given held the truth."""

    given: int = 0
    covered: int = 0
    refused: int = 0
    squared: float = 0.0
    width: float = 0.0
    effective: float = 0.0

    def add(self, e: Estimate, truth: float) -> None:
        if e.verdict == "refused":
            self.refused += 1
            return
        self.given += 1
        self.covered += e.low <= truth <= e.high
        self.squared += (e.value - truth) ** 2
        self.width += e.high - e.low
        self.effective += e.effective_n

    @property
    def share(self) -> float:
        return self.covered / max(self.given, 1)


def coverage(world: World, repeats: int, seed: int) -> dict[str, Coverage]:
    """Coverage of every estimator over simulated logs."""
    value, gain = world.truth()
    found: dict[str, Coverage] = {}
    for repeat in range(repeats):
        for name, e in estimates(world, np.random.default_rng([seed, repeat])).items():
            truth = gain if name == "dr_difference" else value
            found.setdefault(name, Coverage()).add(e, truth)
    return found
