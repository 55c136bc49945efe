"""A number for each delivery that has begun, so that one which was overtaken changes nothing.

The journal's lock keeps two deliveries apart on one machine. Where a lock can be lost, on a
folder that machines share, the slower of two must not move what the other has built on.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.errors import StepError
from decision_engine.tables import FENCES

_NAME = "deliver"


@dataclass(frozen=True)
class Fence:
    """The number of one delivery; `table` is where the last one is kept."""

    table: str
    token: int

    @classmethod
    def draw(cls, warehouse: Warehouse, table: str) -> Fence:
        """The next number. Whoever has an earlier one is overtaken from now on."""
        first = pa.Table.from_pylist([{"name": _NAME, "token": 0}], schema=FENCES)
        warehouse.insert_absent(table, first, ["name"])
        with warehouse.transaction():
            warehouse.rows(f"update {table} set token = token + 1 where name = ?", [_NAME])
            return cls(table, _token(warehouse, table))

    def check(self, warehouse: Warehouse) -> None:
        """To be called first in a transaction. StepError when another delivery has begun since.

        The row stays locked until the transaction ends, so that nobody can begin in between.
        """
        warehouse.rows(f"update {self.table} set token = token where name = ?", [_NAME])
        last = _token(warehouse, self.table)
        if last != self.token:
            raise StepError(
                f"another delivery has begun since this one (number {last} after {self.token});"
                " this one ends here, and nothing it has not written down is lost"
            )


def _token(warehouse: Warehouse, table: str) -> int:
    return int(warehouse.rows(f"select token from {table} where name = ?", [_NAME])[0][0])
