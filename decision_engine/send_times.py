"""When a message may leave: local send hours turned into UTC, per time zone, DST included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from decision_engine.types import Bools, Catalog, Epoch, Floats, Ints, Pair

HOUR = 3600.0
_HOURS_A_DAY, _HOURS_A_WEEK = np.array(24), np.array(168)
_THURSDAY = np.array(72)
"""1970-01-01 was one."""
_DAY_ZERO = date(1970, 1, 1).toordinal()
NO_PLACE = "Factory"
"""A zone of the IANA list that stands for "not set"."""


@dataclass(frozen=True, eq=False)
class SendTimes:
    """When messages would leave, by the s different times (send hour, wait) of a catalog.

    `at` (n, s + 1) Unix seconds, NaN for people of unknown zone unless it is at once; the last
    column, NaN, is for actions that send nothing. `clock` (n, s + 1) what their clock and calendar
    then say, that of UTC for an unknown zone, in whole hours since 1970-01-01 0:00, -1 where NaN.
    `zone_known` (n,). `slots` (k,) the column of each action.
    """

    at: Floats
    clock: Ints
    zone_known: Bools
    slots: Ints

    @property
    def local_hour(self) -> Ints:
        """(n, s + 1): the hour on their clock, 0 to 23."""
        hour: Ints = self.clock % _HOURS_A_DAY
        return hour

    @property
    def local_day(self) -> Ints:
        """(n, s + 1): the day of their calendar, since 1970-01-01."""
        day: Ints = self.clock // _HOURS_A_DAY
        return day

    @property
    def hour_of_week(self) -> Ints:
        """(n, s + 1): the hour on their clock since Monday 0:00, 0 to 167."""
        hour: Ints = (self.clock + _THURSDAY) % _HOURS_A_WEEK
        return hour

    def at_slot(self, slot: int) -> Any:
        """(n,): when what is in this column leaves; a scalar for one person."""
        return self.at[:, slot] if len(self.at) != 1 else self.at[0, slot]

    @property
    def send_at(self) -> Floats:
        """(n, k): when each action would leave."""
        return self.at[:, self.slots]

    def of(self, action: Ints) -> Floats:
        """(n,): when the action (n,) that was chosen for each person leaves."""
        rows = 0 if len(self.at) == 1 else np.arange(len(self.at))
        moments: Floats = self.at[rows, self.slots[action]]
        return moments

    def take(self, rows: NDArray[Any]) -> SendTimes:
        """The given people (index or bool array)."""
        return SendTimes(self.at[rows], self.clock[rows], self.zone_known[rows], self.slots)


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
    """The zone of an IANA name; None for anything else, which means: do not send.

    By the rules of the tzdata package, which every machine has alike, and not by those of the
    system, which may be years behind: governments move clocks at short notice.
    """
    if name not in zone_names():
        return None
    try:
        with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
            return ZoneInfo.from_file(rules, key=name)
    except (ValueError, OSError):
        return None


def send_times(zones: Pair, catalog: Catalog, epoch: Epoch) -> SendTimes:
    """Send moments of n people (their IANA zone names).

    Without a send hour a message leaves at once. Otherwise at that hour of today's local date;
    still today, at once, while that hour lasts; tomorrow when it is over. One that waits leaves
    so many local dates after today's: at its hour, or at the time of day that it is now.
    Computed once per distinct zone and time, not per person.
    """
    codes, names = _codes(zones)
    times, now = catalog.times, utc(epoch.as_of)
    moments = [_moments(name, times, now) for name in names]
    shape = (len(names), len(times) + 1)
    at = np.array([m[0] for m in moments], dtype=np.float64).reshape(shape)
    clock = np.array([m[1] for m in moments], dtype=np.int64).reshape(shape)
    known = np.array([zone_of(name) is not None for name in names], dtype=bool)
    if codes is None:
        return SendTimes(at, clock, known, catalog.slots)
    return SendTimes(at[codes], clock[codes], known[codes], catalog.slots)


def _codes(zones: Pair) -> tuple[Ints | None, list[str]]:
    """Each person's index into the distinct zone names; a NULL is the name ''.

    None for one person, whose zone is a scalar.
    """
    names, known = zones
    if not isinstance(names, np.ndarray):
        return None, [str(names) if known else ""]
    index: dict[str, int] = {}
    pairs = zip(names.tolist(), known.tolist(), strict=True)
    codes = [index.setdefault(str(name) if told else "", len(index)) for name, told in pairs]
    return np.array(codes, dtype=np.int64), list(index)


_Time = tuple[int | None, int]
"""Send hour and wait in days."""


def _moments(name: str, times: tuple[_Time, ...], now: datetime) -> tuple[list[float], list[int]]:
    """For each time, and for nothing: Unix seconds (NaN) and the clock (-1)."""
    zone = zone_of(name)
    if zone is None:
        at_once = [time == (None, 0) for time in (*times, None)]
        return [now.timestamp() if it_is else np.nan for it_is in at_once], [
            _clock(now) if it_is else -1 for it_is in at_once
        ]
    here, seconds = now.astimezone(zone), now.timestamp()
    at, clock = [], []
    for (hour, wait), (today, tomorrow) in zip(times, _day(zone, times, here.date()), strict=True):
        if hour is None and wait:
            today = _of(here.replace(fold=0) + timedelta(days=wait))
        moment, then = today if seconds < today[0] + HOUR else tomorrow
        is_later = moment > seconds
        at.append(moment if is_later else seconds)
        clock.append(then if is_later else _clock(here))
    return [*at, np.nan], [*clock, -1]


def _clock(here: datetime) -> int:
    return day_number(here) * 24 + here.hour


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return day.toordinal() - _DAY_ZERO


_Moment = tuple[float, int]


@lru_cache(maxsize=4096)
def _day(
    zone: ZoneInfo, times: tuple[_Time, ...], today: date
) -> tuple[tuple[_Moment, _Moment], ...]:
    """When each send hour begins on its local date and on the next, and what the clock then says.

    An hour that DST skips is meant by the clock before the change (RFC 5545, 3.3.5), so it is the
    one after the gap; of an hour that comes twice it is the first. No send hour began long ago.
    """
    days = [(hour, today + timedelta(days=wait)) for hour, wait in times]
    return tuple(
        (_AT_ONCE, _AT_ONCE)
        if hour is None
        else (_begins(zone, day, hour), _begins(zone, day + timedelta(days=1), hour))
        for hour, day in days
    )


def _begins(zone: ZoneInfo, day: date, hour: int) -> _Moment:
    return _of(datetime(day.year, day.month, day.day, hour, tzinfo=zone))


def _of(local: datetime) -> _Moment:
    """By way of UTC, for the clock may never show this time."""
    moment = local.astimezone(UTC)
    return moment.timestamp(), _clock(moment.astimezone(local.tzinfo))


_AT_ONCE = (-np.inf, -1)
