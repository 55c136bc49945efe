from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import ConfigurationError
from connectors.inbound import VENDORS, Call, self_test

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
    return VENDORS["braze"].parse(Call(json.dumps({"events": list(events)}).encode(), {}, AT))


def iterable_event(name: str = "emailClick", /, **data: Any) -> dict[str, Any]:
    fields = {"messageId": "m1", "campaignId": 7, "createdAt": "2026-03-01 10:00:00 +01:00"}
    person = {"email": "p@example.com", "userId": "u1"}
    return {**person, "eventName": name, "dataFields": {**fields, **data}}


def iterable(event: Any) -> list[dict[str, object]]:
    return VENDORS["iterable"].parse(Call(json.dumps(event).encode(), {}, AT))


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
        iterable_event(isBot=True),
    ]
    ids = [iterable(event)[0]["event_id"] for event in [*variants, *variants]]
    assert ids[: len(variants)] == ids[len(variants) :]
    assert len(set(ids)) == len(variants)


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


EMPTY_BATCHES = (b"[]", b'{"data":[]}', b'{"events":[]}')


@pytest.mark.parametrize("vendor", sorted(VENDORS))
@given(body=st.binary(max_size=40) | st.sampled_from([b"[" * 200_000, b'{"events":NaN}', b"\xff"]))
def test_malformed_bodies_are_value_errors(vendor: str, body: bytes) -> None:
    if re.sub(rb"\s", b"", body) in EMPTY_BATCHES:
        return
    with pytest.raises(ValueError, match=r"JSON|list|missing"):
        VENDORS[vendor].parse(Call(body, {"webhook-id": "w"}, AT))


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_a_name_that_is_there_twice_is_refused_wherever_it_is(vendor: str) -> None:
    for body in (b'{"id":1,"id":1}', b'[{"a":[{"id":1,"\\u0069d":2}]}]'):
        with pytest.raises(ValueError, match="twice"):
            VENDORS[vendor].parse(Call(body, {"webhook-id": "w"}, AT))


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
    assert VENDORS[vendor].verify(Call(b"", {"authorization": header}), "s3cret") is is_valid


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_no_header_or_no_secret_lets_nobody_in(vendor: str) -> None:
    assert not VENDORS[vendor].verify(Call(b""), "s3cret")
    for header in ("", "Bearer ", "OAuth2 "):
        assert not VENDORS[vendor].verify(Call(b"", {"authorization": header}), "")


# ---- signatures ----

