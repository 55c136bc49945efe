"""Columns are the same in every form, and one person is decided about as in a crowd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine.columns import Blocks, lists_of, only, seen, stacked
from decision_engine.errors import MissingColumnError
from decision_engine.row import Layout
from decision_engine.types import Column, Contexts, column_of

TYPES = {
    "visits": "BIGINT",
    "rate": "DOUBLE",
    "is_known": "BOOLEAN",
    "tier": "VARCHAR",
    "as_of": "TIMESTAMP",
    "orders": "INTEGER",
}
numbers = st.none() | st.floats(allow_nan=False)
people = st.lists(
    st.fixed_dictionaries(
        {
            "visits": numbers,
            "rate": numbers,
            "is_known": st.none() | st.booleans(),
            "tier": st.none() | st.text(max_size=3),
            "as_of": st.none() | st.floats(0, 4e9),
            "orders": numbers,
        }
    ),
    min_size=1,
    max_size=4,
)
forms = settings(max_examples=100, deadline=None, derandomize=True)


def blocks_of(rows: list[dict[str, Any]]) -> Contexts:
    contexts = Layout(TYPES).contexts([f"c{i}" for i in range(len(rows))], rows)
    assert isinstance(contexts.columns, Blocks)
    return contexts


def apart(contexts: Contexts) -> Contexts:
    """The same columns, one by one."""
    return Contexts(contexts.customer_ids, dict(contexts.columns))


def plain(column: Any) -> list[Any]:
    values, valid = (np.atleast_1d(part) for part in column)
    return [v if ok else None for v, ok in zip(values.tolist(), valid.tolist(), strict=True)]


@forms
@given(people)
def test_what_was_given_is_what_is_there(rows: list[dict[str, Any]]) -> None:
    contexts = blocks_of(rows)
    for name in TYPES:
        assert plain(contexts.columns[name]) == [row[name] for row in rows]
    assert lists_of(contexts.columns) == [[row[name] for row in rows] for name in contexts.columns]


@forms
@given(people, st.permutations(list(TYPES)), st.integers(1, len(TYPES)))
def test_some_of_the_columns(rows: list[dict[str, Any]], names: list[str], m: int) -> None:
    contexts, wanted = blocks_of(rows), tuple(names[:m])
    for columns in (contexts.columns, apart(contexts).columns):
        some = only(columns, wanted)
        assert tuple(some) == wanted
        assert lists_of(some) == [[row[name] for row in rows] for name in wanted]


@forms
@given(people)
@pytest.mark.parametrize("names", [("orders", "visits"), ("visits", "is_known"), ("tier",)])
def test_on_top_of_each_other(names: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    contexts = blocks_of(rows)
    for columns in (contexts.columns, apart(contexts).columns):
        values, valid = stacked(columns, names)
        assert values.shape == valid.shape == (len(names), len(rows))
        assert [plain(Column(v, ok)) for v, ok in zip(values, valid, strict=True)] == [
            [row[name] for row in rows] for name in names
        ]


def test_a_column_that_is_not_there_is_an_error() -> None:
    contexts = blocks_of([dict.fromkeys(TYPES)])
    for columns in (contexts.columns, apart(contexts).columns):
        with pytest.raises(MissingColumnError, match="'absent'"):
            stacked(columns, ("visits", "absent"))


@forms
@given(people)
def test_of_one_person_there_are_scalars(rows: list[dict[str, Any]]) -> None:
    """Of numpy, or texts: a plain True would be -2 when it is inverted."""
    contexts = blocks_of(rows[:1])
    for one in (contexts, apart(contexts)):
        for name, (value, valid) in seen(one).items():
            assert type(value) in (np.float64, np.bool_, str), name
            assert type(valid) is np.bool_
            assert plain((value, valid)) == [rows[0][name]]
    crowd = blocks_of([*rows, *rows])
    assert seen(crowd) is crowd.columns


def test_nan_is_null() -> None:
    contexts = blocks_of([{"visits": float("nan"), "rate": float("inf")}])
    assert plain(contexts.columns["visits"]) == [None]
    assert plain(contexts.columns["rate"]) == [float("inf")]


def test_nobody_has_columns_too() -> None:
    columns = {name: column_of([]) for name in TYPES}
    assert lists_of(columns) == [[] for _ in TYPES]
    assert stacked(columns, ("visits", "rate")).values.shape == (2, 0)
