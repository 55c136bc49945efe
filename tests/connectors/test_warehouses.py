"""The laws of a warehouse, for each that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from functools import partial
from itertools import count
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors.base import Warehouse
from connectors.warehouses.duckdb import DuckDB
from connectors.warehouses.postgres import Postgres
from connectors.warehouses.snowflake import Snowflake
from tests.postgres_server import SUPERUSER, running_postgres
from tests.snowflake_emulator import NO_TIME, running_emulator

_NUMBERS = count()
Open = Callable[[], Warehouse]

EVERY_TYPE = pa.schema(
    {
        "id": pa.string(),
        "flag": pa.bool_(),
        "small": pa.uint8(),
        "whole": pa.int32(),
        "big": pa.int64(),
        "real": pa.float64(),
        "day": pa.date32(),
        "moment": pa.timestamp("us"),
        "bytes": pa.binary(),
        "reals": pa.list_(pa.float64()),
        "codes": pa.list_(pa.uint8()),
    }
)
FULL: dict[str, Any] = {
    "id": "full",
    "flag": True,
    "small": 255,
    "whole": -(2**31),
    "big": 2**62 + 1,
    "real": 0.1 + 0.2,
    "day": date(2024, 2, 29),
    "moment": datetime(2026, 3, 29, 2, 30, 0, 123456),
    "bytes": bytes(range(256)),
    "reals": [0.1 + 0.2, -1e-300, 1.7976931348623157e308, 5e-324, 0.0],
    "codes": [0, 1, 255],
}
TEXTS = (
    "",
    " ",
    "NULL",
    "\\N",
    "null",
    "a,b",
    'say "hi"',
    "it's",
    "back\\slash",
    "two\nlines\r\n",
    "tab\t",
    "100 % ? {} $1 :x",
    "Größe 漢字 👩‍👩‍👧",
    "{1,2}",
    "[]",
    "e\u0301",
)
NAMES = ("order", "group", "with space", 'quo"te', "per%cent", "what?", "größe", "a.b", "table")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Open]:
    with running_postgres() as server:
        folder = str(server.socket_folder)
        yield lambda: Postgres(host=folder, database=server.new_database(), user=SUPERUSER)


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Open]:
    with running_emulator() as emulator:
        yield lambda: Snowflake(**emulator.settings(emulator.new_database()))


@pytest.fixture(scope="module", params=["duckdb", "postgres", "snowflake"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    if request.param == "duckdb":
        folder = tmp_path_factory.mktemp("duckdb")
        return lambda: DuckDB(folder / f"{next(_NUMBERS)}.duckdb")
    found: Open = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def warehouse(opened: Open) -> Iterator[Warehouse]:
    opened_one = opened()
    yield opened_one
    opened_one.close()


@pytest.fixture
def table() -> str:
    """A name of a table of the test's own."""
    return f"laws.t{next(_NUMBERS)}"


def read(warehouse: Warehouse, table: str, order: str = "id") -> list[dict[str, Any]]:
    """The table through `query`."""
    batches = warehouse.query(f"select * from {table} order by {order}")
    return [row for batch in batches for row in batch.to_pylist()]


