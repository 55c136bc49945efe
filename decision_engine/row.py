"""What is known of a few people as columns, without a scan of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
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


_column = partial(tuple.__new__, Column)
"""A Column of its two arrays, without a step in Python: half of what making contexts costs."""


class Layout:
    """The columns of a profile table by their kind, worked out once.

    `types` maps column names to warehouse types; `customer_id` is no part of a row. Numbers become
    float64, times Unix seconds, all else text, as in `arrow.column_of_array`.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        self._says_who = "customer_id" in types
        self.names: dict[Block, list[str]] = {block: [] for block in _DTYPES}
        for name, type_name in types.items():
            if name != "customer_id":
                self.names[_block_of(type_name)].append(name)

    def contexts(self, customer_ids: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Contexts:
        """N people by their columns; one that is absent is NULL, a time may be ISO text."""
        n = len(rows)
        columns: dict[str, Column] = {}
        for block, names in self.names.items():
            given = [row.get(name) for name in names for row in rows]
            # One array for all columns of a kind: a column is a view of a part of it.
            valid = np.array([v is not None for v in given], dtype=bool).reshape(-1, n)
            data = _block(block, given).reshape(-1, n)
            columns |= zip(names, map(_column, zip(data, valid, strict=True)), strict=True)
        ids = np.empty(n, dtype=object)
        ids[:] = customer_ids
        if self._says_who:
            columns["customer_id"] = Column(ids, np.ones(n, dtype=bool))
        return Contexts(ids, columns)


def _block_of(type_name: str) -> Block:
    if type_name.strip().upper().startswith("TIMESTAMP"):
        return "time"
    return kind_of_type(type_name) or "text"


def _block(block: Block, given: list[Any]) -> NDArray[Any]:
    """The values, with the empty value of the block for None."""
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
