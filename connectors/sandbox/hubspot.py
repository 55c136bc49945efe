"""HubSpot as documented: batch upsert of contacts by e-mail address."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.sandbox.hubspot_activities import more_endpoints
from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool, Usage
from connectors.sandbox.state import State, iso
from connectors.sandbox.vendor import Answer, Endpoint, answer, carries

NAME = "hubspot"
TEN_SECONDS = Limit("TEN_SECONDLY_ROLLING", 190, 10, is_rolling=True)  # Professional
DAILY = Limit("DAILY", 625_000, 86_400)
MAX_INPUTS = 100
MAX_BODY = 10 * 1024 * 1024  # not documented; a guess

_PROPERTY = re.compile(r"[a-z][a-z0-9_]*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class HubSpot:
    """Contacts are known by e-mail address. Any well-formed property name exists."""

    name = NAME

    def __init__(self, state: State, key: str, limit_divisor: float = 1.0) -> None:
        self._state = state
        self._key = key
        pool = Pool([TEN_SECONDS, DAILY], limit_divisor)
        self.endpoints: Mapping[str, Endpoint] = {
            "/crm/v3/objects/contacts/batch/upsert": Endpoint(self._upsert, pool, MAX_BODY),
            **more_endpoints(state, pool),
        }
        self.errors: Mapping[str, Answer] = {
            "unauthorized": _error(401, "Authentication credentials not found.",
                                   category="INVALID_AUTHENTICATION"),
            "not_found": _error(404, "resource not found"),
            "too_large": _error(413, "Request body is too large"),
            "bad_json": _error(400, "Invalid input JSON", category="VALIDATION_ERROR"),
            "server_error": _error(500, "internal error"),
        }  # fmt: skip

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Bearer token."""
        return carries(headers, "authorization", f"Bearer {self._key}")

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """The rolling window's and the day's limits and what is left of them."""
        rolling, daily = usages
        return {
            "x-hubspot-ratelimit-daily": str(daily.limit.calls),
            "x-hubspot-ratelimit-daily-remaining": str(daily.remaining),
            "x-hubspot-ratelimit-interval-milliseconds": str(int(rolling.limit.seconds * 1000)),
            "x-hubspot-ratelimit-max": str(rolling.limit.calls),
            "x-hubspot-ratelimit-remaining": str(rolling.remaining),
        }

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """429 with the policy that was broken."""
        full = next((usage for usage in usages if not usage.is_allowed), usages[0])
        policy = full.limit.name
        message = f"You have reached your {policy.lower()} limit."
        return _error(429, message, errorType="RATE_LIMIT", policyName=policy)

    def _upsert(self, payload: Any) -> Answer:
        inputs = payload.get("inputs") if isinstance(payload, dict) else None
        error = _batch_error(inputs)
        if error or not isinstance(inputs, list):
            return _error(400, error, category="VALIDATION_ERROR")
        started = iso(self._state.now())
        faults = [_input_error(item) or self._refusal() for item in inputs]
        untraced = [f for f, i in zip(faults, inputs, strict=True) if f and not _trace(i)]
        if untraced:  # without a trace id no row can be blamed, so the batch fails
            return _error(400, untraced[0], category="VALIDATION_ERROR")
        results = [self._upsert_one(i) for f, i in zip(faults, inputs, strict=True) if not f]
        errors = [_row_error(f, _trace(i)) for f, i in zip(faults, inputs, strict=True) if f]
        reply: dict[str, Any] = {
            "status": "COMPLETE",
            "results": results,
            "startedAt": started,
            "completedAt": iso(self._state.now()),
        }
        if errors:
            reply |= {"numErrors": len(errors), "errors": errors}
        return answer(207 if errors else 200, reply)

    def _refusal(self) -> str:
        return "The contact was refused" if self._state.refuses(NAME) else ""

    def _upsert_one(self, item: Any) -> dict[str, Any]:
        email = item["id"].lower()
        profiles = self._state.accounts[NAME].profiles
        is_new = email not in profiles
        properties = {k: _text(v) for k, v in item["properties"].items()}
        entry = Entry(
            vendor=NAME,
            kind="contact",
            external_id=email,
            email=email,
            message_id=_trace(item),
            properties=properties,
        )
        self._state.record(entry)
        moment = iso(self._state.now())
        result = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, email).int % 10**11),
            "properties": {"email": email, **profiles[email].attributes},
            "createdAt": moment,
            "updatedAt": moment,
            "archived": False,
            "new": is_new,
        }
        return result | ({"objectWriteTraceId": _trace(item)} if _trace(item) else {})


def _error(status: int, message: str, **extra: str) -> Answer:
    correlation = {"correlationId": str(uuid.uuid4())}
    return answer(status, {"status": "error", "message": message, **correlation, **extra})


def _row_error(message: str, trace: str) -> dict[str, Any]:
    return {
        "status": "error",
        "category": "VALIDATION_ERROR",
        "message": message,
        "context": {"objectWriteTraceId": [trace]},
    }


def _batch_error(inputs: Any) -> str:
    """Why the whole batch is refused; empty when it is not."""
    if not isinstance(inputs, list) or not inputs:
        return "Some required fields were not set: [inputs]"
    if len(inputs) > MAX_INPUTS:
        return f"The maximum number of inputs allowed is {MAX_INPUTS}, got {len(inputs)}"
    if not all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in inputs):
        return "Some required fields were not set: [id]"
    ids = [item["id"].lower() for item in inputs]
    if len(set(ids)) < len(ids):
        return "Duplicate IDs found in batch input"
    if any(item.get("idProperty") != "email" for item in inputs):
        return "The idProperty must be a unique property of contacts: email"
    if not all(isinstance(item.get("properties"), dict) for item in inputs):
        return "Some required fields were not set: [properties]"
    return ""


def _input_error(item: Any) -> str:
    """What is wrong with one input; empty when nothing is."""
    if not _EMAIL.fullmatch(item["id"]):
        return "Property values were not valid: email is not a valid e-mail address"
    for name, value in item["properties"].items():
        if not _PROPERTY.fullmatch(name):
            return f"Property values were not valid: property {name} does not exist"
        if not isinstance(value, str | int | float | None):
            return f"Property values were not valid: {name} is not a text"
    return ""


def _trace(item: Any) -> str:
    return str(item.get("objectWriteTraceId") or "")


def _text(value: Any) -> str | None:
    """Every property is kept as text; null clears it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
