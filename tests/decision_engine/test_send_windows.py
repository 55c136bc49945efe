"""Hours, laws and days of rest around changes of the clock, against the C library's own clock.

The oracle shares no code with what it judges: it asks the C library what the clock shows, minute
by minute, and has the law's hours written down once more.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files

import msgspec
import numpy as np
import pytest

from decision_engine.config import Blackout
from decision_engine.guardrails import REASON_NAMES, judge
from decision_engine.legal_windows import regulated
from decision_engine.scene import Scene
from decision_engine.send_times import zone_names
from decision_engine.types import Action, Catalog, Contexts, Epoch, column_of
from tests.decision_engine.test_guardrails import NONE, PERSON, project

ZONEINFO = files("tzdata") / "zoneinfo"
TIMES: tuple[tuple[int | None, int], ...] = (
    (None, 0),
    (2, 0),
    (9, 0),
    (19, 0),
    (None, 2),
    (9, 1),
    (19, 5),
)
"""Send hour and days of waiting."""
CATALOG = Catalog(
    (
        NONE,
        *(
            Action(f"s{h}d{w}", "sms", send_hour=h, wait_days=w, is_promotional=True)
            for h, w in TIMES
        ),
        *(Action(f"e{h}d{w}", "email", send_hour=h, wait_days=w) for h, w in TIMES),
    )
)
TOGETHER = 25


# --- the oracle ---


@contextmanager
def clock_of(zone: str) -> Iterator[None]:
    """The C library's local time is that of the zone."""
    os.environ["TZ"] = f":{ZONEINFO / zone}"
    time.tzset()
    yield


@pytest.fixture(autouse=True)
def own_clock() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


def shown(at: float) -> tuple[date, int]:
    """The date and the hour."""
    c = time.localtime(at)
    return date(c.tm_year, c.tm_mon, c.tm_mday), c.tm_hour


@cache
def changes(zone: str, first: int, last: int) -> tuple[int, ...]:
    """The moments of these years at which the zone's clock is set."""
    with clock_of(zone):
        at = int(datetime(first, 1, 1, tzinfo=UTC).timestamp())
        end = int(datetime(last, 1, 1, tzinfo=UTC).timestamp())
        found, step = [], 7 * 86_400
        while at < end:
            low, high = at, at + step
            if time.localtime(low).tm_gmtoff != time.localtime(high).tm_gmtoff:
                while high - low > 1:
                    middle = (low + high) // 2
                    is_before = time.localtime(middle).tm_gmtoff == time.localtime(low).tm_gmtoff
                    low, high = (middle, high) if is_before else (low, middle)
                found.append(high)
            at += step
        return tuple(found)


@cache
def begins(zone: str, day: date, hour: int, minute: int = 0) -> int:
    """The first minute at which the clock shows this time of this day.

    Of a time that the clock skips: the minute at which it would have come, had nobody touched the
    clock. The C library must have the zone's clock.
    """
    wanted = datetime(day.year, day.month, day.day, hour, minute)
    noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    at = noon + (hour - 12) * 3600 - time.localtime(noon).tm_gmtoff - 3 * 3600
    at -= at % 60
    while datetime(*time.localtime(at)[:5]) < wanted:
        at += 60
    if datetime(*time.localtime(at)[:5]) == wanted:
        return at
    missing = wanted - datetime(*time.localtime(at - 60)[:5])
    return at - 60 + int(missing.total_seconds())


def leaves(zone: str, now: int, hour: int | None, wait: int) -> int:
    """When a message for this hour leaves, after so many days."""
    c = time.localtime(now)
    if wait:
        later = date(*c[:3]) + timedelta(days=wait)
        if hour is None:
            return begins(zone, later, c.tm_hour, c.tm_min) + c.tm_sec
        return begins(zone, later, hour)
    if hour is None:
        return now
    today = shown(now)[0]
    at = begins(zone, today, hour)
    return max(at, now) if now < at + 3600 else begins(zone, today + timedelta(days=1), hour)


LAW = {"FL": (8, 20), "OK": (8, 20), "CT": (9, 20), "MD": (8, 20), "MS": (8, 20), "NJ": (8, 20)}


