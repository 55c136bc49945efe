"""Who has hours of their own is written to at them, in a market whose truth is known.

Two learners see the same decisions by lot and differ in nothing but the columns of a person's own
hours; what each would send to other people is judged by the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml

from decision_engine.build import package_folder
from decision_engine.learn import learn_anew
from decision_engine.market import ActionView, Market
from decision_engine.market.people import DAY
from decision_engine.market.response import local_hours
from decision_engine.market.web import Sessions, organic_sessions
from decision_engine.policies import linear_thompson
from decision_engine.send_times import zone_of
from decision_engine.types import Floats, Ints
from decision_engine.zone_offsets import offsets
from tests.decision_engine.test_market import begun
from tests.rewards import closed

PEOPLE, LOGGED, HOURS = 3_000, 15_000, np.array([9, 13, 19])
VIEWS = [ActionView("email", "what_is_new", "none", int(hour)) for hour in HOURS]
ACTIONS = tuple(f"h{hour}" for hour in HOURS)


class Score(NamedTuple):
    """Clicks a message brings, and the hours between it and its person's best one."""

    clicks: float
    apart: float


def own_hours(market: Market) -> Floats:
    """(n, parts): the columns of `int_features__hours`, from the visits of the days before."""
    text = (package_folder() / "dbt_project.yml").read_text(encoding="utf-8")
    hours = yaml.safe_load(text)["vars"]["nextmove_hours"]
    counts, times = np.zeros((PEOPLE, len(hours["parts"]))), np.zeros(PEOPLE)
    for day in range(-hours["days"], 0):
        visits = organic_sessions(market.people, day, market.start + day * DAY, market.seed)
        once = np.unique([visits.who, parts_of(market, visits, hours["parts"])], axis=1)
        who, part = once[:, once[0] < PEOPLE]
        np.add.at(times, who, 1)
        np.add.at(counts, (who[part >= 0], part[part >= 0]), 1)
    usual = counts.sum(axis=0) / times.sum()
    shares: Floats = (counts + hours["weight"] * usual) / (times + hours["weight"])[:, None]
    return shares


def parts_of(market: Market, visits: Sessions, parts: Mapping[str, tuple[int, int]]) -> Ints:
    """The part of the day of each visit, -1 for none."""
    hour, found = local_hours(market.people.zone[visits.who], visits.at), -np.ones(len(visits))
    for i, (first, last) in enumerate(parts.values()):
        found[(hour >= first) & (hour < last)] = i
    return found.astype(np.int64)


def learned(market: Market, x: Floats, clicks: Floats) -> Score:
    """What a learner from half of the people would bring of the others."""
    rng, who = np.random.default_rng(0), np.arange(PEOPLE)
    of, action = rng.choice(who[::2], LOGGED), rng.integers(0, len(VIEWS), LOGGED)
    clicked = rng.random(LOGGED) < clicks[of, action]
    state = learn_anew(
        [closed(x[of], action, clicked)],
        agent="a",
        policy="linear_thompson",
        actions=ACTIONS,
        features=tuple(f"x{i}" for i in range(x.shape[1])),
        as_of=0.0,
    )
    others = who[1::2]
    chosen = linear_thompson.posterior(state, ACTIONS, x[others])[0].argmax(axis=1)
    return judged(market, clicks, others, chosen)


def judged(market: Market, clicks: Floats, who: Ints, chosen: Ints) -> Score:
    """By the truth."""
    gap = np.abs(HOURS[chosen] - market.people.peak_hour[who]) % 24
    return Score(float(clicks[who, chosen].mean()), float(np.minimum(gap, 24 - gap).mean()))


def test_own_hours_bring_messages_nearer_to_them_and_earn_more() -> None:
    market = begun(PEOPLE, seed=100)
    noon = np.full(PEOPLE, market.start + DAY / 2)
    clicks = market.expected_reward(np.arange(PEOPLE), VIEWS, noon, {"click": 1.0})
    orders = np.log1p(market.people.orders[:PEOPLE]).reshape(-1, 1)
    without = learned(market, orders, clicks)
    found = learned(market, np.concatenate([orders, own_hours(market)], axis=1), clicks)
    others = np.arange(PEOPLE)[1::2]
    best = judged(market, clicks, others, clicks[others].argmax(axis=1))
    assert without.apart > 4.0
    assert found.apart < 1.5
    assert found.clicks > 1.1 * without.clicks
    assert found.clicks - without.clicks > 0.7 * (best.clicks - without.clicks)


def known(name: str) -> ZoneInfo:
    zone = zone_of(name)
    assert zone is not None
    return zone


def test_the_offsets_of_three_months_are_those_of_every_hour() -> None:
    """Around Ramadan, when Morocco's clock is set twice within a month, and where halves count."""
    until = datetime(2026, 4, 11, tzinfo=UTC)
    since = until - timedelta(days=92)
    for name in ("Africa/Casablanca", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"):
        rows = list(offsets(known(name), since, until))
        assert (rows[0][0], rows[-1][1]) == (since.replace(tzinfo=None), until.replace(tzinfo=None))
        assert all(a[1] == b[0] for a, b in pairwise(rows))
        for hour in range(92 * 24):
            at = since + timedelta(hours=hour)
            (minutes,) = (m for a, b, m in rows if a <= at.replace(tzinfo=None) < b)
            assert at.astimezone(known(name)).utcoffset() == timedelta(minutes=minutes)
    assert len(list(offsets(known("Africa/Casablanca"), since, until))) == 3


@pytest.mark.parametrize(
    ("before", "after"), [(1, 1), (600_000, 900_000), (1_500_000, 1), (1, 1_500_000), (10**12, 7)]
)
def test_a_change_is_found_between_moments_that_are_no_whole_seconds(
    before: int, after: int
) -> None:
    change = datetime(2026, 3, 29, 1, tzinfo=UTC)
    since = change - timedelta(microseconds=before)
    until = change + timedelta(microseconds=after)
    first, at, last = (moment.replace(tzinfo=None) for moment in (since, change, until))
    rows = list(offsets(known("Europe/Lisbon"), since, until))
    assert rows == [(first, at, 0), (at, last, 60)]
