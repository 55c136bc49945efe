"""Snowflake: results as Arrow, writes by PUT and COPY INTO.

Names follow dbt's way: what is written without quotes is kept in upper case, and comes back in
lower case. Lists of numbers are ARRAYs; their doubles are texts in it, which keep every bit.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import snowflake.connector
import sqlalchemy as sa
from snowflake.connector.constants import FIELD_ID_TO_NAME
from snowflake.sqlalchemy import ARRAY, TIMESTAMP_NTZ
from sqlalchemy.types import TypeEngine

from connectors.errors import ConfigurationError
from connectors.warehouses._server import BATCH_ROWS, Server

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_STAGED_COLUMNS = 256
_SESSION = {"TIMEZONE": "UTC", "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ"}
_TIMEOUTS = {"login_timeout": 60, "network_timeout": 120}
"""Seconds. Without them the connector tries again for as long as it takes."""

_REALS = pa.list_(pa.float64())
_ARROW: Mapping[str, pa.DataType] = {
    "REAL": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "BINARY": pa.binary(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "TIMESTAMP_LTZ": pa.timestamp("us"),
    "TIMESTAMP_TZ": pa.timestamp("us"),
    "ARRAY": _REALS,
}
"""By the name of a column's type; numbers go by their scale, every other type is text."""

_CASTS = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "number(38, 0)"),
    (pa.types.is_floating, "float"),
    (pa.types.is_date, "date"),
)
_NO_TEXT = pa.scalar(None, pa.string())


class Snowflake(Server):
    """A `Warehouse` over one Snowflake database.

    Keys are not enforced there: what must be inserted once is inserted by one process.
    """

    dialect = "snowflake"
    types: ClassVar[Mapping[pa.DataType, TypeEngine[Any]]] = {
        **Server.types,
        pa.float64(): sa.Float(),
        pa.timestamp("us"): TIMESTAMP_NTZ(),
    }

    def __init__(
        self,
        *,
        account: str,
        user: str,
        database: str,
        warehouse: str,
        read_only: bool = False,
        **more: Any,
    ) -> None:
        """`more`: password, role; host, port and protocol of an account behind another address."""
        connect = partial(
            snowflake.connector.connect,
            account=account,
            user=user,
            database=database,
            warehouse=warehouse,
            application="nextmove",
            session_parameters=_SESSION,
            **_TIMEOUTS,
            **more,
        )
        try:
            super().__init__(sa.create_engine("snowflake://", creator=connect))
        except (snowflake.connector.Error, sa.exc.DBAPIError) as error:
            raise ConfigurationError(
                f"Snowflake account {account} cannot be opened: {_first_line(error)}"
            ) from error
        self._home: str | None = None

    def stored(self, name: str) -> str:
        """A name that needs no quotes is kept in upper case."""
        return name.upper() if _PLAIN.fullmatch(name) else name

    def among(self, column: str) -> str:
        """A condition: the text column is one of a list, which is bound to its one `?`."""
        values = "select value::varchar from table(flatten(input => parse_json(?)))"
        return f"{column} in ({values})"

    def bound(self, value: Any) -> Any:
        """A list goes as JSON."""
        return json.dumps(value) if isinstance(value, list) else value

    def query(self, sql: str, params: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """Stream a result as batches of at most 65,536 rows."""
        with self.told(), self._db.cursor() as cursor:
            self.execute(cursor, sql, params)
            schema = pa.schema([_field(column) for column in cursor.description])
            for part in cursor.fetch_arrow_batches():
                table = pa.table(
                    [_read(c, f.type) for c, f in zip(part.columns, schema, strict=True)],
                    schema=schema,
                )
                yield from table.to_batches(max_chunksize=BATCH_ROWS)

    def columns(self, table: str) -> dict[str, str] | None:
        """Column name to type, in order; None when the table does not exist."""
        space, name = map(self.stored, table.split("."))
        found = self.rows(
            "select column_name, data_type, numeric_precision, numeric_scale"
            " from information_schema.columns where table_schema = ? and table_name = ?"
            " order by ordinal_position",
            [space, name],
        )
        return {_spoken(n): _sized(kind, *size) for n, kind, *size in found} or None

    def type_of(self, kind: pa.DataType) -> Any:
        """The SQL type of an Arrow type; ValueError when there is none."""
        is_list = pa.types.is_list(kind) and not pa.types.is_string(kind.value_type)
        return ARRAY() if is_list else super().type_of(kind)

    def keyed(self, index: sa.Index) -> Iterator[Any]:
        """Keys are not kept unique."""
        return iter(())

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str] = ()) -> None:
        """Create the table (and its schema) if it is not there, and where writes are staged."""
        is_new = not self.has(table)
        super().ensure(table, schema, key)
        # Here, because DDL would end a transaction; and a new schema has become the current one.
        if self._home is None:
            self._home = self.quote(table.split(".")[0])
            columns = ", ".join(f"c{i} varchar" for i in range(_STAGED_COLUMNS))
            self.run(f"use schema {self._home}")
            self.run(f"create temporary table incoming ({columns})")
        elif is_new:
            self.run(f"use schema {self._home}")

    @contextmanager
    def staged(self, table: str, data: pa.Table) -> Iterator[str]:
        """`data` in a table of this session, which holds texts, as a select with types."""
        names = [f"c{i}" for i in range(data.num_columns)]
        texts = pa.table([_write(c) for c in data.columns], names=names)
        self.run("delete from incoming")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{uuid4().hex}.parquet"
            pyarrow.parquet.write_table(texts, path)
            self.run(f"put 'file://{path}' @%incoming auto_compress = false")
        fields = ", ".join(f"$1:{n}::varchar" for n in names)
        self.run(
            f"copy into incoming ({', '.join(names)})"
            f" from (select {fields} from @%incoming/{path.name})"
            " file_format = (type = parquet) purge = true"
        )
        typed = zip(names, data.schema, strict=True)
        columns = ", ".join(f"{_typed(n, f.type)} as {self.quote(f.name)}" for n, f in typed)
        yield f"(select {columns} from incoming) as incoming"

    def said(self, error: Exception) -> str | None:
        """What Snowflake says, without values."""
        if not isinstance(error, snowflake.connector.Error):
            return None
        return f"Snowflake: {re.sub(chr(39) + '.*' + chr(39), '(a value)', _first_line(error))}"


