"""The shipped policies, with their shipped defaults, as things that can be replayed or fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from decision_engine import config
from decision_engine.backtest_data import Campaign
from decision_engine.choose import choose
from decision_engine.keys import draw_streams
from decision_engine.learn import Rewards, learn, learn_anew, outgrown
from decision_engine.policies import POLICIES, floor_of, kind_of
from decision_engine.rejection import Learner
from decision_engine.state import PolicyState
from decision_engine.types import Floats, Ints, Keys

UNIFORM, BEST = "uniform", "best action"
WEIGHTED, LINEAR = "weighted_thompson", "linear_thompson"


class Always:
    """One action for everyone, whatever happens."""

    def __init__(self, action: int) -> None:
        self._action = action

    def choose(self, rows: Ints) -> Ints:
        """That action (m,)."""
        return np.full(len(rows), self._action, dtype=np.int64)

    def learn(self, rows: Ints) -> None:
        """Nothing is learned."""


class Engine:
    """A policy run by the engine's own code: its posterior, draws by key, floor and learning.

    `keys` (n,) are the random source, one per row of the campaign.
    """

    def __init__(self, campaign: Campaign, policy: config.Policy, keys: Keys) -> None:
        self._campaign, self._policy, self._keys = campaign, policy, keys
        self._module = POLICIES[kind_of(policy)]
        self._hashes = draw_streams(campaign.arms)
        self._seen, self._learned = np.empty(0, dtype=np.int64), 0
        self.state = PolicyState.initial(
            "backtest", kind_of(policy), campaign.arms, campaign.features, as_of=0.0
        )

    def choose(self, rows: Ints) -> Ints:
        """The engine's action (m,) for each row."""
        mean, sd = self._module.posterior(self.state, self._campaign.arms, self._campaign.x[rows])
        every = np.ones((len(rows), len(self._campaign.arms)), dtype=np.bool_)
        law = (mean, sd, every, floor_of(self._policy), self._module.FAMILY)
        return choose(self._keys[rows], *law, self._hashes)

    def learn(self, rows: Ints) -> None:
        """Add the rows to the state; all outcomes are known, nothing is discounted."""
        self._seen = np.concatenate([self._seen, rows])
        anew = outgrown(self.state) or not self._learned
        some = [rewards_of(self._campaign, self._seen[0 if anew else self._learned :])]
        settings: dict[str, Any] = {
            "agent": "backtest",
            "policy": self.state.policy,
            "actions": self._campaign.arms,
            "features": self._campaign.features,
            "as_of": self.state.as_of + 1.0,
            "context_precision": getattr(self._policy, "context_precision", "auto"),
        }
        learned = learn_anew(some, **settings) if anew else learn(self.state, some, **settings)
        if learned.as_of > self.state.as_of:  # with too little evidence, the rows wait for more
            self.state, self._learned = learned, len(self._seen)

    def predict(self, rows: Ints) -> Floats:
        """Posterior mean reward (m, k) of every action."""
        mean, _ = self._module.posterior(self.state, self._campaign.arms, self._campaign.x[rows])
        return self._module.in_rewards(self.state, mean)


def learners(campaign: Campaign, best: int, rng: np.random.Generator) -> dict[str, Learner]:
    """The policies of a replay, not yet having learned anything, all with the same keys."""
    keys = rng.integers(0, 2**64, len(campaign), dtype=np.uint64)
    shipped: dict[str, config.Policy] = {
        UNIFORM: config.UniformPolicy(),
        WEIGHTED: config.WeightedThompson(),
        LINEAR: config.LinearThompson(),
    }
    found: dict[str, Learner] = {n: Engine(campaign, p, keys) for n, p in shipped.items()}
    return found | {BEST: Always(best)}


def predictions(campaign: Campaign, learned: Ints, valued: Ints) -> Floats:
    """Expected rewards (m, k) of the `valued` rows by linear_thompson taught the `learned` rows."""
    engine = Engine(campaign, config.LinearThompson(), np.zeros(len(campaign), dtype=np.uint64))
    engine.learn(learned)
    return engine.predict(valued)


def rewards_of(campaign: Campaign, rows: Ints) -> Rewards:
    """The given rows as decisions whose outcome is known."""
    n = len(rows)
    return Rewards(
        x=campaign.x[rows],
        action=campaign.log.action[rows],
        reward=campaign.log.reward[rows],
        weight=np.ones(n),
        is_closed=np.ones(n, dtype=np.bool_),
        bucket=np.zeros(n, dtype=np.int64),
        order=rows,
        decided_at=np.zeros(n),
    )
