"""Iterable as documented: users/bulkUpdate, events/trackBulk and the target endpoints."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.sandbox.iterable_people import more_endpoints
from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool, Usage
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer, carries

NAME = "iterable"
BULK_UPDATE = Limit("users/bulkUpdate", 5, 1)
TRACK_BULK = Limit("events/trackBulk", 10, 1)
MAX_BODY = 4 * 1024 * 1024
MAX_EVENT_ID = 512

_TEXT, _NUMBER, _FLAG, _OBJECT = "String", "Number", "Boolean", "Object"
_USER = {"email": _TEXT, "userId": _TEXT, "dataFields": _OBJECT, "preferUserId": _FLAG,
         "mergeNestedObjects": _FLAG}  # fmt: skip
_EVENT = {"email": _TEXT, "userId": _TEXT, "eventName": _TEXT, "id": _TEXT, "createdAt": _NUMBER,
          "dataFields": _OBJECT, "campaignId": _NUMBER, "templateId": _NUMBER}  # fmt: skip
_TARGET = {"campaignId": _NUMBER, "recipientEmail": _TEXT, "recipientUserId": _TEXT,
           "dataFields": _OBJECT, "metadata": _OBJECT, "sendAt": _TEXT,
           "allowRepeatMarketingSends": _FLAG}  # fmt: skip
_FAILURES = ("conflict", "forgotten", "invalidData", "invalid", "notFound")


class Iterable:
    """Users are known by `userId`, or by `email` where there is none."""

    name = NAME

    def __init__(self, state: State, key: str, limit_divisor: float = 1.0) -> None:
        self._state = state
        self._key = key
        self._field_types: dict[str, str] = {}
        known = state.accounts[NAME].profiles.values()
        self._mismatch([{"dataFields": profile.attributes} for profile in known])
        unlimited = Pool([])  # no limit of the target endpoints is stated
        self.endpoints: Mapping[str, Endpoint] = {
            "/api/users/bulkUpdate": Endpoint(
                self._bulk_update, Pool([BULK_UPDATE], limit_divisor), MAX_BODY
            ),
            "/api/events/trackBulk": Endpoint(
                self._track_bulk, Pool([TRACK_BULK], limit_divisor), MAX_BODY
            ),
            **{
                f"/api/{channel}/target": Endpoint(
                    functools.partial(self._target, channel), unlimited, MAX_BODY
                )
                for channel in ("email", "push", "sms", "inApp", "whatsApp")
            },
            **more_endpoints(state, limit_divisor),
        }
        self.errors: Mapping[str, Answer] = {
            "unauthorized": _error(401, "BadApiKey", "Invalid API key"),
            "not_found": _error(404, "NotFound", "No such endpoint"),
            "too_large": _error(413, "RequestEntityTooLarge", "The body is larger than 4 MB"),
            "bad_json": _error(400, "BadJsonBody", "The body is not valid JSON"),
            "server_error": _error(500, "GenericError", "An unexpected error occurred"),
        }

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Api-Key header."""
        return carries(headers, "api-key", self._key)

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """None are documented."""
        return {}

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """429 RateLimitExceeded, without a Retry-After."""
        message = f"Exceeded rate limit for endpoint: {path}, project: 1"
        return _error(429, "RateLimitExceeded", message, {})

    def _bulk_update(self, payload: Any) -> Answer:
        users, bad = _rows(payload, "users", _USER)
        if bad:
            return _bad_body(bad)
        mismatch = self._mismatch(users)
        if mismatch:
            params = {"validationErrors": mismatch}
            message = "The types of some fields do not match those of the project"
            return _error(400, "RequestFieldsTypesMismatched", message, params)
        update_only = payload.get("updateOnly") is True
        return _bulk_answer(users, [self._update_one(u, update_only) for u in users])

    def _mismatch(self, users: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """Fields whose type differs from the one the project learnt from its first value."""
        learnt: dict[str, str] = {}
        wrong: dict[str, dict[str, Any]] = {}
        for name, value in ((k, v) for u in users for k, v in u.get("dataFields", {}).items()):
            if value is None:
                continue
            incoming = _type_of(value)
            expected = self._field_types.get(name) or learnt.setdefault(name, incoming)
            if incoming != expected:
                wrong[name] = {
                    "incomingTypes": [incoming],
                    "expectedType": expected,
                    "offendingValue": value,
                }
        if not wrong:
            self._field_types.update(learnt)
        return wrong

    def _update_one(self, user: Any, update_only: bool) -> str:
        error = _identity_error(user)
        if error:
            return error
        external_id = user.get("userId") or self._id_of(user["email"])
        if update_only and external_id not in self._state.accounts[NAME].profiles:
            return "notFound"
        if self._state.refuses(NAME):
            return "invalidData"
        self._state.record(
            Entry(
                vendor=NAME,
                kind="profile",
                external_id=external_id,
                email=user.get("email", ""),
                properties=user.get("dataFields", {}),
            )
        )
        return ""

    def _track_bulk(self, payload: Any) -> Answer:
        events, bad = _rows(payload, "events", _EVENT)
        bad |= {
            f"obj.events[{i}].eventName": "Required field missing"
            for i, event in enumerate(events)
            if not event.get("eventName")
        }
        if bad:
            return _bad_body(bad)
        faults = [self._track_one(event) for event in events]
        return _bulk_answer(events, faults, {"disallowedEventNames": []})

    def _track_one(self, event: Any) -> str:
        """An event with an id already seen replaces that event: its entry says `updated`."""
        error = _identity_error(event)
        if error:
            return error
        event_id = event.get("id", "")
        if len(event_id.encode()) > MAX_EVENT_ID or self._state.refuses(NAME):
            return "invalidData"
        known = event_id and event_id in self._state.accounts[NAME].events
        self._state.record(
            Entry(
                vendor=NAME,
                kind="event",
                external_id=event.get("userId") or self._id_of(event["email"]),
                email=event.get("email", ""),
                message_id=event_id,
                reason="updated" if known else "",
                properties={"eventName": event["eventName"], **event.get("dataFields", {})},
            )
        )
        return ""

    def _target(self, channel: str, payload: Any) -> Answer:
        bad = _type_errors(payload, _TARGET, "obj")
        if not bad and "campaignId" not in payload:
            bad = {"obj.campaignId": "Required field missing"}
        if bad:
            return _bad_body(bad)
        email, user_id = payload.get("recipientEmail"), payload.get("recipientUserId")
        if not email and not user_id:
            return _error(400, "BadParams", "recipientEmail or recipientUserId is required")
        if email and "@" not in email:
            return _error(400, "InvalidEmailAddressError", "The e-mail address is not valid")
        if self._state.refuses(NAME):
            return _error(400, "BadParams", "The message was refused")
        entry = self._send(channel, payload, user_id or self._id_of(email))
        # The public specification leaves `params` open: the name of the message id is a guess.
        params = {"messageId": entry.message_id}
        return answer(200, {"msg": "Message queued", "code": "Success", "params": params})

    def _send(self, channel: str, payload: Any, external_id: str) -> Entry:
        campaign_id = str(payload["campaignId"])
        is_repeat = (campaign_id, external_id) in self._state.accounts[NAME].received
        may_repeat = payload.get("allowRepeatMarketingSends", True)
        metadata = payload.get("metadata", {})
        return self._state.send(
            Entry(
                vendor=NAME,
                kind="message",
                external_id=external_id,
                channel=channel,
                campaign_id=campaign_id,
                reason="repeat_not_allowed" if is_repeat and not may_repeat else "",
                properties={**payload.get("dataFields", {}), **metadata},
                metadata=metadata,
            )
        )

    def _id_of(self, email: str) -> str:
        return self._state.accounts[NAME].ids_by_email.get(email, email)


def _error(status: int, code: str, message: str, params: Any = None) -> Answer:
    return answer(status, {"msg": message, "code": code, "params": params})


def _bad_body(params: Mapping[str, str]) -> Answer:
    return _error(400, "BadJsonBody", "The body does not have the documented shape", params)


def _rows(payload: Any, name: str, fields: Mapping[str, str]) -> tuple[list[Any], dict[str, str]]:
    """The rows of a bulk body, and what is wrong with their shape."""
    if not isinstance(payload, dict) or not isinstance(payload.get(name), list):
        return [], {f"obj.{name}": "Array value expected"}
    rows = payload[name]
    bad: dict[str, str] = {}
    for i, row in enumerate(rows):
        bad |= _type_errors(row, fields, f"obj.{name}[{i}]")
    return ([] if bad else rows), bad


def _type_errors(row: Any, fields: Mapping[str, str], path: str) -> dict[str, str]:
    if not isinstance(row, dict):
        return {path: "Object value expected"}
    return {
        f"{path}.{name}": f"{kind} value expected"
        for name, kind in fields.items()
        if name in row and _kind_of(row[name]) != kind
    }


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return _FLAG
    if isinstance(value, int | float):
        return _NUMBER
    if isinstance(value, str):
        return _TEXT
    return _OBJECT if isinstance(value, dict) else "Other"


def _type_of(value: Any) -> str:
    """The project's field type of a value. Whole and broken numbers may replace each other."""
    kinds = {_FLAG: "boolean", _NUMBER: "double", _TEXT: "string", _OBJECT: "object"}
    return kinds.get(_kind_of(value), "array")


def _identity_error(row: Any) -> str:
    email, user_id = row.get("email", ""), row.get("userId", "")
    return "invalid" if not (email or user_id) or (email and "@" not in email) else ""


def _bulk_answer(
    rows: Sequence[Any], faults: Sequence[str], extra: Mapping[str, Any] | None = None
) -> Answer:
    """Counts, and the failed rows by identifier value: there is no index."""
    failed: dict[str, list[str]] = {
        f"{fault}{kind}": [] for fault in _FAILURES for kind in ("Emails", "UserIds")
    }
    for row, fault in zip(rows, faults, strict=True):
        if fault:
            is_user_id = row.get("userId") and not (fault == "invalid" and row.get("email"))
            name, kind = ("userId", "UserIds") if is_user_id else ("email", "Emails")
            failed[f"{fault}{kind}"].append(row.get(name, ""))
    bad = sum(map(bool, faults))
    reply = {
        "successCount": len(rows) - bad,
        "failCount": bad,
        "invalidEmails": failed["invalidEmails"],
        "invalidUserIds": failed["invalidUserIds"],
        **(extra or {}),
        "filteredOutFields": [],
        "createdFields": [],
        "failedUpdates": failed,
    }
    return answer(200, reply)
