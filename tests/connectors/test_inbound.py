from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.inbound import VENDORS

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
COLUMNS = (
    "event_id vendor event_type external_id email channel campaign_id message_ref decision_id"
    " is_machine occurred_at received_at"
)


def braze_event(name: str = "users.messages.email.Open", **changes: Any) -> dict[str, Any]:
    return {
        "event_type": name,
        "id": "e1",
        "time": 1772355600,
        "user": {"user_id": "b1", "external_user_id": "u1"},
        "properties": {
            "campaign_id": "c1",
            "dispatch_id": "d1",
            "send_id": "s1",
            "email_address": "p@example.com",
            "machine_open": "true",
        },
        **changes,
    }


def braze(*events: Any) -> list[dict[str, object]]:
    return VENDORS["braze"].parse(json.dumps({"events": list(events)}).encode(), AT)


def iterable_event(name: str = "emailClick", /, **data: Any) -> dict[str, Any]:
    fields = {"messageId": "m1", "campaignId": 7, "createdAt": "2026-03-01 10:00:00 +01:00"}
    person = {"email": "p@example.com", "userId": "u1"}
    return {**person, "eventName": name, "dataFields": {**fields, **data}}


def iterable(event: Any) -> list[dict[str, object]]:
    return VENDORS["iterable"].parse(json.dumps(event).encode(), AT)


def test_braze_event_has_exactly_the_columns() -> None:
    (row,) = braze(braze_event())
    assert " ".join(row) == COLUMNS
    assert row == {
        "event_id": "e1",
        "vendor": "braze",
        "event_type": "open",
        "external_id": "u1",
        "email": "p@example.com",
        "channel": "email",
        "campaign_id": "c1",
        "message_ref": "d1",
        "decision_id": None,
        "is_machine": True,
        "occurred_at": datetime(2026, 3, 1, 9),
        "received_at": datetime(2026, 3, 1, 12),
    }


def test_iterable_event_has_exactly_the_columns() -> None:
    (row,) = iterable(iterable_event(metadata={"decision_id": "d9"}))
    assert " ".join(row) == COLUMNS
    assert {**row, "event_id": ""} == {
        "event_id": "",
        "vendor": "iterable",
        "event_type": "click",
        "external_id": "u1",
        "email": "p@example.com",
        "channel": "email",
        "campaign_id": "7",
        "message_ref": "m1",
        "decision_id": "d9",
        "is_machine": False,
        "occurred_at": datetime(2026, 3, 1, 9),
        "received_at": datetime(2026, 3, 1, 12),
    }


@pytest.mark.parametrize(
    ("name", "channel", "kind"),
    [
        ("email.Delivery", "email", "delivered"),
        ("email.Click", "email", "click"),
        ("email.Unsubscribe", "email", "unsubscribe"),
        ("email.MarkAsSpam", "email", "complaint"),
        ("email.Bounce", "email", "bounce"),
        ("email.SoftBounce", "email", "bounce"),
        ("pushnotification.Open", "push", "open"),
        ("pushnotification.Bounce", "push", "bounce"),
        ("sms.Delivery", "sms", "delivered"),
        ("sms.ShortLinkClick", "sms", "click"),
        ("sms.DeliveryFailure", "sms", "bounce"),
    ],
)
def test_braze_kinds(name: str, channel: str, kind: str) -> None:
    (row,) = braze(braze_event(f"users.messages.{name}", properties={"send_id": "s1"}))
    assert (row["channel"], row["event_type"], row["message_ref"]) == (channel, kind, "s1")
    assert row["is_machine"] is False


@pytest.mark.parametrize(
    ("name", "channel", "kind"),
    [
        ("emailOpen", "email", "open"),
        ("emailUnSubscribe", "email", "unsubscribe"),
        ("emailComplaint", "email", "complaint"),
        ("emailBounce", "email", "bounce"),
        ("pushOpen", "push", "open"),
        ("pushBounce", "push", "bounce"),
        ("smsClick", "sms", "click"),
        ("smsBounce", "sms", "bounce"),
    ],
)
def test_iterable_kinds(name: str, channel: str, kind: str) -> None:
    (row,) = iterable(iterable_event(name))
    assert (row["channel"], row["event_type"]) == (channel, kind)


def test_iterable_ids_are_stable_and_tell_events_apart() -> None:
    variants = [
        iterable_event(),
        iterable_event("emailOpen"),
        iterable_event(messageId="m2"),
        iterable_event(createdAt="2026-03-01 10:00:01 +01:00"),
    ]
    ids = [iterable(event)[0]["event_id"] for event in [*variants, *variants]]
    assert ids[:4] == ids[4:]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("carrier", ["metadata", "transactionalData"])
def test_iterable_decision_id_is_found_where_it_may_be(carrier: str) -> None:
    carried: dict[str, Any] = {carrier: {"decision_id": "d9"}}
    (row,) = iterable(iterable_event(**carried))
    assert row["decision_id"] == "d9"


def test_other_kinds_are_left_out() -> None:
    assert braze(braze_event("users.behaviors.app.SessionStart"), braze_event()) == braze(
        braze_event()
    )
    assert braze(braze_event("users.messages.inappmessage.Click"), "nonsense") == []
    assert braze() == []
    assert iterable(iterable_event("inAppOpen")) == []


@pytest.mark.parametrize(
    "event",
    [
        braze_event(id=None),
        braze_event(time="yesterday"),
        braze_event(time=True),
        braze_event(time=1e30),
    ],
)
def test_a_braze_event_that_cannot_be_counted_is_an_error(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`(id|time)`"):
        braze(event)


@pytest.mark.parametrize(
    "event",
    [
        iterable_event(messageId=None),
        iterable_event(createdAt="soon"),
        iterable_event(createdAt=""),
        {"dataFields": {}},
        [],
    ],
)
def test_an_iterable_event_that_cannot_be_counted_is_an_error(event: Any) -> None:
    with pytest.raises(ValueError, match="`"):
        iterable(event)


@pytest.mark.parametrize("vendor", sorted(VENDORS))
@given(body=st.binary(max_size=40) | st.sampled_from([b"[" * 200_000, b'{"events":NaN}', b"\xff"]))
def test_malformed_bodies_are_value_errors(vendor: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|list|missing"):
        VENDORS[vendor].parse(body, AT)


@pytest.mark.parametrize(
    ("vendor", "header", "is_valid"),
    [
        ("braze", "Bearer s3cret", True),
        ("braze", "bearer s3cret", True),
        ("braze", "s3cret", False),
        ("braze", "Bearer s3creT", False),
        ("braze", "Bearer s3cret ", False),
        ("braze", "Bearer ", False),
        ("braze", "", False),
        ("iterable", "s3cret", True),
        ("iterable", "OAuth2 s3cret", True),
        ("iterable", "OAuth2 OAuth2 s3cret", False),
        ("iterable", "s3cre", False),
        ("iterable", "Bearer s3cret", False),
        ("iterable", "käse", False),
    ],
)
def test_tokens(vendor: str, header: str, is_valid: bool) -> None:
    assert VENDORS[vendor].verify({"authorization": header}, "s3cret") is is_valid


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_no_header_or_no_secret_lets_nobody_in(vendor: str) -> None:
    assert not VENDORS[vendor].verify({}, "s3cret")
    for header in ("", "Bearer ", "OAuth2 "):
        assert not VENDORS[vendor].verify({"authorization": header}, "")
