"""From the service's durable log into the warehouse, exactly once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from connectors import failpoint, framed
from connectors.base import Warehouse
from decision_engine.errors import StepError
from decision_engine.late_propensity import with_propensities
from decision_engine.overriding import load_overrides
from decision_engine.service.records import TAGS, Decision, Epoch, Event, Record, Webhook
from decision_engine.service.rotation import KEPT_DAYS, close_segment
from decision_engine.tables import (
    DECISIONS,
    EPOCHS,
    INBOUND_EVENTS,
    LOADED_SEGMENTS,
    TRACKED_EVENTS,
)
from decision_engine.workspace import Workspace

CHUNK_BYTES = 8 << 20
"""Of the log, in memory at a time."""

Progress = Callable[[str], None]
Lines = dict[type[Record], list[bytes]]


class Target(NamedTuple):
    """Where records of a kind go, and what tells them apart."""

    table: str
    schema: pa.Schema
    key: tuple[str, ...]
    in_row: bool
    """Whether the columns are in a record's `row`, rather than its own fields."""

    def value(self, name: str) -> Callable[[Any], Any]:
        """How to get a column of a record."""
        return (lambda record: record.row.get(name)) if self.in_row else attrgetter(name)


# In this order, for a decision's propensity is computed with its epoch.
TARGETS: dict[type[Record], Target] = {
    Epoch: Target("epochs", EPOCHS, ("epoch_id",), True),
    Decision: Target("decisions", DECISIONS, ("decision_id",), True),
    Webhook: Target("inbound_events", INBOUND_EVENTS, ("vendor", "event_id"), False),
    Event: Target("tracked_events", TRACKED_EVENTS, ("message_id",), False),
}


def load_log(workspace: Workspace, progress: Progress = lambda _: None) -> dict[str, int]:
    """Load everything received until now; the number of new rows of each table.

    The rows of a segment and the note that it is loaded go in one transaction, and a row whose
    id is already there is left out, so neither a restart nor a caller's repetition counts
    anything twice. Raises LockedError when another process loads: not every warehouse can tell
    two that add the same row at once.
    """
    with workspace.alone("load"):
        return _load_all(workspace, progress)


def _load_all(workspace: Workspace, progress: Progress) -> dict[str, int]:
    close_segment(workspace.inbound_log)
    loaded = {target.table: 0 for target in TARGETS.values()}
    with workspace.warehouse() as warehouse:
        for segment in _unloaded(workspace, warehouse):
            with warehouse.transaction():
                for table, rows in _load(workspace, warehouse, segment).items():
                    loaded[table] += rows
                failpoint.hit("load.segment.before_commit")
            failpoint.hit("load.segment.after_commit")
            progress(f"segment {framed.number(segment)}, {sum(loaded.values()):,} rows")
        loaded["overrides"] = load_overrides(workspace, warehouse)
        _forget(workspace, last_loaded(workspace, warehouse))
    return loaded


def _forget(workspace: Workspace, done: int) -> None:
    """Delete the segments that are loaded and too old for the hot store to count them.

    Never the last segment, whose number the next one follows.
    """
    oldest = time.time() - KEPT_DAYS * 86_400
    for segment in framed.closed_segments(workspace.inbound_log):
        if framed.number(segment) <= done and segment.stat().st_mtime < oldest:
            segment.unlink()


def last_loaded(workspace: Workspace, warehouse: Warehouse) -> int:
    """The number of the last segment that is loaded, -1 for none.

    Raises StepError when the log is not the one that was loaded.
    """
    table = workspace.engine("loaded_segments")
    found = warehouse.rows(f"select max(segment) from {table}")
    done = -1 if found[0][0] is None else int(found[0][0])
    here = framed.segments(workspace.inbound_log)
    if here and framed.number(here[-1]) <= done:
        # Its segments would count as loaded, and every opt-out in them would be lost.
        raise StepError(
            f"{workspace.inbound_log} is not the log that was loaded before (it was at segment"
            f" {done}); bring that one back, or empty {table} if it is gone for good"
        )
    return done


def _unloaded(workspace: Workspace, warehouse: Warehouse) -> list[Path]:
    done = last_loaded(workspace, warehouse)
    closed = framed.closed_segments(workspace.inbound_log)
    return [s for s in closed if framed.number(s) > done]


def _load(workspace: Workspace, warehouse: Warehouse, segment: Path) -> dict[str, int]:
    loaded: dict[str, int] = {}
    events = 0
    for lines in _chunks(segment):
        for kind, target in TARGETS.items():
            if lines.get(kind):
                table = _table(target, _records(kind, lines[kind], segment))
                if kind is Decision:
                    table = with_propensities(workspace, warehouse, table)
                name = workspace.engine(target.table)
                rows = warehouse.insert_absent(name, table, list(target.key))
                loaded[target.table] = loaded.get(target.table, 0) + rows
                events += table.num_rows
        failpoint.hit("load.chunk.after_insert")
    note = {"segment": framed.number(segment), "events": events}
    warehouse.insert_absent(
        workspace.engine("loaded_segments"),
        pa.Table.from_pylist([note], schema=LOADED_SEGMENTS),
        ["segment"],
    )
    return loaded


def _chunks(segment: Path) -> Iterator[Lines]:
    """The lines of a closed segment by kind, some megabytes at a time."""
    lines: Lines = {}
    size = 0
    for payload in framed.read(segment):
        for line in payload.split(b"\n"):
            lines.setdefault(_kind(line, segment), []).append(line)
        size += len(payload)
        if size >= CHUNK_BYTES:
            yield lines
            lines, size = {}, 0
    yield lines


def _kind(line: bytes, segment: Path) -> type[Record]:
    found = TAGS.get(line[: line.find(b'"', len(b'{"record":"')) + 1])
    if found is None:
        raise _unreadable(segment)
    return found


def _records(kind: type[Record], lines: Sequence[bytes], segment: Path) -> list[Record]:
    try:
        return msgspec.json.decode(b"[" + b",".join(lines) + b"]", type=list[kind])  # type: ignore[valid-type]
    except msgspec.DecodeError as error:
        raise _unreadable(segment) from error


def _unreadable(segment: Path) -> StepError:
    return StepError(
        f"segment {segment.name} of the log has a record that this version does not know;"
        " load it with the version that wrote it"
    )


def _table(target: Target, records: Iterable[Record]) -> pa.Table:
    """Records as rows, each id once: the first one counts."""
    key = [target.value(name) for name in target.key]
    unique: dict[tuple[Any, ...], Record] = {}
    for record in records:
        unique.setdefault(tuple(part(record) for part in key), record)
    arrays = [
        _array([*map(target.value(field.name), unique.values())], field.type)
        for field in target.schema
    ]
    return pa.Table.from_arrays(arrays, schema=target.schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.list_(pa.float64()):
        # JSON writes NaN as null.
        lists = pa.array(values, kind)
        return pa.ListArray.from_arrays(lists.offsets, pc.fill_null(lists.values, math.nan))
    if not pa.types.is_timestamp(kind):
        return pa.array(values, kind)
    try:
        return pa.array(values, pa.string()).cast(kind)
    except pa.ArrowInvalid:  # a time with an offset: rare, as ours have none
        return pa.array([_utc(value) for value in values], kind)


def _utc(value: str | None) -> datetime | None:
    at = datetime.fromisoformat(value) if value is not None else None
    return at.astimezone(UTC).replace(tzinfo=None) if at is not None and at.tzinfo else at
