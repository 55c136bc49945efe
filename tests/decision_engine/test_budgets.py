"""Limits: prices that make demand fit, the same for one row and for many, kept at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine import epochs
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, at_prices, in_epoch
from decision_engine.batch import decide_all, needed
from decision_engine.budgets import Prices, clearing, costs, lots, use, uses, worth_it
from decision_engine.config import Incentive, Limit, needs_approval
from decision_engine.limits_left import Till, left, left_to_decide
from decision_engine.pricing import prices_of
from decision_engine.types import Action, Bools, Catalog, Reason
from decision_engine.workspace import Workspace
from tests.decision_engine.test_batch import EPOCH, Shop
from tests.end_to_end.bench_decide import AS_OF

INCENTIVES = (Incentive("ten", "ten percent", 600), Incentive("mug", "a mug", 250))
CATALOG = Catalog(
    (
        Action("no_action"),
        Action("a", "email", "hello", "ten"),
        Action("b", "sms", "hello"),
        Action("c", "sms", "other", "mug"),
    )
)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Limit("all", 10), [0, 1, 1, 1]),
        (Limit("texts", 10, channels=("sms",)), [0, 0, 1, 1]),
        (Limit("mugs", 10, incentives=("mug",), days=None), [0, 0, 0, 1]),
        (Limit("coupons", 10, unit="cents"), [0, 600, 0, 250]),
        (Limit("calls", 10, creatives=("hello",), channels=("sms",)), [0, 0, 1, 0]),
    ],
)
def test_what_a_message_uses_up(limit: Limit, expected: list[float]) -> None:
    assert uses(limit, CATALOG, INCENTIVES).tolist() == expected


def test_what_it_uses_up_has_a_price() -> None:
    limits = (Limit("texts", 1, channels=("sms",)), Limit("coupons", 1, unit="cents"))
    found = costs(limits, {"texts": 0.5, "coupons": 0.001}, CATALOG, INCENTIVES)
    assert found.tolist() == [0, 0.6, 0.5, 0.75]


def test_only_what_gains_more_than_it_costs_is_possible() -> None:
    reasons = np.array([[0, 0, 0, Reason.NO_CONSENT]], dtype=np.uint8)
    gains = np.array([[0.0, 0.1, 0.3, 9.0]])
    after = worth_it(reasons, gains, np.array([0.0, 0.0, 0.3, 0.3]), np.zeros(1))
    assert after.tolist() == [[0, 0, Reason.BUDGET, Reason.NO_CONSENT]]


def test_lots_decide_among_equals() -> None:
    """Before anything is learned everybody gains the same; some get it all the same."""
    names = [f"c{i}" for i in range(200)]
    limit, luck = Limit("texts", 50, channels=("sms",)), lots("a salt of sixteen", names)

    def kept(prices: Prices) -> Bools:
        cost = costs([limit], prices, CATALOG, INCENTIVES)
        reasons = worth_it(np.zeros((200, 4), np.uint8), np.zeros((200, 4)), cost, luck)
        possible: Bools = reasons[:, 2] == Reason.ELIGIBLE
        return possible

    prices = clearing([limit], {"texts": 50.0}, lambda p: {"texts": float(kept(p).sum())})
    assert 45 <= kept(prices).sum() <= 50
    assert luck[kept(prices)].min() > luck[~kept(prices)].max()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    bids=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2)), min_size=1, max_size=40),
    most=st.integers(0, 20),
    other=st.integers(0, 20),
)
def test_the_price_is_the_lowest_at_which_demand_fits(
    bids: list[tuple[float, int]], most: int, other: int
) -> None:
    """Bidders want a unit of x, of y, or of both, when it gains more than it costs."""
    limits = (Limit("x", most), Limit("y", other))

    def demand(prices: Prices) -> Mapping[str, float]:
        used = {"x": 0.0, "y": 0.0}
        for gain, wish in bids:
            wanted = ("x",) if wish == 0 else ("y",) if wish == 1 else ("x", "y")
            cost = sum(prices.get(name, 0.0) for name in wanted)
            if cost == 0 or gain > cost:
                for name in wanted:
                    used[name] += 1
        return used

    allowed = {"x": float(most), "y": float(other)}
    prices = clearing(limits, allowed, demand)
    used = demand(prices)
    assert all(used[name] <= allowed[name] for name in used)
    for name in prices:
        # Anything noticeably cheaper would be oversold.
        cheaper = {**prices, name: prices[name] * 0.8 - 1e-9}
        assert cheaper[name] < 0 or demand(cheaper)[name] >= min(used[name], allowed[name])


# --- in a project ---


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    found = Shop(tmp_path / "shop")
    limit = Limit("pushes", 15, channels=("push",))
    project = msgspec.structs.replace(found.project, limits=(limit,))
    found.project, found.workspace = project, replace(found.workspace, project=project)
    return found


def pushes(shop: Shop, agents: list[AgentInEpoch]) -> int:
    made = decide_batch(shop.contexts, agents, EPOCH, shop.project)
    found = [(a.plan.catalog.actions[i].channel) for a, d in made for i in d.action]
    return found.count("push")


def test_a_batch_decides_no_more_than_there_is(shop: Shop) -> None:
    assert pushes(shop, shop.agents) > 15
    with shop.workspace.warehouse() as warehouse:
        columns = needed(shop.project, shop.agents)
        prices = prices_of(shop.workspace, warehouse, shop.agents, EPOCH, columns)
    assert prices["pushes"] > 0
    agents = at_prices(shop.workspace, shop.agents, prices)
    assert 0 < pushes(shop, agents) <= 15
    # The service works the same costs out from the same prices.
    for agent in agents:
        alone = in_epoch(shop.workspace, agent.name, agent.state, prices=prices)
        assert alone.costs is not None
        assert (alone.costs == agent.costs).all()


def test_prices_are_those_of_the_epoch_until_it_is_done(shop: Shop) -> None:
    totals = decide_all(shop.workspace, AS_OF)
    with shop.workspace.warehouse() as warehouse:
        sent = warehouse.rows(
            "select count(*) from nextmove_engine.decisions where channel = 'push'"
        )[0][0]
        assert sent <= 15
        begun = epochs.begin(shop.workspace, warehouse, AS_OF)
        again = epochs.freeze(shop.workspace, warehouse, begun)
        now = shop.workspace.prices.current()
        fresh = at_prices(shop.workspace, again, now)
        frozen, made = (
            [None if a.costs is None else a.costs.tolist() for a in some] for some in (again, fresh)
        )
        assert frozen == made
        reasons = warehouse.rows("select count(*) from nextmove_engine.decisions"
                                 " where list_contains(reasons, 21)")  # fmt: skip
        assert (reasons[0][0] > 0) is bool(now)
    assert totals["agents"]


def test_the_last_unit_goes_once(shop: Shop) -> None:
    till = Till(shop.workspace, {"pushes": 2.0})
    push, mail = Action("p", "push"), Action("m", "email")
    assert [till.take(key, push) for key in ("1", "2", "2", "3")] == [True, True, True, False]
    assert till.take("4", mail)


def test_what_has_left_is_not_there_any_more(shop: Shop) -> None:
    with shop.workspace.warehouse() as warehouse:
        assert left(shop.workspace, warehouse, AS_OF) == {"pushes": 15.0}
        warehouse.rows(
            "insert into nextmove_engine.decisions (decision_id, channel, creative, incentive,"
            " action, carried_out_by, decided_at) values"
            " ('a', 'push', 'x', 'none', 'x', 'delivery', timestamp '2026-03-02 05:00:00'),"
            " ('b', 'push', 'x', 'none', 'x', 'delivery', timestamp '2026-03-02 05:00:00'),"
            " ('c', 'push', 'x', 'none', 'x', 'caller', timestamp '2026-03-02 05:00:00'),"
            " ('d', 'push', 'x', 'none', 'x', 'caller', timestamp '2026-02-28 05:00:00')"
        )
        warehouse.rows(
            'insert into nextmove_engine.receipts (decision_id, status, "at") values'
            " ('a', 'unknown', timestamp '2026-03-02 05:00:00'),"
            " ('a', 'accepted', timestamp '2026-03-02 05:00:00'),"
            " ('b', 'rejected', timestamp '2026-03-02 05:00:00')"
        )
        assert left(shop.workspace, warehouse, AS_OF) == {"pushes": 13.0}


def test_what_waits_is_spoken_for_where_prices_are_made_and_still_there_where_it_leaves(
    shop: Shop,
) -> None:
    agent, yesterday = shop.agents[0].name, "2026-03-01 06:00:00"
    messages = {
        "waits": (yesterday, "2026-03-02 20:00:00", "2026-03-03 08:00:00"),
        "is of yesterday": (yesterday, "2026-03-02 05:00:00", "2026-03-02 17:00:00"),
        "is of today": ("2026-03-02 01:00:00", "2026-03-02 05:00:00", "2026-03-02 17:00:00"),
        "is over": (yesterday, "2026-03-02 06:00:00", "2026-03-02 06:00:00"),
        "is skipped": (yesterday, "2026-03-02 20:00:00", "2026-03-03 08:00:00"),
        "is for later": (yesterday, "2026-03-04 20:00:00", "2026-03-05 08:00:00"),
    }
    with shop.workspace.warehouse() as warehouse:
        for name, times in messages.items():
            warehouse.rows(
                "insert into nextmove_engine.decisions (decision_id, agent, channel, creative,"
                " incentive, action, carried_out_by, decided_at, send_at, expires_at)"
                " select ? || i, ?, 'push', 'x', 'none', 'x', 'delivery', cast(? as timestamp),"
                " cast(? as timestamp), cast(? as timestamp) from range(7) t(i)",
                [name, agent, *times],
            )
        warehouse.rows(
            'insert into nextmove_engine.receipts (decision_id, status, "at")'
            " select decision_id, case when decision_id like 'is skipped%' then 'skipped'"
            " else 'not_sent' end, decided_at from nextmove_engine.decisions"
        )
        assert left(shop.workspace, warehouse, AS_OF) == {"pushes": 15.0}
        stop = {"kind": "stop", "by": "ann", "why": "a call"}
        for stopped in ("waits0", "is of today0", "is of yesterday0"):
            shop.workspace.override_log.add(decision_id=stopped, **stop)
        assert left_to_decide(shop.workspace, warehouse, AS_OF, AS_OF) == {"pushes": 3.0}
        for name, status in (("waits1", "accepted"), ("waits2", "skipped")):
            warehouse.rows(
                f"update nextmove_engine.receipts set status = '{status}'"
                f" where decision_id = '{name}'"
            )
            shop.workspace.override_log.add(decision_id=name, **stop)
        # What has left is gone, and what was over before is over once.
        assert left_to_decide(shop.workspace, warehouse, AS_OF, AS_OF) == {"pushes": 4.0}
        columns = needed(shop.project, shop.agents)
        prices = prices_of(shop.workspace, warehouse, shop.agents, EPOCH, columns)
    assert pushes(shop, at_prices(shop.workspace, shop.agents, prices)) <= 4


def test_each_date_has_its_share_though_the_last_one_took_all_of_its_own(shop: Shop) -> None:
    """The messages of one date leave in the course of it; the next one is decided soon after."""
    found = []
    for as_of in (AS_OF, AS_OF + timedelta(days=1)):
        decide_all(shop.workspace, as_of)
        with shop.workspace.warehouse() as warehouse:
            where = f"from nextmove_engine.decisions where slot = '{as_of.date()}'"
            found.append(warehouse.rows(f"select count(*) {where} and channel = 'push'")[0][0])
            warehouse.rows(
                'insert into nextmove_engine.receipts (decision_id, status, "at")'
                f" select decision_id, 'accepted', send_at {where} and action <> 'no_action'"
            )
            assert left(shop.workspace, warehouse, as_of + timedelta(hours=18))["pushes"] < 5
    assert all(10 < n <= 15 for n in found), found


def test_a_significant_effect_needs_a_person(shop: Shop) -> None:
    agent = shop.agents[0].config
    assert not needs_approval(agent)
    assert needs_approval(msgspec.structs.replace(agent, approval="each"))
    assert needs_approval(msgspec.structs.replace(agent, significant_effect=True))
    assert use(shop.project.limits[0], Action("no_action"), ()) == 0
    assert isinstance(shop.workspace, Workspace)
