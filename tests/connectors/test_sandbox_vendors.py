"""The imitated vendors answer as their public documents say, on a real socket."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.sandbox_process import (
    BRAZE_KEY,
    HUBSPOT_KEY,
    ITERABLE_KEY,
    Sandbox,
    running_sandbox,
)

HEADERS = {
    "braze": {"Authorization": f"Bearer {BRAZE_KEY}"},
    "iterable": {"Api-Key": ITERABLE_KEY},
    "hubspot": {"Authorization": f"Bearer {HUBSPOT_KEY}"},
}
NO_FAILURES: dict[str, list[str]] = {
    "conflictEmails": [],
    "conflictUserIds": [],
    "forgottenEmails": [],
    "forgottenUserIds": [],
    "invalidDataEmails": [],
    "invalidDataUserIds": [],
    "invalidEmails": [],
    "invalidUserIds": [],
    "notFoundEmails": [],
    "notFoundUserIds": [],
}
TRACK = "/braze/users/track"
TRIGGER = "/braze/campaigns/trigger/send"
BULK_UPDATE = "/iterable/api/users/bulkUpdate"
TRACK_BULK = "/iterable/api/events/trackBulk"
TARGET = "/iterable/api/email/target"
UPSERT = "/hubspot/crm/v3/objects/contacts/batch/upsert"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    # Limits far away: they have tests of their own.
    directory = tmp_path_factory.mktemp("sandbox")
    with running_sandbox(directory, "--limit-divisor", "0.0001") as running:
        yield running


@pytest.fixture
def who() -> str:
    return f"u-{uuid.uuid4().hex[:8]}"


def post(sandbox: Sandbox, path: str, payload: Any, **headers: str) -> requests.Response:
    vendor = path.split("/")[1]
    return sandbox.session.post(
        sandbox.url + path, json=payload, headers={**HEADERS[vendor], **headers}, timeout=10
    )


def entries(sandbox: Sandbox, who: str) -> list[dict[str, Any]]:
    return [e for e in sandbox.ledger() if who in e["external_id"]]


def email(who: str) -> str:
    return f"{who}@example.com"


class TestAuthentication:
    @pytest.mark.parametrize("path", [TRACK, TARGET, UPSERT])
    def test_a_wrong_key_is_refused_and_nothing_is_recorded(
        self, sandbox: Sandbox, path: str
    ) -> None:
        before = len(sandbox.ledger())
        reply = sandbox.session.post(
            sandbox.url + path,
            json={"attributes": [{"external_id": "x"}]},
            headers={"Authorization": "Bearer wrong", "Api-Key": "wrong"},
            timeout=10,
        )
        assert reply.status_code == 401
        assert len(sandbox.ledger()) == before
        expected: dict[str, dict[str, Any]] = {
            TRACK: {"message": "Invalid API Key"},
            TARGET: {"msg": "Invalid API key", "code": "BadApiKey", "params": None},
            UPSERT: {
                "status": "error",
                "message": "Authentication credentials not found.",
                "category": "INVALID_AUTHENTICATION",
            },
        }
        assert reply.json().items() >= expected[path].items()

    @pytest.mark.parametrize("path", ["/braze/users/nothing", "/iterable/x", "/hubspot/x"])
    def test_what_is_not_imitated_is_a_404(self, sandbox: Sandbox, path: str) -> None:
        assert post(sandbox, path, {}).status_code == 404


class TestBraze:
    def test_attributes_are_merged_and_counted(self, sandbox: Sandbox, who: str) -> None:
        row = {"external_id": who, "email": email(who), "orders_count": 3, "tier": None}
        reply = post(sandbox, TRACK, {"attributes": [row]})
        assert (reply.status_code, reply.json()) == (
            201,
            {"message": "success", "attributes_processed": 1},
        )
        entry = entries(sandbox, who)[0]
        assert (entry["kind"], entry["email"]) == ("profile", email(who))
        assert entry["properties"] == {"email": email(who), "orders_count": 3, "tier": None}

    def test_a_bad_row_is_named_by_its_index_in_its_array(self, sandbox: Sandbox, who: str) -> None:
        payload = {
            "attributes": [{"external_id": who}, {"external_id": who, "first_name": 7}],
            "purchases": [
                {
                    "external_id": who,
                    "product_id": "p",
                    "currency": "USD",
                    "price": 1.5,
                    "quantity": 0,
                    "time": "2026-03-02T00:00:00Z",
                }
            ],
        }
        reply = post(sandbox, TRACK, payload)
        assert (reply.status_code, reply.json()) == (
            201,
            {
                "message": "success",
                "attributes_processed": 1,
                "purchases_processed": 0,
                "errors": [
                    {"type": "'first_name' is not valid", "input_array": "attributes", "index": 1},
                    {"type": "'quantity' is not valid", "input_array": "purchases", "index": 0},
                ],
            },
        )

    def test_nothing_valid_is_a_400(self, sandbox: Sandbox) -> None:
        rows = [
            {"first_name": "Ada"},
            {"external_id": "x" * 988},
            5,
            {"external_id": "x", "a": [1]},
        ]
        reply = post(sandbox, TRACK, {"attributes": rows})
        assert reply.status_code == 400
        assert reply.json()["message"] == (
            "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
        )
        assert [e["type"] for e in reply.json()["errors"]] == [
            "'external_id' or 'email' is required",
            "'external_id' must be fewer than 988 bytes",
            "object expected",
            "'a' is not valid",
        ]

    @pytest.mark.parametrize("payload", [{}, [], {"attributes": {}}, {"attributes": []}])
    def test_no_data_is_a_400(self, sandbox: Sandbox, payload: Any) -> None:
        assert post(sandbox, TRACK, payload).status_code == 400

    def test_75_objects_over_all_arrays(self, sandbox: Sandbox, who: str) -> None:
        rows = [{"external_id": f"{who}-{i}"} for i in range(75)]
        event = {"external_id": who, "name": "seen", "time": "2026-03-02T00:00:00Z"}
        reply = post(sandbox, TRACK, {"attributes": rows, "events": [event]})
        assert reply.status_code == 400
        assert entries(sandbox, who) == []
        reply = post(sandbox, TRACK, {"attributes": rows[:74], "events": [event]})
        assert reply.json() == {
            "message": "success",
            "attributes_processed": 74,
            "events_processed": 1,
        }

    def test_one_dispatch_id_per_send_call(self, sandbox: Sandbox, who: str) -> None:
        post(sandbox, TRACK, {"attributes": [{"external_id": who, "email": email(who)}]})
        recipients = [
            {"external_user_id": who, "trigger_properties": {"decision_id": "d"}},
            {"external_user_id": f"{who}-stranger"},
        ]
        reply = post(sandbox, TRIGGER, {"campaign_id": "sms-1", "recipients": recipients})
        assert reply.status_code == 201
        assert reply.json() == {"dispatch_id": reply.json()["dispatch_id"], "message": "success"}
        message, lost = entries(sandbox, who)[1:]
        assert message["dispatch_id"] == lost["dispatch_id"] == reply.json()["dispatch_id"]
        assert message["message_id"] != lost["message_id"]
        assert (
            message.items()
            >= {
                "kind": "message",
                "email": email(who),
                "channel": "sms",
                "campaign_id": "sms-1",
            }.items()
        )
        assert message["properties"] == {"decision_id": "d"}
        assert (lost["kind"], lost["reason"]) == ("undeliverable", "unknown_user")

    def test_email_needs_an_address(self, sandbox: Sandbox, who: str) -> None:
        post(sandbox, TRACK, {"attributes": [{"external_id": who}]})
        post(sandbox, TRIGGER, {"campaign_id": "c", "recipients": [{"external_user_id": who}]})
        assert entries(sandbox, who)[-1]["reason"] == "no_address"

    @pytest.mark.parametrize(
        "change",
        [{"campaign_id": ""}, {"campaign_id": 5}, {"recipients": []}, {"recipients": [{}] * 51}],
    )
    def test_a_malformed_send_is_a_400(
        self, sandbox: Sandbox, who: str, change: dict[str, Any]
    ) -> None:
        payload = {"campaign_id": "c", "recipients": [{"external_user_id": who}], **change}
        assert post(sandbox, TRIGGER, payload).status_code == 400
        assert entries(sandbox, who) == []

    def test_the_headers_of_the_limit(self, sandbox: Sandbox, who: str) -> None:
        reply = post(sandbox, TRACK, {"attributes": [{"external_id": who}]})
        assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= {
            name.lower() for name in reply.headers
        }

    def test_what_is_not_json(self, sandbox: Sandbox) -> None:
        reply = sandbox.session.post(
            sandbox.url + TRACK, data=b"{", headers=HEADERS["braze"], timeout=10
        )
        assert reply.status_code == 400

    def test_a_body_that_is_too_large(self, sandbox: Sandbox, who: str) -> None:
        row = {"external_id": who, "note": "x" * (4 << 20)}
        assert post(sandbox, TRACK, {"attributes": [row]}).status_code == 413
        assert entries(sandbox, who) == []


class TestIterable:
    def test_users_are_merged_and_counted(self, sandbox: Sandbox, who: str) -> None:
        user = {
            "userId": who,
            "email": email(who),
            "preferUserId": True,
            "dataFields": {"orders_count": 1},
        }
        reply = post(sandbox, BULK_UPDATE, {"users": [user]})
        assert (reply.status_code, reply.json()) == (
            200,
            {
                "successCount": 1,
                "failCount": 0,
                "invalidEmails": [],
                "invalidUserIds": [],
                "filteredOutFields": [],
                "createdFields": [],
                "failedUpdates": NO_FAILURES,
            },
        )
        assert entries(sandbox, who)[0]["properties"] == {"orders_count": 1}

    def test_a_bad_row_is_named_by_its_value(self, sandbox: Sandbox, who: str) -> None:
        users = [{"userId": who}, {"email": "nowhere"}, {"userId": f"{who}-2", "email": "bad"}]
        reply = post(sandbox, BULK_UPDATE, {"users": users})
        assert reply.json() == {
            "successCount": 1,
            "failCount": 2,
            "invalidEmails": ["nowhere", "bad"],
            "invalidUserIds": [],
            "filteredOutFields": [],
            "createdFields": [],
            "failedUpdates": {**NO_FAILURES, "invalidEmails": ["nowhere", "bad"]},
        }

    def test_update_only_finds_nobody(self, sandbox: Sandbox, who: str) -> None:
        reply = post(sandbox, BULK_UPDATE, {"users": [{"userId": who}], "updateOnly": True})
        assert reply.json()["failedUpdates"] == {**NO_FAILURES, "notFoundUserIds": [who]}

    def test_one_wrong_type_fails_the_whole_batch(self, sandbox: Sandbox, who: str) -> None:
        users = [{"userId": who}, {"userId": 7}]
        reply = post(sandbox, BULK_UPDATE, {"users": users})
        assert reply.status_code == 400
        assert (
            reply.json().items()
            >= {
                "code": "BadJsonBody",
                "params": {"obj.users[1].userId": "String value expected"},
            }.items()
        )
        assert entries(sandbox, who) == []

    def test_a_field_keeps_the_type_of_its_first_value(self, sandbox: Sandbox, who: str) -> None:
        field = f"field_{who}"
        first = post(sandbox, BULK_UPDATE, {"users": [{"userId": who, "dataFields": {field: 1}}]})
        assert first.status_code == 200
        users = [
            {"userId": f"{who}-2", "dataFields": {field: 2.5}},
            {"userId": f"{who}-3", "dataFields": {field: "three"}},
        ]
        reply = post(sandbox, BULK_UPDATE, {"users": users})
        assert reply.status_code == 400
        assert reply.json()["code"] == "RequestFieldsTypesMismatched"
        assert reply.json()["params"] == {
            "validationErrors": {
                field: {
                    "incomingTypes": ["string"],
                    "expectedType": "double",
                    "offendingValue": "three",
                }
            }
        }
        assert len(entries(sandbox, who)) == 1

    @pytest.mark.parametrize("channel", ["email", "push", "sms"])
    def test_a_message_is_resolved_against_the_profile(
        self, sandbox: Sandbox, who: str, channel: str
    ) -> None:
        post(sandbox, BULK_UPDATE, {"users": [{"userId": who, "email": email(who)}]})
        payload = {
            "campaignId": 41,
            "recipientUserId": who,
            "dataFields": {"incentive": "none"},
            "metadata": {"decision_id": "d-1"},
        }
        reply = post(sandbox, f"/iterable/api/{channel}/target", payload)
        entry = entries(sandbox, who)[-1]
        assert (reply.status_code, reply.json()) == (
            200,
            {
                "msg": "Message queued",
                "code": "Success",
                "params": {"messageId": entry["message_id"]},
            },
        )
        assert (
            entry.items()
            >= {
                "kind": "message",
                "channel": channel,
                "email": email(who),
                "campaign_id": "41",
                "properties": {"incentive": "none", "decision_id": "d-1"},
            }.items()
        )

    def test_a_repeat_can_be_ruled_out(self, sandbox: Sandbox, who: str) -> None:
        post(sandbox, BULK_UPDATE, {"users": [{"userId": who, "email": email(who)}]})
        payload = {"campaignId": 1, "recipientEmail": email(who)}
        for _ in range(2):
            post(sandbox, TARGET, payload | {"allowRepeatMarketingSends": False})
        post(sandbox, TARGET, payload)
        found = [(e["kind"], e["reason"]) for e in entries(sandbox, who)[1:]]
        assert found == [
            ("message", ""),
            ("undeliverable", "repeat_not_allowed"),
            ("message", ""),
        ]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"campaignId": "welcome"}, "BadJsonBody"),
            ({"metadata": "x"}, "BadJsonBody"),
            ({"recipientUserId": ""}, "BadParams"),
            ({"recipientEmail": "bad"}, "InvalidEmailAddressError"),
        ],
    )
    def test_a_malformed_message_is_a_400(
        self, sandbox: Sandbox, who: str, change: dict[str, Any], code: str
    ) -> None:
        reply = post(sandbox, TARGET, {"campaignId": 1, "recipientUserId": who} | change)
        assert (reply.status_code, reply.json()["code"]) == (400, code)
        assert entries(sandbox, who) == []

    def test_an_event_id_is_an_upsert(self, sandbox: Sandbox, who: str) -> None:
        event = {"userId": who, "eventName": "seen", "id": f"e-{who}", "createdAt": 1_770_000_000}
        for _ in range(2):
            reply = post(sandbox, TRACK_BULK, {"events": [event]})
            assert (reply.status_code, reply.json()["successCount"]) == (200, 1)
        assert [(e["message_id"], e["reason"]) for e in entries(sandbox, who)] == [
            (f"e-{who}", ""),
            (f"e-{who}", "updated"),
        ]

    def test_an_event_with_a_wrong_time_fails_the_batch(self, sandbox: Sandbox, who: str) -> None:
        events = [
            {"userId": who, "eventName": "seen", "createdAt": 1_770_000_000},
            {"userId": who, "eventName": "seen", "createdAt": "yesterday"},
        ]
        reply = post(sandbox, TRACK_BULK, {"events": events})
        assert reply.status_code == 400
        assert reply.json()["params"] == {"obj.events[1].createdAt": "Number value expected"}

    def test_a_body_over_4_mb(self, sandbox: Sandbox, who: str) -> None:
        user = {"userId": who, "dataFields": {"note": "x" * (4 << 20)}}
        assert post(sandbox, BULK_UPDATE, {"users": [user]}).status_code == 413


def contact(who: str, trace: str = "", **properties: Any) -> dict[str, Any]:
    item = {"id": email(who), "idProperty": "email", "properties": properties}
    return item | ({"objectWriteTraceId": trace} if trace else {})


class TestHubSpot:
    def test_contacts_are_created_then_updated(self, sandbox: Sandbox, who: str) -> None:
        news = []
        for step in ("a", "b"):
            reply = post(sandbox, UPSERT, {"inputs": [contact(who, "5002", nextmove_action=step)]})
            assert (reply.status_code, reply.json()["status"]) == (200, "COMPLETE")
            result = reply.json()["results"][0]
            assert result["properties"] == {"email": email(who), "nextmove_action": step}
            assert result["objectWriteTraceId"] == "5002"
            news.append(result["new"])
        assert news == [True, False]
        assert [e["kind"] for e in entries(sandbox, who)] == ["contact", "contact"]

    def test_a_bad_row_is_named_by_its_trace_id(self, sandbox: Sandbox, who: str) -> None:
        inputs = [contact(who, "1", tier="gold"), contact(f"{who}-2", "2", tier=["gold"])]
        reply = post(sandbox, UPSERT, {"inputs": inputs})
        assert reply.status_code == 207
        assert (len(reply.json()["results"]), reply.json()["numErrors"]) == (1, 1)
        assert reply.json()["errors"] == [
            {
                "status": "error",
                "category": "VALIDATION_ERROR",
                "message": "Property values were not valid: tier is not a text",
                "context": {"objectWriteTraceId": ["2"]},
            }
        ]
        assert len(entries(sandbox, who)) == 1

    def test_a_bad_row_without_a_trace_id_fails_the_batch(self, sandbox: Sandbox, who: str) -> None:
        inputs = [contact(who, "1"), contact(f"{who}-2", **{"No Such": "x"})]
        assert post(sandbox, UPSERT, {"inputs": inputs}).status_code == 400
        assert entries(sandbox, who) == []

    def test_duplicates_fail_the_batch(self, sandbox: Sandbox, who: str) -> None:
        reply = post(sandbox, UPSERT, {"inputs": [contact(who, "1"), contact(who.upper(), "2")]})
        assert reply.status_code == 400
        assert reply.json()["message"] == "Duplicate IDs found in batch input"

    def test_100_inputs(self, sandbox: Sandbox, who: str) -> None:
        inputs = [contact(f"{who}-{i}", str(i)) for i in range(101)]
        assert post(sandbox, UPSERT, {"inputs": inputs}).status_code == 400
        assert len(post(sandbox, UPSERT, {"inputs": inputs[1:]}).json()["results"]) == 100

    def test_a_property_that_is_not_unique(self, sandbox: Sandbox, who: str) -> None:
        inputs = [contact(who) | {"idProperty": "firstname"}]
        assert post(sandbox, UPSERT, {"inputs": inputs}).status_code == 400


def test_message_times_follow_the_clock(tmp_path: Path) -> None:
    with running_sandbox(tmp_path) as sandbox:
        sandbox.control("clock", now="2026-03-02T09:30:00+01:00")
        post(sandbox, TRACK, {"attributes": [{"external_id": "u"}]})
        assert sandbox.ledger()[0]["at"] == "2026-03-02T08:30:00Z"


def test_keys_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_BRAZE_KEY", "another")
    with running_sandbox(tmp_path) as sandbox:
        row = {"attributes": [{"external_id": "u"}]}
        assert post(sandbox, TRACK, row).status_code == 401
        assert post(sandbox, TRACK, row, Authorization="Bearer another").status_code == 201
