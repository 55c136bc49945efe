"""Small simulated campaigns: what sharing and forgetting are for. The large ones are a bench."""

from __future__ import annotations

import numpy as np
import pytest

from tests.decision_engine.campaign_engine import Engine
from tests.decision_engine.campaigns import CAMPAIGNS, attributes, bounds, gap_share, run
from tests.decision_engine.sequences import Agent, Market, at_once, best_plan, nothing
from tests.decision_engine.sequences import run as journeys


@pytest.mark.slow
def test_attributes_make_hundreds_of_creatives_learnable() -> None:
    campaign = attributes(1, k=200, days=16, per_day=400)
    shared, alone = (
        gap_share(campaign, run(campaign, Engine(campaign, policy), 1))
        for policy in ("factored_linear_thompson", "linear_thompson")
    )
    assert shared > 0.15
    assert shared > alone + 0.1


@pytest.mark.parametrize("name", list(CAMPAIGNS))
def test_a_campaign_is_as_it_is_described(name: str) -> None:
    campaign = CAMPAIGNS[name](1)
    uniform, best, oracle = bounds(campaign).mean(axis=0)
    assert 0.04 < uniform < 0.1
    assert uniform < best < oracle
    assert np.array_equal(campaign.x, CAMPAIGNS[name](1).x)


def test_credit_for_later_steps_beats_every_rule_that_takes_what_earns_most_at_once() -> None:
    market = Market(seed=1, weeks=14, per_week=250)
    credited, myopic = Agent(market, 0.9), Agent(market, 0.0)
    earned = journeys(market, credited.choose, credited.learn)[0]
    by_plan = journeys(market, best_plan, nothing)[0]
    assert earned.mean() > 1.5 * journeys(market, at_once, nothing)[0].mean()
    assert earned.mean() > 1.5 * journeys(market, myopic.choose, myopic.learn)[0].mean()
    assert earned[10:].mean() > 0.9 * by_plan[10:].mean()
