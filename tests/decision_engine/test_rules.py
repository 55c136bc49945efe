"""The rule language: what it refuses, and that Python and DuckDB give the same answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decision_engine.errors import MissingColumnError, RuleError
from decision_engine.row import Layout
from decision_engine.rules import compile_rule, parsed
from decision_engine.types import Contexts, column_of

TYPES = {
    "orders_count": "INTEGER",
    "revenue": "DOUBLE",
    "visits": "BIGINT",
    "tier": "VARCHAR",
    "country": "VARCHAR",
    "has_email": "BOOLEAN",
    "is_known": "BOOLEAN",
    "as_of": "TIMESTAMP",
    "seen_at": "timestamp without time zone",
    "made_at": "TIMESTAMP WITH TIME ZONE",
}


@pytest.mark.parametrize("text", ["order_count = 1", "orders_count = one", "tier = 'a' AND gold"])
def test_quotes_are_hinted_at_where_a_text_would_fit(text: str) -> None:
    with pytest.raises(RuleError) as error:
        compile_rule(text, TYPES)
    assert "in quotes" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("order_count = 1", "character 1: unknown column 'order_count'"),
        ("order_count = 1", "did you mean 'orders_count'?"),
        ("country = PT", "character 11: unknown column 'pt'"),
        ("country = PT", " (a text is written in quotes: 'PT')"),
        ('(country <> "PT")', " (a text is written in quotes: 'PT')"),
        ("orders_count = 1 AND gold >= tier", " (a text is written in quotes: 'gold')"),
        ("country BETWEEN 'A' AND PT", " (a text is written in quotes: 'PT')"),
        ("lower(country) = pt", "(a text is written in quotes: 'pt')"),
        ("country = New York", "; a text is written in quotes, and AND or OR"),
        ("country IN (PT, ES)", "IN takes a list of numbers, texts in quotes or times"),
        ("tier < 5", "character 1: tier is a text and 5 is a number"),
        ("has_email AND tier", "character 15: tier is a text, not a boolean"),
        ("-tier = 'a'", "character 2: tier is a text, not a number"),
        ("lower(revenue) = 'a'", "character 7: revenue is a number, not a text"),
        ("coalesce(tier, 1) = 'a'", "tier is a text and 1 is a number"),
        ("has_email < true", "true and false have no order"),
        ("tier", "must be true or false, but this is a text"),
        ("revenue + 1", "must be true or false, but this is a number"),
        ("tier = NULL", "write IS NULL or IS NOT NULL"),
        ("tier IN ('a', NULL)", "NULL"),
        ("tier IN (country)", "IN takes a list"),
        ("tier IN ()", "IN takes a list"),
        ("tier LIKE country", "LIKE takes a text in quotes"),
        (r"tier LIKE 'a\_b'", "without a backslash"),
        ("as_of > 1", "as_of is a time and 1 is a number"),
        ("as_of > '2026-01-31'", "as_of is a time and '2026-01-31' is a text"),
        ("revenue > DATE '2026-01-31'", "the time '2026-01-31' is a time"),
        ("as_of + 1 > as_of", "as_of is a time, not a number"),
        ("made_at IS NULL", "column 'made_at' is TIMESTAMP WITH TIME ZONE"),
        ("as_of > DATE '2026-02-30'", "'2026-02-30' is not a time; write '2026-01-31'"),
        ("as_of > DATE '2026-01-31 08:00:00'", "is not a time"),
        ("as_of > TIMESTAMP '2026-01-31'", "write '2026-01-31 08:00:00'"),
        ("as_of > TIMESTAMP 'now'", "'now' is not a time"),
        ("as_of > DATE '1066-10-14'", "of 1900 to 2199"),
        ("date = 1", "character 1: DATE stands before a text"),
        ("date(as_of) = 1", "character 1: DATE stands before a text"),
        ("days_between(as_of) > 1", "write days_between(earlier, later)"),
        ("days_between(revenue, as_of) > 1", "revenue is a number, not a time"),
        ("revenue IS TRUE", "IS takes NULL"),
        ("a.tier = 'x'", "character 2: '.' is not allowed"),
        ("revenue BETWEEN 1 AND", "is not a complete condition"),
        ("revenue BETWEEN SYMMETRIC 2 AND 1", "is not allowed"),
        ("revenue = 1 extra", "is not allowed"),
        ("tier = 'open", "a quote that is not closed"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("revenue = 1e999", "is not a plain number"),
        ("revenue > .5", "character 11: '.' is not allowed"),
        ("revenue = 1; DROP TABLE x", "character 12: ';' is not allowed"),
        ("1=1; COPY (SELECT 1) TO 'f'", "character 4: ';' is not allowed"),
        ("revenue = 1 -- note", "comments are not allowed"),
        ("/* note */ revenue = 1", "comments are not allowed"),
        ("read_csv('/etc/passwd') = 1", "character 1: unknown function 'read_csv'"),
        ("\"read_csv\"('f') = 1", "unknown function 'read_csv'"),
        ("revenue > (SELECT 1)", "'SELECT' is not allowed"),
        ("EXISTS (SELECT 1)", "'EXISTS' is not allowed"),
        ("revenue::int = 1", "character 8: '::' is not allowed"),
        ("CAST(revenue AS int) = 1", "unknown function"),
        ("CASE WHEN has_email THEN true END", "'CASE' is not allowed"),
        ("revenue % 2 = 0", "'%' is not allowed"),
        ("tier || 'x' = 'y'", "'||' is not allowed"),
        ("tier ILIKE 'a'", "'ILIKE' is not allowed"),
        ("revenue = $1", "'$' is not allowed"),
        ("ATTACH 'x'", "not allowed"),
        ('"a"";DROP TABLE x;--" = 1', "unknown column"),
        ("has_email AND " * 300 + "has_email", "longer than 500 words"),
        ("NOT " * 490 + "has_email", "nested too deeply"),
    ],
)
def test_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(RuleError) as refused:
        compile_rule(text, TYPES)
    assert message in str(refused.value)


def test_columns_are_named_once_and_sorted() -> None:
    rule = compile_rule("Tier = 'a' OR tier = 'b' AND orders_count IS NOT NULL", TYPES)
    assert rule.columns == ("orders_count", "tier")


def test_without_types_only_names_are_left_unchecked() -> None:
    assert parsed("anything = 1 AND other LIKE 'a%'").columns == ("anything", "other")
    with pytest.raises(RuleError, match="not allowed"):
        parsed("anything = 1; DROP TABLE x")


def test_only_true_holds() -> None:
    contexts = Contexts(
        np.array(["a", "b", "c"], dtype=object), {"orders_count": column_of([1, 2, None])}
    )
    assert parsed("orders_count = 1").holds(contexts).tolist() == [True, False, False]
    assert parsed("NOT orders_count = 1").holds(contexts).tolist() == [False, True, False]
    assert parsed("true").holds(contexts).tolist() == [True, True, True]


def test_a_missing_column_is_an_error_not_a_null() -> None:
    with pytest.raises(MissingColumnError, match="'tier'"):
        parsed("tier IS NULL").evaluate({"other": column_of([1])})


def test_a_column_without_any_value_takes_part_in_every_operation() -> None:
    columns = {"a": column_of([None, None]), "b": column_of([1.0, None])}
    for text in ("a = 'x'", "a < 1", "a + b > 1", "lower(a) = 'x'", "a LIKE 'x'", "NOT a", "a = b"):
        assert not parsed(text).evaluate(columns).valid.any()
    assert parsed("coalesce(a, 1) = 1").evaluate(columns).values.tolist() == [True, True]


def test_not_a_number_is_null() -> None:
    columns = {"a": column_of([float("nan"), 1.0])}
    assert parsed("a IS NULL").evaluate(columns).values.tolist() == [True, False]


def test_sql_quotes_for_the_dialect_and_leaves_no_precedence_open() -> None:
    rule = compile_rule("NOT tier = 'it''s' AND orders_count / 2 >= 1 OR has_email", TYPES)
    for dialect, double in (("duckdb", "DOUBLE"), ("postgres", "DOUBLE PRECISION")):
        assert rule.sql(dialect) == (
            f"(((NOT (tier = 'it''s')) AND ((CAST(orders_count AS {double}) /"
            f" NULLIF(CAST(2 AS {double}), 0)) >= 1)) OR has_email)"
        )


# --- parity with the warehouse ---

LETTERS = "aAbB%_'é ßİςΣ\\\n"
texts = st.text(LETTERS, max_size=4)
numbers = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, -2.5, 3.0, 1e6])
moments = st.sampled_from(
    [
        datetime(2026, 3, 1), datetime(2026, 3, 1, 8), datetime(2026, 2, 28, 23, 59, 59, 999999),
        datetime(1969, 12, 31, 23), datetime(2199, 12, 31, 0, 0, 0, 1),
    ]
)  # fmt: skip
rows = st.fixed_dictionaries(
    {
        "orders_count": st.none() | st.integers(-3, 3) | st.just(2**31 - 1),
        "revenue": st.none() | numbers,
        "visits": st.none() | st.integers(-3, 3) | st.just(2**40),
        "tier": st.none() | texts,
        "country": st.none() | texts,
        "has_email": st.none() | st.booleans(),
        "is_known": st.none() | st.booleans(),
        "as_of": st.none() | moments,
        "seen_at": st.none() | moments,
    }
)
SCHEMA = pa.schema(
    {
        "orders_count": pa.int32(), "revenue": pa.float64(), "visits": pa.int64(),
        "tier": pa.string(), "country": pa.string(), "has_email": pa.bool_(),
        "is_known": pa.bool_(), "as_of": pa.timestamp("us"), "seen_at": pa.timestamp("us"),
    }
)  # fmt: skip

LAYOUT = Layout({name: TYPES[name] for name in SCHEMA.names})


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literals(kind: str) -> st.SearchStrategy[str]:
    if kind == "number":
        return st.sampled_from(["0", "1", "2", "0.5", "2.5", "1e3", "2147483647"])
    if kind == "text":
        return texts.map(quoted)
    if kind == "time":
        return st.sampled_from(
            ["DATE '2026-03-01'", "TIMESTAMP '2026-03-01 08:00:00'", "date '2199-12-31'"]
        )
    return st.sampled_from(["true", "FALSE"])


def leaves(kind: str) -> st.SearchStrategy[str]:
    columns = {
        "number": ["orders_count", "revenue", "VISITS"],
        "text": ["tier", '"country"'],
        "boolean": ["has_email", "is_known"],
        "time": ["as_of", "SEEN_AT"],
    }
    return st.sampled_from(columns[kind]) | literals(kind)


def operations(kind: str) -> st.SearchStrategy[str]:
    """Expressions of a kind, often without the parentheses that would show the precedence."""
    leaf = leaves(kind)
    if kind == "boolean":
        return leaf
    template = "{} {} {}" if kind == "number" else "coalesce({}, {})"
    if kind == "time":
        return leaf | st.builds(template.format, leaf, leaf)
    if kind == "text":
        made = st.builds("{}({})".format, st.sampled_from(["lower", "UPPER"]), leaf)
        return leaf | made | st.builds(template.format, leaf, leaf)
    binary = st.builds(template.format, leaf, st.sampled_from("+-*/"), leaf)
    nested = st.builds("({}) {} {}".format, binary, st.sampled_from("+-*/"), leaf)
    age = st.builds("days_between({}, {})".format, leaves("time"), leaves("time"))
    return leaf | binary | nested | age | st.builds("- {}".format, leaf)


def comparisons() -> st.SearchStrategy[str]:
    signs = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
    negation = st.sampled_from(["", "NOT "])
    found: list[st.SearchStrategy[str]] = [leaves("boolean")]
    for kind in ("number", "text", "time"):
        value = operations(kind)
        found += [
            st.builds("{} {} {}".format, value, signs, value),
            st.builds("{} {}BETWEEN {} AND {}".format, value, negation, value, value),
            st.builds("{} IS {}NULL".format, value, negation),
            st.builds("{} {}IN ({}, {})".format, value, negation, *[literals(kind)] * 2),
        ]
    patterns = st.text("aAb%_é'", max_size=4).map(quoted)
    found.append(st.builds("{} {}LIKE {}".format, operations("text"), negation, patterns))
    return st.one_of(found)


def both(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.builds("{} {} {}".format, inner, st.sampled_from(["AND", "OR"]), inner)
    return joined | st.builds("NOT {}".format, inner) | st.builds("({})".format, inner)


rules = st.recursive(comparisons(), both, max_leaves=5)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(
        "CREATE MACRO days_between(a, b) AS (epoch_us(b) - epoch_us(a)) / 86400000000::DOUBLE"
    )
    return connection


def in_duckdb(
    connection: duckdb.DuckDBPyConnection, condition: str, table: Sequence[dict[str, Any]]
) -> list[bool | None]:
    connection.register("people", pa.Table.from_pylist(list(table), schema=SCHEMA))
    found = connection.execute(f"SELECT {condition} FROM people").fetchall()
    return [row[0] for row in found]


def in_python(text: str, table: Sequence[dict[str, Any]]) -> list[bool | None]:
    """All rows at once; each by itself, when values are scalars, has to say the same."""
    columns = {name: column_of([row[name] for row in table]) for name in SCHEMA.names}
    result = compile_rule(text, TYPES).evaluate(columns)
    found = [bool(v) if ok else None for v, ok in zip(result.values, result.valid, strict=True)]
    assert [alone(text, row) for row in table] == found
    return found


def alone(text: str, row: dict[str, Any]) -> bool | None:
    contexts = LAYOUT.contexts(["c"], [row])
    holds = compile_rule(text, TYPES).holds(contexts)
    fails = compile_rule(f"NOT ({text})", TYPES).holds(contexts)
    assert holds.shape == fails.shape == (1,)
    assert not (holds & fails).any()
    return True if holds[0] else False if fails[0] else None


tables = st.lists(rows, min_size=1, max_size=6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=rules, table=tables)
def test_python_and_duckdb_agree(
    connection: duckdb.DuckDBPyConnection, text: str, table: list[dict[str, Any]]
) -> None:
    assert in_python(text, table) == in_duckdb(connection, compile_rule(text, TYPES).sql(), table)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_python_and_duckdb_agree_on_tens_of_thousands_of_rules(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """`make storm-rules`: new rules each time; a failure is shown as small as it gets."""
    seen = {"rules": 0, "answers": 0}

    @settings(
        max_examples=50_000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(text=rules, table=tables)
    def agree(text: str, table: list[dict[str, Any]]) -> None:
        theirs = in_duckdb(connection, compile_rule(text, TYPES).sql(), table)
        assert in_python(text, table) == theirs
        seen["rules"] += 1
        seen["answers"] += len(table)

    agree()
    print(f"\n{seen['rules']:,} rules, {seen['answers']:,} answers, 0 different")
    assert seen["rules"] >= 50_000


def without_arithmetic(text: str) -> bool:
    return not set(re.sub("'[^']*'", "", text)) & set("+-*/")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=rules.filter(without_arithmetic), row=rows)
def test_what_was_written_means_in_sql_what_it_means_here(
    connection: duckdb.DuckDBPyConnection, text: str, row: dict[str, Any]
) -> None:
    """The precedence of AND, OR, NOT, BETWEEN ... is the warehouse's own."""
    assert in_python(text, [row]) == in_duckdb(connection, text, [row])


def test_letters_change_case_as_in_duckdb(connection: duckdb.DuckDBPyConnection) -> None:
    letters = [chr(i) for i in range(1, 0x3000)]
    columns = {"tier": column_of(letters)}
    people = pa.table({"tier": letters})
    connection.register("letters", people)
    for name in ("lower", "upper"):
        theirs = [r[0] for r in connection.execute(f"SELECT {name}(tier) FROM letters").fetchall()]
        columns["country"] = column_of(theirs)
        assert parsed(f"{name}(tier) = country").evaluate(columns).values.all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text("abx='\";-/*()<>.,$@%_ \n0195\\[]{}:|&!~^", max_size=30))
def test_any_text_is_a_rule_or_a_rule_error(text: str) -> None:
    try:
        rule = compile_rule(text, {"a": "DOUBLE", "b": "VARCHAR", "x": "BOOLEAN"})
    except RuleError:
        return
    assert set(rule.columns) <= {"a", "b", "x"}