def is_lawful(country: str | None, region: str | None, day: date, hour: int) -> bool:
    """A promotional text message, as the laws are written."""
    weekday = day.weekday()
    texas = 12 <= hour < 21 if weekday == 6 else 9 <= hour < 21
    rhode_island = 10 <= hour < 17 if weekday >= 5 else 9 <= hour < 18
    if country == "GB":
        return True
    if country == "US" and region in ("TX", "RI"):
        return texas if region == "TX" else rhode_island
    if country == "US" and region in (*LAW, "CA"):
        first, last = LAW.get(str(region), (8, 21))
        return first <= hour < last
    return texas and rhode_island and all(a <= hour < b for a, b in LAW.values())


def verdict(person: tuple[str | None, str | None], at: int, action: Action, rest: date) -> str:
    day, hour = shown(at)
    if action.channel == "sms" and not is_lawful(*person, day, hour):
        return "legal_window"
    if not 8 <= hour < 21:
        return "quiet_hours"
    return "blackout" if action.channel == "sms" and day == rest else "eligible"


# --- the comparison ---

PLACES = [
    ("US", r) for r in ("CA", "FL", "TX", "RI", "CT", "OK", "MD", "ZZ", None)
] + [("GB", None), ("GB", "TX"), (None, None), ("Atlantis", "CA")]  # fmt: skip


def compare(instants: int, zones: list[str], years: tuple[int, int], seed: int) -> int:
    """Judge at random moments within 26 hours of changes; how many verdicts were compared."""
    draw = random.Random(seed)
    by_change: dict[int, list[str]] = {}
    for zone in zones:
        for change in changes(zone, *years):
            by_change.setdefault(change, []).append(zone)
    moments, compared = sorted(by_change), 0
    assert moments
    while compared < instants:
        change = draw.choice(moments)
        now = change + draw.randrange(-26 * 3600, 26 * 3600)
        here = draw.sample(by_change[change], min(TOGETHER, len(by_change[change])))
        people = [draw.choice(PLACES) for _ in here]
        rest = datetime.fromtimestamp(change, UTC).date()
        compared += compare_at(now, here, people, rest)
    return compared


def compare_at(
    now: int, zones: list[str], people: list[tuple[str | None, str | None]], rest: date
) -> int:
    as_of = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    rows = [
        {**PERSON, "as_of": as_of, "time_zone": zone, "country": country, "region": region}
        for zone, (country, region) in zip(zones, people, strict=True)
    ]
    ids = np.array([str(i) for i in range(len(rows))], dtype=object)
    contexts = Contexts(ids, {name: column_of([row[name] for row in rows]) for name in PERSON})
    rules = msgspec.structs.replace(project(), blackouts=(Blackout(rest, rest, "rest"),))
    scene = Scene(contexts, CATALOG, rules, Epoch("e", "s", as_of, "b", "d"))
    codes, send_at = judge(scene), scene.times.send_at
    for i, zone in enumerate(zones):
        with clock_of(zone):
            leaving = {t: leaves(zone, now, *t) for t in TIMES}
            for k, action in enumerate(CATALOG.actions[1:], start=1):
                at = leaving[action.send_hour, action.wait_days]
                case = (zone, as_of.isoformat(), people[i], action.key)
                assert send_at[i, k] == at, case
                expected = verdict(people[i], at, action, rest)
                assert REASON_NAMES[int(codes[i, k])] == expected, (case, shown(at))
    return len(zones)


FEW = [
    "America/New_York", "America/Chicago", "America/Phoenix", "America/St_Johns", "Europe/London",
    "Europe/Dublin", "Africa/Casablanca", "Asia/Tehran", "Australia/Lord_Howe", "Pacific/Apia",
    "America/Asuncion", "Asia/Kathmandu",
]  # fmt: skip


def test_around_changes_of_the_clock() -> None:
    assert compare(1_000, FEW, (2010, 2013), 1) >= 1_000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_moments_around_changes_of_the_clock() -> None:
    """`make storm-windows`: every zone there is, 2007 to 2036."""
    compared = compare(1_000_000, sorted(zone_names()), (2007, 2037), int(time.time()))
    print(f"\n{compared:,} moments, {compared * (len(CATALOG) - 1):,} verdicts, 0 different")


def test_clocks_go_by_the_locked_rules() -> None:
    """Morocco gave up its summer time in 2026; zone files of older machines do not know."""
    assert compare(50, ["Africa/Casablanca"], (2026, 2028), 2) >= 50


def test_the_law_speaks_of_text_messages() -> None:
    assert regulated() == {"sms"}
