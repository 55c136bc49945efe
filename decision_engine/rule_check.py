"""What a rule may be made of: checked by token, then by syntax tree and kind of value.

Two walls: a token list keeps statements, comments, casts and operators of the warehouse out
before anything is parsed; the tree check refuses every node it does not know by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from decision_engine.errors import RuleError, unknown
from decision_engine.rule_values import name_of, operands_of, time_of

Kind = Literal["number", "text", "boolean", "time"]
Types = Mapping[str, str] | None

MAX_TOKENS = 500
FUNCTIONS = frozenset({"lower", "upper", "coalesce", "days_between"})
_YEARS = range(1900, 2200)  # microseconds in double precision are exact
_LOGICAL = (exp.And, exp.Or, exp.Not)
ORDERED = (exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
_CONDITIONS = (*_LOGICAL, *ORDERED, exp.EQ, exp.NEQ, exp.In, exp.Is, exp.Like)
ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg)
_NAMES = (TokenType.VAR, TokenType.IDENTIFIER)
_TIMES = (TokenType.DATE, TokenType.TIMESTAMP, TokenType.TIMESTAMPNTZ)
_FORMS = {exp.DType.DATE: "2026-01-31", exp.DType.TIMESTAMPNTZ: "2026-01-31 08:00:00"}
_ISO = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?")
_TOKENS = frozenset(
    {
        *_NAMES, *_TIMES, TokenType.NUMBER, TokenType.STRING, TokenType.TRUE, TokenType.FALSE,
        TokenType.NULL, TokenType.AND, TokenType.OR, TokenType.NOT, TokenType.IN,
        TokenType.BETWEEN, TokenType.LIKE, TokenType.IS, TokenType.EQ, TokenType.NEQ,
        TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE, TokenType.PLUS,
        TokenType.DASH, TokenType.STAR, TokenType.SLASH, TokenType.COMMA,
        TokenType.L_PAREN, TokenType.R_PAREN,
    }
)  # fmt: skip
_NUMBER = re.compile(r"\d+|\d+\.|\d*\.\d+|\d+(\.\d*)?[eE][+-]?\d{1,2}")
_TYPES: tuple[tuple[Kind, str], ...] = (
    ("text", r"VARCHAR|TEXT|STRING|CHAR|CHARACTER VARYING"),
    ("boolean", r"BOOL|BOOLEAN"),
    ("number", r"U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|INT[248]|FLOAT[48]?|REAL"),
    ("number", r"DOUBLE( PRECISION)?|DECIMAL|NUMERIC|NUMBER"),
    ("time", r"DATETIME|TIMESTAMP(_NTZ)?"),
)


def kind_of_type(type_name: str) -> Kind | None:
    """What a warehouse type is to a rule; None for types that rules do not take."""
    name = type_name.strip().upper().removesuffix(" WITHOUT TIME ZONE")
    for kind, pattern in _TYPES:
        if re.fullmatch(rf"({pattern})(\([\d, ]*\))?", name):
            return kind
    return None


def check_tokens(text: str) -> None:
    """Raise RuleError at the first word or sign that a rule may not have."""
    try:
        tokens = sqlglot.tokenize(text, read="duckdb")
    except SqlglotError:
        raise RuleError("has a quote that is not closed") from None
    if not tokens:
        raise RuleError("is empty; write a condition such as orders_count = 1")
    if len(tokens) > MAX_TOKENS:
        raise RuleError(f"is longer than {MAX_TOKENS} words and signs")
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        _check_token(token, after)


def _check_token(token: Token, after: Token | None) -> None:
    if token.comments:
        raise RuleError("comments are not allowed in a rule", token.start)
    if token.token_type not in _TOKENS:
        raise RuleError(f"'{token.text}' is not allowed in a rule", token.start)
    if token.token_type == TokenType.NUMBER and not _NUMBER.fullmatch(token.text):
        raise RuleError(f"'{token.text}' is not a plain number", token.start)
    if token.token_type in _TIMES and (after is None or after.token_type != TokenType.STRING):
        name = token.text.upper()
        raise RuleError(f"{name} stands before a text: {name} '2026-01-31'", token.start)
    is_call = after is not None and after.token_type == TokenType.L_PAREN
    if is_call and token.token_type in _NAMES and token.text.lower() not in FUNCTIONS:
        raise RuleError(unknown("function", token.text, FUNCTIONS), token.start)


def syntax_error(error: SqlglotError) -> RuleError:
    """The parser's complaint as ours, with the position it stopped at."""
    details = (getattr(error, "errors", None) or [{}])[0]
    near = str(details.get("highlight") or "")
    at = len(str(details.get("start_context") or "")) if near else None
    return RuleError(f"is not a complete condition{f' (stopped at {near!r})' if near else ''}", at)


def kind_of(node: exp.Expr, types: Types) -> Kind | None:
    """Number, text, boolean or time; None when it hangs on a column whose type is not known.

    Raises RuleError for every node that the language does not have.
    """
    if isinstance(node, exp.Literal):
        return "text" if node.is_string else "number"
    if isinstance(node, exp.Column):
        return _column_kind(node, types)
    if isinstance(node, exp.Boolean):
        return "boolean"
    if isinstance(node, exp.Cast):
        _check_time(node)
        return "time"
    if isinstance(node, _CONDITIONS):
        _check_condition(node, types)
        return "boolean"
    return _computed_kind(node, types)


