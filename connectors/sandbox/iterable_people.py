"""Iterable as documented: subscriptions, lists, catalogs, and forgetting people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer

NAME = "iterable"
FORGET = Limit("users/forget", 3, 1)
FORGET_DAILY = Limit("users/forget a day", 1_000, 86_400)
CATALOGS = Limit("catalogs", 100, 1)
MAX_ITEMS = 1_000
MAX_BODY = 4 * 1024 * 1024

_LISTS = (
    "emailListIds",
    "unsubscribedChannelIds",
    "unsubscribedMessageTypeIds",
    "subscribedMessageTypeIds",
)
_ITEM = re.compile(r"[A-Za-z0-9-]{1,255}")


def more_endpoints(state: State, limit_divisor: float) -> Mapping[str, Endpoint]:
    """By path."""
    book = Book(state)
    unlimited = Pool([])  # none is stated
    catalogs = Pool([CATALOGS], limit_divisor)
    forget = Pool([FORGET, FORGET_DAILY], limit_divisor)
    return {
        "/api/users/bulkUpdateSubscriptions": Endpoint(book.subscriptions, unlimited, MAX_BODY),
        **{
            f"/api/lists/{verb}": Endpoint(partial(book.members, verb), unlimited, MAX_BODY)
            for verb in ("subscribe", "unsubscribe")
        },
        "/api/catalogs/{name}/items": Endpoint(book.upload, catalogs, MAX_BODY),
        "DELETE /api/catalogs/{name}/items": Endpoint(book.remove, catalogs, MAX_BODY),
        "/api/users/forget": Endpoint(book.forget, forget, MAX_BODY),
    }


class Book:
    """Writes what is accepted into the ledger."""

    def __init__(self, state: State) -> None:
        self._state = state

    def _note(self, kind: str, who: Mapping[str, Any], **properties: Any) -> None:
        self._state.record(
            Entry(
                vendor=NAME,
                kind=kind,
                external_id=who.get("userId", ""),
                email=who.get("email", ""),
                properties=properties,
            )
        )

    def subscriptions(self, payload: Any) -> Answer:
        """People by identifier; lists of numbers."""
        rows = payload.get("updateSubscriptionsRequests") if isinstance(payload, dict) else None
        if not isinstance(rows, list) or not all(map(_has_lists, rows)):
            return _error("BadJsonBody", "updateSubscriptionsRequests: lists of numbers expected")
        bad = [row for row in rows if not self._takes("subscription", row)]
        return _counted(rows, bad)

    def _takes(self, kind: str, row: Any, **properties: Any) -> bool:
        if not _is_person(row) or self._state.refuses(NAME):
            return False
        given = {name: row[name] for name in _LISTS if name in row}
        self._note(kind, row, **given, **properties)
        return True

    def members(self, verb: str, payload: Any) -> Answer:
        """People are put on a list, or taken off it."""
        rows = payload.get("subscribers") if isinstance(payload, dict) else None
        if not isinstance(rows, list) or not isinstance(payload.get("listId"), int):
            return _error("BadJsonBody", "listId and subscribers expected")
        bad = [row for row in rows if not self._takes(verb, row, list=payload["listId"])]
        return _counted(rows, bad)

    def upload(self, payload: Any, catalog: str) -> Answer:
        """Asynchronous: what is well formed is accepted."""
        documents = payload.get("documents") if isinstance(payload, dict) else None
        if not isinstance(documents, dict) or not 0 < len(documents) <= MAX_ITEMS:
            return _error("BadJsonBody", f"1 to {MAX_ITEMS} documents expected")
        if not all(map(_ITEM.fullmatch, documents)) or self._state.refuses(NAME):
            return _error("BadParams", "an item id is not valid")
        for item, fields in documents.items():
            self._note("item", {}, catalog=catalog, id=item, **fields)
        return answer(202, {"msg": "processing", "code": "Success", "params": None})

    def remove(self, payload: Any, catalog: str) -> Answer:
        """As `upload`."""
        ids = payload.get("itemIds") if isinstance(payload, dict) else None
        if not isinstance(ids, list) or not ids or self._state.refuses(NAME):
            return _error("BadParams", "itemIds expected")
        for item in ids:
            self._note("item_deletion", {}, catalog=catalog, id=item)
        return answer(202, {"msg": "processing", "code": "Success", "params": None})

    def forget(self, payload: Any) -> Answer:
        """One person."""
        if not _is_person(payload) or self._state.refuses(NAME):
            return _error("BadParams", "email or userId expected")
        self._note("deletion", payload)
        return answer(200, {"msg": "forgotten", "code": "Success", "params": None})


def _error(code: str, message: str) -> Answer:
    return answer(400, {"msg": message, "code": code, "params": None})


def _has_lists(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    lists = [row[name] for name in _LISTS if name in row]
    return all(isinstance(x, list) and all(isinstance(i, int) for i in x) for x in lists)


def _is_person(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    email, user_id = row.get("email", ""), row.get("userId", "")
    return bool(user_id or email) and (not email or "@" in email)


def _counted(rows: list[Any], bad: list[Any]) -> Answer:
    emails = [row["email"] for row in bad if row.get("email")]
    ids = [row["userId"] for row in bad if not row.get("email")]
    return answer(
        200,
        {
            "successCount": len(rows) - len(bad),
            "failCount": len(bad),
            "invalidEmails": emails,
            "invalidUserIds": ids,
            "validEmailFailures": [],
            "validUserIdFailures": [],
        },
    )