def rows(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def fill(warehouse: Warehouse, table: str, **columns: list[Any]) -> None:
    data = rows(**columns)
    warehouse.ensure(table, data.schema)
    warehouse.append(table, data)


def test_every_type_survives(warehouse: Warehouse, table: str) -> None:
    empty = {**dict.fromkeys(EVERY_TYPE.names), "id": "null"}
    bare = {**FULL, "id": "bare", "bytes": b"", "reals": [], "codes": []}
    given = [bare, FULL, empty]
    warehouse.ensure(table, EVERY_TYPE)
    assert warehouse.append(table, pa.Table.from_pylist(given, schema=EVERY_TYPE)) == 3
    if warehouse.dialect == "snowflake":
        empty["moment"] = NO_TIME
    assert read(warehouse, table) == given


def test_numbers_that_are_none(warehouse: Warehouse, table: str) -> None:
    reals = [nan, inf, -inf]
    fill(warehouse, table, id=["1", "2", "3"], real=reals, list=[reals, [1.0, nan], [None, 2.0]])
    back = read(warehouse, table)
    assert isnan(back[0]["real"])
    assert [row["real"] for row in back[1:]] == [inf, -inf]
    assert [isnan(x) for x in back[0]["list"]] == [True, False, False]
    assert back[2]["list"] == [None, 2.0]


def test_numbers_keep_every_bit(warehouse: Warehouse, table: str) -> None:
    bits = np.random.default_rng(5).integers(0, 2**63, 2000, dtype=np.int64).view(np.float64)
    reals = bits[np.isfinite(bits)].tolist()
    lists = [reals[i : i + 3] for i in range(len(reals))]
    fill(warehouse, table, id=list(range(len(reals))), real=reals, list=lists)
    back = read(warehouse, table)
    assert [row["real"] for row in back] == reals
    assert [row["list"] for row in back] == lists


def test_any_text(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=list(range(len(TEXTS))), text=list(TEXTS))
    assert [row["text"] for row in read(warehouse, table)] == list(TEXTS)
    for i, text in enumerate(TEXTS):
        assert warehouse.rows(f"select id from {table} where text = ?", [text]) == [(i,)]


def test_any_column_name(warehouse: Warehouse, table: str) -> None:
    data = rows(id=["1"], **{name: [name] for name in NAMES})
    warehouse.ensure(table, data.schema)
    warehouse.append(table, data)
    warehouse.merge(table, data, ["id", *NAMES])
    assert read(warehouse, table) == data.to_pylist()
    assert list(warehouse.columns(table) or {}) == ["id", *NAMES]
    named = ", ".join(warehouse.quote(name) for name in NAMES)
    assert warehouse.rows(f"select {named} from {table}") == [NAMES]


def test_the_order_of_columns_is_free(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=["1"], one=[1], two=[2])
    warehouse.append(table, rows(two=[4], id=["2"]))
    assert read(warehouse, table) == [
        {"id": "1", "one": 1, "two": 2},
        {"id": "2", "one": None, "two": 4},
    ]


def test_tables_without_rows(warehouse: Warehouse, table: str) -> None:
    warehouse.ensure(table, EVERY_TYPE)
    nothing = EVERY_TYPE.empty_table()
    assert warehouse.append(table, nothing) == 0
    assert warehouse.insert_absent(table, nothing, ["id"]) == 0
    assert warehouse.merge(table, nothing, ["id"]) == 0
    assert list(warehouse.query(f"select * from {table}")) == []
    assert warehouse.rows(f"select * from {table}") == []
    assert warehouse.rows(f"select count(*), max(big) from {table}") == [(0, None)]


def test_columns_of_tables_there_and_not_there(warehouse: Warehouse, table: str) -> None:
    assert warehouse.columns(table) is None
    assert warehouse.columns("nowhere.nothing") is None
    warehouse.ensure(table, EVERY_TYPE)
    assert list(warehouse.columns(table) or {}) == EVERY_TYPE.names


def test_ensure_keeps_what_is_there(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=["1"])
    warehouse.ensure(table, pa.schema({"id": pa.string(), "more": pa.string()}))
    assert read(warehouse, table) == [{"id": "1"}]


def test_insert_absent(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=["a", "a"], n=[1, 2], value=["old", "old"])
    news = rows(id=["a", "a", "b"], n=[2, 3, 2], value=["new", "new", "new"])
    assert warehouse.insert_absent(table, news, ["id", "n"]) == 2
    assert warehouse.insert_absent(table, news, ["id", "n"]) == 0
    assert [tuple(r.values()) for r in read(warehouse, table, "id, n")] == [
        ("a", 1, "old"),
        ("a", 2, "old"),
        ("a", 3, "new"),
        ("b", 2, "new"),
    ]


def test_merge(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=["a", "b"], n=[1, 1], value=["old", "old"])
    assert warehouse.merge(table, rows(id=["b", "c"], n=[1, 1], value=["new", None]), ["id", "n"])
    assert [tuple(r.values()) for r in read(warehouse, table)] == [
        ("a", 1, "old"),
        ("b", 1, "new"),
        ("c", 1, None),
    ]


def test_a_transaction_is_all_or_nothing(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=["a"])

    def write() -> None:
        warehouse.append(table, rows(id=["b"]))
        warehouse.insert_absent(table, rows(id=["c"]), ["id"])
        warehouse.merge(table, rows(id=["a"]), ["id"])
        warehouse.rows(f"update {table} set id = 'z' where id = ?", ["b"])

    def interrupted() -> None:
        with warehouse.transaction():
            write()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read(warehouse, table) == [{"id": "a"}]
    with warehouse.transaction():
        write()
    assert [row["id"] for row in read(warehouse, table)] == ["a", "c", "z"]


def test_asking_for_a_table_that_is_not_there_ends_no_transaction(
    warehouse: Warehouse, table: str
) -> None:
    fill(warehouse, table, id=["a"])
    with warehouse.transaction():
        warehouse.append(table, rows(id=["b"]))
        assert warehouse.columns(f"{table}_that_is_not_there") is None
        assert list(warehouse.columns(table) or ()) == ["id"]
    assert [row["id"] for row in read(warehouse, table)] == ["a", "b"]


def test_statements_without_a_result(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=["a", "b"], n=[1, 2])
    warehouse.rows(f"update {table} set n = n + ? where id = ?", [10, "b"])
    warehouse.rows(f"delete from {table} where id = ?", ["a"])
    assert read(warehouse, table) == [{"id": "b", "n": 12}]


def test_parameters(warehouse: Warehouse, table: str) -> None:
    warehouse.ensure(table, EVERY_TYPE)
    warehouse.append(table, pa.Table.from_pylist([FULL], schema=EVERY_TYPE))
    for name in ("id", "flag", "whole", "big", "real", "moment"):
        column = warehouse.quote(name)
        found = f"select id from {table} where {column} = ? and id like 'fu%' and id <> '?'"
        assert warehouse.rows(found, [FULL[name]]) == [("full",)], name
        (batch,) = warehouse.query(found, [FULL[name]])
        assert batch.to_pylist() == [{"id": "full"}]


def test_one_of_a_list(warehouse: Warehouse, table: str) -> None:
    names = [f"it's {i}" for i in range(20_000)]
    fill(warehouse, table, id=names)
    found = partial(warehouse.rows, f"select count(*) from {table} where {warehouse.among('id')}")
    assert found([names]) == [(20_000,)]
    assert found([["it's 7", "it's 7", 'no "such" one']]) == [(1,)]
    assert found([[]]) == [(0,)]


def test_a_result_comes_in_batches_while_rows_are_written(warehouse: Warehouse, table: str) -> None:
    n = 150_000
    fill(warehouse, table, id=list(range(n)))
    seen, batches = [], 0
    for batch in warehouse.query(f"select id from {table} order by id"):
        assert batch.num_rows <= 65_536
        with warehouse.transaction():
            warehouse.append(table, rows(id=[-1]))
        seen += batch["id"].to_pylist()
        batches += 1
    assert seen == list(range(n))
    assert batches >= 3
    assert warehouse.rows(f"select count(*) from {table} where id < 0") == [(batches,)]


def test_a_result_may_be_left_unread(warehouse: Warehouse, table: str) -> None:
    fill(warehouse, table, id=list(range(100)))
    for _ in range(20):
        next(warehouse.query(f"select * from {table}"))
    warehouse.rows(f"delete from {table}")
    assert read(warehouse, table) == []
