"""Evaluation of a checked rule on columns, with SQL's three-valued logic.

A condition is two functions of the columns: where it is known to be true, and where it is known to
be false; where neither holds it is NULL. Only the one that is asked for is computed.

A constant is a scalar. So are the columns of one person (`columns.seen`), and what comes of them:
the same operators stand for an array and for a scalar, which takes a tenth of the time.
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

from decision_engine.columns import TRUTH
from decision_engine.errors import MissingColumnError
from decision_engine.types import Bools, Pair, seconds_of

Array = NDArray[Any]
Columns = Mapping[str, Pair]
Truth = Callable[[Columns], Any]
Value = Callable[[Columns], Pair]
"""Functions of columns of n rows; the result is a scalar when no column is read."""

_NEVER, _ALWAYS = TRUTH
"""The validity of a scalar: there are no others."""

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
    part, is_wanted = value(node), TRUTH[wanted]

    def evaluate(columns: Columns) -> Any:
        values, valid = part(columns)
        return valid if valid is _NEVER else (values == is_wanted) & valid

    return evaluate


def value(node: exp.Expr) -> Value:
    """The value of a node. The function may raise MissingColumnError."""
    if isinstance(node, exp.Column):
        return partial(_read, name_of(node))
    if isinstance(node, exp.Literal | exp.Boolean):
        constant = _constant(node)
        return lambda _: constant
    if isinstance(node, exp.Cast):
        moment = _scalar(np.float64(seconds_of(time_of(node))))
        return lambda _: moment
    if isinstance(node, exp.Anonymous):
        return _computed(_days_between, [value(part) for part in operands_of(node)])
    if type(node) in _ARITHMETIC:
        return _computed(_ARITHMETIC[type(node)], [value(part) for part in operands_of(node)])
    if isinstance(node, exp.Coalesce):
        return _coalesced([value(part) for part in operands_of(node)])
    if type(node) in _LETTERS:
        return _of_texts(object, _each_letter(type(node)), value(operands_of(node)[0]))
    true, false = truth(node, True), truth(node, False)

    def evaluate(columns: Columns) -> Pair:
        is_true = true(columns)
        return is_true, is_true | false(columns)

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


def _read(name: str, columns: Columns) -> Pair:
    column = values, valid = _raw(name, columns)
    if isinstance(values, np.ndarray):
        return (values, valid & (values == values)) if values.dtype.kind == "f" else column
    return column if values == values else (values, _NEVER)


def _raw(name: str, columns: Columns) -> Pair:
    """A column in which NaN may still count as valid."""
    try:
        return columns[name]
    except KeyError:
        raise MissingColumnError(name) from None


def _constant(node: exp.Expr) -> Pair:
    if isinstance(node, exp.Boolean):
        return _scalar(TRUTH[node.this])
    return _scalar(node.this if node.args["is_string"] else np.float64(node.this))


def _scalar(constant: Any) -> Pair:
    return constant, _ALWAYS


# --- conditions ---


def _joined(parts: list[Truth], all_of_them: bool) -> Truth:
    left, right = parts
    if all_of_them:
        return lambda columns: left(columns) & right(columns)
    return lambda columns: left(columns) | right(columns)


_COMPARISONS: Mapping[type[exp.Expr], tuple[Callable[..., Any], Callable[..., Any]]] = {
    exp.EQ: (operator.eq, operator.ne),
    exp.NEQ: (operator.ne, operator.eq),
    exp.LT: (operator.lt, operator.ge),
    exp.LTE: (operator.le, operator.gt),
    exp.GT: (operator.gt, operator.le),
    exp.GTE: (operator.ge, operator.lt),
}
"""What is true of two values when a comparison is true, and when it is false."""


def _compared(kind: type[exp.Expr], left: exp.Expr, right: exp.Expr, wanted: bool) -> Truth:
    function = _COMPARISONS[kind][not wanted]
    # Of a NaN nothing is true but that it differs.
    of = value if function is operator.ne else _plain
    first, second = of(left), of(right)
    has_order = kind not in (exp.EQ, exp.NEQ)

    def evaluate(columns: Columns) -> Any:
        (a, is_a), (b, is_b) = first(columns), second(columns)
        valid = _both(is_a, is_b)
        if valid is _NEVER:
            return valid
        if has_order and valid is not _ALWAYS and (_is_text(a) or _is_text(b)):
            return _ordered(function, a, b, valid)
        result = function(a, b)
        if valid is not _ALWAYS:
            result = result & valid
        return TRUTH[result] if isinstance(result, bool) else result

    return evaluate


def _plain(node: exp.Expr) -> Value:
    """The value of a node, in which NaN may still count as valid."""
    return partial(_raw, name_of(node)) if isinstance(node, exp.Column) else value(node)


def _is_text(values: Any) -> bool:
    return isinstance(values, str) or bool(values.dtype.kind == "O")


def _ordered(function: Callable[..., Any], a: Any, b: Any, valid: Bools) -> Bools:
    """Texts have an order where there are texts."""
    out = np.zeros(len(valid), dtype=bool)
    rows = valid.nonzero()[0]
    if len(rows):
        out[rows] = function(*(v[rows] if isinstance(v, np.ndarray) else v for v in (a, b)))
    return out


def _both(a: Bools, b: Bools) -> Bools:
    if a is _ALWAYS:
        return b
    return a if b is _ALWAYS else a & b


def _listed(node: exp.In, wanted: bool) -> Truth:
    # Members of the list are never NULL, so the only NULL there can be is the left side.
    subject, *members = [value(part) for part in operands_of(node)]
    constants = [member({})[0] for member in members]

    def evaluate(columns: Columns) -> Any:
        values, valid = subject(columns)
        if not isinstance(values, np.ndarray):
            return valid & TRUTH[(values in constants) is wanted]
        if len(constants) > _FEW and values.dtype.kind == "f":
            found: Bools = np.isin(values, constants)
        else:
            found = reduce(operator.or_, [values == constant for constant in constants])
        return (found if wanted else ~found) & valid

    return evaluate


def _is_null(part: Value, wanted: bool) -> Truth:
    return lambda columns: part(columns)[1] ^ TRUTH[wanted]


@lru_cache(maxsize=1024)
def _pattern(like: str) -> re.Pattern[str]:
    signs = {"%": ".*", "_": "."}
    return re.compile("".join(signs.get(c) or re.escape(c) for c in like), re.DOTALL)


def _like(node: exp.Like, wanted: bool) -> Truth:
    subject, pattern = operands_of(node)
    matches = _pattern(pattern.name).fullmatch
    is_wanted = wanted is not bool(node.args.get("negate"))
    found = _of_texts(
        bool, lambda text: TRUTH[(matches(text) is not None) is is_wanted], value(subject)
    )
    return lambda columns: found(columns)[0]


# --- values ---


def _of_texts(dtype: Any, function: Callable[[str], Any], part: Value) -> Value:
    """NULL of NULL: `function` only ever sees texts."""

    def evaluate(columns: Columns) -> Pair:
        texts, valid = part(columns)
        if valid is _NEVER:
            return _EMPTY[dtype], valid
        if valid is _ALWAYS:
            return function(texts), valid
        rows = valid.nonzero()[0]
        values = np.zeros(len(valid), dtype=dtype)
        values[rows] = [function(text) for text in texts[rows].tolist()]
        return values, valid

    return evaluate


_EMPTY: Mapping[Any, Any] = {bool: _NEVER, object: ""}

_ARITHMETIC: Mapping[type[exp.Expr], Callable[..., Any]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.Div: operator.truediv,
    exp.Neg: operator.neg,
}


def _days_between(earlier: Array, later: Array) -> Array:
    """Days with fractions, counted in whole microseconds as the warehouse counts."""
    return (np.rint(later * 1e6) - np.rint(earlier * 1e6)) / MICROS_A_DAY


def _computed(function: Callable[..., Any], parts: list[Value]) -> Value:
    def evaluate(columns: Columns) -> Pair:
        found = [part(columns) for part in parts]
        valid = reduce(_both, [valid for _, valid in found])
        if valid is _NEVER:
            return np.float64(0.0), valid
        with np.errstate(all="ignore"):
            values = function(*(np.float64(v) for v, _ in found))
        return values, valid & np.isfinite(values)

    return evaluate


def _coalesced(parts: list[Value]) -> Value:
    def evaluate(columns: Columns) -> Pair:
        values, known = parts[0](columns)
        for part in parts[1:]:
            others, told = part(columns)
            if not isinstance(known, np.ndarray):
                values, known = (values, known) if known else (others, told)
                continue
            # A text in place of numbers of which none is known makes texts of a fixed length.
            merged: Any = np.where(known, values, others)
            values = merged.astype(object) if merged.dtype.kind == "U" else merged
            known = known | told
        return values, known

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


def _each_letter(kind: type[exp.Expr]) -> Callable[[str], str]:
    of_ascii, of_letter = _LETTERS[kind]
    return lambda v: of_ascii(v) if v.isascii() else "".join(map(of_letter, v))
