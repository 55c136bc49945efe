"""The engine's policies as learners of a simulated campaign, by the engine's own code."""

from __future__ import annotations

from typing import Any

import numpy as np

from decision_engine.choose import choose
from decision_engine.keys import draw_streams
from decision_engine.learn import BUCKETS, Rewards, learn, learn_anew, outgrown
from decision_engine.policies import POLICIES, shares
from decision_engine.state import PolicyState
from decision_engine.types import Floats, Ints, Keys
from tests.decision_engine.campaigns import WINDOW, Campaign, Feedback

FLOOR, DAY = 0.005, 86_400.0


class Engine:
    """A policy with its shipped defaults; open rewards weigh as much as the delay curve says."""

    def __init__(
        self, campaign: Campaign, policy: str, half_life_days: float | None = None
    ) -> None:
        self._campaign, self._policy, self._half_life = campaign, policy, half_life_days
        self._features = tuple(f"x{i}" for i in range(campaign.x.shape[1]))
        prior = PolicyState.initial(
            "bench", policy, campaign.variants, self._features, half_life_days=half_life_days
        )
        self.state = prior.with_units(campaign.units)
        self._hashes, self._folded = draw_streams(campaign.variants), 0

    def choose(self, x: Floats, keys: Keys) -> Ints:
        """By the policy's posterior, the keys, and the floor."""
        names, every = self._campaign.variants, np.ones((len(x), self._campaign.k), dtype=np.bool_)
        module = POLICIES[self._policy]
        law = (*module.posterior(self.state, names, x), every, FLOOR, module.FAMILY)
        share = shares(self._policy, self.state, names, x, every)
        return choose(keys, *law, self._hashes, share=share)

    def learn(self, feedback: Feedback) -> None:
        """Closed rows once, open ones anew."""
        today, closed = int(feedback.age.max()), feedback.is_closed
        anew = outgrown(self.state) or not self._folded
        use = np.flatnonzero(~closed | (feedback.day >= self._folded) | anew)
        rows = Rewards(
            x=feedback.x[use],
            action=feedback.action[use],
            reward=feedback.reward[use],
            weight=np.where(closed, 1.0, _arrived(feedback))[use],
            is_closed=closed[use],
            bucket=use % BUCKETS,
            order=use,
            decided_at=(feedback.day[use] * DAY).astype(np.float64),
        )
        settings: dict[str, Any] = {
            "agent": "bench",
            "policy": self._policy,
            "actions": self._campaign.variants,
            "features": self._features,
            "as_of": today * DAY,
            "half_life_days": self._half_life,
            "units": self._campaign.units,
        }
        first = learn_anew([rows], **settings) if anew else None
        learned = first or learn(self.state, [rows], **settings)
        if learned.as_of == today * DAY:
            self.state, self._folded = learned, max(today - WINDOW + 1, 0)


def _arrived(feedback: Feedback) -> Floats:
    """The share of a reward that has usually come by a row's age."""
    known = np.sort(feedback.delay[feedback.is_closed & feedback.converted])
    if not len(known):
        return np.minimum(feedback.age / WINDOW, 1.0)
    share: Floats = np.searchsorted(known, feedback.age) / len(known)
    return share
