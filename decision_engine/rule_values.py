"""Evaluation of a checked rule on columns, with SQL's three-valued logic."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from decision_engine.errors import MissingColumnError
from decision_engine.types import Column

Array = NDArray[Any]


def value(node: exp.Expr, columns: Mapping[str, Column], n: int) -> Column:
    """The value of a node for n rows. Raises MissingColumnError."""
    if isinstance(node, exp.Column):
        return _read(columns, name_of(node))
    if isinstance(node, exp.Literal | exp.Boolean):
        return _constant(node, n)
    parts = [value(part, columns, n) for part in operands_of(node)]
    return _OPERATIONS[type(node)](node, parts)


def name_of(column: exp.Column) -> str:
    """Column name as stored: lower case unless written in double quotes."""
    quoted = bool(column.this.args.get("quoted"))
    return str(column.name if quoted else column.name.lower())


def operands_of(node: exp.Expr) -> list[exp.Expr]:
    """The parts a node is computed from, as written, without their parentheses."""
    if isinstance(node, exp.Is):
        parts = [node.this]
    elif isinstance(node, exp.Between):
        parts = [node.this, node.args["low"], node.args["high"]]
    else:
        parts = [node.this, node.args.get("expression"), *node.expressions]
    return [part.unnest() for part in parts if isinstance(part, exp.Expr)]


def _read(columns: Mapping[str, Column], name: str) -> Column:
    if name not in columns:
        raise MissingColumnError(name)
    column = columns[name]
    if column.values.dtype.kind == "f":
        return Column(column.values, column.valid & ~np.isnan(column.values))
    return column


def _constant(node: exp.Expr, n: int) -> Column:
    constant: Any = node.this
    if isinstance(node, exp.Literal) and not node.is_string:
        constant = float(node.this)
    dtype = object if isinstance(constant, str) else None
    return Column(np.full(n, constant, dtype=dtype), np.ones(n, dtype=bool))


def _strict(dtype: Any, function: Callable[..., Array], *parts: Column) -> Column:
    """NULL when any part is NULL; `function` only ever sees the rows where none is."""
    valid = np.logical_and.reduce([part.valid for part in parts])
    values = np.zeros(len(valid), dtype=dtype)
    if valid.any():
        values[valid] = function(*(part.values[valid] for part in parts))
    return Column(values, valid)


def _finite(function: Callable[..., Array], *parts: Column) -> Column:
    with np.errstate(all="ignore"):
        result = _strict(np.float64, function, *parts)
    return Column(result.values, result.valid & np.isfinite(result.values))


def _is_true(column: Column) -> Array:
    return np.asarray(column.values.astype(bool) & column.valid)


def _is_false(column: Column) -> Array:
    return np.asarray(~column.values.astype(bool) & column.valid)


def _and(_: exp.Expr, parts: list[Column]) -> Column:
    true = _is_true(parts[0]) & _is_true(parts[1])
    return Column(true, true | _is_false(parts[0]) | _is_false(parts[1]))


def _or(_: exp.Expr, parts: list[Column]) -> Column:
    true = _is_true(parts[0]) | _is_true(parts[1])
    return Column(true, true | (_is_false(parts[0]) & _is_false(parts[1])))


def _not(_: exp.Expr, parts: list[Column]) -> Column:
    return Column(_is_false(parts[0]), parts[0].valid)


def _between(_: exp.Expr, parts: list[Column]) -> Column:
    low = _strict(bool, np.greater_equal, parts[0], parts[1])
    high = _strict(bool, np.less_equal, parts[0], parts[2])
    return _and(_, [low, high])


def _in(_: exp.Expr, parts: list[Column]) -> Column:
    # Members of the list are never NULL, so the only NULL there can be is the left side.
    def is_member(values: Array, *members: Array) -> Array:
        return np.isin(values, [m[0] for m in members])

    return _strict(bool, is_member, *parts)


def _is_null(_: exp.Expr, parts: list[Column]) -> Column:
    return Column(~parts[0].valid, np.ones(len(parts[0].valid), dtype=bool))


@lru_cache(maxsize=1024)
def _pattern(like: str) -> re.Pattern[str]:
    signs = {"%": ".*", "_": "."}
    return re.compile("".join(signs.get(c) or re.escape(c) for c in like), re.DOTALL)


def _like(node: exp.Expr, parts: list[Column]) -> Column:
    matches = _pattern(operands_of(node)[1].name).fullmatch
    wanted = not node.args.get("negate")

    def is_like(values: Array) -> Array:
        return np.fromiter(((matches(v) is not None) is wanted for v in values), bool)

    return _strict(bool, is_like, parts[0])


def _coalesce(_: exp.Expr, parts: list[Column]) -> Column:
    result = parts[0]
    for part in parts[1:]:
        values = np.where(result.valid, result.values, part.values)
        result = Column(values, result.valid | part.valid)
    return result


def _lower_letter(letter: str) -> str:
    """One letter to one letter, as warehouses do; Python makes two of some letters."""
    lower = letter.lower()
    return lower if len(lower) == 1 else lower[0]


def _upper_letter(letter: str) -> str:
    candidates = (letter.upper(), letter.title(), {"ß": "ẞ"}.get(letter, letter))
    return next((c for c in candidates if len(c) == 1), letter)


def _each_letter(function: Callable[[str], str]) -> Callable[[exp.Expr, list[Column]], Column]:
    def convert(values: Array) -> list[str]:
        return ["".join(map(function, text)) for text in values]

    return lambda _, parts: _strict(object, convert, parts[0])  # type: ignore[arg-type]


def _comparison(function: Callable[..., Array]) -> Callable[[exp.Expr, list[Column]], Column]:
    return lambda _, parts: _strict(bool, function, *parts)


def _arithmetic(function: Callable[..., Array]) -> Callable[[exp.Expr, list[Column]], Column]:
    return lambda _, parts: _finite(function, *parts)


_OPERATIONS: dict[type[exp.Expr], Callable[[exp.Expr, list[Column]], Column]] = {
    exp.And: _and,
    exp.Or: _or,
    exp.Not: _not,
    exp.Between: _between,
    exp.In: _in,
    exp.Is: _is_null,
    exp.Like: _like,
    exp.Coalesce: _coalesce,
    exp.Lower: _each_letter(_lower_letter),
    exp.Upper: _each_letter(_upper_letter),
    exp.EQ: _comparison(np.equal),
    exp.NEQ: _comparison(np.not_equal),
    exp.LT: _comparison(np.less),
    exp.LTE: _comparison(np.less_equal),
    exp.GT: _comparison(np.greater),
    exp.GTE: _comparison(np.greater_equal),
    exp.Add: _arithmetic(np.add),
    exp.Sub: _arithmetic(np.subtract),
    exp.Mul: _arithmetic(np.multiply),
    exp.Div: _arithmetic(np.divide),
    exp.Neg: _arithmetic(np.negative),
}
