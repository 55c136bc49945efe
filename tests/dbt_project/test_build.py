"""One small shop, by hand: raw rows in, every model out, all tests and unit tests passing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.dbt_project import synthetic
from tests.dbt_project.conftest import Dbt
from tests.dbt_project.shop import ANN, ANN_BEFORE, BEN, CYD, at, fill
from tests.dbt_project.warehouse import AS_OF, Place, rows_of

SERVERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("postgres", "snowflake")]


Built = tuple[Place, dict[str, Any]]
"""Where the shop was built, and what dbt tells of each node."""


@pytest.fixture(scope="module", params=["duckdb", *SERVERS])
def built(
    request: pytest.FixtureRequest, dbt: Dbt, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """Built twice: before Ann logged in for the first time, and after."""
    file = tmp_path_factory.mktemp("shop") / "warehouse.duckdb"
    fill(file)
    place: Place = file
    if request.param != "duckdb":
        place = request.getfixturevalue(f"in_{request.param}")(file)
    dbt(place, "run", as_of=at(6))
    return place, dbt(place, "build")


@pytest.fixture
def path(built: Built) -> Place:
    return built[0]


def _rows(path: Place, model: str, columns: str, key: str) -> dict[str, dict[str, Any]]:
    return {r[key]: r for r in rows_of(path, f"select {key}, {columns} from nextmove.{model}")}


def test_customers(path: Place) -> None:
    rows = _rows(path, "dim_customers", "external_id, email, rep_id, is_suppressed", "customer_id")
    assert rows == {
        ANN: {
            "customer_id": ANN,
            "external_id": "u1",
            "email": "ann@example.com",
            "rep_id": "r1",
            "is_suppressed": False,
        },
        BEN: {
            "customer_id": BEN,
            "external_id": BEN,
            "email": "ben@example.com",
            "rep_id": None,
            "is_suppressed": True,
        },
        CYD: {
            "customer_id": CYD,
            "external_id": CYD,
            "email": None,
            "rep_id": None,
            "is_suppressed": False,
        },
    }


def test_the_merge_is_remembered(path: Place) -> None:
    assert rows_of(path, "select * from nextmove.int_identity__merges") == [
        {"old_customer_id": ANN_BEFORE, "customer_id": ANN, "merged_at": AS_OF}
    ]


def test_features(path: Place) -> None:
    (row,) = rows_of(
        path, f"select * from nextmove.dim_customer_features where customer_id = '{ANN}'"
    )
    expected = {
        "as_of": AS_OF,
        "profile_build": hashlib.md5(
            b"2026-01-31 06:00:00|nextmove", usedforsecurity=False
        ).hexdigest(),
        "orders_count": 1,
        "revenue_cents": 4500,
        "avg_order_cents": 4500.0,
        "days_since_last_order": 0.5,
        "pages_24h": "product>price",
        "last_page_class": "price",
        "page_views_24h": 2,
        "price_visits_7d": 1,
        "cart_visits_24h": 0,
        "clicks_2d": 0,
        "opens_14d": 0,
        "clicks_14d": 1,
        "engagement_velocity": -1 / 14,
        "preferred_channel": "email",
        "email_click_rate": 4 / 11,
        "push_click_rate": 0.1,
        "last_action": "no_action",
        "last_channel": None,
        "days_since_last_decision": 1.0,
        "step": 1,
        "sends_7d": 0,
        "sends_30d": 1,
        "email_sends_30d": 1,
        "sms_sends_30d": 0,
        "consent_email": True,
        "consent_push": None,
        "is_suppressed": False,
        "has_email": True,
        "has_phone": False,
        "has_push": False,
        "has_rep": True,
        "consent_rep": None,
        "rep_sends_30d": 0,
        "open_deals": 1,
        "account_deals_won": 0,
        "account_employees": 40,
        "cross_channel_intent": 0.0,
    }
    assert {k: row[k] for k in expected} == expected


def test_outcomes(path: Place) -> None:
    rows = rows_of(
        path,
        "select decision_id, event, event_id, customer_id, delay_hours, value, is_machine"
        " from nextmove.fct_outcomes order by decision_id, event_id",
    )
    names = (
        "decision_id",
        "event",
        "event_id",
        "customer_id",
        "delay_hours",
        "value",
        "is_machine",
    )
    assert rows == [
        dict(zip(names, values, strict=True))
        for values in (
            ("d1", "click", "braze:i1", ANN, 18.0, 1.0, False),
            ("d1", "click", "braze:i2", ANN, 48.0, 1.0, False),
            ("d1", "click", "braze:i3", ANN, 19.0, 1.0, True),
            ("d2", "order", "o1", ANN, 12.0, 45.0, False),
        )
    ]


def test_rewards(path: Place) -> None:
    columns = "customer_id, reward, is_closed, age_hours, delay_weight, is_learnable"
    rows = _rows(path, "fct_decision_rewards", columns, "decision_id")
    assert rows["d1"]["reward"] == pytest.approx(0.2)
    assert rows["d2"]["reward"] == pytest.approx(0.45)
    assert (rows["d1"]["is_closed"], rows["d1"]["delay_weight"]) == (True, 1.0)
    assert (rows["d2"]["is_closed"], rows["d2"]["delay_weight"]) == (False, 0.5)
    assert rows["d2"]["age_hours"] == 24.0
    assert all(r["is_learnable"] and r["customer_id"] == ANN for r in rows.values())


def test_outboxes(path: Place) -> None:
    assert rows_of(path, "select key, email, first_name from nextmove.outbox_braze__users") == [
        {"key": "u1", "email": "ann@example.com", "first_name": "Ann"}
    ]
    assert rows_of(path, "select key, orders_count from nextmove.outbox_iterable__users") == [
        {"key": "u1", "orders_count": 1}
    ]
    (contact,) = rows_of(path, "select * from nextmove.outbox_hubspot__contacts")
    assert contact == {
        "key": "ann@example.com",
        "email": "ann@example.com",
        "customer_id": ANN,
        "nextmove_decision_id": "d2",
        "nextmove_action": "no_action",
        "nextmove_agent": "growth",
        "nextmove_reason": "This customer looked at prices in the last 7 days, and not writing"
        " was chosen for the goal growth.",
        "nextmove_next_step": "No message is planned.",
        "nextmove_confidence": 0.5,
        "nextmove_decided_at": at(30, 6),
    }


def test_reports(path: Place) -> None:
    assert rows_of(path, "select agent, channel, sends from nextmove.rpt_sends_by_channel") == [
        {"agent": "growth", "channel": "email", "sends": 1}
    ]
    blocks = _rows(path, "rpt_guardrail_blocks", "decisions, blocked_actions", "reason")
    assert set(blocks) == {"frequency_cap", "no_consent"}
    (group,) = rows_of(path, "select * from nextmove.rpt_reward_by_group")
    assert (group["decisions"], group["customers"], group["closed_decisions"]) == (2, 1, 1)
    assert group["reward_per_decision"] == pytest.approx(0.2)


def test_a_build_without_news_changes_no_history(dbt: Dbt, path: Place) -> None:
    before = rows_of(path, "select count(*) as n from nextmove.int_identity__history")
    dbt(path, "run", "--select", "tag:daily")
    assert rows_of(path, "select count(*) as n from nextmove.int_identity__history") == before


@pytest.mark.parametrize("built", ["duckdb"], indirect=True)
def test_no_model_makes_far_more_rows_than_it_reads(built: Built, tmp_path: Path) -> None:
    """Of many people, whatever the planner takes them for: it may compare all with everything."""
    place, results = built
    assert isinstance(place, Path)
    # The models' SQL names the database, which is called like its file.
    copy = tmp_path / place.name
    shutil.copy(place, copy)
    synthetic.fill(copy, customers=2_000, decisions=4_000)
    models = [r.node for r in results.values() if r.node.resource_type == "model"]
    with duckdb.connect(str(copy)) as db:
        steps = {model.name: _made_anew(db, model) for model in models}

    read = {m: sum(n for step, n in made if step.endswith("_SCAN")) for m, made in steps.items()}
    most = {m: max(n for _, n in made) for m, made in steps.items()}
    assert read["int_events__web"] >= 40_000
    assert {m: n for m, n in most.items() if n > 5 * max(read[m], 1_000)} == {}


def _made_anew(db: duckdb.DuckDBPyConnection, model: Any) -> list[tuple[str, int]]:
    """The steps of the plan that makes a model, each with how many rows came out of it."""
    is_table = not model.config.materialized.endswith("view")
    create = f'create or replace table {model.schema}."{model.name}" as ' if is_table else ""
    told = db.execute(f"explain (analyze, format json) {create}{model.compiled_code}").fetchone()
    assert told is not None
    return [found for step in json.loads(told[1])["operator"] for found in _steps(step)]


def _steps(step: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield step["type"], step["intermediate_rows"]
    for under in step.get("children", []):
        yield from _steps(under)
