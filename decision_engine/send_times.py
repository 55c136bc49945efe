"""When a message may leave: local send hours turned into UTC, per time zone, DST included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from decision_engine.types import Bools, Catalog, Column, Epoch, Floats, Ints

HOUR = 3600.0
NO_PLACE = "Factory"
"""A zone of the IANA list that stands for "not set"."""


@dataclass(frozen=True, eq=False)
class SendTimes:
    """When messages would leave, by the s different send hours of a catalog.

    `at` (n, s + 1) Unix seconds, NaN for people of unknown zone; the last column, NaN, is for
    actions that send nothing. `local_hour` (n, s + 1) the hour on their clock at that moment, -1
    where NaN. `zone_known` (n,). `slots` (k,) the column of each action.
    """

    at: Floats
    local_hour: Ints
    zone_known: Bools
    slots: Ints

    @property
    def send_at(self) -> Floats:
        """(n, k): when each action would leave."""
        return self.at[:, self.slots]

    def of(self, action: Ints) -> Floats:
        """(n,): when the action (n,) that was chosen for each person leaves."""
        return self.at[np.arange(len(self.at)), self.slots[action]]

    def take(self, rows: NDArray[Any]) -> SendTimes:
        """The given people (index or bool array)."""
        return SendTimes(self.at[rows], self.local_hour[rows], self.zone_known[rows], self.slots)


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


def send_times(zones: Column, catalog: Catalog, epoch: Epoch) -> SendTimes:
    """Send moments of n people (their IANA zone names).

    Without a send hour a message leaves at once. Otherwise at that hour of today's local date;
    still today, at once, while that hour lasts; tomorrow when it is over.
    Computed once per distinct zone and send hour, not per person.
    """
    codes, names = _codes(zones)
    hours, now = tuple(catalog.at_hour), utc(epoch.as_of)
    moments = [_moments(name, hours, now) for name in names]
    shape = (len(names), len(hours) + 1)
    at = np.array([m[0] for m in moments], dtype=np.float64).reshape(shape)
    local = np.array([m[1] for m in moments], dtype=np.int64).reshape(shape)
    known = np.array([zone_of(name) is not None for name in names], dtype=bool)
    return SendTimes(at[codes], local[codes], known[codes], catalog.slots)


def _codes(zones: Column) -> tuple[Ints, list[str]]:
    """Each person's index into the distinct zone names; a NULL is the name ''."""
    index: Mapping[str, int]
    index, codes = {}, np.empty(len(zones.valid), dtype=np.int64)
    for row, (name, known) in enumerate(zip(zones.values, zones.valid, strict=True)):
        codes[row] = index.setdefault(str(name) if known else "", len(index))
    return codes, list(index)


def _moments(
    name: str, hours: tuple[int | None, ...], now: datetime
) -> tuple[list[float], list[int]]:
    """For each send hour, and for nothing: Unix seconds (NaN) and the local hour (-1)."""
    zone = zone_of(name)
    if zone is None:
        return [np.nan] * (len(hours) + 1), [-1] * (len(hours) + 1)
    here, seconds = now.astimezone(zone), now.timestamp()
    at, local = [], []
    for today, tomorrow in _day(zone, hours, here.date()):
        moment, hour = today if seconds < today[0] + HOUR else tomorrow
        is_later = moment > seconds
        at.append(moment if is_later else seconds)
        local.append(hour if is_later else here.hour)
    return [*at, np.nan], [*local, -1]


_Moment = tuple[float, int]


@lru_cache(maxsize=4096)
def _day(
    zone: ZoneInfo, hours: tuple[int | None, ...], today: date
) -> tuple[tuple[_Moment, _Moment], ...]:
    """When each send hour begins on a local date and on the next, and the hour it then is.

    An hour that DST skips is the hour after the gap; of an hour that comes twice it is the
    first. No send hour began long ago.
    """
    tomorrow = today + timedelta(days=1)
    return tuple(
        (_AT_ONCE, _AT_ONCE)
        if hour is None
        else (_begins(zone, today, hour), _begins(zone, tomorrow, hour))
        for hour in hours
    )


def _begins(zone: ZoneInfo, day: date, hour: int) -> _Moment:
    moment = datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC)
    return moment.timestamp(), moment.astimezone(zone).hour


_AT_ONCE = (-np.inf, -1)
