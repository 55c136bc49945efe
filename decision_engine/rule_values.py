"""Evaluation of a checked rule on columns, with SQL's three-valued logic.

A condition is two functions of the columns: where it is known to be true, and where it is known to
be false; where neither holds it is NULL. Only the one that is asked for is computed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from decision_engine.errors import MissingColumnError
from decision_engine.types import Bools, Column, seconds_of

Array = NDArray[Any]
Columns = Mapping[str, Column]
Truth = Callable[[Columns], Bools]
Value = Callable[[Columns], Column]
"""Functions of columns of n rows; the result has 1 row when no column is read."""

_ALWAYS = np.ones(1, dtype=bool)
"""The validity of a constant, a column of one row that goes with any number of rows."""

MICROS_A_DAY = 86_400e6

_FEW = 16
"""So many numbers of a list are compared one by one; more are sorted first."""


def truth(node: exp.Expr, wanted: bool) -> Truth:
    """Where a condition is known to be `wanted`. The function may raise MissingColumnError."""
    if isinstance(node, exp.Not):
        return truth(operands_of(node)[0], not wanted)
    if isinstance(node, exp.And | exp.Or):
        parts = [truth(part, wanted) for part in operands_of(node)]
        return _joined(parts, isinstance(node, exp.And) is wanted)
    if isinstance(node, exp.Between):
        subject, low, high = operands_of(node)
        parts = [
            _compared(exp.GTE, subject, low, wanted),
            _compared(exp.LTE, subject, high, wanted),
        ]
        return _joined(parts, wanted)
    if type(node) in _COMPARISONS:
        left, right = operands_of(node)
        return _compared(type(node), left, right, wanted)
    if isinstance(node, exp.In):
        return _listed(node, wanted)
    return _answered(node, wanted)


def _answered(node: exp.Expr, wanted: bool) -> Truth:
    if isinstance(node, exp.Is):
        return _is_null(value(operands_of(node)[0]), wanted)
    if isinstance(node, exp.Like):
        return _like(node, wanted)
    part = value(node)

    def evaluate(columns: Columns) -> Bools:
        values, valid = part(columns)
        holds: Bools = values.astype(bool, copy=False)
        return (holds if wanted else ~holds) & valid

    return evaluate


def value(node: exp.Expr) -> Value:
    """The value of a node. The function may raise MissingColumnError."""
    if isinstance(node, exp.Column):
        return partial(_read, name_of(node))
    if isinstance(node, exp.Literal | exp.Boolean):
        constant = _constant(node)
        return lambda _: constant
    if isinstance(node, exp.Cast):
        moment = Column(np.full(1, seconds_of(time_of(node))), _ALWAYS)
        return lambda _: moment
    if isinstance(node, exp.Anonymous):
        return _computed(_days_between, [value(part) for part in operands_of(node)])
    if type(node) in _ARITHMETIC:
        return _computed(_ARITHMETIC[type(node)], [value(part) for part in operands_of(node)])
    if isinstance(node, exp.Coalesce):
        return _coalesced([value(part) for part in operands_of(node)])
    if type(node) in _LETTERS:
        return _each_letter(type(node), value(operands_of(node)[0]))
    true, false = truth(node, True), truth(node, False)

    def evaluate(columns: Columns) -> Column:
        is_true = true(columns)
        return Column(is_true, is_true | false(columns))

    return evaluate


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


def time_of(node: exp.Cast) -> datetime:
    """The moment that DATE '...' or TIMESTAMP '...' means, UTC. ValueError when it is none."""
    return datetime.fromisoformat(node.this.name)


def _read(name: str, columns: Columns) -> Column:
    values, valid = _raw(name, columns)
    return Column(values, valid & (values == values) if values.dtype.kind == "f" else valid)


def _raw(name: str, columns: Columns) -> Column:
    """A column in which NaN may still count as valid."""
    try:
        return columns[name]
    except KeyError:
        raise MissingColumnError(name) from None


def _constant(node: exp.Expr) -> Column:
    constant: Any = node.this
    if isinstance(node, exp.Literal) and not node.is_string:
        constant = float(node.this)
    dtype = object if isinstance(constant, str) else None
    return Column(np.full(1, constant, dtype=dtype), _ALWAYS)


# --- conditions ---


def _joined(parts: list[Truth], all_of_them: bool) -> Truth:
    left, right = parts
    if all_of_them:
        return lambda columns: left(columns) & right(columns)
    return lambda columns: left(columns) | right(columns)


_COMPARISONS: Mapping[type[exp.Expr], tuple[Callable[..., Any], Callable[..., Any]]] = {
    exp.EQ: (np.equal, np.not_equal),
    exp.NEQ: (np.not_equal, np.equal),
    exp.LT: (np.less, np.greater_equal),
    exp.LTE: (np.less_equal, np.greater),
    exp.GT: (np.greater, np.less_equal),
    exp.GTE: (np.greater_equal, np.less),
}
"""What is true of two values when a comparison is true, and when it is false."""


def _compared(kind: type[exp.Expr], left: exp.Expr, right: exp.Expr, wanted: bool) -> Truth:
    function = _COMPARISONS[kind][not wanted]
    # Of a NaN nothing is true but that it differs.
    of = value if function is np.not_equal else _plain
    first, second = of(left), of(right)
    has_order = kind not in (exp.EQ, exp.NEQ)

    def evaluate(columns: Columns) -> Bools:
        a, b = first(columns), second(columns)
        valid = _both(a.valid, b.valid)
        if has_order and (a.values.dtype.kind == "O" or b.values.dtype.kind == "O"):
            return _strict(bool, function, a, b).values
        result: Bools = function(a.values, b.values)
        return result if valid is _ALWAYS else result & valid

    return evaluate


def _plain(node: exp.Expr) -> Value:
    """The value of a node, in which NaN may still count as valid."""
    return partial(_raw, name_of(node)) if isinstance(node, exp.Column) else value(node)


def _both(a: Bools, b: Bools) -> Bools:
    if a is _ALWAYS:
        return b
    return a if b is _ALWAYS else a & b


def _listed(node: exp.In, wanted: bool) -> Truth:
    # Members of the list are never NULL, so the only NULL there can be is the left side.
    subject, *members = [value(part) for part in operands_of(node)]
    constants = [member({}).values for member in members]

    def evaluate(columns: Columns) -> Bools:
        values, valid = subject(columns)
        if len(constants) > _FEW and values.dtype.kind == "f":
            found: Bools = np.isin(values, np.concatenate(constants))
        else:
            found = reduce(operator.or_, [values == constant for constant in constants])
        return (found if wanted else ~found) & valid

    return evaluate


def _is_null(part: Value, wanted: bool) -> Truth:
    return lambda columns: ~part(columns).valid if wanted else part(columns).valid


@lru_cache(maxsize=1024)
def _pattern(like: str) -> re.Pattern[str]:
    signs = {"%": ".*", "_": "."}
    return re.compile("".join(signs.get(c) or re.escape(c) for c in like), re.DOTALL)


def _like(node: exp.Like, wanted: bool) -> Truth:
    subject, pattern = operands_of(node)
    part, matches = value(subject), _pattern(pattern.name).fullmatch
    is_wanted = wanted is not bool(node.args.get("negate"))

    def is_like(values: Array) -> Array:
        return np.fromiter(((matches(v) is not None) is is_wanted for v in values), bool)

    return lambda columns: _strict(bool, is_like, part(columns)).values


# --- values ---


def _strict(dtype: Any, function: Callable[..., Any], *parts: Column) -> Column:
    """NULL when any part is NULL; `function` only ever sees the rows where none is."""
    valid = reduce(_both, [part.valid for part in parts])
    rows = valid.nonzero()[0]
    values = np.zeros(len(valid), dtype=dtype)
    if len(rows):
        some = (v[rows] if len(v) == len(valid) else v for v, _ in parts)
        values[rows] = function(*some)
    return Column(values, valid)


_ARITHMETIC: Mapping[type[exp.Expr], Callable[..., Any]] = {
    exp.Add: np.add,
    exp.Sub: np.subtract,
    exp.Mul: np.multiply,
    exp.Div: np.divide,
    exp.Neg: np.negative,
}


def _days_between(earlier: Array, later: Array) -> Array:
    """Days with fractions, counted in whole microseconds as the warehouse counts."""
    return (np.rint(later * 1e6) - np.rint(earlier * 1e6)) / MICROS_A_DAY


def _computed(function: Callable[..., Any], parts: list[Value]) -> Value:
    def evaluate(columns: Columns) -> Column:
        found = [part(columns) for part in parts]
        with np.errstate(all="ignore"):
            values = function(*(v.astype(np.float64, copy=False) for v, _ in found))
        return Column(values, reduce(_both, [valid for _, valid in found]) & np.isfinite(values))

    return evaluate


def _coalesced(parts: list[Value]) -> Value:
    def evaluate(columns: Columns) -> Column:
        result = parts[0](columns)
        for part in parts[1:]:
            other = part(columns)
            values = np.where(result.valid, result.values, other.values)
            result = Column(values, result.valid | other.valid)
        return result

    return evaluate


def _lower_letter(letter: str) -> str:
    """One letter to one letter, as warehouses do; Python makes two of some letters."""
    lower = letter.lower()
    return lower if len(lower) == 1 else lower[0]


def _upper_letter(letter: str) -> str:
    candidates = (letter.upper(), letter.title(), {"ß": "ẞ"}.get(letter, letter))
    return next((c for c in candidates if len(c) == 1), letter)


_LETTERS: Mapping[type[exp.Expr], tuple[Callable[[str], str], Callable[[str], str]]] = {
    exp.Lower: (str.lower, _lower_letter),
    exp.Upper: (str.upper, _upper_letter),
}
"""Of a whole ASCII text, and of a letter."""


def _each_letter(kind: type[exp.Expr], part: Value) -> Value:
    of_ascii, of_letter = _LETTERS[kind]

    def convert(values: Array) -> list[str]:
        return [of_ascii(v) if v.isascii() else "".join(map(of_letter, v)) for v in values.tolist()]

    return lambda columns: _strict(object, convert, part(columns))
