"""A published profile, read as of any later moment.

The row of `outbox_hot_store__profiles` has moments instead of ages, and recent events instead of
counts of them, so that time passing changes nothing in it. `columns_of`, and `live` for what is
counted from events, turn it back into the columns of `dim_customer_features`.

A line of `recent_events` is one event, fields separated by tabs:

    line      = moment kind id values            moment: microseconds since 1970, UTC
    web       = moment "web" message_id type event page_class
    messages  = moment "messages" vendor:event_id event_type is_machine      true or false
    complaint = moment "complaint" ticket_id status sentiment                open or solved

An empty field is NULL. Lines are separated by one line feed, oldest first, at most the latest
500 of a kind. The id is the one under which the service sees the event too, so events that
came live and lines are joined by (kind, id).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

Kind = Literal["web", "messages", "complaint"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "web": ("type", "event", "page_class"),
    "messages": ("event_type", "is_machine"),
    "complaint": ("status", "sentiment"),
}
"""The values of a line by kind; rules over events may read no others."""

HOUR = 3_600_000_000
TURNS = 6
_NOT_COLUMNS = ("as_of", "turn_offset", "identifiers", "recent_events")


@dataclass(frozen=True)
class Happening:
    """An event as far as features care: `at` in microseconds, `values` by name, None for NULL."""

    at: int
    kind: Kind
    id: str
    values: Mapping[str, Any]


def happenings(row: Mapping[str, Any]) -> list[Happening]:
    """The recent events of a published row, oldest first."""
    text = row.get("recent_events")
    return [_happening(line) for line in text.split("\n")] if text else []


def columns_of(row: Mapping[str, Any], now: int) -> dict[str, Any]:
    """The columns of dim_customer_features at `now`, but for those that events decide."""
    as_they_are, moments = _kinds(tuple(row))
    columns = {name: row[name] for name in as_they_are}
    for name, column in moments:
        value = row[name]
        columns[column] = None if value is None else days(value, now)
    offset = row.get("turn_offset")
    columns["turn"] = None if offset is None else (now // (24 * HOUR) + offset) % TURNS
    return columns


@lru_cache(maxsize=16)
def _kinds(names: tuple[str, ...]) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of columns, and those of moments with the column of the days since."""
    moments = [(n, f"days_since_{n[:-3]}") for n in names if n.endswith("_at")]
    return [n for n in names if n not in _NOT_COLUMNS and not n.endswith("_at")], moments


def days(since: int, now: int) -> float:
    """Days with fractions between two moments, rounded as the warehouse rounds them."""
    return (now - since) / HOUR / 24


def _happening(line: str) -> Happening:
    at, kind, event_id, *values = line.split("\t")
    named = dict(zip(COLUMNS[kind], (value or None for value in values), strict=True))
    return Happening(
        int(at), cast(Kind, kind), event_id, {n: _value(n, v) for n, v in named.items()}
    )


def _value(name: str, text: str | None) -> Any:
    if text is None:
        return None
    if name == "is_machine":
        return text == "true"
    return float(text) if name == "sentiment" else text
