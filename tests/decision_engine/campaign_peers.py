"""Peer libraries as learners of a simulated campaign; imported by the bench's own environment only.

Each gets every message once, when its window is over: given conversions as they come, and all
others after a week, they learn too high rates, and earn less. The first messages are uniform.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from decision_engine.types import Floats, Ints, Keys
from tests.decision_engine.campaigns import WINDOW, Campaign, Feedback, Learner


class Peer:
    """What all have in common: uniform until the first window is over, then day by day."""

    def __init__(self, campaign: Campaign, seed: int) -> None:
        self.campaign, self.seed, self.begun = campaign, seed, False
        self.rng = np.random.default_rng([seed, 9])
        warnings.simplefilter("ignore")

    def choose(self, x: Floats, keys: Keys) -> Ints:
        """Uniform, then what the library says."""
        if not self.begun:
            return self.rng.integers(0, self.campaign.k, len(x))
        return self.predict(x)

    def learn(self, feedback: Feedback) -> None:
        """The rows whose window ended today."""
        at = feedback.age == WINDOW
        if at.any():
            self.fit(feedback.x[at], feedback.action[at], feedback.reward[at])
            self.begun = True

    def predict(self, x: Floats) -> Ints:
        """The library's choices (n,)."""
        raise NotImplementedError

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """Teach it some rows."""
        raise NotImplementedError


class Uniform(Peer):
    """Nothing is learned."""

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """Nothing."""

    def predict(self, x: Floats) -> Ints:
        """Any."""
        return self.rng.integers(0, self.campaign.k, len(x))


class MabWiser(Peer):
    """A linear policy of mabwiser; it has no intercept of its own."""

    def __init__(self, campaign: Campaign, seed: int, policy: str, **options: float) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        super().__init__(campaign, seed)
        law = getattr(LearningPolicy, policy)(**options)
        self._mab = MAB(list(range(campaign.k)), law, seed=seed)

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """Fit, then partial_fit."""
        teach = self._mab.partial_fit if self.begun else self._mab.fit
        teach(decisions=action, rewards=reward, contexts=_led(x))

    def predict(self, x: Floats) -> Ints:
        """One prediction per row."""
        return np.array(self._mab.predict(_led(x))).reshape(-1)


class VowpalWabbit(Peer):
    """Features of customer and action (its name, its attributes), and their products."""

    def __init__(self, campaign: Campaign, seed: int, options: str) -> None:
        from vowpalwabbit import Workspace

        super().__init__(campaign, seed)
        common = "--cb_explore_adf -q UA --quiet --random_seed"
        self._vw: Any = Workspace(f"{common} {seed} {options}")
        codes = campaign.attributes.tolist()
        self._arms = [
            f"|A id={i} " + " ".join(f"a{j}={v}" for j, v in enumerate(row))
            for i, row in enumerate(codes)
        ]
        self._tail = "\n".join(self._arms)

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """One example per row."""
        for row, a, r in zip(x, action.tolist(), reward.tolist(), strict=True):
            label = f"0:{-r}:{1 / self.campaign.k} {self._arms[a]}"
            arms = [*self._arms[:a], label, *self._arms[a + 1 :]]
            self._vw.learn(_shared(row) + "\n" + "\n".join(arms))

    def predict(self, x: Floats) -> Ints:
        """A draw from the probabilities it gives."""
        u = self.rng.random(len(x))
        found = [self._vw.predict(_shared(row) + "\n" + self._tail) for row in x]
        p = np.cumsum(np.array(found), axis=1)
        picked: Ints = np.minimum((p < u[:, None]).sum(axis=1), self.campaign.k - 1)
        return picked


class Beta(MabWiser):
    """Thompson sampling of mabwiser without context."""

    def __init__(self, campaign: Campaign, seed: int) -> None:
        super().__init__(campaign, seed, "ThompsonSampling")

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """Rewards alone."""
        teach = self._mab.partial_fit if self.begun else self._mab.fit
        teach(decisions=action, rewards=reward)

    def predict(self, x: Floats) -> Ints:
        """One draw per row."""
        return np.array([self._mab.predict() for _ in range(len(x))])


class ContextualBandits(Peer):
    """A policy of contextualbandits, fitted to all rows each time: its fit starts anew."""

    def __init__(self, campaign: Campaign, seed: int, policy: str, **options: Any) -> None:
        from contextualbandits import online

        super().__init__(campaign, seed)
        made = getattr(online, policy)
        self._made = made(campaign.k, random_state=seed + 1, njobs=1, **options)
        self._rows: list[tuple[Floats, Ints, Floats]] = []

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """All rows so far."""
        self._rows.append((x, action, reward))
        self._made.fit(*(np.concatenate(part) for part in zip(*self._rows, strict=True)))

    def predict(self, x: Floats) -> Ints:
        """One prediction per row."""
        return np.asarray(self._made.predict(x)).astype(np.int64)


class BayesianBandits(Peer):
    """Normal Thompson sampling, one draw per 200 customers."""

    def __init__(self, campaign: Campaign, seed: int) -> None:
        from bayesianbandits import Arm, ContextualAgent, NormalRegressor, ThompsonSampling

        super().__init__(campaign, seed)
        arms = [Arm(i, learner=NormalRegressor(1.0, 1 / 0.05)) for i in range(campaign.k)]
        self._agent: Any = ContextualAgent(arms, ThompsonSampling(), random_seed=seed)

    def fit(self, x: Floats, action: Ints, reward: Floats) -> None:
        """Arm by arm."""
        z = _led(x)
        for a in np.unique(action).tolist():
            self._agent.select_for_update(a).update(z[action == a], reward[action == a])

    def predict(self, x: Floats) -> Ints:
        """In blocks."""
        z = _led(x)
        blocks = [self._agent.pull(z[i : i + 200]) for i in range(0, len(z), 200)]
        return np.concatenate([np.array(block) for block in blocks])


PEERS: dict[str, Callable[[Campaign, int], Learner]] = {
    "mabwiser LinTS 1": lambda c, s: MabWiser(c, s, "LinTS", alpha=1.0),
    "mabwiser LinTS .35": lambda c, s: MabWiser(c, s, "LinTS", alpha=0.35),
    "mabwiser LinUCB 1": lambda c, s: MabWiser(c, s, "LinUCB", alpha=1.0),
    "mabwiser LinGreedy .05": lambda c, s: MabWiser(c, s, "LinGreedy", epsilon=0.05),
    "bayesianbandits Normal": BayesianBandits,
    "contextualbandits LogisticTS": lambda c, s: ContextualBandits(c, s, "LogisticTS"),
    "vowpalwabbit squarecb": lambda c, s: VowpalWabbit(c, s, "--squarecb"),
}


def _led(x: Floats) -> Floats:
    """Features led by a 1."""
    return np.column_stack([np.ones(len(x)), x])


def _shared(row: Floats) -> str:
    return "shared |U 1 " + " ".join(f"x{i}:{v:.4f}" for i, v in enumerate(row.tolist()))
