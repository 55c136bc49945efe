"""What the clocks of the world showed lately, as a table for dbt.

By the locked tzdata package, like everything else here, and a zone that nobody knows has no row,
where a warehouse would refuse to go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.send_times import utc, zone_names, zone_of
from decision_engine.tables import ZONE_OFFSETS
from decision_engine.workspace import Workspace

DAYS = 92
"""Before as_of; `nextmove_hours` in the dbt package looks back 90."""
_STEP = timedelta(days=14)
"""Nowhere are clocks set and set back within less; around Ramadan it is a month."""


def write_zone_offsets(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> None:
    """Replace the table by the offsets of the days before as_of (UTC)."""
    table = workspace.engine("zone_offsets")
    with warehouse.transaction():
        warehouse.rows(f"delete from {table}")
        warehouse.append(table, zone_offsets(as_of))


def zone_offsets(as_of: datetime) -> pa.Table:
    """The offsets of all zones in the days before as_of (UTC)."""
    until = utc(as_of) + timedelta(days=1)
    since = until - timedelta(days=DAYS)
    rows = [
        {"time_zone": name, "valid_from": start, "valid_until": end, "offset_minutes": minutes}
        for name in sorted(zone_names())
        if (zone := zone_of(name)) is not None
        for start, end, minutes in offsets(zone, since, until)
    ]
    return pa.Table.from_pylist(rows, schema=ZONE_OFFSETS)


def offsets(
    zone: ZoneInfo, since: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime, int]]:
    """From when until when (UTC, without a zone) the clock is so many minutes ahead of UTC."""
    start = at = since
    while at < until:
        later = min(at + _STEP, until)
        if _minutes(zone, later) != _minutes(zone, at):
            change = _change(zone, at, later)
            yield _naive(start), _naive(change), _minutes(zone, at)
            start = change
        at = later
    yield _naive(start), _naive(until), _minutes(zone, until)


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The second between two moments at which the clock is set."""
    # Clocks are set at whole seconds, so one lies between the whole seconds of the two as well.
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    before = _minutes(zone, low)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle -= timedelta(microseconds=middle.microsecond)
        low, high = (middle, high) if _minutes(zone, middle) == before else (low, middle)
    return high


def _minutes(zone: ZoneInfo, at: datetime) -> int:
    return round((at.astimezone(zone).utcoffset() or timedelta()) / timedelta(minutes=1))


def _naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
