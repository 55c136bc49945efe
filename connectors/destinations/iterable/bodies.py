"""What each Iterable endpoint is asked: path and body for a batch of records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from connectors.base import Record, Request
from connectors.destinations import _replies as replies

CHANNELS = ("email", "push", "sms", "inApp", "whatsApp")
SUBSCRIPTIONS = (
    "emailListIds",
    "unsubscribedChannelIds",
    "unsubscribedMessageTypeIds",
    "subscribedMessageTypeIds",
)
_LONGEST_EVENT_ID = 512
_LARGEST_ITEM = 30_000
_EVENT_COLUMNS = ("event_name", "created_at")
_ADDRESSING = ("campaign_id", "channel")
_ITEM = re.compile(r"[A-Za-z0-9-]{1,255}")

Records = Sequence[Record]


def users(records: Records) -> Request:
    """Data fields by user id, with the email where there is one."""
    return _post("/api/users/bulkUpdate", {"users": [_user(r) for r in records]}, records)


def events(records: Records) -> Request:
    """Custom events. A record's key is the event id: the same id again updates the event."""
    return _post("/api/events/trackBulk", {"events": [_event(r) for r in records]}, records)


def subscriptions(records: Records) -> Request:
    """Lists, channels and message types that people are in or out of.

    Iterable overwrites every list that is given: a field holds ids by comma, and all of them.
    """
    body = [{**_person(record), **_subscribed(record)} for record in records]
    return _post(
        "/api/users/bulkUpdateSubscriptions", {"updateSubscriptionsRequests": body}, records
    )


def list_members(records: Records) -> Request:
    """Members of one static list; or, all `deleted`, people who are taken off it."""
    list_id = _number(records[0], "list_id")
    if len({str(record.fields.get("list_id")) for record in records}) != 1:
        raise ValueError("`records` must all have the same list_id")
    verb = "unsubscribe" if replies.all_deleted(records) else "subscribe"
    body = {"listId": list_id, "subscribers": [_person(record) for record in records]}
    return _post(f"/api/lists/{verb}", body, records)


def catalog_items(records: Records) -> Request:
    """Items of one catalog, by their changed fields; or, all `deleted`, items taken out."""
    catalogs = {str(record.fields.get("catalog") or "") for record in records}
    if len(catalogs) != 1:
        raise ValueError("`records` must all have the same catalog")
    path = f"/api/catalogs/{_name(records[0], catalogs.pop(), 'catalog')}/items"
    if replies.all_deleted(records):
        ids = [_item_id(record) for record in records]
        return Request("DELETE", path, {"itemIds": ids}, tuple(records))
    documents = {_item_id(record): _item(record) for record in records}
    if len(documents) < len(records):
        raise ValueError("`records` must all have another item_id")
    return _post(path, {"documents": documents, "replaceUploadedFieldsOnly": True}, records)


def deletions(records: Records) -> Request:
    """One person to be forgotten for good."""
    return _post("/api/users/forget", _person(records[0]), records)


def messages(records: Records) -> Request:
    """One message. The decision id comes back with the vendor's webhooks as metadata."""
    (record,) = records
    channel, campaign = record.fields.get("channel"), _number(record, "campaign_id")
    if channel not in CHANNELS:
        raise replies.refused(record, f"channel is none of {', '.join(CHANNELS)}")
    body = {
        "campaignId": campaign,
        "recipientUserId": replies.identifier(record, "external_id"),
        "dataFields": replies.given(record.fields, but=_ADDRESSING),
        "metadata": {"decision_id": record.fields.get("decision_id")},
    }
    return _post(f"/api/{channel}/target", body, records)


BODIES: Mapping[str, Callable[[Records], Request]] = {
    "users": users,
    "events": events,
    "subscriptions": subscriptions,
    "list_members": list_members,
    "catalog_items": catalog_items,
    "deletions": deletions,
    "messages": messages,
}
"""By stream."""


def _post(path: str, body: Any, records: Records) -> Request:
    return Request("POST", path, body, tuple(records))


def _person(record: Record) -> dict[str, str]:
    """By user id when there is one, with the email; else by email."""
    names = {"external_id": "userId", "email": "email"}
    person = {
        theirs: replies.identifier(record, ours)
        for ours, theirs in names.items()
        if record.identity.get(ours)
    }
    return person or {"userId": replies.identifier(record, "external_id")}


def _user(record: Record) -> dict[str, Any]:
    fields = replies.given(record.fields, but=("email", "external_id"))
    return {**_person(record), "dataFields": fields, "preferUserId": True}


def _event(record: Record) -> dict[str, Any]:
    name = record.fields.get("event_name")
    if not name:
        raise replies.refused(record, "no event_name")
    if len(record.key.encode()) > _LONGEST_EVENT_ID:
        raise replies.refused(record, f"the event id is above {_LONGEST_EVENT_ID} bytes")
    at = record.fields.get("created_at")
    created = {"createdAt": _epoch(at)} if isinstance(at, datetime) else {}
    fields = replies.given(record.fields, but=_EVENT_COLUMNS)
    return {**_person(record), "eventName": name, "id": record.key, "dataFields": fields, **created}


def _epoch(at: datetime) -> int:
    return int(replies.in_utc(at).timestamp())


def _subscribed(record: Record) -> dict[str, list[int]]:
    given = {name: record.fields.get(_column(name)) for name in SUBSCRIPTIONS}
    lists = {name: _ids(record, _column(name), v) for name, v in given.items() if v is not None}
    if not lists:
        raise replies.refused(record, f"none of {', '.join(map(_column, SUBSCRIPTIONS))}")
    return lists


def _column(name: str) -> str:
    """The name in a warehouse: unsubscribed_channel_ids of unsubscribedChannelIds."""
    return re.sub(r"([A-Z])", r"_\1", name).lower()


def _ids(record: Record, column: str, value: Any) -> list[int]:
    words = str(value).split(",") if str(value).strip() else []
    if not all(word.strip().isdecimal() for word in words):
        raise replies.refused(record, f"{column} is not numbers by comma")
    return [int(word) for word in words]


def _number(record: Record, name: str) -> int:
    value = str(record.fields.get(name))
    if not (value.isascii() and value.isdigit()):
        raise replies.refused(record, f"{name} is not a number")
    return int(value)


def _item_id(record: Record) -> str:
    """The catalog's own id of the item; the record's key when no other is given."""
    return _name(record, str(record.fields.get("item_id") or record.key), "item_id")


def _name(record: Record, value: str, what: str) -> str:
    if not _ITEM.fullmatch(value):
        raise replies.refused(record, f"{what} may have letters, digits and dashes only")
    return value


def _item(record: Record) -> dict[str, Any]:
    fields = replies.given(record.fields, but=("catalog", "item_id"))
    if len(msgspec.json.encode(fields)) > _LARGEST_ITEM:
        raise replies.refused(record, f"the item is above {_LARGEST_ITEM} bytes")
    return fields
