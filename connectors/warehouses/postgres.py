"""PostgreSQL: results through server-side cursors, writes through COPY."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC
from typing import Any, ClassVar

import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa
from psycopg2 import extensions
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from connectors.errors import ConfigurationError
from connectors.warehouses._server import BATCH_ROWS, Server, batch_of

_SESSION = (
    "set timezone = 'UTC'; set client_min_messages = 'warning'; set cursor_tuple_fraction = 1"
)
_ARROW: Mapping[int, pa.DataType] = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    700: pa.float64(),
    701: pa.float64(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us"),
    1700: pa.float64(),
    1005: pa.list_(pa.int16()),
    1007: pa.list_(pa.int32()),
    1009: pa.list_(pa.string()),
    1016: pa.list_(pa.int64()),
    1022: pa.list_(pa.float64()),
}
"""By type OID; every other type is text."""


def _naive(text: str | None, cursor: Any) -> Any:
    moment = extensions.PYDATETIMETZ(text, cursor)
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


def _bytes(text: str | None, cursor: Any) -> bytes | None:
    value = psycopg2.BINARY(text, cursor)
    return None if value is None else bytes(value)


_READERS = (
    extensions.new_type((1184,), "naive_utc", _naive),
    extensions.new_type((17,), "plain_bytes", _bytes),
    extensions.new_type((1700,), "double", psycopg2.extensions.FLOAT),
    extensions.new_type((114, 3802), "json_text", psycopg2.extensions.UNICODE),
)


class Postgres(Server):
    """A `Warehouse` over one PostgreSQL database, 12 or newer.

    Several processes may have it open. Keys are unique indexes, so what one of them has
    inserted is absent for none of the others.
    """

    dialect = "postgres"
    on_conflict = "on conflict do nothing"
    types: ClassVar[Mapping[pa.DataType, TypeEngine[Any]]] = {
        **Server.types,
        pa.float64(): sa.Double(),
        pa.timestamp("us"): sa.TIMESTAMP(),
    }

    def __init__(
        self,
        *,
        host: str,
        database: str,
        user: str,
        password: str = "",
        port: str = "5432",
        read_only: bool = False,
    ) -> None:
        url = sa.URL.create("postgresql+psycopg2", user, password or None, host, None, database)
        engine = sa.create_engine(
            url.set(port=int(port)),
            connect_args={"application_name": "nextmove", "connect_timeout": 10},
        )

        def prepare(db: Any, _: object) -> None:
            with db.cursor() as cursor:
                cursor.execute(_SESSION)
                if read_only:
                    cursor.execute("set default_transaction_read_only = on")
            db.commit()
            for reader in _READERS:
                extensions.register_type(reader, db)

        sa.event.listen(engine, "connect", prepare)
        try:
            super().__init__(engine)
        except sa.exc.OperationalError as error:
            raise ConfigurationError(
                f"Postgres at {host} cannot be opened: {_first_line(error.orig)}"
            ) from error

    def stored(self, name: str) -> str:
        """A name as it is written: our SQL writes lower case."""
        return name

    def among(self, column: str) -> str:
        """A condition: the text column is one of a list, which is bound to its one `?`."""
        return f"{column} = any(?)"

    def query(self, sql: str, params: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """Stream a result as batches of at most 65,536 rows."""
        # A connection of its own: a server-side cursor ends with its transaction, and writes
        # may be committed while the result is read.
        with self.told(), closing(self._engine.raw_connection()) as db:
            cursor: Any = db.cursor("nextmove")
            self.execute(cursor, sql, params)
            while rows := cursor.fetchmany(BATCH_ROWS):
                names = [column.name for column in cursor.description]
                kinds = [_ARROW.get(column.type_code, pa.string()) for column in cursor.description]
                yield batch_of(names, kinds, rows)

    def columns(self, table: str) -> dict[str, str] | None:
        """Column name to type, in order; None when the table does not exist."""
        found = self.rows(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = to_regclass(?) and attnum > 0 and not attisdropped order by attnum",
            [self.quote_table(table)],
        )
        return {str(name): str(kind) for name, kind in found} or None

    def type_of(self, kind: pa.DataType) -> Any:
        """The SQL type of an Arrow type; ValueError when there is none."""
        if pa.types.is_list(kind):
            return postgresql.ARRAY(super().type_of(kind.value_type))
        return super().type_of(kind)

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str] = ()) -> None:
        """Create the table (and its schema) if it is not there."""
        if self.has(table):
            return
        # `if not exists` is no protection from a process that does the same right now.
        with self.transaction():
            self.rows("select pg_advisory_xact_lock(hashtext('nextmove tables'))")
            super().ensure(table, schema, key)

    def append(self, table: str, data: pa.Table | pa.RecordBatch) -> int:
        """Insert rows by column name; the number inserted."""
        self._copy(self.quote_table(table), data)
        return int(data.num_rows)

    @contextmanager
    def staged(self, table: str, data: pa.Table) -> Iterator[str]:
        """`data` in a table of this session."""
        columns = ", ".join(map(self.quote, data.column_names))
        self.run(
            f"create temp table incoming on commit drop as"
            f" select {columns} from {self.quote_table(table)} limit 0"
        )
        self._copy("incoming", data)
        yield "incoming"
        self.run("drop table incoming")

    def said(self, error: Exception) -> str | None:
        """What the server says, without values."""
        if not isinstance(error, psycopg2.Error):
            return None
        text = _first_line(error)
        # Errors of class 22 are about a value, which may be somebody's address.
        if (error.pgcode or "").startswith("22"):
            text = re.sub(r"\".*\"", "(a value)", text)
        return f"Postgres: {text}"

    def _copy(self, target: str, data: pa.Table | pa.RecordBatch) -> None:
        columns = ", ".join(map(self.quote, data.schema.names))
        with self._whole(), self.told(), self._db.cursor() as cursor:
            for batch in _batches(data):
                lines = io.BytesIO()
                options = pyarrow.csv.WriteOptions(include_header=False)
                pyarrow.csv.write_csv(_as_text(batch), lines, options)
                lines.seek(0)
                cursor.copy_expert(f"copy {target} ({columns}) from stdin (format csv)", lines)


def _batches(data: pa.Table | pa.RecordBatch) -> list[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return [data]
    return list(data.to_batches(max_chunksize=BATCH_ROWS))


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The columns whose text Arrow does not write as the server reads it, as text."""
    arrays = [_column_text(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _column_text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_list(kind):
        return _list_text(column)
    if pa.types.is_binary(kind):
        return pa.array([None if v is None else f"\\x{v.hex()}" for v in column.to_pylist()])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # The one character that Postgres has no place for.
        return pc.replace_substring(column, "\0", "\ufffd")
    return column


def _list_text(column: pa.ListArray) -> pa.Array:
    values = column.values.cast(pa.string())
    if pa.types.is_string(column.type.value_type):
        escaped = pc.replace_substring(pc.replace_substring(values, "\\", "\\\\"), '"', '\\"')
        values = pc.binary_join_element_wise('"', escaped, '"', "")
    words = pa.ListArray.from_arrays(
        column.offsets, pc.fill_null(values, "NULL"), mask=column.is_null()
    )
    return pc.binary_join_element_wise("{", pc.binary_join(words, ","), "}", "")


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
