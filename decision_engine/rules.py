"""The rule language: one restricted SQL boolean expression, in the warehouse and in Python.

Allowed: comparisons, AND / OR / NOT, IN (literals), BETWEEN, LIKE with a literal pattern,
IS [NOT] NULL, + - * /, numbers, 'texts', true / false, DATE '...' and TIMESTAMP '...' (UTC),
column names, lower, upper, coalesce, days_between. Everything else is refused with its position
(`rule_check`), so a rule can name nothing but columns that are known.

Texts are compared as they are written: =, IN, LIKE and < tell upper from lower case, and < goes
by code point. There is no clock in a rule: an age is `days_between(column, as_of)`.

NULL follows SQL's three-valued logic. Arithmetic is done in double precision on both sides;
a division by zero, or a result that is not finite, is NULL (`rule_values`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from decision_engine import rule_check, rule_values
from decision_engine.columns import seen
from decision_engine.errors import RuleError
from decision_engine.rule_values import MICROS_A_DAY, name_of, operands_of, time_of
from decision_engine.types import Bools, Column, Contexts, Pair

INFIX: Mapping[type[exp.Expr], str] = {
    exp.And: "AND",
    exp.Or: "OR",
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
}

Quote = Callable[[str], str]


class Target(NamedTuple):
    """Whose SQL is written, how names are quoted there, and the types of columns if known."""

    dialect: str
    quote: Quote
    types: Mapping[str, str] | None


@dataclass(frozen=True)
class Rule:
    """A checked rule. `columns` are the columns it reads, sorted."""

    text: str
    columns: tuple[str, ...]
    tree: exp.Expr
    types: Mapping[str, str] | None = field(compare=False)

    def evaluate(self, columns: Mapping[str, Column], n: int | None = None) -> Column:
        """The rule for each of n rows: a boolean Column, invalid where SQL says NULL.

        n is the length of `columns` unless given. Raises MissingColumnError.
        """
        rows = len(next(iter(columns.values())).valid) if n is None else n
        true, false = self._true(columns), self._false(columns)
        return Column(_of(rows, true), _of(rows, true | false))

    def holds(self, contexts: Contexts) -> Bools:
        """(n,) bool: where the rule is true; NULL is not true."""
        n = len(contexts)
        found = self.truth(seen(contexts), n)
        return np.array([found]) if n == 1 else found

    def truth(self, columns: Mapping[str, Pair], n: int) -> Bools:
        """`holds` of the columns of n rows; for one row they may be scalars, as the answer then."""
        answers = self._true(columns)
        return answers if n == 1 else _of(n, answers)

    @cached_property
    def _true(self) -> rule_values.Truth:
        return rule_values.truth(self.tree, True)

    @cached_property
    def _false(self) -> rule_values.Truth:
        return rule_values.truth(self.tree, False)

    def sql(self, dialect: str = "duckdb", quote: Quote = str) -> str:
        """The same rule for a warehouse, fully parenthesised: no precedence is left open.

        `quote` writes a column name as the warehouse keeps it; names are left bare without it.
        Two columns are compared as texts only if the rule was compiled with their types.
        """
        return _sql(self.tree, Target(dialect, quote, self.types))


def _of(n: int, answers: Bools) -> Bools:
    """A rule that reads no column has one answer for all."""
    return answers if isinstance(answers, np.ndarray) else np.full(n, answers)


@lru_cache(maxsize=1024)
def parsed(text: str) -> Rule:
    """The rule without a check of its column names; for rules that were checked when loaded."""
    return compile_rule(text, None)


def compile_rule(text: str, column_types: Mapping[str, str] | None) -> Rule:
    """Parse a rule and check it against column name -> warehouse type (None: not known yet).

    Raises RuleError: the position, what is wrong, what is allowed.
    """
    rule_check.check_tokens(text)
    try:
        tree = sqlglot.parse_one(text, read="duckdb").unnest()
        kind = rule_check.kind_of(tree, column_types)
    except SqlglotError as error:
        raise rule_check.syntax_error(error) from None
    except RecursionError:
        raise RuleError("is nested too deeply; split it into simpler parts") from None
    if kind not in (None, "boolean"):
        raise RuleError(f"must be true or false, but this is a {kind}")
    return Rule(
        text, tuple(sorted({name_of(c) for c in tree.find_all(exp.Column)})), tree, column_types
    )


def _sql(node: exp.Expr, target: Target) -> str:
    if isinstance(node, exp.Column):
        return target.quote(name_of(node))
    if isinstance(node, exp.Literal | exp.Boolean):
        return node.sql(dialect=target.dialect)
    if isinstance(node, rule_check.ARITHMETIC):
        return _arithmetic_sql(node, target)
    if isinstance(node, exp.Cast):
        return f"TIMESTAMP '{time_of(node).isoformat(' ', 'microseconds')}'"
    parts = [_sql(part, target) for part in operands_of(node)]
    if isinstance(node, exp.Anonymous):
        return _days_between_sql(target.dialect, *parts)
    if target.dialect == "postgres" and _orders_texts(node, target.types):
        # By their bytes, as everywhere else; the database may sort like a dictionary.
        parts = [f'({part} COLLATE "C")' for part in parts]
    if type(node) in INFIX:
        return f"({parts[0]} {INFIX[type(node)]} {parts[1]})"
    return _condition_sql(node, parts)


_MICROS_BETWEEN = {
    "duckdb": "(EPOCH_US({1}) - EPOCH_US({0}))",
    "postgres": "(EXTRACT(EPOCH FROM ({1} - {0})) * 1000000)",
    "snowflake": "DATEDIFF(MICROSECOND, {0}, {1})",
}


def _days_between_sql(dialect: str, earlier: str, later: str) -> str:
    """In whole microseconds, then one division: the same last bit in every warehouse."""
    double = exp.DataType.build("double").sql(dialect=dialect)
    micros = _MICROS_BETWEEN[dialect].format(earlier, later)
    return f"(CAST({micros} AS {double}) / CAST({MICROS_A_DAY:.0f} AS {double}))"


def _orders_texts(node: exp.Expr, types: Mapping[str, str] | None) -> bool:
    """Whether texts are compared for their order."""
    if not isinstance(node, rule_check.ORDERED):
        return False
    return any(rule_check.kind_of(part, types) == "text" for part in operands_of(node))


def _arithmetic_sql(node: exp.Expr, target: Target) -> str:
    """In double precision: integers of the warehouse would overflow, or divide as integers."""
    double = exp.DataType.build("double").sql(dialect=target.dialect)
    parts = [
        _sql(part, target)
        if isinstance(part, rule_check.ARITHMETIC)
        else f"CAST({_sql(part, target)} AS {double})"
        for part in operands_of(node)
    ]
    if isinstance(node, exp.Neg):
        return f"(-{parts[0]})"
    if isinstance(node, exp.Div):
        return f"({parts[0]} / NULLIF({parts[1]}, 0))"
    return f"({parts[0]} {INFIX[type(node)]} {parts[1]})"


def _condition_sql(node: exp.Expr, parts: list[str]) -> str:
    first, *rest = parts
    if isinstance(node, exp.Not):
        return f"(NOT {first})"
    if isinstance(node, exp.Is):
        return f"({first} IS NULL)"
    if isinstance(node, exp.In):
        return f"({first} IN ({', '.join(rest)}))"
    if isinstance(node, exp.Between):
        return f"({first} BETWEEN {rest[0]} AND {rest[1]})"
    if isinstance(node, exp.Like):
        return f"({first} {'NOT LIKE' if node.args.get('negate') else 'LIKE'} {rest[0]})"
    return f"{type(node).__name__.upper()}({', '.join(parts)})"
