"""A column that breaks is left out and named, one that rules by it holds, and both come back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace as Node
from typing import Any

import numpy as np
import pytest

from decision_engine.audit import explain_decision, replay_decisions
from decision_engine.batch import decide_all
from decision_engine.build import _columns_of
from decision_engine.data_checks import check, feeds, of_build
from decision_engine.epochs import FEATURES, read_state
from decision_engine.plan.compare import plan
from decision_engine.service.deciding import Decider
from decision_engine.service.definitions import profile_types
from decision_engine.state import PolicyState
from decision_engine.types import Reason
from decision_engine.workspace import Workspace
from tests.decision_engine.test_plan import FILES
from tests.end_to_end.bench_decide import AS_OF, PROFILES

ONE = "context: [{column: email_click_rate}]"
CONTEXT = "context: [{column: email_click_rate}, {column: avg_order_cents, transform: log1p}]"


class Shop:
    """A project whose profiles are of one day after the other."""

    def __init__(self, folder: Path, day: int = 0) -> None:
        self.workspace, self.day = Workspace.open(folder), day
        self.table = self.workspace.model(FEATURES)

    def next_day(self, change: str = "") -> dict[str, Any]:
        """Profiles of the day after, with a change; decided. Totals of the day."""
        self.build(change)
        return decide_all(self.workspace, self.as_of)

    def look(self, change: str) -> set[str]:
        """Profiles of the day after, with a change; what fails."""
        self.build(change)
        with self.workspace.warehouse() as warehouse:
            return set(check(self.workspace, warehouse, self.as_of, {}))

    def build(self, change: str) -> None:
        """Profiles of the day after, with a change."""
        self.day += 1
        with self.workspace.warehouse() as warehouse:
            warehouse.rows(f"delete from {self.table}")
            warehouse.rows(f"insert into {self.table} select * from good")
            warehouse.rows(
                f"update {self.table} set as_of = as_of + interval {self.day} day,"
                f" profile_build = 'build {self.day}'"
            )
            if change:
                warehouse.rows(f"update {self.table} set {change}")

    @property
    def as_of(self) -> Any:
        return AS_OF + timedelta(days=self.day)

    def decisions(self) -> list[dict[str, Any]]:
        """Those of the last day."""
        query = f"select * from {self.workspace.engine('decisions')} where slot = ?"
        with self.workspace.warehouse() as warehouse:
            batches = warehouse.query(query, [self.as_of.date().isoformat()])
            rows = [row for batch in batches for row in batch.to_pylist()]
        return [{**row, "facts": json.loads(row["facts"])} for row in rows]

    def decider(self) -> Decider:
        """What the service decides with."""
        versions = {d["agent"]: d["policy_version"] for d in self.decisions()}
        with self.workspace.warehouse() as warehouse:
            states = {
                name: read_state(self.workspace, warehouse, name, version)
                for name, version in versions.items()
            }
            failed = of_build(self.workspace, warehouse, f"build {self.day}") or {}
        fitting = {n: s for n, s in states.items() if isinstance(s, PolicyState)}
        found = dict.fromkeys(fitting, failed)
        return Decider(self.workspace, fitting, is_stopped=False, distrusted=found)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After a good day; not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace(ONE, CONTEXT))
    shop = Shop(folder)
    with shop.workspace.warehouse() as warehouse:
        warehouse.rows("create schema nextmove")
        warehouse.rows(PROFILES.format(n=200))
        warehouse.rows(f"update {shop.table} set sends_1d = 0, sends_7d = 1")
        warehouse.rows(f"create table good as select * from {shop.table}")
    shop.next_day()
    return folder


@pytest.fixture
def shop(opened: Path, tmp_path: Path) -> Shop:
    """A copy of it."""
    return Shop(shutil.copytree(opened, tmp_path / "shop"), day=1)


def sends(totals: dict[str, Any]) -> int:
    return sum(agent["sends"] for agent in totals["agents"].values())


BREAKS = {
    "avg_order_cents = null": ("avg_order_cents", 1, "100% unknown"),
    "email_click_rate = email_click_rate * 100": ("email_click_rate", 0, "before"),
}


@pytest.mark.parametrize("change", BREAKS)
def test_a_feature_that_breaks_is_dropped_and_named_until_it_is_back(
    shop: Shop, change: str
) -> None:
    column, place, why = BREAKS[change]
    usual = {d["customer_id"]: d["x"] for d in shop.decisions()}
    assert not any("data_dropped" in d["facts"] for d in shop.decisions())
    assert sends(shop.next_day(change)) > 0

    for d in (found := shop.decisions()):
        assert d["x"][place] == 0.0  # the mean of a state that has learned nothing yet
        assert d["facts"]["data_dropped"].startswith(f"{column}: ")
        assert why in d["facts"]["data_dropped"]
        assert "data_held" not in d["facts"]
    told = explain_decision(shop.workspace, found[0]["decision_id"])
    assert "Left out, because it failed a check: " + column in told.text
    assert told.seen[column] is None
    assert replay_decisions(shop.workspace, [], 50)["different_posterior"] == 0

    shop.next_day()
    for d in shop.decisions():
        assert "data_dropped" not in d["facts"]
        if d["customer_id"] in usual:
            assert d["x"] == usual[d["customer_id"]]


def test_an_agent_holds_when_what_rules_it_breaks(shop: Shop) -> None:
    """A counter that is far too low opens every cap, but no message leaves."""
    totals = shop.next_day("sends_7d = sends_7d - 100")
    assert sends(totals) == 0
    for d in (found := shop.decisions()):
        assert d["facts"]["data_held"] == "sends_7d: from -99 to -99, 1 to 1 before"
        assert "data_dropped" not in d["facts"]
        assert Reason.FREQUENCY_CAP not in d["reasons"]
    held = next(d for d in found if Reason.BAD_DATA in d["reasons"])
    told = explain_decision(shop.workspace, held["decision_id"], "auditor").text
    assert "bad_data, because data that the agent goes by failed a check (sends_7d" in told


def test_an_agent_holds_when_only_an_override_goes_by_what_breaks(shop: Shop) -> None:
    """Whom it takes out is not known any more; that of one agent is no matter of another."""
    log, column = shop.workspace.override_log, "account_employees"
    name = sorted(shop.workspace.agents)[0]
    before = sends(shop.next_day())
    assert before > 0
    made = log.add(kind="exclude", by="ann", why="a test", agent=name, rule=f"{column} > 900")
    assert sends(shop.next_day(f"{column} = 10")) > 0
    totals = shop.next_day(f"{column} = 10000000")
    assert totals["agents"][name]["sends"] == 0
    of_it = [d["facts"].get("data_held") for d in shop.decisions() if d["agent"] == name]
    assert set(of_it) == {f"{column}: from 1e+07 to 1e+07, 10 to 10 before"}
    assert all("data_held" not in d["facts"] for d in shop.decisions() if d["agent"] != name)
    log.add(kind="release", by="ann", why="a test", releases=made.override_id)
    assert shop.next_day(f"{column} = 10000000")["agents"][name]["sends"] > 0


def test_the_service_and_plan_go_by_it_too(shop: Shop) -> None:
    shop.next_day("avg_order_cents = null")
    row = shop.decisions()[0]
    with shop.workspace.warehouse() as warehouse:
        batches = warehouse.query(
            f"select * from {shop.table} where customer_id = ?", [row["customer_id"]]
        )
        (profile,) = (r for batch in batches for r in batch.to_pylist())
    decider = shop.decider()
    values = {c: profile[c] for c in decider.columns if c in profile_types()}
    person = ("a-slot", row["customer_id"], {**values, "avg_order_cents": 5e6})
    made = decider.decide([person], [row["agent"]], shop.as_of)[row["customer_id"]]
    assert made["x"] == row["x"]
    assert json.loads(made["facts"])["data_dropped"] == row["facts"]["data_dropped"]
    assert decider.plan["agents"][row["agent"]]["distrusted"].keys() == {"avg_order_cents"}
    found = plan(shop.workspace)
    assert found.kinds["same"] == sum(found.kinds.values()) > 0
    # What a usual customer has, once it is known.
    agent = decider.agents[row["agent"]]
    theta = replace(agent.state.theta, feature_mean=np.array([0.3, 7.0]))
    decider.agents[row["agent"]] = replace(agent, state=replace(agent.state, theta=theta))
    made = decider.decide([person], [row["agent"]], shop.as_of)[row["customer_id"]]
    assert made["x"][1] == 7.0


def test_what_stays_for_four_weeks_is_usual(shop: Shop) -> None:
    for _ in range(2):
        assert shop.look("avg_order_cents = null") == {"avg_order_cents"}
    shop.day += 29
    assert shop.look("avg_order_cents = null") == set()


def test_a_feed_that_has_stopped(shop: Shop) -> None:
    workspace, feed = shop.workspace, next(f for f in feeds() if "orders" in f.model)
    with workspace.warehouse() as warehouse:
        table = workspace.model(feed.model)
        warehouse.rows(f"create table {table} ({feed.at} timestamp)")
        assert check(workspace, warehouse, shop.as_of, {}) == {}
        warehouse.rows(f"insert into {table} values (timestamp '{shop.as_of}')")
        last = shop.as_of + timedelta(hours=feed.hours)
        assert check(workspace, warehouse, last, {}) == {}
        failed = check(workspace, warehouse, last + timedelta(seconds=1), {})
    assert failed.keys() == {"avg_order_cents", "orders_90d", "orders_count"}
    assert f"nothing has come in since {shop.as_of:%Y-%m-%d %H:%M}" in failed.values()
    assert {c for f in feeds() for c in f.columns} <= profile_types().keys()


def test_tests_that_warn_are_of_the_columns_they_name(shop: Shop) -> None:
    def node(model: str, column: str | None, **meta: Any) -> Any:
        attached = f"model.nextmove.{model}"
        return Node(column_name=column, attached_node=attached, config=Node(meta=meta))

    assert list(_columns_of(node("dim_customer_features", "tier"))) == ["tier"]
    assert list(_columns_of(node("dim_customers", "tier"))) == []
    assert list(_columns_of(node("stg_x", None, nextmove_columns=["a", "b"]))) == ["a", "b"]
    with shop.workspace.warehouse() as warehouse:
        named = {"avg_order_cents": "dbt test x", "not_read_by_any_agent": "dbt test y"}
        found = check(shop.workspace, warehouse, shop.as_of, named)
    assert found == {"avg_order_cents": "dbt test x"}
