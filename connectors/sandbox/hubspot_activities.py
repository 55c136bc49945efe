"""HubSpot as documented: notes and tasks by a unique property, and what they are put on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Pool
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer

NAME = "hubspot"
KINDS = {"notes": "note", "tasks": "task"}
UNIQUE = "nextmove_key"
"""The property that the imitated account has made for notes and tasks."""
MAX_INPUTS = 100
MAX_BODY = 10 * 1024 * 1024  # a guess


def more_endpoints(state: State, pool: Pool) -> Mapping[str, Endpoint]:
    """By path."""
    book = Book(state)
    return {
        **{
            f"/crm/v3/objects/{objects}/batch/upsert": Endpoint(
                partial(book.upsert, kind), pool, MAX_BODY
            )
            for objects, kind in KINDS.items()
        },
        **{
            f"/crm/v3/associations/{kind}/contact/batch/create": Endpoint(
                partial(book.associate, kind), pool, MAX_BODY
            )
            for kind in KINDS.values()
        },
    }


class Book:
    """Writes what is accepted into the ledger. An object's id is a function of its key."""

    def __init__(self, state: State) -> None:
        self._state = state

    def upsert(self, kind: str, payload: Any) -> Answer:
        """By the unique property; 207 with an error for each row that is refused."""
        inputs = payload.get("inputs") if isinstance(payload, dict) else None
        if not isinstance(inputs, list) or not 0 < len(inputs) <= MAX_INPUTS:
            return _error(f"1 to {MAX_INPUTS} inputs expected")
        if any(entry.get("idProperty") != UNIQUE for entry in inputs):
            return _error("idProperty must be a unique property")
        keys = [entry.get("id") for entry in inputs]
        if len(set(keys)) < len(keys):
            return _error("Duplicate IDs found in batch input")
        refused = [self._state.refuses(NAME) or not _has_time(entry) for entry in inputs]
        results = [
            self._write(kind, e) for e, is_bad in zip(inputs, refused, strict=True) if not is_bad
        ]
        errors = [
            {
                "status": "error",
                "category": "VALIDATION_ERROR",
                "message": "hs_timestamp is not valid",
                "context": {"objectWriteTraceId": [entry.get("objectWriteTraceId")]},
            }
            for entry, is_bad in zip(inputs, refused, strict=True)
            if is_bad
        ]
        reply: dict[str, Any] = {"status": "COMPLETE", "results": results}
        if errors:
            reply |= {"errors": errors, "numErrors": len(errors)}
        return answer(207 if errors else 200, reply)

    def _write(self, kind: str, entry: Any) -> dict[str, Any]:
        key = entry["id"]
        self._state.record(
            Entry(vendor=NAME, kind=kind, message_id=key, properties=entry["properties"])
        )
        return {
            "id": _id(key),
            "properties": {UNIQUE: key},
            "objectWriteTraceId": entry.get("objectWriteTraceId"),
        }

    def associate(self, kind: str, payload: Any) -> Answer:
        """Puts objects on contacts. One that is there already stays."""
        inputs = payload.get("inputs") if isinstance(payload, dict) else None
        if not isinstance(inputs, list) or not 0 < len(inputs) <= MAX_INPUTS:
            return _error(f"1 to {MAX_INPUTS} inputs expected")
        if any(entry.get("type") != f"{kind}_to_contact" for entry in inputs):
            return _error("the type of the association is not known")
        for entry in inputs:
            ends = {"from": entry["from"]["id"], "to": entry["to"]["id"]}
            self._state.record(Entry(vendor=NAME, kind="association", properties=ends))
        return answer(201, {"status": "COMPLETE", "results": inputs})


def _has_time(entry: Any) -> bool:
    """Every activity needs its moment."""
    return bool(entry.get("properties", {}).get("hs_timestamp"))


def _id(key: str) -> str:
    return str(zlib.crc32(key.encode()) + 1)


def _error(message: str) -> Answer:
    return answer(400, {"status": "error", "message": message, "category": "VALIDATION_ERROR"})
