"""Braze as documented: identities, subscriptions, catalogs and transactional e-mail."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer

NAME = "braze"
IDENTITY = Limit("identity", 20_000, 60)
SUBSCRIPTIONS = Limit("subscriptions", 5_000, 60)
CATALOGS = Limit("catalogs", 16_000, 60)
MAX_ROWS = 50
MAX_BODY = 4 * 1024 * 1024  # a guess
SAME_ID = timedelta(hours=24)

Check = Callable[[Any], str]


def more_endpoints(state: State, limit_divisor: float) -> Mapping[str, Endpoint]:
    """By path."""
    identity = Pool([IDENTITY], limit_divisor)
    catalogs = Pool([CATALOGS], limit_divisor)
    book = Book(state)

    def rows(name: str, kind: str, check: Check, reply: Callable[[int], Answer]) -> Endpoint:
        return Endpoint(partial(book.rows, name, kind, check, reply), identity, MAX_BODY)

    return {
        "/v2/subscription/status/set": Endpoint(
            book.subscriptions, Pool([SUBSCRIPTIONS], limit_divisor), MAX_BODY
        ),
        "/users/alias/new": rows("user_aliases", "alias", _alias_error, _processed),
        "/users/identify": rows("aliases_to_identify", "identify", _identify_error, _processed),
        "/users/merge": rows("merge_updates", "merge", _merge_error, _accepted),
        "/users/delete": Endpoint(book.delete, identity, MAX_BODY),
        "PUT /catalogs/{name}/items": Endpoint(partial(book.items, "item"), catalogs, MAX_BODY),
        "DELETE /catalogs/{name}/items": Endpoint(
            partial(book.items, "item_deletion"), catalogs, MAX_BODY
        ),
        # No limit is stated.
        "/transactional/v1/campaigns/{id}/send": Endpoint(book.transactional, Pool([]), MAX_BODY),
    }


class Book:
    """Writes what is accepted into the ledger."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sent: dict[str, tuple[datetime, str]] = {}

    def _note(self, kind: str, external_id: str, properties: Mapping[str, Any]) -> None:
        entry = Entry(vendor=NAME, kind=kind, external_id=external_id, properties=dict(properties))
        self._state.record(entry)

    def rows(
        self, name: str, kind: str, check: Check, reply: Callable[[int], Answer], payload: Any
    ) -> Answer:
        """A list of rows.

        The documents show no partial failure: that one bad row refuses the call is a guess.
        """
        found = payload.get(name) if isinstance(payload, dict) else None
        if not isinstance(found, list) or not 0 < len(found) <= MAX_ROWS:
            return answer(400, {"message": f"'{name}' must have 1 to {MAX_ROWS} entries"})
        errors = [check(row) for row in found]
        if any(errors) or self._state.refuses(NAME):
            return answer(400, {"message": next(filter(None, errors), "refused")})
        for row in found:
            self._note(kind, _who(row), row)
        return reply(len(found))

    def subscriptions(self, payload: Any) -> Answer:
        """Groups of people, at most 50 of them in all."""
        groups = payload.get("subscription_groups") if isinstance(payload, dict) else None
        if not isinstance(groups, list) or not groups:
            return answer(400, {"message": "'subscription_groups' is required"})
        people = [(group, who) for group in groups for who in group.get("external_ids", [])]
        states = {group.get("subscription_state") for group in groups}
        if not 0 < len(people) <= MAX_ROWS or not states <= {"subscribed", "unsubscribed"}:
            return answer(400, {"message": "The subscription groups are not valid"})
        if self._state.refuses(NAME):
            return answer(400, {"message": "refused"})
        for group, who in people:
            state = group["subscription_state"]
            properties = {"group": group["subscription_group_id"], "state": state}
            self._note("subscription", who, properties)
        return answer(201, {"message": "success"})

    def delete(self, payload: Any) -> Answer:
        """`deleted` counts those who were there."""
        ids = payload.get("external_ids") if isinstance(payload, dict) else None
        if not isinstance(ids, list) or not 0 < len(ids) <= MAX_ROWS:
            return answer(400, {"message": f"1 to {MAX_ROWS} 'external_ids' are required"})
        known = [who for who in ids if who in self._state.accounts[NAME].profiles]
        for who in known:
            self._note("deletion", who, {})
        return answer(201, {"deleted": len(known), "message": "success"})

    def items(self, kind: str, payload: Any, catalog: str) -> Answer:
        """Asynchronous: what is well formed is accepted."""
        items = payload.get("items") if isinstance(payload, dict) else None
        if not isinstance(items, list) or not 0 < len(items) <= MAX_ROWS:
            return answer(400, {"message": f"1 to {MAX_ROWS} 'items' are required"})
        ids = [item.get("id") for item in items]
        if not all(isinstance(i, str) and i for i in ids) or len(set(ids)) < len(ids):
            return answer(400, {"message": "'id' is missing or repeated"})
        if self._state.refuses(NAME):
            return answer(400, {"message": "Invalid fields"})
        for item in items:
            self._note(kind, "", {"catalog": catalog, **item})
        return answer(202, {"message": "success"})

    def transactional(self, payload: Any, campaign: str) -> Answer:
        """The same external_send_id within 24 hours starts no new send, and succeeds."""
        payload = payload if isinstance(payload, dict) else {}
        send_id = payload.get("external_send_id")
        recipient = payload.get("recipient")
        who = recipient.get("external_user_id") if isinstance(recipient, dict) else None
        if not isinstance(who, str) or not who:
            return answer(400, {"message": "'recipient' is required"})
        if self._state.refuses(NAME):
            return answer(400, {"message": "refused"})
        now = self._state.now()
        at, dispatch = self._sent.get(send_id, (now, "")) if send_id else (now, "")
        if not dispatch or now - at > SAME_ID:
            dispatch = uuid.uuid4().hex
            self._state.send(
                Entry(
                    vendor=NAME,
                    kind="message",
                    external_id=who,
                    channel="email",
                    campaign_id=campaign,
                    dispatch_id=dispatch,
                    properties=payload.get("trigger_properties") or {},
                )
            )
            if send_id:
                self._sent[send_id] = now, dispatch
        return answer(201, {"dispatch_id": dispatch, "status": "sent", "metadata": {}})


def _processed(count: int) -> Answer:
    return answer(201, {"aliases_processed": count, "message": "success"})


def _accepted(_: int) -> Answer:
    return answer(202, {"message": "success"})


def _who(row: Mapping[str, Any]) -> str:
    keep = row.get("identifier_to_keep")
    return str(keep["external_id"] if isinstance(keep, dict) else row.get("external_id", ""))


def _alias_error(row: Any) -> str:
    wanted = ("alias_name", "alias_label")
    is_good = isinstance(row, dict) and all(isinstance(row.get(n), str) and row[n] for n in wanted)
    return "" if is_good else "'alias_name' and 'alias_label' are required"


def _identify_error(row: Any) -> str:
    is_good = isinstance(row, dict) and isinstance(row.get("external_id"), str)
    return _alias_error(row.get("user_alias")) if is_good else "'external_id' is required"


def _merge_error(row: Any) -> str:
    ends = (
        [row.get(f"identifier_to_{n}") for n in ("merge", "keep")] if isinstance(row, dict) else []
    )
    is_good = len(ends) == 2 and all(isinstance(e, dict) and e.get("external_id") for e in ends)
    if not is_good:
        return "'identifier_to_merge' and 'identifier_to_keep' are required"
    return "the identifiers must be different" if ends[0] == ends[1] else ""
