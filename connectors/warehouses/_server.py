"""What warehouses that are servers have in common.

SQLAlchemy makes the connections and writes the DDL; rows are written through a staging table
that each warehouse fills in its own way.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateSchema, CreateTable, ExecutableDDLElement
from sqlalchemy.types import TypeEngine

from connectors.errors import WarehouseError

BATCH_ROWS = 65_536

_MARKS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\?|%")


def with_format_marks(sql: str) -> str:
    """`?` as `%s`, and a percent sign that is meant as one doubled; quotes are respected."""

    def mark(found: re.Match[str]) -> str:
        return "%s" if found[0] == "?" else found[0].replace("%", "%%")

    return _MARKS.sub(mark, sql)


class Server(ABC):
    """A `Warehouse` over one connection, on which everything but streaming happens."""

    dialect: ClassVar[str]
    types: ClassVar[Mapping[pa.DataType, TypeEngine[Any]]] = {
        pa.string(): sa.Text(),
        pa.large_string(): sa.Text(),
        pa.bool_(): sa.Boolean(),
        pa.int32(): sa.Integer(),
        pa.int64(): sa.BigInteger(),
        pa.uint8(): sa.SmallInteger(),
        pa.binary(): sa.LargeBinary(),
        pa.date32(): sa.Date(),
    }
    on_conflict: ClassVar[str] = ""
    """What ends an insert that may meet another process's row of the same key."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._alchemy = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._db: Any = self._alchemy.connection.dbapi_connection
        self._is_in_transaction = False
        self._tables: dict[str, set[str]] = {}

    # --- what differs ---

    @abstractmethod
    def stored(self, name: str) -> str:
        """A name as the warehouse keeps it when it was written without quotes."""

    @abstractmethod
    def among(self, column: str) -> str:
        """A condition: the text column is one of a list, which is bound to its one `?`."""

    @abstractmethod
    def query(self, sql: str, params: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """Stream a result as batches of at most 65,536 rows."""

    @abstractmethod
    def columns(self, table: str) -> dict[str, str] | None:
        """Column name to type, in order; None when the table does not exist."""

    @abstractmethod
    def staged(self, table: str, data: pa.Table) -> AbstractContextManager[str]:
        """`data` as a relation of this session, called `incoming`, with `table`'s types."""

    @abstractmethod
    def said(self, error: Exception) -> str | None:
        """What the driver's error says, without values; None when it is not the driver's."""

    def bound(self, value: Any) -> Any:
        """A parameter as the driver takes it."""
        return value

    # --- what does not ---

    def quote(self, name: str) -> str:
        """A column's name for SQL, whatever characters and keywords are in it."""
        return '"' + self.stored(name).replace('"', '""') + '"'

    def quote_table(self, table: str) -> str:
        """`schema.name`, quoted part by part."""
        return ".".join(map(self.quote, table.split(".")))

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A small result as Python tuples; empty when the statement has none."""
        with self.told(), self._db.cursor() as cursor:
            self.execute(cursor, sql, params)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str] = ()) -> None:
        """Create the table (and its schema) if it is not there."""
        if not self.has(table):
            space, name = table.split(".")
            for statement in self.creation(space, name, schema, key):
                with self.told():
                    self._alchemy.execute(statement)
            self._tables[space].add(name)

    def creation(
        self, space: str, name: str, schema: pa.Schema, key: Sequence[str]
    ) -> Iterator[ExecutableDDLElement]:
        """The statements that make a table."""
        if not self.rows(
            "select 1 from information_schema.schemata where schema_name = ?", [self.stored(space)]
        ):
            yield CreateSchema(self._named(space), if_not_exists=True)
        columns = [sa.Column(self._named(f.name), self.type_of(f.type)) for f in schema]
        table = sa.Table(self._named(name), sa.MetaData(), *columns, schema=self._named(space))
        yield CreateTable(table, if_not_exists=True)
        if key:
            parts = [table.c[self.stored(c)] for c in key]
            yield from self.keyed(sa.Index(self._named(f"{name}_key"), *parts, unique=True))

    def keyed(self, index: sa.Index) -> Iterator[ExecutableDDLElement]:
        """How a key is kept unique, by a warehouse that can."""
        yield CreateIndex(index, if_not_exists=True)

    def type_of(self, kind: pa.DataType) -> TypeEngine[Any]:
        """The SQL type of an Arrow type; ValueError when there is none."""
        if kind not in self.types:
            raise ValueError(f"no {self.dialect} type for {kind}")
        return self.types[kind]

    def append(self, table: str, data: pa.Table | pa.RecordBatch) -> int:
        """Insert rows by column name; the number inserted."""
        data = as_table(data)
        if data.num_rows:
            with self._whole(), self.staged(table, data) as incoming:
                self.run(self._insertion(table, data, incoming))
        return int(data.num_rows)

    def insert_absent(self, table: str, data: pa.Table | pa.RecordBatch, key: Sequence[str]) -> int:
        """Insert the rows whose key is not there yet; the number inserted."""
        data = as_table(data)
        if not data.num_rows:
            return 0
        absent = (
            f"not exists (select 1 from {self.quote_table(table)} where {self._same(table, key)})"
        )
        with self._whole(), self.staged(table, data) as incoming:
            insertion = self._insertion(table, data, incoming)
            return self.run(f"{insertion} where {absent} {self.on_conflict}")

    def merge(self, table: str, data: pa.Table | pa.RecordBatch, key: Sequence[str]) -> int:
        """Insert or replace by key; the number of rows given."""
        data = as_table(data)
        if not data.num_rows:
            return 0
        with self._whole(), self.staged(table, data) as incoming:
            same = self._same(table, key)
            self.run(f"delete from {self.quote_table(table)} using {incoming} where {same}")
            return self.run(self._insertion(table, data, incoming))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.run("begin")
        self._is_in_transaction = True
        try:
            yield
        except BaseException:
            with suppress(WarehouseError):  # of a connection that is gone nothing remains
                self.run("rollback")
            raise
        else:
            self.run("commit")
        finally:
            self._is_in_transaction = False

    def close(self) -> None:
        """Let go of the database."""
        self._alchemy.close()
        self._engine.dispose()

    # --- for the warehouses ---

    def run(self, sql: str, params: Sequence[Any] = ()) -> int:
        """A statement without a result; the number of rows it changed."""
        with self.told(), self._db.cursor() as cursor:
            self.execute(cursor, sql, params)
            return int(cursor.rowcount or 0)

    def execute(self, cursor: Any, sql: str, params: Sequence[Any]) -> None:
        """A statement with `?` marks on a driver's cursor."""
        if params:
            cursor.execute(with_format_marks(sql), tuple(map(self.bound, params)))
        else:
            cursor.execute(sql)

    @contextmanager
    def told(self) -> Iterator[None]:
        """The driver's errors as ours."""
        try:
            yield
        except Exception as error:
            text = self.said(getattr(error, "orig", error))
            if text is None:
                raise
            raise WarehouseError(text) from error

    def has(self, table: str) -> bool:
        """Whether the table is there; the answer may be as old as the connection."""
        space, name = table.split(".")
        if space not in self._tables:
            found = self.rows(
                "select table_name from information_schema.tables where table_schema = ?",
                [self.stored(space)],
            )
            self._tables[space] = {str(name).lower() for (name,) in found}
        return name in self._tables[space]

    def _named(self, name: str) -> sa.quoted_name:
        return sa.quoted_name(self.stored(name), quote=True)

    def _insertion(self, table: str, data: pa.Table, incoming: str) -> str:
        columns = ", ".join(map(self.quote, data.column_names))
        return f"insert into {self.quote_table(table)} ({columns}) select {columns} from {incoming}"

    def _same(self, table: str, key: Sequence[str]) -> str:
        target = self.quote_table(table)
        return " and ".join(f"{target}.{self.quote(c)} = incoming.{self.quote(c)}" for c in key)

    def _whole(self) -> AbstractContextManager[None]:
        return nullcontext() if self._is_in_transaction else self.transaction()


def as_table(data: pa.Table | pa.RecordBatch) -> pa.Table:
    """Batches and tables alike; dictionaries as plain values."""
    table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table[i].cast(field.type.value_type))
    return table


def batch_of(names: Sequence[str], kinds: Sequence[pa.DataType], rows: list[Any]) -> pa.RecordBatch:
    """Rows of a driver as one Arrow batch."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    arrays = [pa.array(c, type=k) for c, k in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))
