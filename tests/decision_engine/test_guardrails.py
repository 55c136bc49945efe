"""Each guardrail at both of its edges, their order, daylight saving, and the send boundary."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine.config import (
    Blackout,
    Cap,
    Destination,
    DuckDBWarehouse,
    Group,
    Project,
    QuietHours,
)
from decision_engine.errors import MissingColumnError
from decision_engine.guardrails import (
    MAX_PROFILE_AGE,
    REASON_NAMES,
    at_send,
    columns_of,
    reasons,
    send_at,
)
from decision_engine.row import Layout
from decision_engine.send_times import zone_of
from decision_engine.types import ANY_DEVICE, Action, Catalog, Contexts, Epoch, Reason, column_of

NOON = datetime(2026, 1, 15, 12, 0)
NONE = Action("no_action")
PROMO = Action("promo", "email", is_promotional=True)
TIP = Action("tip", "email")
PUSH = Action("push", "push", is_promotional=True)
SMS = Action("sms", "sms", is_promotional=True)
SORRY = Action("sorry", "email", is_resolution=True)
GOLD = Action("gold", "email", eligible_if="tier = 'gold'")
CALL = Action("call", "rep", is_promotional=True)
CATALOG = Catalog((NONE, PROMO, TIP, PUSH, SMS, SORRY, GOLD, CALL))

PERSON: Mapping[str, Any] = {
    "as_of": NOON,
    "is_suppressed": False,
    "has_open_complaint": False,
    "consent_email": True, "consent_push": True, "consent_sms": True,
    "service_consent_email": True, "consent_rep": True,
    "country": "GB", "region": None,
    "has_email": True, "has_push": True, "has_phone": True, "has_rep": True,
    "time_zone": "Europe/London",
    "tier": "gold",
    "messages_waiting": "",
    "sends_1d": 0, "sends_7d": 0, "sends_30d": 0, "sms_sends_1d": 0, "sms_sends_7d": 0,
    "rep_sends_30d": 0,
}  # fmt: skip
_KINDS = {bool: "BOOLEAN", int: "BIGINT", datetime: "TIMESTAMP"}
LAYOUT = Layout({name: _KINDS.get(type(value), "VARCHAR") for name, value in PERSON.items()})
"""PERSON as the columns of a warehouse."""

_TEXTS = {
    "country": ("US", "GB", "BR", "DE", "xx"),
    "region": ("FL", "CA", "TX", "BY", ""),
    "time_zone": ("Europe/London", "America/New_York", "Asia/Tokyo", "Mars/Base", ""),
    "tier": ("gold", "silver"),
    "messages_waiting": ("", f"{1768478400_000000} sms a,{1768485600_000000} email b"),
}
ODD = {
    name: st.none()
    | (
        st.sampled_from(_TEXTS[name])
        if name in _TEXTS
        else st.booleans()
        if isinstance(value, bool)
        else st.integers(0, 3)
        if isinstance(value, int)
        else st.sampled_from([NOON, NOON - timedelta(days=3)])
    )
    for name, value in PERSON.items()
}
"""What a person may be instead."""
CAPS = (Cap(1, 1), Cap(3, 7), Cap(8, 30), Cap(1, 7, "sms"), Cap(1, 30, "rep"))


def project(quiet: QuietHours | None = None, caps: tuple[Cap, ...] = CAPS) -> Project:
    return Project(
        "shop", "0123456789abcdef", DuckDBWarehouse(), (), {"email": "mailer"},
        {"mailer": Destination("iterable", "http://x", "KEY")}, (Group("treatment", 1.0),),
        caps=caps, quiet_hours=quiet or QuietHours(),
    )  # fmt: skip


def epoch(as_of: datetime = NOON, kill_switch: bool = False) -> Epoch:
    return Epoch("e", "2026-01-15", as_of, "build", "digest", kill_switch)


def people(*changes: Mapping[str, Any], more: Mapping[str, Any] = MappingProxyType({})) -> Contexts:
    """Of everybody what PERSON is and has, and `more` columns."""
    rows = [{**PERSON, **more, **change} for change in changes]
    ids = np.array([f"c{i}" for i in range(len(rows))], dtype=object)
    return Contexts(ids, {name: column_of([row[name] for row in rows]) for name in rows[0]})


def blocked(
    change: Mapping[str, Any], settings: Project | None = None, moment: Epoch | None = None
) -> dict[str, str]:
    """Action -> reason, for the actions that one person may not get."""
    codes = reasons(people(change), CATALOG, settings or project(), moment or epoch())[0]
    return {
        action.key: REASON_NAMES[int(code)]
        for action, code in zip(CATALOG.actions, codes, strict=True)
        if code
    }


TO_DEVICES = ("promo", "tip", "push", "sms", "sorry", "gold")
MESSAGES = (*TO_DEVICES, "call")
PROMOTIONS = ("promo", "push", "sms", "call")
EMAILS = ("promo", "tip", "sorry", "gold")
NO_CASE = {"sorry": "not_eligible"}
"""A person without a complaint is no case for a resolution, whatever else holds."""


def blocks(reason: str, *actions: str) -> dict[str, str]:
    return {**dict.fromkeys(actions, reason), **NO_CASE}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, NO_CASE),
        ({"is_suppressed": True}, dict.fromkeys(MESSAGES, "suppressed")),
        ({"is_suppressed": None}, dict.fromkeys(MESSAGES, "suppressed")),
        ({"consent_email": False}, {"promo": "no_consent", **NO_CASE}),
        ({"consent_email": None}, {"promo": "no_consent", **NO_CASE}),
        ({"service_consent_email": False}, dict.fromkeys(("tip", "sorry", "gold"), "no_consent")),
        ({"service_consent_email": None}, dict.fromkeys(("tip", "sorry", "gold"), "no_consent")),
        ({"consent_push": False}, blocks("no_consent", "push")),
        ({"consent_sms": None}, blocks("no_consent", "sms")),
        ({"has_email": False}, dict.fromkeys(EMAILS, "unreachable")),
        ({"has_email": None}, dict.fromkeys(EMAILS, "unreachable")),
        ({"has_push": False}, blocks("unreachable", "push")),
        ({"has_phone": False}, blocks("unreachable", "sms")),
        ({"consent_rep": None}, blocks("no_consent", "call")),
        ({"has_rep": False}, blocks("unreachable", "call")),
        ({"has_open_complaint": True}, dict.fromkeys(PROMOTIONS, "open_complaint")),
        ({"has_open_complaint": None}, blocks("open_complaint", *PROMOTIONS)),
        ({"tier": "silver"}, blocks("not_eligible", "gold")),
        ({"tier": None}, blocks("not_eligible", "gold")),
        ({"sends_1d": 1}, blocks("frequency_cap", *MESSAGES)),
        ({"sends_1d": None}, blocks("frequency_cap", *MESSAGES)),
        ({"sends_7d": 2}, NO_CASE),
        ({"sends_7d": 3}, blocks("frequency_cap", *MESSAGES)),
        ({"sends_30d": 7}, NO_CASE),
        ({"sends_30d": 8}, blocks("frequency_cap", *MESSAGES)),
        ({"sms_sends_7d": 1}, blocks("frequency_cap", "sms")),
        ({"rep_sends_30d": 1}, blocks("frequency_cap", "call")),
        ({"time_zone": None}, blocks("unknown_zone", *TO_DEVICES)),
        ({"time_zone": ""}, blocks("unknown_zone", *TO_DEVICES)),
        ({"time_zone": "Mars/Olympus"}, blocks("unknown_zone", *TO_DEVICES)),
        ({"time_zone": "../etc/passwd"}, blocks("unknown_zone", *TO_DEVICES)),
        ({"time_zone": "America"}, blocks("unknown_zone", *TO_DEVICES)),
        ({"time_zone": "Factory"}, blocks("unknown_zone", *TO_DEVICES)),
        ({"time_zone": "Asia/Tokyo"}, blocks("quiet_hours", *TO_DEVICES)),
        ({"as_of": NOON - MAX_PROFILE_AGE}, NO_CASE),
        (
            {"as_of": NOON - MAX_PROFILE_AGE - timedelta(seconds=1)},
            dict.fromkeys(MESSAGES, "stale_profile"),
        ),
        ({"as_of": None}, dict.fromkeys(MESSAGES, "stale_profile")),
    ],
)
def test_what_one_fact_blocks(change: dict[str, Any], expected: dict[str, str]) -> None:
    assert blocked(change) == expected


def test_the_kill_switch_stops_every_message_and_nothing_else() -> None:
    assert blocked({}, moment=epoch(kill_switch=True)) == dict.fromkeys(MESSAGES, "kill_switch")


def test_who_asks_for_one_channel_gets_no_other() -> None:
    asked = {
        channel: reasons(people({}), CATALOG, project(), epoch(), channel)[0]
        for channel in (None, "email", "push", "fax", ANY_DEVICE)
    }
    other = {c: [int(code) == Reason.OTHER_CHANNEL for code in found] for c, found in asked.items()}
    assert not any(other[None])
    assert other[ANY_DEVICE] == [a is CALL for a in CATALOG.actions]
    assert other["email"] == [a in (PUSH, SMS, CALL) for a in CATALOG.actions]
    # A reason that was there before stays the reason.
    assert other["push"] == [a in (PROMO, TIP, SMS, GOLD, CALL) for a in CATALOG.actions]
    assert not (asked["fax"][1:] == Reason.ELIGIBLE).any()
    assert asked["fax"][0] == Reason.ELIGIBLE


LADDER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stale_profile", {"as_of": None}),
    ("suppressed", {"is_suppressed": True}),
    ("no_consent", {"consent_sms": False}),
    ("unreachable", {"has_phone": False}),
    ("open_complaint", {"has_open_complaint": True}),
    ("not_eligible", {"tier": "bronze"}),
    ("unknown_zone", {"time_zone": "nowhere"}),
    ("legal_window", {"country": "US", "region": "RI", "time_zone": "Etc/GMT-7"}),
    ("quiet_hours", {"time_zone": "Etc/GMT-9"}),
    ("frequency_cap", {"sends_1d": 9}),
    ("blackout", {}),
    ("other_channel", {}),
)
STEEP = Action("steep", "sms", is_promotional=True, eligible_if="tier = 'gold'")


@pytest.mark.parametrize("step", range(len(LADDER)))
def test_the_first_guardrail_is_the_reason(step: int) -> None:
    change = {k: v for _, facts in reversed(LADDER[step:]) for k, v in facts.items()}
    catalog = Catalog((NONE, STEEP))
    rest = (Blackout(NOON.date(), NOON.date(), "mourning"),)
    rules = msgspec.structs.replace(project(), blackouts=rest if step < len(LADDER) - 1 else ())
    code = reasons(people(change), catalog, rules, epoch(), "push")[0, 1]
    assert REASON_NAMES[int(code)] == LADDER[step][0]


def test_quiet_hours_come_before_caps() -> None:
    found = blocked({"sends_1d": 9, "time_zone": "Asia/Tokyo"})
    assert found["promo"] == "quiet_hours"


@pytest.mark.parametrize("column", sorted(PERSON))
def test_a_column_that_was_not_read_is_an_error(column: str) -> None:
    known = people({})
    columns = {name: c for name, c in known.columns.items() if name != column}
    with pytest.raises(MissingColumnError, match=f"'{column}'"):
        reasons(Contexts(known.customer_ids, columns), CATALOG, project(), epoch())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.fixed_dictionaries({}, optional=ODD), min_size=2, max_size=5))
def test_nobody_depends_on_who_else_is_asked(changes: list[dict[str, Any]]) -> None:
    together = reasons(people(*changes), CATALOG, project(), epoch())
    alone = [reasons(people(change), CATALOG, project(), epoch())[0] for change in changes]
    rows = [{**PERSON, **change} for change in changes]
    of_blocks = [reasons(LAYOUT.contexts(["c"], [r]), CATALOG, project(), epoch())[0] for r in rows]
    assert together.tolist() == np.array(alone).tolist() == np.array(of_blocks).tolist()


def test_of_an_unknown_number_nothing_is_sent_where_there_is_no_limit_either() -> None:
    british = {"country": "GB", "sms_sends_1d": None}
    floridian = {"country": "US", "region": "FL"}
    of_law = Catalog((NONE, SMS))
    alone = reasons(people(british), of_law, project(caps=()), epoch())
    together = reasons(people(british, floridian), of_law, project(caps=()), epoch())
    assert alone[0, 1] == together[0, 1] == Reason.FREQUENCY_CAP


@pytest.mark.parametrize("given", ["false", "", 1, 0, float("nan")])
def test_what_is_not_a_boolean_is_not_known(given: object) -> None:
    for column in ("consent_email", "is_suppressed"):
        contexts = LAYOUT.contexts(["c"], [{**PERSON, column: given}])
        assert reasons(contexts, CATALOG, project(), epoch())[0, 1] != Reason.ELIGIBLE


def test_what_waits_must_be_a_text() -> None:
    crowds: list[list[dict[str, Any]]] = [[{}], [{}, {}]]
    for crowd in crowds:
        known = people(*crowd)
        numbers = column_of([1.0] * len(crowd))
        contexts = Contexts(known.customer_ids, {**known.columns, "messages_waiting": numbers})
        with pytest.raises((AttributeError, TypeError)):
            reasons(contexts, CATALOG, project(), epoch())


def test_columns_of_names_all_that_is_read_and_no_more() -> None:
    assert columns_of(CATALOG, project()) == set(PERSON)


def test_codes_are_small_and_no_action_is_always_possible() -> None:
    codes = reasons(people({}, {"is_suppressed": True}), CATALOG, project(), epoch(NOON, True))
    assert codes.dtype == np.uint8
    assert codes.shape == (2, 8)
    assert not codes[:, 0].any()


def test_nobody() -> None:
    nobody = people({}).take(np.array([], dtype=np.int64))
    assert reasons(nobody, CATALOG, project(), epoch()).shape == (0, 8)
    assert send_at(nobody, CATALOG, epoch()).shape == (0, 8)


FLAGS = ("is_", "has_", "consent_", "service_consent_")
values = st.sampled_from([True, False, None])
counts = st.sampled_from([0, 1, 2, 3, 7, 8, None])
rows = st.fixed_dictionaries(
    {
        **{
            name: values
            for name in PERSON
            if name.startswith(("is_", "has_", "consent_", "service_"))
        },
        **{name: counts for name in PERSON if "sends" in name},
        "time_zone": st.sampled_from(
            ["Europe/London", "America/New_York", "Asia/Tokyo", None, "x"]
        ),
        "country": st.sampled_from(["GB", "US", "usa", None]),
        "region": st.sampled_from(["TX", "us-ri", "CA", "Texas", None]),
        "tier": st.sampled_from(["gold", "silver", None]),
        "as_of": st.sampled_from([NOON, NOON - timedelta(hours=49), None]),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(rows, min_size=2, max_size=6))
def test_a_person_is_judged_alike_alone_and_among_others(table: list[dict[str, Any]]) -> None:
    everyone = people(*table)
    together = reasons(everyone, CATALOG, project(), epoch())
    for i in range(len(table)):
        alone = reasons(everyone.take(np.array([i])), CATALOG, project(), epoch())
        assert (alone[0] == together[i]).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows)
def test_unknown_never_allows_more_than_known(row: dict[str, Any]) -> None:
    """Taking knowledge away never opens a message (but for the eligibility of its own rule)."""
    base = reasons(people(row), CATALOG, project(), epoch())[0]
    for name in row:
        if name not in ("tier",):
            less = reasons(people({**row, name: None}), CATALOG, project(), epoch())[0]
            assert ((less > 0) >= (base > 0))[1:].all()


# --- send times ---

NEW_YORK, LONDON = "America/New_York", "Europe/London"


@pytest.mark.parametrize(
    ("zone", "hour", "as_of", "expected"),
    [
        # Winter: New York is UTC-5, London UTC.
        (NEW_YORK, 9, "2026-01-15 00:00", "2026-01-15 14:00"),
        (LONDON, 9, "2026-01-15 00:00", "2026-01-15 09:00"),
        # The hour itself: at once until it is over, then tomorrow's.
        (LONDON, 9, "2026-01-15 08:59", "2026-01-15 09:00"),
        (LONDON, 9, "2026-01-15 09:00", "2026-01-15 09:00"),
        (LONDON, 9, "2026-01-15 09:59", "2026-01-15 09:59"),
        (LONDON, 9, "2026-01-15 10:00", "2026-01-16 09:00"),
        # The local date counts, not the UTC one: it is still the 14th in New York.
        (NEW_YORK, 19, "2026-01-15 00:30", "2026-01-15 00:30"),
        (NEW_YORK, 20, "2026-01-15 00:30", "2026-01-15 01:00"),
        (NEW_YORK, 18, "2026-01-15 00:30", "2026-01-15 23:00"),
        # Without a send hour: at once.
        (NEW_YORK, None, "2026-01-15 00:30", "2026-01-15 00:30"),
        # Clocks go forward on 8 March 2026 in New York, on 29 March in London.
        (NEW_YORK, 9, "2026-03-07 12:00", "2026-03-07 14:00"),
        (NEW_YORK, 9, "2026-03-07 16:00", "2026-03-08 13:00"),
        (NEW_YORK, 2, "2026-03-08 06:30", "2026-03-08 07:00"),
        (LONDON, 9, "2026-03-28 12:00", "2026-03-29 08:00"),
        (LONDON, 1, "2026-03-29 00:30", "2026-03-29 01:00"),
        # Clocks go back on 25 October 2026 in London, on 1 November in New York.
        (LONDON, 9, "2026-10-24 12:00", "2026-10-25 09:00"),
        (LONDON, 1, "2026-10-24 23:30", "2026-10-25 00:00"),
        (LONDON, 1, "2026-10-25 01:30", "2026-10-26 01:00"),
        (NEW_YORK, 9, "2026-10-31 16:00", "2026-11-01 14:00"),
        (NEW_YORK, 1, "2026-11-01 05:30", "2026-11-01 05:30"),
        (NEW_YORK, 1, "2026-11-01 06:30", "2026-11-02 06:00"),
        # Half-hour zones.
        ("Asia/Kolkata", 9, "2026-01-15 00:00", "2026-01-15 03:30"),
    ],
)
def test_send_hour_in_the_persons_zone(
    zone: str, hour: int | None, as_of: str, expected: str
) -> None:
    catalog = Catalog((NONE, Action("a", "email", send_hour=hour)))
    moment = epoch(datetime.fromisoformat(as_of))
    found = send_at(people({"time_zone": zone}), catalog, moment)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == datetime.fromisoformat(expected).replace(tzinfo=UTC).timestamp()


def test_as_of_with_a_zone_is_the_same_moment() -> None:
    catalog = Catalog((NONE, Action("a", "email", send_hour=9)))
    aware = epoch(NOON.replace(tzinfo=UTC).astimezone(zone_of("Asia/Tokyo")))
    assert send_at(people({}), catalog, aware)[0, 1] == send_at(people({}), catalog, epoch())[0, 1]


def test_unknown_zones_have_no_send_time_but_at_once() -> None:
    times = ((9, 0), (None, 1), (None, 0))
    catalog = Catalog((NONE, *(Action(f"{h}{w}", "email", send_hour=h, wait_days=w)
                               for h, w in times)))  # fmt: skip
    found = send_at(people({"time_zone": None}, {"time_zone": "x"}, {}), catalog, epoch())
    assert np.isnan(found[:2, :3]).all()
    assert (found[:2, 3] == epoch().as_of.replace(tzinfo=UTC).timestamp()).all()
    assert not np.isnan(found[2, 1:]).any()


@pytest.mark.parametrize(
    ("zone", "as_of", "is_quiet"),
    [
        (LONDON, "2026-01-15 07:59", True),
        (LONDON, "2026-01-15 08:00", False),
        (LONDON, "2026-01-15 20:59", False),
        (LONDON, "2026-01-15 21:00", True),
        (NEW_YORK, "2026-01-15 12:59", True),
        (NEW_YORK, "2026-01-15 13:00", False),
        # An hour earlier in UTC once the clocks have gone forward.
        (LONDON, "2026-03-29 06:59", True),
        (LONDON, "2026-03-29 07:00", False),
        (LONDON, "2026-03-29 20:00", True),
        (NEW_YORK, "2026-03-08 11:59", True),
        (NEW_YORK, "2026-03-08 12:00", False),
        # And later again when they go back.
        (LONDON, "2026-10-25 07:59", True),
        (LONDON, "2026-10-25 08:00", False),
        (NEW_YORK, "2026-11-01 12:59", True),
        (NEW_YORK, "2026-11-01 13:00", False),
    ],
)
def test_quiet_hours_on_the_persons_clock(zone: str, as_of: str, is_quiet: bool) -> None:
    moment = datetime.fromisoformat(as_of)
    found = blocked({"time_zone": zone, "as_of": moment}, moment=epoch(moment))
    assert (found.get("promo") == "quiet_hours") is is_quiet


def test_an_hour_that_the_clocks_skip_is_judged_by_what_the_clock_then_shows() -> None:
    """02:00 does not exist in New York on 8 March 2026; the message would leave at 03:00."""
    catalog = Catalog((NONE, Action("a", "email", send_hour=2)))
    night = epoch(datetime(2026, 3, 8, 5, 0))
    row = people({"time_zone": NEW_YORK, "as_of": night.as_of})
    for quiet, code in ((QuietHours(2, 3), Reason.QUIET_HOURS), (QuietHours(3, 4), 0)):
        assert reasons(row, catalog, project(quiet), night)[0, 1] == code


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    minute=st.integers(0, 366 * 24 * 60),
    zone=st.sampled_from([NEW_YORK, LONDON, "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]),
    hour=st.integers(4, 23),
)
def test_a_message_leaves_within_its_hour_and_within_a_day(
    minute: int, zone: str, hour: int
) -> None:
    now = datetime(2026, 1, 1) + timedelta(minutes=minute)
    catalog = Catalog((NONE, Action("a", "email", send_hour=hour)))
    found = send_at(people({"time_zone": zone}), catalog, epoch(now))[0, 1]
    at = datetime.fromtimestamp(found, UTC)
    assert at.astimezone(zone_of(zone)).hour == hour
    assert timedelta(0) <= at - now.replace(tzinfo=UTC) <= timedelta(hours=25)


# --- a rep is told at once, whatever the customer's clock says ---


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Pacific/Apia", None])
def test_no_hour_is_wrong_to_tell_a_rep(zone: str | None) -> None:
    found = blocked({"time_zone": zone})
    assert "call" not in found
    assert set(TO_DEVICES) <= found.keys()


@pytest.mark.parametrize(("hour", "wait"), [(9, 0), (None, 2), (9, 2)])
def test_a_rep_who_is_told_by_the_customers_clock_needs_one(hour: int | None, wait: int) -> None:
    catalog = Catalog((NONE, Action("a", "rep", send_hour=hour, wait_days=wait)))
    rows = people({}, {"time_zone": None}, more={"service_consent_rep": True})
    found = reasons(rows, catalog, project(caps=()), epoch(NOON.replace(hour=3)))
    assert found[:, 1].tolist() == [Reason.ELIGIBLE, Reason.UNKNOWN_ZONE]


@pytest.mark.parametrize(
    ("zone", "days", "rests"),
    [(LONDON, 0, True), (LONDON, 1, False), (None, 1, True), (None, -1, True), (None, 2, False)],
)
def test_promotions_by_a_rep_rest_too_and_longer_where_the_calendar_is_not_known(
    zone: str | None, days: int, rests: bool
) -> None:
    day = NOON.date() + timedelta(days=days)
    rules = msgspec.structs.replace(project(), blackouts=(Blackout(day, day, "mourning"),))
    assert (blocked({"time_zone": zone}, rules).get("call") == "blackout") is rests


# --- at the send boundary ---

INTENT = {
    "channel": "email", "is_promotional": True, "time_zone": LONDON,
    "expires_at": "2026-01-15T13:00:00", "agent": "growth", "action": "promo",
    "decision_id": "d1", "customer_id": "c0", "fields": {"creative": "autumn", "incentive": "none"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "now", "expected"),
    [
        ({}, NOON, None),
        ({"is_suppressed": True}, NOON, "suppressed"),
        ({"consent_email": False}, NOON, "no_consent"),
        ({"consent_push": False}, NOON, None),
        ({"has_email": False}, NOON, "unreachable"),
        ({"has_open_complaint": True}, NOON, "open_complaint"),
        ({"tier": "bronze"}, NOON, None),
        ({"sends_1d": 1}, NOON, "frequency_cap"),
        ({"sms_sends_7d": 5}, NOON, None),
        ({"time_zone": None}, NOON, "unknown_zone"),
        ({"time_zone": "Asia/Tokyo"}, NOON, "quiet_hours"),
        ({"as_of": NOON - timedelta(hours=49)}, NOON, "stale_profile"),
        ({"as_of": None}, NOON, "stale_profile"),
        ({}, NOON.replace(hour=7, minute=59), "quiet_hours"),
        ({}, NOON.replace(hour=8), None),
        ({}, NOON.replace(minute=59, second=59), None),
        ({}, NOON.replace(hour=13), "expired"),
        ({}, NOON.replace(hour=13, tzinfo=UTC), "expired"),
    ],
)
def test_at_send(change: dict[str, Any], now: datetime, expected: str | None) -> None:
    assert at_send(INTENT, {**PERSON, **change}, project(), now, kill_switch=False) == expected


def test_at_send_the_kill_switch_wins() -> None:
    assert at_send(INTENT, PERSON, project(), NOON, kill_switch=True) == "kill_switch"


def test_at_send_a_person_who_is_gone_gets_nothing() -> None:
    assert at_send(INTENT, None, project(), NOON, kill_switch=False) == "unknown_person"


def test_at_send_an_open_complaint_lets_other_messages_through() -> None:
    service = {**INTENT, "is_promotional": False}
    unhappy = {**PERSON, "has_open_complaint": True}
    assert at_send(service, unhappy, project(), NOON, kill_switch=False) is None


@pytest.mark.parametrize(
    ("zone", "expected"), [("Asia/Tokyo", "quiet_hours"), (None, "unknown_zone")]
)
def test_at_send_the_window_must_hold_in_both_zones(zone: str | None, expected: str) -> None:
    intent = {**INTENT, "time_zone": zone}
    assert at_send(intent, PERSON, project(), NOON, kill_switch=False) == expected


def test_at_send_a_missing_fact_is_an_error() -> None:
    fresh = {name: value for name, value in PERSON.items() if name != "consent_email"}
    with pytest.raises(MissingColumnError, match="consent_email"):
        at_send(INTENT, fresh, project(), NOON, kill_switch=False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"time_zone": None}, None),
        ({"time_zone": "Asia/Tokyo"}, None),
        ({"has_rep": False}, "unreachable"),
        ({"consent_rep": False}, "no_consent"),
        ({"rep_sends_30d": 1}, "frequency_cap"),
        ({"sends_1d": 1}, "frequency_cap"),
        ({"is_suppressed": True}, "suppressed"),
    ],
)
def test_at_send_a_rep_is_told_at_any_hour_and_all_else_holds(
    change: dict[str, Any], expected: str | None
) -> None:
    intent = {**INTENT, "channel": "rep", "action": "call"}
    found = at_send(intent, {**PERSON, **change}, project(), NOON, kill_switch=False)
    assert found == expected
