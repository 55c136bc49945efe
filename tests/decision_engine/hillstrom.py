"""Kevin Hillstrom's e-mail test, replayed: a file that is not shipped, and learners of it.

64,000 customers of a shop, each with one of three messages drawn at random ("MineThatData e-mail
analytics and data mining challenge", 2008). Every learner of a seed gets the customers in the same
order, 500 at a time; where it chooses what the customer really got, the row counts and is learned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from decision_engine import config
from decision_engine.backtest_data import Campaign, read_campaign, read_table
from decision_engine.backtest_policies import Engine
from decision_engine.rejection import Learner, replay
from decision_engine.types import Floats, Ints
from tests.decision_engine.campaign_peers import PEERS, Beta, Peer, VowpalWabbit

CONTEXT = ("recency", "history", "mens", "womens", "zip_code", "newbie", "channel")
Maker = Callable[[Campaign, int], Learner]


def read(path: Path) -> Campaign:
    """The file's customers; the reward is a visit within two weeks."""
    return read_campaign(read_table(path), "segment", "visit", CONTEXT)


class Replayed:
    """A peer library as a learner of logged rows; it gets standardised features."""

    def __init__(self, campaign: Campaign, seed: int, make: Callable[..., Peer]) -> None:
        k = len(campaign.arms)
        known = SimpleNamespace(k=k, attributes=np.arange(k)[:, None])
        self._log, self._peer = campaign.log, make(known, seed)
        self._x = (campaign.x - campaign.x.mean(axis=0)) / campaign.x.std(axis=0)

    def choose(self, rows: Ints) -> Ints:
        """What the library says; uniform before it has seen anything."""
        return self._peer.choose(self._x[rows], np.empty(0, dtype=np.uint64))

    def learn(self, rows: Ints) -> None:
        """Every accepted row, once."""
        if len(rows):
            self._peer.fit(self._x[rows], self._log.action[rows], self._log.reward[rows])
            self._peer.begun = True


def _peer(make: Callable[..., Any]) -> Maker:
    return lambda campaign, seed: Replayed(campaign, seed, make)


def _engine(policy: config.Policy) -> Maker:
    def make(campaign: Campaign, seed: int) -> Learner:
        keys = np.random.default_rng([seed, 9]).integers(0, 2**64, len(campaign), dtype=np.uint64)
        return Engine(campaign, policy, keys)

    return make


OURS: dict[str, Maker] = {
    "linear_thompson": _engine(config.LinearThompson()),
    "weighted_thompson": _engine(config.WeightedThompson()),
}
THEIRS: dict[str, Maker] = {
    "mabwiser Thompson (Beta)": _peer(Beta),
    **{name: _peer(make) for name, make in PEERS.items()},
    "vowpalwabbit bag 5": _peer(lambda c, s: VowpalWabbit(c, s, "--bag 5")),
}


def visits(campaign: Campaign, make: Maker, seed: int) -> float:
    """The mean visit of the rows that counted, over one shuffle."""
    order: Ints = np.random.default_rng([seed, 8]).permutation(len(campaign))
    return replay(campaign.log, order, make(campaign, seed), len(campaign.arms)).mean


def truth(campaign: Campaign) -> Floats:
    """What each message earned (k,)."""
    log = campaign.log
    return np.array([log.reward[log.action == a].mean() for a in range(len(campaign.arms))])
