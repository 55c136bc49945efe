"""When the law lets a promotional message reach a person, by where they are.

The table is `legal_windows.csv`: country and regions, channel, days, first and last hour
(start <= hour < end on the person's own clock), how many such messages in 24 hours, and the
source of each row. A region may be in several rows: its own rows, if it has any, narrow those
that name many. A place that is not known is every place it could be: the hours that are
allowed in all of them, and the smallest number.

No row of this table is legal advice; have it checked for the places you send to.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from decision_engine.types import Bools, Floats

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS_A_WEEK = 168
Place = tuple[str, str]
"""Country (ISO 3166-1, two letters) and region, as the CRM says; '' when not known."""


class Window(NamedTuple):
    """One row: hours of the week (168,), Monday 0:00 first; the most messages in 24 hours."""

    hours: Bools
    max_24h: float


class Law(NamedTuple):
    """What holds at m places: the hours that are allowed (m, 168), the most messages (m,).

    `max_24h` is inf for no limit.
    """

    allowed: Bools
    max_24h: Floats


@cache
def regulated() -> frozenset[str]:
    """The channels that the table speaks of."""
    return frozenset(_table())


@lru_cache(maxsize=1024)
def law_at(channel: str, places: Sequence[Place]) -> Law:
    """What holds for a channel at each of m places."""
    found = [_at(_table()[channel], country, region) for country, region in places]
    hours = np.array([w.hours for w in found], dtype=bool).reshape(-1, HOURS_A_WEEK)
    most = np.array([w.max_24h for w in found], dtype=np.float64)
    return Law(hours, most)


_FREE = Window(np.ones(HOURS_A_WEEK, dtype=bool), np.inf)


def _at(table: Mapping[str, Mapping[str, Window]], country: str, region: str) -> Window:
    country, region = country.strip().upper(), region.strip().upper()
    if country not in _countries():
        return _all(window for regions in table.values() for window in regions.values())
    regions = table.get(country, {"": _FREE})
    region = region.removeprefix(f"{country}-")
    return regions.get(region) or regions.get("") or _all(regions.values())


def _all(windows: Iterable[Window]) -> Window:
    """What all of them allow."""
    found = list(windows)
    hours = np.logical_and.reduce([w.hours for w in found])
    return Window(hours, min(w.max_24h for w in found))


@cache
def _countries() -> frozenset[str]:
    """The codes of ISO 3166-1: a country that is written in another way is not known."""
    text = files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8")
    return frozenset(line[:2] for line in text.splitlines() if line[:1] not in ("", "#"))


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, Window]]]:
    """Channel -> country -> region -> what holds there."""
    text = files("decision_engine").joinpath("legal_windows.csv").read_text(encoding="utf-8")
    rows: dict[Place, dict[str, dict[str, list[Window]]]] = {}
    for row in csv.DictReader(text.splitlines()):
        regions = row["regions"].split() or [""]
        for region in regions:
            kinds = rows.setdefault((row["channel"], row["country"]), {}).setdefault(region, {})
            kinds.setdefault("own" if len(regions) == 1 else "many", []).append(_window(row))
    table: dict[str, dict[str, dict[str, Window]]] = {}
    for (channel, country), by_region in rows.items():
        table.setdefault(channel, {})[country] = {
            region: _all(map(_either, kinds.values())) for region, kinds in by_region.items()
        }
    return table


def _either(windows: Sequence[Window]) -> Window:
    """Rows for one region alone are of different days."""
    hours = np.logical_or.reduce([w.hours for w in windows])
    return Window(hours, min(w.max_24h for w in windows))


def _window(row: Mapping[str, str]) -> Window:
    first, last = (DAYS.index(day) for day in (row["days"].split("-") * 2)[:2])
    hours = np.zeros((len(DAYS), 24), dtype=bool)
    hours[first : last + 1, int(row["start"]) : int(row["end"])] = True
    return Window(hours.reshape(-1), float(row["max_24h"] or np.inf))
