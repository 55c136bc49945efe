"""The learner finds out for whom it pays to wait, in a market whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.factors import units_of
from decision_engine.learn import learn_anew
from decision_engine.market import ActionView
from decision_engine.policies import POLICIES
from decision_engine.types import Action, Floats
from tests.decision_engine.test_market import begun
from tests.rewards import closed

PEOPLE, LOGGED = 4_000, 24_000
POLICY = "factored_linear_thompson"
HOUR = 3600.0
NOTABLE = 0.01
"""Clicks a person."""
WAITS = (0, 2, 5)
NOW = 1
ACTIONS = (
    Action("no_action"),
    *(Action(f"d{wait}", "email", "what_is_new", wait_days=wait) for wait in WAITS),
)
VIEWS = [ActionView(a.channel, a.creative, wait_days=a.wait_days) for a in ACTIONS]
WAIT = np.array([a.wait_days for a in ACTIONS])


@pytest.fixture(scope="module")
def told() -> tuple[Floats, Floats]:
    """What is known of people at noon (n, 2), and the clicks each action brings of them (n, k).

    Half of them have had messages lately, up to four: they are tired of them for some days. Half
    have just looked in, and will have forgotten about it by then.
    """
    market = begun(PEOPLE, seed=11)
    rng = np.random.default_rng(11)
    who, noon = np.arange(PEOPLE), np.full(PEOPLE, market.start + 12 * HOUR)
    written = rng.random(PEOPLE) < 0.5
    for _ in range(4):
        some = who[written & (rng.random(PEOPLE) < 0.7)]
        market.state.remember_send(some, noon[some] - HOUR * rng.uniform(1, 40, len(some)))
    looked_in = rng.random(PEOPLE) < 0.5
    market.state.last_visit[:PEOPLE] = noon - HOUR * np.where(looked_in, 3, 200)
    sends = market.state.sends_since(who, noon - 30 * 24 * HOUR, noon)
    x = np.stack([np.log1p(sends), looked_in], axis=1)
    return x, market.expected_reward(who, VIEWS, noon, {"click": 1.0})


def test_waiting_is_chosen_where_it_pays_and_not_where_it_does_not(
    told: tuple[Floats, Floats],
) -> None:
    """Learned from 24,000 decisions by lot about some people, judged by the truth about others."""
    x, worth = told
    rng = np.random.default_rng(5)
    learners, rest = np.arange(PEOPLE // 2), np.arange(PEOPLE // 2, PEOPLE)
    of, action = rng.choice(learners, LOGGED), rng.integers(0, len(ACTIONS), LOGGED)
    state = learn_anew(
        [closed(x[of], action, rng.random(LOGGED) < worth[of, action])],
        agent="a",
        policy=POLICY,
        actions=tuple(a.key for a in ACTIONS),
        features=("log1p(sends_30d)", "looked_in"),
        as_of=0.0,
        units=units_of(ACTIONS, ()),
    )
    mean, _ = POLICIES[POLICY].posterior(state, state.actions, x[rest])
    chosen, truth = mean.argmax(axis=1), worth[rest]
    waits, gain = WAIT[chosen] > 0, truth[:, WAIT > 0].max(axis=1) - truth[:, NOW]
    assert (gain > NOTABLE).mean() > 0.15
    assert waits[gain > NOTABLE].mean() > 0.95
    assert (gain < -NOTABLE).mean() > 0.15
    assert waits[gain < -NOTABLE].mean() < 0.2
    earned, best = truth[np.arange(len(rest)), chosen].mean(), truth.max(axis=1).mean()
    always = truth.mean(axis=0).max()
    assert earned - always > 0.5 * (best - always)