def _field(column: Any) -> pa.Field:
    kind = FIELD_ID_TO_NAME[column.type_code]
    if kind == "FIXED":
        return pa.field(_spoken(column.name), pa.float64() if column.scale else pa.int64())
    return pa.field(_spoken(column.name), _ARROW.get(kind, pa.string()))


def _spoken(name: str) -> str:
    """The name as our SQL writes it."""
    return name.lower() if _PLAIN.fullmatch(name.lower()) else name


def _sized(kind: str, precision: Any, scale: Any) -> str:
    return f"{kind}({precision},{scale})" if kind == "NUMBER" else kind


def _read(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if kind == _REALS:
        return pa.chunked_array([_reals(chunk) for chunk in column.chunks], _REALS)
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.timestamp("us"))
    return column.cast(kind)


def _reals(texts: pa.Array) -> pa.Array:
    """JSON lists of numbers, or of texts that are numbers."""
    bare = pc.replace_substring_regex(texts, r'[\[\]"\s]', "")
    parts = pc.split_pattern(pc.if_else(pc.equal(bare, ""), _NO_TEXT, bare), ",")
    values = pc.if_else(pc.equal(parts.values, "null"), _NO_TEXT, parts.values)
    reals = values.cast(pa.float64())
    return pa.ListArray.from_arrays(parts.offsets, reals, mask=texts.is_null())


def _write(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as texts that `_typed` reads."""
    kind = column.type
    if pa.types.is_list(kind):
        return pa.chunked_array([_json(chunk) for chunk in column.chunks], pa.string())
    if pa.types.is_binary(kind):
        return pa.chunked_array([[None if v is None else v.hex() for v in column.to_pylist()]])
    return column.cast(pa.string())


def _json(lists: pa.ListArray) -> pa.Array:
    values = lists.values.cast(pa.string())
    if pa.types.is_floating(lists.type.value_type):
        values = pc.binary_join_element_wise('"', values, '"', "")
    words = pa.ListArray.from_arrays(
        lists.offsets, pc.fill_null(values, "null"), mask=lists.is_null()
    )
    return pc.binary_join_element_wise("[", pc.binary_join(words, ","), "]", "")


def _typed(text: str, kind: pa.DataType) -> str:
    """SQL: a staged text as a value of an Arrow type."""
    if pa.types.is_list(kind):
        return f"cast(parse_json({text}) as array)"
    if pa.types.is_binary(kind):
        return f"to_binary({text}, 'HEX')"
    if pa.types.is_timestamp(kind):
        return f"to_timestamp_ntz({text})"
    for matches, target in _CASTS:
        if matches(kind):
            return f"cast({text} as {target})"
    return text


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