SIGNED = ("customerio", "hubspot", "klaviyo", "sendgrid", "standard")


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_the_known_answer_of_each_vendor_is_taken_at_start(vendor: str) -> None:
    self_test(vendor)


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_a_check_that_does_not_check_stops_the_start(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in (lambda *_: True, lambda *_: False):
        monkeypatch.setitem(VENDORS, vendor, replace(VENDORS[vendor], verify=broken))
        with pytest.raises(ConfigurationError, match=vendor):
            self_test(vendor)


@pytest.mark.parametrize("vendor", SIGNED)
@given(data=st.data())
def test_nothing_of_a_signed_call_can_be_changed(vendor: str, data: st.DataObject) -> None:
    call, secret = VENDORS[vendor].known
    place = data.draw(st.integers(0, len(call.body) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    body = bytearray(call.body)
    body[place] ^= bit
    assert not VENDORS[vendor].verify(replace(call, body=bytes(body)), secret)
    assert not VENDORS[vendor].verify(replace(call, body=call.body[:place]), secret)
    name = data.draw(st.sampled_from(sorted(call.headers)))
    value = data.draw(st.text(max_size=120))
    changed = replace(call, headers={**call.headers, name: value})
    assert not VENDORS[vendor].verify(changed, secret) or value in (
        call.headers[name],
        f"{call.headers[name]} ",
    )


@pytest.mark.parametrize("vendor", SIGNED)
def test_an_old_call_is_no_call(vendor: str) -> None:
    call, secret = VENDORS[vendor].known
    window = 300 if vendor in ("hubspot", "standard") else 86_400
    near, far = timedelta(seconds=window - 60), timedelta(seconds=window + 60)
    for sign in (-1, 1):
        assert VENDORS[vendor].verify(replace(call, at=call.at + sign * near), secret)
        assert not VENDORS[vendor].verify(replace(call, at=call.at + sign * far), secret)


def test_hubspot_signs_its_address() -> None:
    call, secret = VENDORS["hubspot"].known
    assert not VENDORS["hubspot"].verify(replace(call, url=call.url + "/"), secret)


@pytest.mark.parametrize("secret", ["", "no base64", "MFkw", "whsec_", "whsec_c2hvcnQ="])
def test_a_secret_that_is_none_opens_nothing(secret: str) -> None:
    for vendor in VENDORS:
        assert not VENDORS[vendor].verify(VENDORS[vendor].known[0], secret)


# ---- events ----


def rows_of(vendor: str, body: Any, headers: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
    """(type, channel, person, message_ref, is_machine) of each event."""
    found = VENDORS[vendor].parse(Call(json.dumps(body).encode(), headers or {}, AT))
    for row in found:
        assert " ".join(row) == COLUMNS
        assert row["vendor"] == vendor
        assert row["occurred_at"] == datetime(2026, 3, 1, 9)
    assert len({row["event_id"] for row in found}) == len(found)
    names = ("event_type", "channel", "external_id", "email", "message_ref", "is_machine")
    return [tuple(row[name] for name in names) for row in found]


def test_sendgrid_events() -> None:
    base = {"sg_event_id": "e", "sg_message_id": "m.server", "timestamp": 1772355600}
    person = {"email": "p@example.com", "external_id": "u1", "decision_id": "d1"}
    kinds = {"open": "open", "dropped": "bounce", "spamreport": "complaint"}
    kinds |= {"group_unsubscribe": "unsubscribe"}
    for theirs, ours in kinds.items():
        body = [{**base, **person, "event": theirs, "sg_machine_open": theirs == "open"}]
        assert rows_of("sendgrid", body) == [
            (ours, "email", "u1", "p@example.com", "m", theirs == "open")
        ]
    assert rows_of("sendgrid", [{**base, "event": "processed"}]) == []
    with pytest.raises(ValueError, match="sg_event_id"):
        rows_of("sendgrid", [{"event": "open", "timestamp": 1}])


ALL = ("email", "push", "sms", "rep")
"""What somebody has left who left everything."""


def test_customerio_events() -> None:
    data = {"identifiers": {"id": "u1"}, "email_address": "p@example.com", "delivery_id": "m"}
    base = {"event_id": "e", "timestamp": 1772355600, "data": data}
    sms = rows_of("customerio", {**base, "object_type": "sms", "metric": "clicked"})
    assert sms == [("click", "sms", "u1", "p@example.com", "m", False)]
    gone = rows_of("customerio", {**base, "object_type": "customer", "metric": "unsubscribed"})
    assert [row[:2] for row in gone] == [("unsubscribe", c) for c in ALL]
    assert rows_of("customerio", {**base, "object_type": "customer", "metric": "subscribed"}) == []
    assert rows_of("customerio", {**base, "object_type": "slack", "metric": "clicked"}) == []


def test_hubspot_opt_outs() -> None:
    base = {"eventId": 1, "objectId": 101, "occurredAt": 1772355600000}
    left = {"propertyName": "hs_email_optout", "propertyValue": "true"}
    change = {**base, **left, "subscriptionType": "contact.propertyChange"}
    wanted = ("unsubscribe", "email", "contact:101", None, None, False)
    assert rows_of("hubspot", [change]) == [wanted]
    assert rows_of("hubspot", [{**change, "propertyValue": "false"}]) == []
    gone = rows_of("hubspot", [{**base, "subscriptionType": "contact.privacyDeletion"}])
    assert tuple(row[1] for row in gone) == ALL


def test_klaviyo_events() -> None:
    person = {"type": "profile", "attributes": {"email": "p@example.com", "external_id": "u1"}}
    event = {"id": "e", "attributes": {"datetime": "2026-03-01T10:00:00+01:00"}}
    entry = {"topic": "event:klaviyo.clicked_sms", "payload": {"data": event, "included": [person]}}
    other = {**entry, "topic": "event:klaviyo.placed_order"}
    assert rows_of("klaviyo", {"data": [entry, other]}) == [
        ("click", "sms", "u1", "p@example.com", None, False)
    ]


def test_standard_events() -> None:
    body = {"type": "message.unsubscribe", "timestamp": "2026-03-01T09:00:00Z"}
    headers = {"webhook-id": "w"}
    gone = rows_of("standard", {**body, "data": {"external_id": "u1"}}, headers)
    assert tuple(row[1] for row in gone) == ALL
    one = {"email": "p@example.com", "channel": "sms", "message_ref": "m"}
    assert rows_of("standard", {**body, "data": one}, headers) == [
        ("unsubscribe", "sms", None, "p@example.com", "m", False)
    ]
    (by_rep,) = rows_of("standard", {**body, "data": {**one, "channel": "rep"}}, headers)
    assert by_rep[:2] == ("unsubscribe", "rep")
    assert rows_of("standard", {**body, "type": "invoice.paid", "data": one}, headers) == []
    with pytest.raises(ValueError, match="external_id"):
        rows_of("standard", {**body, "data": {}}, headers)


BROWSER = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"


@pytest.mark.parametrize(
    ("agent", "link", "expected"),
    [
        (BROWSER, "https://shop.example/sale", False),
        (None, None, False),
        (BROWSER, "https://shop.example/?nextmove-trap", True),
        ("Mozilla/5.0 (compatible; SecurityBot/1.0)", None, True),
        ("python-requests/2.31", None, True),
        ("curl/8.1", None, True),
        ("HeadlessChrome/120.0", None, True),
        ("Mozilla/5.0 (Linux; CUBOT X30) AppleWebKit/537.36", None, False),
    ],
)
def test_who_follows_a_trap_or_says_so_is_a_program(
    agent: str | None, link: str | None, expected: bool
) -> None:
    properties = {"user_agent": agent, "url": link}
    event = braze_event("users.messages.email.Click", properties=properties)
    assert braze(event)[0]["is_machine"] is expected
    fields = {"userAgent": agent, "url": link}
    assert iterable(iterable_event(**fields))[0]["is_machine"] is expected
