"""DuckDB: the embedded warehouse. One file, one writing process at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from connectors.errors import ConfigurationError, ConnectorError, LockedError

BATCH_ROWS = 65_536

_TYPES: dict[pa.DataType, str] = {
    pa.string(): "varchar",
    pa.large_string(): "varchar",
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "utinyint",
    pa.float64(): "double",
    pa.binary(): "blob",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp",
}


def quote(name: str) -> str:
    """A SQL identifier in quotes."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(table: str) -> str:
    """`schema.name`, quoted part by part."""
    return ".".join(map(quote, table.split(".")))


def sql_type(kind: pa.DataType) -> str:
    """The DuckDB type of an Arrow type; ValueError when there is none."""
    if pa.types.is_list(kind):
        return sql_type(kind.value_type) + "[]"
    if kind not in _TYPES:
        raise ValueError(f"no DuckDB type for {kind}")
    return _TYPES[kind]


def _cannot_open(path: Path, error: Exception) -> ConnectorError:
    if "lock" in str(error).lower():
        return LockedError(
            f"{path.name} is open in another process", "wait for it to end, or stop it"
        )
    return ConfigurationError(f"{path.name} cannot be opened as a DuckDB database")


class DuckDB:
    """A `Warehouse` over one DuckDB file.

    External access is off and the configuration is locked: a query can reach this
    database and nothing else on the machine.
    """

    dialect = "duckdb"

    def __init__(
        self, path: Path | str, *, read_only: bool = False, memory_limit: str = "2GB"
    ) -> None:
        path = Path(path)
        if read_only and not path.exists():
            raise ConfigurationError(
                f"{path.name} does not exist",
                "load your tables into it first; `warehouse.path` says where it is",
            )
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"{path.name} cannot be made: its folder does not exist",
                "`warehouse.path` says where it is",
            )
        try:
            self._db = duckdb.connect(
                str(path), read_only=read_only, config={"memory_limit": memory_limit}
            )
        except duckdb.IOException as error:
            raise _cannot_open(path, error) from error
        self._db.execute("set timezone = 'UTC'")
        self._db.execute("set enable_external_access = false")
        self._db.execute("set lock_configuration = true")

    def quote(self, name: str) -> str:
        """A column's name for SQL, whatever characters and keywords are in it."""
        return quote(name)

    def among(self, column: str) -> str:
        """A condition: the text column is one of a list, which is bound to its one `?`."""
        return f"{column} in (select unnest(?))"

    def query(self, sql: str, params: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """Stream a result as batches of at most 65,536 rows."""
        # A cursor of its own, so that writes may go on while the result is read.
        cursor = self._db.cursor()
        yield from cursor.sql(sql, params=list(params)).to_arrow_reader(BATCH_ROWS)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A small result as Python tuples."""
        return self._db.execute(sql, list(params)).fetchall()

    def columns(self, table: str) -> dict[str, str] | None:
        """Column name to type, in order; None when the table does not exist."""
        try:
            # Asks without an error in SQL, which would end an open transaction; a question to
            # information_schema takes several times as long as both.
            self._db.table(quote_table(table))
        except duckdb.CatalogException:
            return None
        return {name: kind for name, kind, *_ in self.rows(f"describe {quote_table(table)}")}

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str] = ()) -> None:
        """Create the table (and its schema) if it is not there.

        The key is not enforced: one process writes at a time, and an index slows it down.
        """
        columns = ", ".join(f"{quote(f.name)} {sql_type(f.type)}" for f in schema)
        self._db.execute(f"create schema if not exists {quote(table.split('.')[0])}")
        self._db.execute(f"create table if not exists {quote_table(table)} ({columns})")

    def append(self, table: str, data: pa.Table | pa.RecordBatch) -> int:
        """Insert rows by column name; the number inserted."""
        with self._registered(data):
            self._db.execute(f"insert into {quote_table(table)} by name select * from incoming")
        return int(data.num_rows)

    def insert_absent(self, table: str, data: pa.Table | pa.RecordBatch, key: Sequence[str]) -> int:
        """Insert the rows whose key is not there yet; the number inserted."""
        same = " and ".join(f"t.{quote(c)} = incoming.{quote(c)}" for c in key)
        with self._registered(data):
            done = self._db.execute(
                f"insert into {quote_table(table)} by name select * from incoming"
                f" where not exists (select 1 from {quote_table(table)} t where {same})"
            ).fetchone()
        return int(done[0]) if done else 0

    def merge(self, table: str, data: pa.Table | pa.RecordBatch, key: Sequence[str]) -> int:
        """Insert or replace by key; the number of rows given."""
        same = " and ".join(f"t.{quote(c)} = incoming.{quote(c)}" for c in key)
        with self._registered(data):
            self._db.execute(f"delete from {quote_table(table)} t using incoming where {same}")
            self._db.execute(f"insert into {quote_table(table)} by name select * from incoming")
        return int(data.num_rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._db.execute("begin")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def close(self) -> None:
        """Let go of the database file."""
        self._db.close()

    @contextmanager
    def _registered(self, data: pa.Table | pa.RecordBatch) -> Iterator[None]:
        table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
        self._db.register("incoming", table)
        try:
            yield
        finally:
            self._db.unregister("incoming")