def _column_kind(node: exp.Column, types: Types) -> Kind | None:
    name, at = name_of(node), _position(node)
    if len([part for part in node.args.values() if part]) > 1:
        raise _refused(node, "; write the column name alone")
    if types is None:
        return None
    if name not in types:
        quoted = exp.Literal.string(node.name).sql(dialect="duckdb")
        hint = f" (a text is written in quotes: {quoted})" if _is_text(node, types) else ""
        raise RuleError(f"{unknown('column', name, types)}{hint}", at)
    kind = kind_of_type(types[name])
    if kind is None:
        takes = "rules take number, text, boolean, timestamp without zone"
        raise RuleError(f"column '{name}' is {types[name]}; {takes}", at)
    return kind


def _is_text(node: exp.Column, types: Mapping[str, str]) -> bool:
    """Whether what is no column is compared with a text: quotes may have been forgotten."""
    if not isinstance(node.parent, (exp.EQ, exp.NEQ, exp.In, *ORDERED)):
        return False
    columns = map(name_of, node.parent.find_all(exp.Column))
    return any(kind_of_type(types.get(column, "")) == "text" for column in columns)


def _computed_kind(node: exp.Expr, types: Types) -> Kind | None:
    if isinstance(node, ARITHMETIC):
        return _need("number", operands_of(node), types)
    if isinstance(node, exp.Lower | exp.Upper):
        return _need("text", operands_of(node), types)
    if isinstance(node, exp.Coalesce):
        return _same_kind(operands_of(node), types)
    if isinstance(node, exp.Anonymous):  # the only call that the parser does not know
        if len(node.expressions) != 2:
            raise _refused(node, "; write days_between(earlier, later)")
        _need("time", operands_of(node), types)
        return "number"
    raise _refused(node)


def _check_time(node: exp.Cast) -> None:
    """A cast can only be DATE '...' or TIMESTAMP '...': the tokens allow no other."""
    form = _FORMS.get(node.to.this)
    text = node.this.name if isinstance(node.this, exp.Literal) else ""
    try:
        if form is None or not _ISO.fullmatch(text) or (len(text) == 10) != (len(form) == 10):
            raise ValueError
        if time_of(node).year not in _YEARS:
            raise ValueError
    except ValueError:
        years = f"of {_YEARS.start} to {_YEARS.stop - 1}"
        raise RuleError(f"'{text}' is not a time; write '{form}', {years}") from None


def _check_condition(node: exp.Expr, types: Types) -> None:
    if isinstance(node, _LOGICAL):
        _need("boolean", operands_of(node), types)
    elif isinstance(node, exp.Is):
        _check_is(node, types)
    elif isinstance(node, exp.Like):
        _check_like(node, types)
    else:
        _check_comparison(node, types)


def _check_is(node: exp.Is, types: Types) -> None:
    if not isinstance(node.expression, exp.Null):
        raise _refused(node, "; IS takes NULL or NOT NULL")
    kind_of(node.this.unnest(), types)


def _check_like(node: exp.Like, types: Types) -> None:
    subject, pattern = operands_of(node)
    # A backslash escapes in some warehouses and is a plain sign in others.
    if not (isinstance(pattern, exp.Literal) and pattern.is_string) or "\\" in pattern.name:
        raise _refused(node, "; LIKE takes a text in quotes, without a backslash")
    _need("text", [subject], types)


def _check_comparison(node: exp.Expr, types: Types) -> None:
    operands = operands_of(node)
    if node.args.get("symmetric"):
        raise _refused(node)
    if isinstance(node, exp.In) and not (node.expressions and _are_constants(operands[1:])):
        raise _refused(node, "; IN takes a list of numbers, texts in quotes or times")
    if _same_kind(operands, types) == "boolean" and isinstance(node, ORDERED):
        raise _refused(node, "; true and false have no order")


def _are_constants(nodes: Sequence[exp.Expr]) -> bool:
    inner = [node.this.unnest() if isinstance(node, exp.Neg) else node for node in nodes]
    return all(isinstance(node, exp.Literal | exp.Cast) for node in inner)


def _need(kind: Kind, operands: Sequence[exp.Expr], types: Types) -> Kind:
    for operand in operands:
        found = kind_of(operand, types)
        if found not in (None, kind):
            raise RuleError(f"{_text(operand)} is a {found}, not a {kind}", _position(operand))
    return kind


def _same_kind(operands: Sequence[exp.Expr], types: Types) -> Kind | None:
    kinds = [(kind_of(operand, types), operand) for operand in operands]
    known = [(kind, operand) for kind, operand in kinds if kind is not None]
    for kind, operand in known[1:]:
        first, beside = known[0]
        if kind != first:
            both = f"{_text(beside)} is a {first} and {_text(operand)} is a {kind}"
            at = _position(beside)
            raise RuleError(
                f"{both}; they do not go together", _position(operand) if at is None else at
            )
    return known[0][0] if known else None


def _refused(node: exp.Expr, why: str = "") -> RuleError:
    if isinstance(node, exp.Null):
        why = "; write IS NULL or IS NOT NULL"
    if isinstance(node, exp.Alias):  # two words beside each other
        why = "; a text is written in quotes, and AND or OR stands between conditions"
    return RuleError(f"{_text(node)} is not allowed in a rule{why}", _position(node))


def _text(node: exp.Expr) -> str:
    if isinstance(node, exp.Cast):
        return f"the time '{node.this.name}'"
    return node.sql(dialect="duckdb")


def _position(node: exp.Expr) -> int | None:
    """0-based character of the first column name in a node; None when it has none."""
    starts = [c.this.meta.get("start") for c in node.find_all(exp.Column)]
    return min((int(s) for s in starts if s is not None), default=None)
