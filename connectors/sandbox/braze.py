"""Braze as documented: `/users/track`, API-triggered campaigns and Canvases."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from connectors.sandbox.braze_people import more_endpoints
from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool, Usage
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer, carries

NAME = "braze"
TRACK = Limit("track", 3_000, 3)
MESSAGES = Limit("messages", 250_000, 3_600)
MAX_OBJECTS = 75
MAX_RECIPIENTS = 50
MAX_BODY = 4 * 1024 * 1024  # only /users/track/bulk documents a size (2 MB); a guess
ARRAYS = ("attributes", "events", "purchases")
CHANNELS = ("email", "push", "sms")

_TEXT = ("first_name", "last_name", "email", "phone", "country", "home_city", "language",
         "gender", "dob", "time_zone", "email_subscribe", "push_subscribe")  # fmt: skip
_NO_DATA = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
_NO_ID = "'external_id' or 'email' is required"


class Braze:
    """Users are known by `external_id`, or by `email` alone.

    A real campaign knows its channel. Here its id says it: what stands before the first
    hyphen when that is push or sms, as in `push-next-step`; otherwise it is e-mail.
    """

    name = NAME

    def __init__(self, state: State, key: str, limit_divisor: float = 1.0) -> None:
        self._state = state
        self._key = key
        track = Pool([TRACK], limit_divisor)
        messages = Pool([MESSAGES], limit_divisor)
        self.endpoints: Mapping[str, Endpoint] = {
            "/users/track": Endpoint(self._track, track, MAX_BODY),
            "/campaigns/trigger/send": Endpoint(
                partial(self._trigger, "campaign_id", "trigger_properties"), messages, MAX_BODY
            ),
            "/canvas/trigger/send": Endpoint(
                partial(self._trigger, "canvas_id", "canvas_entry_properties"), messages, MAX_BODY
            ),
            "/messages/send": Endpoint(self._send, messages, MAX_BODY),
            **more_endpoints(state, limit_divisor),
        }
        self.errors: Mapping[str, Answer] = {
            "unauthorized": answer(401, {"message": "Invalid API Key"}),
            "not_found": answer(404, {"message": "Invalid URL"}),
            "too_large": answer(413, {"message": "Request body is too large"}),
            "bad_json": answer(400, {"message": "The request body is not valid JSON"}),
            "server_error": answer(500, {"message": "Internal Server Error"}),
        }

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Bearer token."""
        return carries(headers, "authorization", f"Bearer {self._key}")

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """Limit, remaining calls, and the epoch second at which the window starts anew."""
        if not usages:  # nothing is said where there is no limit
            return {}
        usage = usages[0]
        return {
            "x-ratelimit-limit": str(usage.limit.calls),
            "x-ratelimit-remaining": str(usage.remaining),
            "x-ratelimit-reset": str(math.ceil(time.time() + usage.resets_in)),
        }

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """429; the state of the limit is in the headers."""
        return answer(429, {"message": "Rate limit exceeded"})

    def _track(self, payload: Any) -> Answer:
        arrays = {name: payload.get(name) for name in ARRAYS} if isinstance(payload, dict) else {}
        given = {name: rows for name, rows in arrays.items() if rows is not None}
        if not given or not all(isinstance(rows, list) for rows in given.values()):
            return answer(400, {"message": _NO_DATA})
        if sum(map(len, given.values())) > MAX_OBJECTS:
            return answer(400, {"message": f"At most {MAX_OBJECTS} objects may be sent at once"})
        processed: dict[str, int] = {}
        errors: list[dict[str, Any]] = []
        for name, rows in given.items():
            faults = [self._track_one(name, row) for row in rows]
            processed[f"{name}_processed"] = faults.count("")
            errors += _row_errors(name, faults)
        if not any(processed.values()):
            return answer(400, {"message": _NO_DATA, "errors": errors})
        reply = {"message": "success", **processed, **({"errors": errors} if errors else {})}
        return answer(201, reply)

    def _track_one(self, array: str, row: Any) -> str:
        """Accept one object; the error type when it is refused."""
        error = _CHECKS[array](row)
        if error:
            return error
        if self._state.refuses(NAME):
            return f"'{array}' object refused"
        external_id = row.get("external_id") or self._id_of(row["email"])
        data = {k: v for k, v in row.items() if k != "external_id"}
        entry = Entry(vendor=NAME, kind="event", external_id=external_id, properties=data)
        if array == "attributes":
            entry.kind, entry.email = "profile", row.get("email") or ""
        self._state.record(entry)
        return ""

    def _id_of(self, email: str) -> str:
        return self._state.accounts[NAME].ids_by_email.get(email, email)

    def _trigger(self, id_name: str, properties: str, payload: Any) -> Answer:
        error = _trigger_error(payload, id_name, properties)
        if error:
            return answer(400, {"message": error})
        dispatch_id = uuid.uuid4().hex
        shared = payload.get(properties) or {}
        campaign = payload[id_name]
        faults = [
            self._trigger_one(campaign, properties, shared, r, dispatch_id)
            for r in payload["recipients"]
        ]
        errors = _row_errors("recipients", faults)
        if "" not in faults:
            return answer(400, {"message": "No valid recipients", "errors": errors})
        reply = {"dispatch_id": dispatch_id, "message": "success"}
        return answer(201, {**reply, **({"errors": errors} if errors else {})})

    def _trigger_one(
        self, campaign: str, properties: str, shared: Any, recipient: Any, dispatch_id: str
    ) -> str:
        error = _recipient_error(recipient, properties)
        if error:
            return error
        if self._state.refuses(NAME):
            return "recipient refused"
        channel = campaign.partition("-")[0]
        self._state.send(
            Entry(
                vendor=NAME,
                kind="message",
                external_id=recipient["external_user_id"],
                channel=channel if channel in CHANNELS else "email",
                campaign_id=campaign,
                dispatch_id=dispatch_id,
                properties={**shared, **(recipient.get(properties) or {})},
            )
        )
        return ""

    def _send(self, payload: Any) -> Answer:
        """A message with a text of its own, to each of the people that are named."""
        error = _send_error(payload)
        if error or self._state.refuses(NAME):
            return answer(400, {"message": error or "refused"})
        dispatch_id = uuid.uuid4().hex
        channel = "email" if "email" in payload["messages"] else "push"
        for external_id in payload["external_user_ids"]:
            self._state.send(
                Entry(
                    vendor=NAME,
                    kind="message",
                    external_id=external_id,
                    channel=channel,
                    campaign_id=payload.get("campaign_id", ""),
                    dispatch_id=dispatch_id,
                    properties=payload["messages"],
                )
            )
        return answer(201, {"dispatch_id": dispatch_id, "message": "success"})


