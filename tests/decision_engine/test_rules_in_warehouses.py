"""The rule language in each warehouse's own SQL: the same answers as in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from connectors.base import Warehouse
from connectors.warehouses.postgres import Postgres
from connectors.warehouses.snowflake import Snowflake
from decision_engine.rules import compile_rule
from tests.decision_engine.test_rules import SCHEMA, TYPES, in_python, rules
from tests.postgres_server import SUPERUSER, running_postgres
from tests.snowflake_emulator import running_emulator

NIGHT, MORNING = datetime(2026, 2, 28, 23, 59, 59, 999999), datetime(2026, 3, 1, 8)
PEOPLE: list[dict[str, Any]] = [
    dict(zip(SCHEMA.names, row, strict=True))
    for row in [
        (None, None, None, None, None, None, None, None, None),
        (0, 0.0, 0, "", "", False, True, MORNING, NIGHT),
        (1, 0.5, -3, "a", "B", True, False, NIGHT, MORNING),
        (-3, -2.5, 2**40, "A", "a", True, None, datetime(2026, 3, 1), None),
        (2**31 - 1, 1e6, 3, "é'", "%_", None, True, datetime(1969, 12, 31, 23), MORNING),
        (2, 3.0, 1, "b ", "aB\n", False, False, None, NIGHT),
        (3, None, 2, "_", "Aé", True, True, datetime(2199, 12, 31, 0, 0, 0, 1), MORNING),
    ]
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Warehouse]:
    with running_postgres() as server:
        host, name = str(server.socket_folder), server.new_database()
        with closing(Postgres(host=host, database=name, user=SUPERUSER)) as opened:
            yield opened


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Warehouse]:
    with (
        running_emulator() as emulator,
        closing(Snowflake(**emulator.settings(emulator.new_database()))) as opened,
    ):
        yield opened


@pytest.fixture(scope="module", params=["postgres", "snowflake"])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    opened: Warehouse = request.getfixturevalue(request.param)
    numbered = pa.Table.from_pylist(PEOPLE, schema=SCHEMA)
    numbered = numbered.append_column("n", pa.array(range(len(PEOPLE)), pa.int64()))
    opened.ensure("rules.people", numbered.schema)
    opened.append("rules.people", numbered)
    return opened


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=rules)
def test_python_and_the_warehouse_agree(warehouse: Warehouse, text: str) -> None:
    rule = compile_rule(text, TYPES).sql(warehouse.dialect, warehouse.quote)
    found = warehouse.rows(f"select {rule} from rules.people order by n")
    assert [row[0] for row in found] == in_python(text, PEOPLE)
