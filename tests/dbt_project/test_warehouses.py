"""A part of the project on the emulator of Snowflake; all of it is among the slow tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.dbt_project.conftest import Dbt
from tests.dbt_project.shop import ANN, ANN_BEFORE, BEN, CYD, at, fill
from tests.dbt_project.warehouse import Copy, rows_of


def test_customers_in_the_emulator(
    dbt: Dbt, in_snowflake: Callable[[Path], Copy], tmp_path: Path
) -> None:
    fill(tmp_path / "warehouse.duckdb")
    place = in_snowflake(tmp_path / "warehouse.duckdb")
    for moment in (at(6), at(31, 6)):
        dbt(place, "run", "--select", "+int_identity__history", as_of=moment)
    history = "select distinct customer_id from nextmove.int_identity__history"
    assert {row["customer_id"] for row in rows_of(place, history)} == {ANN, ANN_BEFORE, BEN, CYD}
