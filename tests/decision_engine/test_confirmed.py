"""What differs between an outbox and what its destination has confirmed, in each warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.base import Warehouse
from connectors.warehouses.duckdb import DuckDB
from connectors.warehouses.postgres import Postgres
from decision_engine.confirmed import LAST, Confirmed, Outbox, wait
from decision_engine.errors import StepError
from decision_engine.fence import Fence
from decision_engine.tables import FENCES
from tests.postgres_server import SUPERUSER, PostgresServer, running_postgres

NOW = datetime(2026, 3, 1, 12)
COLUMNS = {"key": pa.string(), "tier": pa.string(), "step": pa.int32(), "as_of": pa.int64()}
MODEL, TABLE = "nextmove.outbox_a__b", "nextmove_engine.confirmed_a__b"
SCHEMA_OF = "nextmove_engine.runs"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.fixture(params=["duckdb", "postgres"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    opened: Warehouse
    if request.param == "duckdb":
        opened = DuckDB(tmp_path / "warehouse.duckdb")
    else:
        server: PostgresServer = request.getfixturevalue("server")
        folder, database = str(server.socket_folder), server.new_database()
        opened = Postgres(host=folder, database=database, user=SUPERUSER)
    yield opened
    opened.close()


def rows(*given: tuple[Any, ...], columns: dict[str, pa.DataType] = COLUMNS) -> pa.Table:
    named = [dict(zip(columns, row, strict=True)) for row in given]
    return pa.Table.from_pylist(named, schema=pa.schema(columns))


def set_outbox(warehouse: Warehouse, *given: tuple[Any, ...]) -> None:
    warehouse.ensure(MODEL, pa.schema(COLUMNS))
    warehouse.rows(f"delete from {MODEL}")
    warehouse.append(MODEL, rows(*given))


def changed(confirmed: Confirmed) -> dict[str, set[str]]:
    """Key to the columns that count as changed."""
    found = [r for b in confirmed.warehouse.query(confirmed.changes()) for r in b.to_pylist()]
    flags = [c for c in COLUMNS if c != "key"]
    return {row["key"]: {c for c in flags if row[f"changed_{c}"]} for row in found}


def vanished(confirmed: Confirmed) -> list[str]:
    confirmed.mark_vanished()
    batches = confirmed.warehouse.query(confirmed.vanished())
    return [row["key"] for batch in batches for row in batch.to_pylist()]


def test_a_mirror_from_its_first_row_to_its_last(warehouse: Warehouse) -> None:
    mirror = Outbox("b", is_mirror=True, quiet=("as_of",))
    confirmed = Confirmed(warehouse, mirror, MODEL, TABLE)
    set_outbox(warehouse, ("a", "gold", 1, 10), ("b", None, None, 10), ("c", "gold", 1, 10))
    warehouse.ensure(SCHEMA_OF, pa.schema({"key": pa.string()}))
    assert confirmed.waiting(NOW) == 3
    confirmed.prepare()
    confirmed.prepare()
    # A new row is whole, its NULLs too.
    assert changed(confirmed) == {key: {"tier", "step", "as_of"} for key in "abc"}
    confirmed.keep(rows(("a", "gold", 1, 10), ("b", None, None, 10), ("c", "gold", 1, 10)), "one")
    assert (changed(confirmed), vanished(confirmed)) == ({}, [])

    # Time alone is no reason, but goes along with one.
    set_outbox(warehouse, ("a", "gold", 1, 11), ("b", "gold", None, 11), ("c", None, 1, 11))
    assert changed(confirmed) == {"b": {"tier", "as_of"}, "c": {"tier", "as_of"}}
    assert confirmed.waiting(NOW) == 2
    confirmed.forget(["b"])
    assert changed(confirmed)["b"] == {"tier", "step", "as_of"}

    # Who vanished is removed, and is new when they come back before that was noted.
    set_outbox(warehouse, ("a", "gold", 1, 11), ("b", "gold", None, 11))
    assert vanished(confirmed) == ["c"]
    assert vanished(confirmed) == ["c"]
    set_outbox(warehouse, ("a", "gold", 1, 11), ("c", "gold", 1, 10))
    assert changed(confirmed) == {"c": {"tier", "step", "as_of"}}
    assert vanished(confirmed) == []
    confirmed.keep(rows(("c", "gold", 1, 10)), "one")
    assert changed(confirmed) == {}

    # Nothing is removed for an outbox without rows; what another store confirmed does not count.
    set_outbox(warehouse)
    assert vanished(confirmed) == []
    set_outbox(warehouse, ("a", "gold", 1, 11))
    confirmed.forget_others("two")
    assert set(changed(confirmed)) == {"a"}


def test_a_vendor_gets_what_changed_and_loses_nobody(warehouse: Warehouse) -> None:
    confirmed = Confirmed(warehouse, Outbox("b"), MODEL, TABLE)
    warehouse.ensure(SCHEMA_OF, pa.schema({"key": pa.string()}))
    set_outbox(warehouse, ("a", "gold", None, 10))
    confirmed.prepare()
    assert changed(confirmed) == {"a": {"tier", "as_of"}}
    confirmed.keep(rows(("a", "gold", None, 10)), None)
    assert changed(confirmed) == {}
    set_outbox(warehouse, ("a", None, None, 10))
    assert changed(confirmed) == {"a": {"tier"}}


def test_a_row_in_doubt_is_sent_whole_until_its_sending_surely_had_no_effect(
    warehouse: Warehouse,
) -> None:
    confirmed = Confirmed(warehouse, Outbox("b", deletes=True), MODEL, TABLE)
    warehouse.ensure(SCHEMA_OF, pa.schema({"key": pa.string()}))
    old, new = ("a", "gold", 1, 10), ("b", "gold", 1, 10)
    set_outbox(warehouse, old)
    confirmed.prepare()
    confirmed.keep(rows(old), "there")
    set_outbox(warehouse, old, new)
    assert set(changed(confirmed)) == {"b"}

    confirmed.doubt(rows(old, new), "there", "first")
    confirmed.doubt(rows(old), "there", "second")
    assert changed(confirmed) == {key: {"tier", "step", "as_of"} for key in "ab"}
    confirmed.undoubt(["a", "b"], "second")
    assert set(changed(confirmed)) == {"a", "b"}, "that says nothing of the first one"
    set_outbox(warehouse, old)
    assert vanished(confirmed) == ["b"], "it may be there"

    set_outbox(warehouse, old, new)
    confirmed.undoubt(["a", "b"], "first")
    assert set(changed(confirmed)) == {"b"}
    set_outbox(warehouse, old)
    assert vanished(confirmed) == []
    confirmed.doubt(rows(old), "there", "third")
    confirmed.keep(rows(old), "there")
    assert changed(confirmed) == {}


def test_a_row_is_judged_by_its_values_whatever_time_it_carries(warehouse: Warehouse) -> None:
    """No cursor: a time in the future, or the same one twice, holds nothing back."""
    confirmed = Confirmed(warehouse, Outbox("b", quiet=("as_of",)), MODEL, TABLE)
    warehouse.ensure(SCHEMA_OF, pa.schema({"key": pa.string()}))
    future = 2**40
    given = [("a", "gold", 1, future), ("b", "gold", 1, 10), ("c", "gold", 1, 10)]
    set_outbox(warehouse, *given)
    confirmed.prepare()
    confirmed.keep(rows(*given), None)
    set_outbox(
        warehouse, ("a", "silver", 1, 11), ("b", "silver", 1, 10), ("c", "gold", 1, 10),
        ("d", "gold", 1, 9),
    )  # fmt: skip
    assert set(changed(confirmed)) == {"a", "b", "d"}


def test_a_rejected_row_waits_and_comes_whole(warehouse: Warehouse) -> None:
    confirmed = Confirmed(warehouse, Outbox("b"), MODEL, TABLE)
    warehouse.ensure(SCHEMA_OF, pa.schema({"key": pa.string()}))
    set_outbox(warehouse, ("a", "gold", 1, 10), ("b", "gold", 1, 10))
    confirmed.prepare()
    confirmed.keep(rows(("a", "silver", 1, 10)), None)
    confirmed.reject(rows(("a", "gold", 1, 10), ("b", "gold", 1, 10)), None, NOW)
    assert confirmed.rejected() == 2
    assert confirmed.waiting(NOW + timedelta(minutes=14)) == 0
    assert confirmed.waiting(NOW + timedelta(minutes=15)) == 2
    assert confirmed.counts(NOW + timedelta(minutes=15)) == (2, 0, 0)
    whole = {"tier", "step", "as_of"}
    assert changed(confirmed) == {"a": whole, "b": whole}, "at once, if asked"

    confirmed.reject(rows(("b", "gold", 1, 10)), None, NOW)
    confirmed.keep(rows(("a", "gold", 1, 10)), None)
    assert confirmed.waiting(NOW + timedelta(minutes=29)) == 0
    assert confirmed.waiting(NOW + timedelta(minutes=30)) == 1
    set_outbox(warehouse, ("a", "gold", 1, 10), ("b", "gold", 2, 10))
    assert confirmed.waiting(NOW) == 1
    set_outbox(warehouse, ("a", "gold", 1, 10))
    assert confirmed.rejected() == 0, "who has left the outbox is no trouble"
    assert max(map(wait, range(1, LAST))) == timedelta(days=1)


def test_a_row_that_is_always_rejected_is_left_alone_for_good_until_it_changes(
    warehouse: Warehouse,
) -> None:
    confirmed = Confirmed(warehouse, Outbox("b"), MODEL, TABLE)
    warehouse.ensure(SCHEMA_OF, pa.schema({"key": pa.string()}))
    set_outbox(warehouse, ("a", "gold", 1, 10), ("b", "gold", 1, 10))
    confirmed.prepare()
    confirmed.keep(rows(("b", "gold", 1, 10)), None)
    now = NOW
    for times in range(1, LAST):
        confirmed.reject(rows(("a", "gold", 1, 10)), None, now)
        now += wait(times)
        assert confirmed.waiting(now) == 1
    assert timedelta(days=7) < now - NOW < timedelta(days=9)
    confirmed.reject(rows(("a", "gold", 1, 10)), None, now)
    assert confirmed.waiting(now + timedelta(days=3_000)) == 0
    assert confirmed.rejected() == 1, "it is still told"
    assert changed(confirmed).keys() == {"a"}, "at once, if asked"
    set_outbox(warehouse, ("a", "silver", 1, 10), ("b", "gold", 1, 10))
    assert confirmed.waiting(now) == 1


def overtaken(warehouse: Warehouse, fence: Fence) -> None:
    """What a delivery does that comes back too late."""
    with warehouse.transaction():
        warehouse.append(MODEL, rows(("a", "gold", 1, 10)))
        fence.check(warehouse)


def test_who_was_overtaken_changes_nothing(warehouse: Warehouse) -> None:
    table = "nextmove_engine.fences"
    warehouse.ensure(table, FENCES, ["name"])
    first = Fence.draw(warehouse, table)
    with warehouse.transaction():
        first.check(warehouse)
    second = Fence.draw(warehouse, table)
    assert second.token == first.token + 1
    warehouse.ensure(MODEL, pa.schema(COLUMNS))
    with pytest.raises(StepError, match="another delivery has begun"):
        overtaken(warehouse, first)
    assert warehouse.rows(f"select count(*) from {MODEL}") == [(0,)]
    with warehouse.transaction():
        second.check(warehouse)
