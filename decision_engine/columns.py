"""Columns in other forms: on top of each other, as lists, and as scalars for one person.

Any mapping of names to columns will do. `Blocks` are the one that is quick for a few people, for
whom a step per column would cost more than what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_engine.errors import MissingColumnError
from decision_engine.types import Bools, Column, Contexts, Ints, Pair

TRUTH: Any = (np.False_, np.True_)
"""Those of numpy, by the plain ones: they can be inverted."""


class Places:
    """Where columns are: the block, and the row of it. `names` are those of all the blocks."""

    def __init__(self, names: Sequence[str], of: Mapping[str, tuple[int, int]]) -> None:
        self.names, self.of = names, of
        self.together = lru_cache(maxsize=256)(self._together)
        self.only = lru_cache(maxsize=256)(self._only)

    def _together(self, names: tuple[str, ...]) -> tuple[int, Ints] | None:
        """The block of all the columns, and their rows; None when they are of several."""
        found = [self.of[name] for name in names]
        if len({block for block, _ in found}) != 1:
            return None
        return found[0][0], np.array([row for _, row in found])

    def _only(self, names: tuple[str, ...]) -> Places:
        return Places(self.names, {name: self.of[name] for name in names})


class Blocks(Mapping[str, Column]):
    """Columns of n people that are the rows of a few arrays (m, n), one for each kind of value."""

    def __init__(self, places: Places, blocks: Sequence[Column]) -> None:
        self.places, self.blocks = places, blocks
        self._scalars: Mapping[str, Pair] | None = None

    def __getitem__(self, name: str) -> Column:
        block, row = self.places.of[name]
        values, valid = self.blocks[block]
        return Column(values[row], valid[row])

    @property
    def scalars(self) -> Mapping[str, Pair]:
        """The columns of the first person."""
        if self._scalars is None:
            blocks = [
                zip(_scalars(values[:, 0]), _scalars(valid[:, 0]), strict=True)
                for values, valid in self.blocks
            ]
            found = dict(zip(self.places.names, chain(*blocks), strict=True))
            mine = self.places.of
            self._scalars = found if len(mine) == len(found) else {n: found[n] for n in mine}
        return self._scalars

    def __contains__(self, name: object) -> bool:
        return name in self.places.of

    def __iter__(self) -> Iterator[str]:
        return iter(self.places.of)

    def __len__(self) -> int:
        return len(self.places.of)


def _scalars(values: NDArray[Any]) -> list[Any]:
    """Scalars of numpy, and texts."""
    if values.dtype.kind == "b":
        return [TRUTH[value] for value in values.tolist()]
    return values.tolist() if values.dtype.kind == "O" else list(values)


def seen(contexts: Contexts) -> Mapping[str, Pair]:
    """The columns; for one person, scalars of numpy or a text: the same formulas hold for them.

    An operation on such scalars takes a tenth of one on arrays.
    """
    if len(contexts) != 1:
        return contexts.columns
    if isinstance(contexts.columns, Blocks):
        return contexts.columns.scalars
    return {name: (values[0], valid[0]) for name, (values, valid) in contexts.columns.items()}


def stacked(columns: Mapping[str, Column], names: tuple[str, ...]) -> Column:
    """The columns (m, n) on top of each other: of one kind, or numbers and booleans as numbers.

    Raises MissingColumnError.
    """
    try:
        if isinstance(columns, Blocks) and (found := columns.places.together(names)):
            values, valid = columns.blocks[found[0]]
            return Column(values.take(found[1], axis=0), valid.take(found[1], axis=0))
        parts = [columns[name] for name in names]
    except KeyError as error:
        raise MissingColumnError(error.args[0]) from None
    values = np.concatenate([values for values, _ in parts])
    valid = np.concatenate([valid for _, valid in parts])
    return Column(values.reshape(len(parts), -1), valid.reshape(len(parts), -1))


def only(columns: Mapping[str, Column], names: tuple[str, ...]) -> Mapping[str, Column]:
    """These of the columns, in this order."""
    if isinstance(columns, Blocks):
        return Blocks(columns.places.only(names), columns.blocks)
    return {name: columns[name] for name in names}


def lists_of(columns: Mapping[str, Column]) -> list[list[Any]]:
    """Each column as a list of n plain values, with None for NULL."""
    if isinstance(columns, Blocks):
        blocks = [_lists(block) for block in columns.blocks]
        return [blocks[block][row] for block, row in columns.places.of.values()]
    known = np.concatenate([valid for _, valid in columns.values()]).reshape(len(columns), -1)
    lists = [values.tolist() for values, _ in columns.values()]
    return _with_nulls(lists, known)


def _lists(block: Column) -> list[list[Any]]:
    return _with_nulls(block.values.tolist(), block.valid)


def _with_nulls(lists: list[list[Any]], known: Bools) -> list[list[Any]]:
    columns, rows = (~known).nonzero()
    for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
        lists[column][row] = None
    return lists
