"""When a message may leave: local send hours turned into UTC, per time zone, DST included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from decision_engine.types import Bools, Catalog, Column, Epoch, Floats, Ints

HOUR = timedelta(hours=1)
NO_PLACE = "Factory"
"""A zone of the IANA list that stands for "not set"."""


@dataclass(frozen=True)
class SendTimes:
    """`send_at` (n, k) Unix seconds, NaN for no_action and for people of unknown zone.

    `local_hour` (n, k) the hour on their clock at that moment (-1 where NaN);
    `zone_known` (n,) bool.
    """

    send_at: Floats
    local_hour: Ints
    zone_known: Bools


def utc(moment: datetime) -> datetime:
    """The moment with UTC attached; a datetime without a zone is UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The IANA names a zone may have."""
    listed = files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(listed) - {NO_PLACE}


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo | None:
    """The zone of an IANA name; None for anything else, which means: do not send."""
    if name not in zone_names():
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def send_moment(now: datetime, zone: ZoneInfo, send_hour: int | None) -> datetime:
    """The UTC moment a message for this local hour leaves, decided at `now` (aware).

    Without a send hour: at once. Otherwise the hour of today's local date; still today, at
    once, while that hour lasts; tomorrow's when it is over. An hour that DST skips is the
    hour after the gap; of an hour that comes twice it is the first.
    """
    if send_hour is None:
        return now.astimezone(UTC)
    today = now.astimezone(zone).date()
    for date in (today, today + timedelta(days=1)):
        wall = datetime(date.year, date.month, date.day, send_hour, tzinfo=zone)
        moment = wall.astimezone(UTC)
        if now < moment + HOUR:
            return max(moment, now.astimezone(UTC))
    raise AssertionError("tomorrow's send hour is never over")


def send_times(zones: Column, catalog: Catalog, epoch: Epoch) -> SendTimes:
    """Send moments of n people (their IANA zone names) x k actions.

    Computed once per distinct zone and send hour, not per person.
    """
    codes, names = _codes(zones)
    hours = sorted({a.send_hour for a in catalog.actions}, key=lambda h: -1 if h is None else h)
    at, local = _table(names, hours, utc(epoch.as_of))
    slots = np.array([hours.index(a.send_hour) for a in catalog.actions])
    send_at, local_hour = at[codes][:, slots], local[codes][:, slots]
    silent = [i for i, action in enumerate(catalog.actions) if not action.channel]
    send_at[:, silent], local_hour[:, silent] = np.nan, -1
    known = np.array([zone_of(name) is not None for name in names], dtype=bool)
    return SendTimes(send_at, local_hour, known[codes])


def _codes(zones: Column) -> tuple[Ints, list[str]]:
    """Each person's index into the distinct zone names; a NULL is the name ''."""
    index: Mapping[str, int]
    index, codes = {}, np.empty(len(zones.valid), dtype=np.int64)
    for row, (name, known) in enumerate(zip(zones.values, zones.valid, strict=True)):
        codes[row] = index.setdefault(str(name) if known else "", len(index))
    return codes, list(index)


def _table(names: Iterable[str], hours: Iterable[int | None], now: datetime) -> tuple[Floats, Ints]:
    """(zones, hours): Unix seconds (NaN without a zone) and the local hour (-1 without one)."""
    moments = [[_moment(now, name, hour) for hour in hours] for name in names]
    at = np.array([[cell[0] for cell in row] for row in moments], dtype=np.float64)
    local = np.array([[cell[1] for cell in row] for row in moments], dtype=np.int64)
    shape = (len(moments), -1) if moments else (0, len(list(hours)))
    return at.reshape(shape), local.reshape(shape)


def _moment(now: datetime, name: str, hour: int | None) -> tuple[float, int]:
    zone = zone_of(name)
    if zone is None:
        return np.nan, -1
    moment = send_moment(now, zone, hour)
    return moment.timestamp(), moment.astimezone(zone).hour
