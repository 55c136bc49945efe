"""The rows of the hot store: how they are checked, merged and written, within a transaction."""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from decision_engine.features import Distrusted
from decision_engine.state import load

MAX_PROFILE = 256 << 10
"""Characters of the texts of one profile."""

_LONGEST_KEY = 512
_TOGETHER = 200
_SCALARS = (str, int, float, bool, type(None))
_WHOLE_PROFILE = ("as_of", "external_id", "identifiers")
_WHOLE_POLICY = ("version", "state")
_encode, _decode = msgspec.json.encode, msgspec.json.decode

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Policy:
    """A published policy state. `state` is what `decision_engine.state.load` reads.

    `published_at` is in microseconds since 1970, UTC; `row` has the other columns. `distrusted`
    are the columns of profiles that its agent is not to go by, with what failed.
    """

    agent: str
    version: str
    state: bytes
    published_at: int
    row: Row
    distrusted: Distrusted = field(default_factory=dict)


class _RefusedError(Exception):
    """Why a row is not taken."""


# ---- from the log ----


def write_live(database: sqlite3.Connection, rows: Mapping[str, tuple[int, bytes] | None]) -> None:
    """Replace or delete live states."""
    database.executemany("delete from live where key = ?", [(k,) for k, r in rows.items() if not r])
    _replace(database, "live", [(k, *r) for k, r in rows.items() if r])


def write_decisions(
    database: sqlite3.Connection, rows: Mapping[str, tuple[str, int, int, int]]
) -> None:
    """Add or replace decisions: slot, when, and where in the log."""
    _replace(database, "decisions", [(k, *r) for k, r in rows.items()])


def write_plans(database: sqlite3.Connection, rows: Mapping[str, tuple[int, bytes]]) -> None:
    """Add or replace what epochs have frozen."""
    _replace(database, "plans", [(k, *r) for k, r in rows.items()])


def write_identifiers(database: sqlite3.Connection, rows: Mapping[str, str]) -> None:
    """Have identifiers lead to customers. Most do already, and nothing is written for those."""
    changed = "on conflict do update set customer_id = excluded.customer_id"
    changed += " where customer_id <> excluded.customer_id"
    _insert(database, "insert into identifiers", list(rows.items()), changed)


def _replace(database: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    _insert(database, f"insert or replace into {table}", rows)


def _insert(
    database: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]], conflict: str = ""
) -> None:
    """Many rows a statement: between statements this thread wants the interpreter.

    It gets it from the thread that answers, which would wait as often as there are rows.
    """
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        values = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
        database.execute(
            f"{into} values {values} {conflict}",
            [value for row in some for value in row],
        )


def prune(database: sqlite3.Connection, older_than: int) -> int:
    """Delete what last changed before a moment; how many rows."""
    gone = [
        database.execute(f"delete from {table} where at < ?", (older_than,)).rowcount
        for table in ("live", "decisions", "plans")
    ]
    return sum(gone)


# ---- from the warehouse ----


def publish_profiles(database: sqlite3.Connection, rows: Sequence[Row]) -> list[str | None]:
    """Merge, delete or refuse each row, in their order; why it was refused, or None."""
    before = _stored(database, "profiles", rows)
    after, reasons = _merged(before, rows, _check_profile)
    _write(database, "profiles", after)
    # One that leads to somebody else by now was taken over.
    database.executemany(
        "delete from identifiers where key = ? and customer_id = ?",
        [
            (identifier, key)
            for key, row in after.items()
            for identifier in sorted(_identifiers(before.get(key)) - _identifiers(row))
        ],
    )
    found = {i: key for key, row in after.items() for i in sorted(_identifiers(row))}
    write_identifiers(database, found)
    return reasons


def publish_policies(
    database: sqlite3.Connection, rows: Sequence[Row], now: int
) -> list[str | None]:
    """The same for policy states, whose `state` comes as base64."""
    before = _stored(database, "policies", rows)
    after, reasons = _merged(before, rows, _check_policy)
    _write(
        database,
        "policies",
        {k: {**row, "published_at": now} if row else None for k, row in after.items()},
    )
    return reasons


