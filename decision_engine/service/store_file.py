"""The file of the hot store: where it is, who may open it, and what is in it.

A folder with an SQLite database in WAL mode. Every commit is synced before it returns, so it
outlives the process and, as SQLite documents for synchronous=FULL, a power cut.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import ConnectorError
from connectors.framed import lock

FORMAT = 2
_APPLICATION = 0x6E6D6873
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_START_AFRESH = (
    "stop the service, delete the folder and start again: it is filled from the log and by the"
    " next delivery"
)
_TABLES = """
create table profiles (key text primary key, row blob not null);
create table identifiers (key text primary key, customer_id text not null) without rowid;
create table live (key text primary key, at integer not null, value blob not null);
create index live_by_age on live (at);
create table decisions (
    key text primary key, slot text not null, at integer not null,
    segment integer not null, start integer not null
) without rowid;
create index decisions_by_slot on decisions (slot);
create index decisions_by_age on decisions (at);
create table plans (key text primary key, at integer not null, value blob not null);
create table policies (key text primary key, row blob not null);
create table meta (key text primary key, value text not null) without rowid;
"""


class StoreError(ConnectorError):
    """The hot store cannot be used."""


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Turn what SQLite raises into StoreError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The low byte is the kind, the rest its details.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise StoreError(f"{folder} is damaged", _START_AFRESH) from error
        raise StoreError(f"{folder} cannot be used: {error}", "look at the disk") from error


def hold(folder: Path) -> int:
    """Make the folder, private, and ours alone until the descriptor is closed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return lock(folder)


def connect(folder: Path) -> sqlite3.Connection:
    """The database, made if it is not there. Raises StoreError for one that is not ours."""
    path = folder / "hot.sqlite"
    # Private before anything is in it: rows are personal data.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with understood(folder):
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(database, folder)
        except BaseException:
            database.close()
            raise
    return database


def _prepare(database: sqlite3.Connection, folder: Path) -> None:
    # Rows of 1 to 4 KB share a page of 8; fewer checkpoints cost less than a smaller log.
    database.execute("pragma page_size = 8192")
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = full")
    database.execute("pragma wal_autocheckpoint = 4000")
    application = database.execute("pragma application_id").fetchone()[0]
    version = database.execute("pragma user_version").fetchone()[0]
    is_new = not database.execute("select 1 from sqlite_master limit 1").fetchall()
    if is_new:
        _create(database)
    elif application != _APPLICATION:
        raise StoreError(f"{folder} holds another program's database", _START_AFRESH)
    elif version != FORMAT:
        age = "a newer" if version > FORMAT else "an older"
        raise StoreError(f"{folder} was written by {age} version of nextmove", _START_AFRESH)


def _create(database: sqlite3.Connection) -> None:
    database.executescript(
        f"begin; {_TABLES}"
        f" insert into meta values ('instance', '{secrets.token_hex(8)}');"
        f" pragma application_id = {_APPLICATION}; pragma user_version = {FORMAT}; commit;"
    )