def _row_errors(array: str, faults: Sequence[str]) -> list[dict[str, Any]]:
    return [{"type": f, "input_array": array, "index": i} for i, f in enumerate(faults) if f]


def _identity_error(row: Any) -> str:
    if not isinstance(row, dict):
        return "object expected"
    if not row.get("external_id") and not row.get("email"):
        return _NO_ID
    external_id = row.get("external_id", "")
    if not isinstance(external_id, str):
        return "'external_id' must be a string"
    if len(external_id.encode()) >= 988:
        return "'external_id' must be fewer than 988 bytes"
    return ""


def _attribute_error(row: Any) -> str:
    error = _identity_error(row)
    if error:
        return error
    for name in _TEXT:
        if not isinstance(row.get(name), str | None):
            return f"'{name}' is not valid"
    if row.get("email") and "@" not in row["email"]:
        return "'email' is not valid"
    bad = next((k for k, v in row.items() if k.startswith("$") or not _is_value(v)), None)
    return f"'{bad}' is not valid" if bad else ""


def _is_value(value: Any) -> bool:
    """Numbers, booleans, text, null, objects, and arrays of text or of objects."""
    if isinstance(value, list):
        return all(isinstance(item, str | dict) for item in value)
    return value is None or isinstance(value, str | int | float | dict)


def _event_error(row: Any) -> str:
    error = _identity_error(row)
    if error:
        return error
    if not isinstance(row.get("name"), str) or not row["name"]:
        return "'name' is required"
    return _time_error(row)


def _purchase_error(row: Any) -> str:
    error = _identity_error(row)
    if error:
        return error
    if not isinstance(row.get("product_id"), str) or not row["product_id"]:
        return "'product_id' is required"
    if not isinstance(row.get("currency"), str) or len(row["currency"]) != 3:
        return "'currency' is not valid"
    if not _is_number(row.get("price")):
        return "'price' is not valid"
    if not isinstance(row.get("quantity", 1), int) or not 1 <= row.get("quantity", 1) <= 100:
        return "'quantity' is not valid"
    return _time_error(row)


def _time_error(row: Any) -> str:
    try:
        datetime.fromisoformat(row["time"])
    except (KeyError, TypeError, ValueError):
        return "'time' is not valid"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _trigger_error(payload: Any, id_name: str, properties: str) -> str:
    """Why a whole send call is refused; empty when it is not."""
    if not isinstance(payload, dict):
        return "The request body must be an object"
    if not isinstance(payload.get(id_name), str) or not payload[id_name]:
        return f"'{id_name}' is required"
    recipients = payload.get("recipients")
    if not isinstance(recipients, list) or not recipients:
        return "'recipients' is required"
    if len(recipients) > MAX_RECIPIENTS:
        return f"At most {MAX_RECIPIENTS} 'recipients' may be given"
    if not isinstance(payload.get(properties, {}), dict):
        return f"'{properties}' must be an object"
    return ""


def _send_error(payload: Any) -> str:
    """What is wrong with a call of /messages/send; empty when nothing is."""
    if not isinstance(payload, dict):
        return "The request body must be an object"
    people, messages = payload.get("external_user_ids"), payload.get("messages")
    if not isinstance(people, list) or not 0 < len(people) <= MAX_RECIPIENTS:
        return f"1 to {MAX_RECIPIENTS} 'external_user_ids' are required"
    known = ("email", "apple_push", "android_push")
    if not isinstance(messages, dict) or not messages or not set(messages) <= set(known):
        return "'messages' is not valid"
    if "email" in messages and not all(messages["email"].get(n) for n in ("app_id", "body")):
        return "'app_id' and 'body' are required"
    pushes = (messages[name] for name in known[1:] if name in messages)
    return "" if all(push.get("alert") for push in pushes) else "'alert' is required"


def _recipient_error(recipient: Any, properties: str) -> str:
    if not isinstance(recipient, dict):
        return "object expected"
    external_id = recipient.get("external_user_id")
    if not isinstance(external_id, str) or not external_id:
        return "'external_user_id' is required"
    if not isinstance(recipient.get(properties, {}), dict):
        return f"'{properties}' must be an object"
    return ""


_CHECKS = {"attributes": _attribute_error, "events": _event_error, "purchases": _purchase_error}
