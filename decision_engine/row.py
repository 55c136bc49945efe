"""What is known of a few people as columns, without a scan of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from decision_engine.columns import Blocks, Places
from decision_engine.rule_check import kind_of_type
from decision_engine.types import Column, Contexts, seconds_of

Kind = Literal["number", "boolean", "text", "time"]

_KINDS: tuple[Kind, ...] = ("number", "boolean", "text", "time")
_WHO = "customer_id"


class Layout:
    """The columns of a profile table by their kind, worked out once.

    `types` maps column names to warehouse types. Numbers become float64, times Unix seconds, all
    else text, as in `arrow.column_of_array`; NaN is NULL, and so is what is not a boolean but
    should be.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        of_kind: dict[Kind, list[str]] = {kind: [] for kind in _KINDS}
        for name, type_name in types.items():
            of_kind["text" if name == _WHO else _kind_of(type_name)].append(name)
        self._names = list(of_kind.values())
        self._places = Places(
            [name for names in self._names for name in names],
            {
                name: (block, row)
                for block, names in enumerate(self._names)
                for row, name in enumerate(names)
            },
        )

    def contexts(self, customer_ids: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Contexts:
        """N people by their columns; one that is absent is NULL, a time may be ISO text."""
        ids = np.empty(len(rows), dtype=object)
        ids[:] = customer_ids
        if _WHO in self._places.of:
            rows = [{**row, _WHO: who} for row, who in zip(rows, customer_ids, strict=True)]
        blocks = [
            _block(kind, [value for row in rows for value in map(row.get, names)], len(rows))
            for kind, names in zip(_KINDS, self._names, strict=True)
        ]
        return Contexts(ids, Blocks(self._places, blocks))


def _kind_of(type_name: str) -> Kind:
    if type_name.strip().upper().startswith("TIMESTAMP"):
        return "time"
    return kind_of_type(type_name) or "text"


def _block(kind: Kind, given: list[Any], n: int) -> Column:
    """The values (m, n) of one kind, given row by row; what is None is not valid."""
    if kind in ("number", "time"):
        if kind == "time":
            given = [None if v is None else _seconds(v) for v in given]
        numbers = np.array(given, dtype=np.float64).reshape(n, -1).T  # of None, NaN
        return Column(numbers, numbers == numbers)
    if kind == "boolean":
        known = np.array([isinstance(v, bool) for v in given], dtype=bool)
        values: NDArray[Any] = np.array([v is True for v in given], dtype=bool)
    else:
        known = np.array([v is not None for v in given], dtype=bool)
        values = np.empty(len(given), dtype=object)
        values[:] = ["" if v is None else str(v) for v in given]
    return Column(values.reshape(n, -1).T, known.reshape(n, -1).T)


def _seconds(moment: datetime | str | float) -> float:
    """Unix seconds of a time, of its ISO text, or of what is such seconds already."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return seconds_of(moment) if isinstance(moment, datetime) else float(moment)
