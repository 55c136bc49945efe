"""A customer starts with nothing, or with one table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.dbt_project.conftest import PACKAGE, Dbt, DbtError
from tests.dbt_project.warehouse import create_warehouse, insert, rows_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def test_empty_tables_build_to_empty_marts(dbt: Dbt, path: Path) -> None:
    create_warehouse(path)
    dbt(path, "build", "--exclude", "test_type:unit")
    assert rows_of(path, "select * from nextmove.dim_customer_features") == []
    assert rows_of(path, "select * from nextmove.fct_decision_rewards") == []


def test_one_table_is_enough(dbt: Dbt, path: Path) -> None:
    with duckdb.connect(str(path)) as db:
        db.execute(
            "create schema raw; create table raw.orders as select 'o1' as order_id, 's1' as"
            " shop_customer_id, 'paid' as status, 1250 as amount_cents,"
            " timestamp '2026-01-21 06:00:00' as ordered_at"
        )
    dbt(path, "build", "--exclude", "test_type:unit", nextmove_sources=["orders"])
    (row,) = rows_of(path, "select * from nextmove.dim_customer_features")
    assert (row["orders_count"], row["revenue_cents"], row["days_since_last_order"]) == (
        1,
        1250,
        10,
    )
    assert (row["has_email"], row["consent_email"], row["page_views_24h"]) == (False, None, 0)


def test_listed_table_that_is_absent_is_named(dbt: Dbt, path: Path) -> None:
    create_warehouse(path)
    with duckdb.connect(str(path)) as db:
        db.execute("drop table raw.chats")
    with pytest.raises(DbtError, match=r"nextmove_sources lists chats, but .* does not exist"):
        dbt(path, "run", "--select", "stg_chat__chats")


def test_missing_columns_are_null_when_optional_and_named_when_not(dbt: Dbt, path: Path) -> None:
    create_warehouse(path)
    insert(path, "raw.chats", [{"chat_id": "h1", "anonymous_id": "a1"}])
    with duckdb.connect(str(path)) as db:
        db.execute("alter table raw.chats drop column topic; alter table raw.orders drop status")
    dbt(path, "run", "--select", "stg_chat__chats")
    assert rows_of(path, "select topic from nextmove.stg_chat__chats") == [{"topic": None}]
    with pytest.raises(DbtError, match='orders" has no column status'):
        dbt(path, "run", "--select", "stg_shop__orders")


def test_as_of_is_asked_for(dbt: Dbt, path: Path) -> None:
    create_warehouse(path)
    with pytest.raises(DbtError, match="var as_of is missing"):
        dbt(path, "run", "--select", "int_identity__sightings", as_of=None)


def test_no_model_asks_the_cache_of_relations() -> None:
    """With threads it may know a few tables of a schema only: decisions would be lost unseen."""
    macros = [*(PACKAGE / "macros").rglob("*.sql"), *(PACKAGE / "models").rglob("*.sql")]

    assert len(macros) > 50
    assert not [m.name for m in macros if "get_relation(" in m.read_text(encoding="utf-8")]
