"""One person's columns, to be overwritten in place while events come in.

A `Layout` is made once for a profile table, a `Row` once for a person: its columns are views of
three small arrays, so a changed value is one assignment and `contexts` is always current.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from decision_engine.rule_check import kind_of_type
from decision_engine.types import Column, Contexts, seconds_of

Block = Literal["number", "boolean", "text", "time"]

_EMPTY: Mapping[Block, Any] = {"number": 0.0, "boolean": False, "text": "", "time": 0.0}
_DTYPES: Mapping[Block, Any] = {
    "number": np.float64, "boolean": np.bool_, "text": object, "time": np.float64
}  # fmt: skip


class Layout:
    """Where each column of a table has its place in a `Row`.

    `types` maps column names to warehouse types; `customer_id` is not a column. Numbers become
    float64, times Unix seconds, all else text, as in `arrow.column_of_array`.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        self.names: dict[Block, list[str]] = {block: [] for block in _DTYPES}
        for name, type_name in types.items():
            if name != "customer_id":
                self.names[_block_of(type_name)].append(name)


class Row:
    """One person as Contexts of n = 1.

    What is made from `contexts` may share its memory: use it up before the next `set`.
    """

    def __init__(self, layout: Layout, customer_id: str, values: Mapping[str, Any]) -> None:
        self._places: dict[str, tuple[NDArray[Any], NDArray[Any], int]] = {}
        columns: dict[str, Column] = {}
        for block, names in layout.names.items():
            given = [values.get(name) for name in names]
            valid = np.array([v is not None for v in given], dtype=bool)
            data = _block(block, given)
            views = zip(names, data.reshape(-1, 1), valid.reshape(-1, 1), strict=True)
            for i, (name, value, known) in enumerate(views):
                columns[name] = Column(value, known)
                self._places[name] = data, valid, i
        self.contexts = Contexts(np.array([customer_id], dtype=object), columns)

    def set(self, name: str, value: Any) -> None:
        """Overwrite one value; None is NULL, a time is Unix seconds. KeyError: no such column."""
        data, valid, i = self._places[name]
        if value is None:
            valid[i] = False
        else:
            data[i] = value
            valid[i] = True


def _block_of(type_name: str) -> Block:
    if type_name.strip().upper().startswith("TIMESTAMP"):
        return "time"
    return kind_of_type(type_name) or "text"


def _block(block: Block, given: list[Any]) -> NDArray[Any]:
    """The values (m,), with the empty value of the block for None."""
    empty = _EMPTY[block]
    if block == "time":
        given = [None if v is None else _seconds(v) for v in given]
    elif block == "text":
        given = [None if v is None else str(v) for v in given]
    data = np.empty(len(given), dtype=_DTYPES[block])
    data[:] = [empty if v is None else v for v in given]
    return data


def _seconds(moment: datetime | str | float) -> float:
    """Unix seconds of a time, of its ISO text, or of what is such seconds already."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return seconds_of(moment) if isinstance(moment, datetime) else float(moment)