def read_policies(database: sqlite3.Connection) -> dict[str, Policy]:
    """All policies by agent."""
    return {
        agent: _policy(agent, _decode(row))
        for agent, row in database.execute("select key, row from policies order by key").fetchall()
    }


def _policy(agent: str, row: dict[str, Any]) -> Policy:
    state, published_at = b64decode(row.pop("state")), row.pop("published_at")
    return Policy(agent, row["version"], state, published_at, row, _findings(row))


def _findings(row: Row) -> Distrusted:
    """One a line: a column, a colon, what failed."""
    lines = (row.get("distrusted") or "").splitlines()
    return {column: why for column, _, why in (line.partition(":") for line in lines)}


def _stored(
    database: sqlite3.Connection, table: str, rows: Sequence[Row]
) -> dict[str, dict[str, Any]]:
    """What is there now under the keys of the rows."""
    keys = list({row["key"] for row in rows if isinstance(row.get("key"), str)})
    found = database.execute(
        f"select key, row from {table} where key in ({', '.join('?' * len(keys))})", keys
    )
    return {key: _decode(row) for key, row in found.fetchall()}


def _merged(
    before: Mapping[str, dict[str, Any]],
    rows: Sequence[Row],
    check: Callable[[str, dict[str, Any]], None],
) -> tuple[dict[str, dict[str, Any] | None], list[str | None]]:
    """The rows as they are to be, None to be deleted; and why rows were refused."""
    after: dict[str, dict[str, Any] | None] = {}
    reasons: list[str | None] = []
    for row in rows:
        try:
            key = _key(row)
            now = after[key] if key in after else before.get(key)
            after[key] = _changed(key, now, row, check)
            reasons.append(None)
        except _RefusedError as error:
            reasons.append(str(error))
    return after, reasons


def _key(row: Row) -> str:
    key = row.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
        raise _RefusedError(f"`key` must be 1 to {_LONGEST_KEY} plain characters")
    return key


def _changed(
    key: str, now: Row | None, row: Row, check: Callable[[str, dict[str, Any]], None]
) -> dict[str, Any] | None:
    if row.get("deleted") is True:
        return None
    merged = {**(now or {}), **{name: row[name] for name in row if name != "key"}}
    for name, value in merged.items():
        if not isinstance(value, _SCALARS):
            raise _RefusedError(f"`{name}` must be a text, a number, true, false or null")
    check(key, merged)
    return merged


def _check_profile(_: str, row: dict[str, Any]) -> None:
    _check_whole(row, _WHOLE_PROFILE)
    if sum(len(v) for v in row.values() if isinstance(v, str)) > MAX_PROFILE:
        raise _RefusedError(f"has more than {MAX_PROFILE} characters")
    if not isinstance(row["identifiers"], str | None):
        raise _RefusedError("`identifiers` must be a text")
    for name, value in row.items():
        whole = name in ("as_of", "turn_offset") or name.endswith("_at")
        if whole and not isinstance(value, int if name == "as_of" else int | None):
            raise _RefusedError(f"`{name}` must be a whole number")


def _check_policy(agent: str, row: dict[str, Any]) -> None:
    _check_whole(row, _WHOLE_POLICY)
    try:
        state = load(b64decode(str(row["state"]), validate=True))
    except ValueError as error:
        raise _RefusedError(f"`state` cannot be read: {error}") from None
    if (state.agent, state.version) != (agent, row["version"]):
        raise _RefusedError("`state` is of another agent or version")
    if not isinstance(row.get("distrusted"), str | None):
        raise _RefusedError("`distrusted` must be a text")


def _check_whole(row: dict[str, Any], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in row]
    if missing:
        raise _RefusedError(f"is not here yet and comes without {', '.join(missing)}")


def _write(
    database: sqlite3.Connection, table: str, rows: Mapping[str, dict[str, Any] | None]
) -> None:
    database.executemany(
        f"delete from {table} where key = ?", [(k,) for k, r in rows.items() if r is None]
    )
    database.executemany(
        f"insert or replace into {table} values (?, ?)",
        [(k, _encode(r)) for k, r in rows.items() if r is not None],
    )


def _identifiers(row: Row | None) -> set[str]:
    text = (row or {}).get("identifiers") or ""
    return {line for line in text.split("\n") if line}
