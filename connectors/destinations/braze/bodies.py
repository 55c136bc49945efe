"""What each Braze endpoint is asked: path and body for a batch of records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from connectors.base import Record, Request
from connectors.destinations import _replies as replies

_ADDRESSING = ("campaign_id", "channel")
_CATALOG = re.compile(r"[A-Za-z0-9_-]{1,250}")
_SEND_ID = re.compile(r"[a-zA-Z0-9\-_+/=]+")
_STATES = ("subscribed", "unsubscribed")

Records = Sequence[Record]


def users(records: Records) -> Request:
    """Attributes by external id."""
    body = {"attributes": [_attributes(record) for record in records]}
    return _post("/users/track", body, records)


def subscriptions(records: Records) -> Request:
    """Who is in a subscription group, and who has left it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for record in records:
        state = record.fields.get("subscription_state")
        if state not in _STATES:
            raise replies.refused(
                record, "subscription_state is neither subscribed nor unsubscribed"
            )
        group = replies.text(record, "subscription_group_id")
        groups.setdefault((group, state), []).append(_external_id(record))
    body = [
        {"subscription_group_id": group, "subscription_state": state, "external_ids": ids}
        for (group, state), ids in groups.items()
    ]
    return _post("/v2/subscription/status/set", {"subscription_groups": body}, records)


def aliases(records: Records) -> Request:
    """Further names for people who have an external id."""
    body = [{"external_id": _external_id(record), **_alias(record)} for record in records]
    return _post("/users/alias/new", {"user_aliases": body}, records)


def identifications(records: Records) -> Request:
    """External ids for people who are known by an alias only; what both have is merged."""
    body = [
        {"external_id": _external_id(record), "user_alias": _alias(record)} for record in records
    ]
    return _post(
        "/users/identify", {"aliases_to_identify": body, "merge_behavior": "merge"}, records
    )


def merges(records: Records) -> Request:
    """Two profiles of one person become one: `external_id` stays, `merged_id` goes."""
    body = [
        {
            "identifier_to_merge": {"external_id": replies.text(record, "merged_id")},
            "identifier_to_keep": {"external_id": _external_id(record)},
        }
        for record in records
    ]
    return _post("/users/merge", {"merge_updates": body}, records)


def deletions(records: Records) -> Request:
    """People to be forgotten for good."""
    return _post("/users/delete", {"external_ids": [_external_id(r) for r in records]}, records)


def catalog_items(records: Records) -> Request:
    """Whole items of one catalog; or, all `deleted`, items to be taken out of it."""
    catalog = _one(records, "catalog")
    if not _CATALOG.fullmatch(catalog):
        raise replies.refused(records[0], "catalog is not a catalog's name")
    items = [{"id": _item_id(record)} for record in records]
    if not _are_deleted(records):
        for item, record in zip(items, records, strict=True):
            item |= replies.given(record.fields, but=("catalog", "item_id"))
    method = "DELETE" if _are_deleted(records) else "PUT"
    return Request(method, f"/catalogs/{catalog}/items", {"items": items}, tuple(records))


def messages(records: Records) -> Request:
    """One API-triggered campaign's recipients with their trigger properties."""
    body = {
        "campaign_id": _one(records, "campaign_id"),
        "recipients": [_recipient(record, "trigger_properties") for record in records],
    }
    return _post("/campaigns/trigger/send", body, records)


def canvas_messages(records: Records) -> Request:
    """One API-triggered Canvas' entries; its id is in `campaign_id`."""
    body = {
        "canvas_id": _one(records, "campaign_id"),
        "recipients": [_recipient(record, "canvas_entry_properties") for record in records],
    }
    return _post("/canvas/trigger/send", body, records)


def direct_messages(records: Records) -> Request:
    """One message with a text of ours; of e-mails `campaign_id` holds the app's id."""
    (record,) = records
    channel = record.fields.get("channel")
    if channel not in _DIRECT:
        raise replies.refused(record, "only e-mail and push can be sent without a campaign")
    text = str(record.fields.get("body") or "")
    if not text.strip():
        raise replies.refused(record, "no body")
    subject = replies.text(record, "subject")
    content = _DIRECT[channel](_one(records, "campaign_id"), subject, text)
    body = {"broadcast": False, "external_user_ids": [_external_id(record)], "messages": content}
    return _post("/messages/send", body, records)


def _email(app: str, subject: str, text: str) -> dict[str, Any]:
    return {"email": {"app_id": app, "subject": subject, "body": text}}


def _push(_: str, subject: str, text: str) -> dict[str, Any]:
    apple = {"alert": {"title": subject, "body": text}}
    return {"apple_push": apple, "android_push": {"title": subject, "alert": text}}


_DIRECT: Mapping[Any, Callable[[str, str, str], dict[str, Any]]] = {"email": _email, "push": _push}


def transactional_messages(records: Records) -> Request:
    """One transactional e-mail. Its key keeps Braze from sending it again for 24 hours."""
    (record,) = records
    if not _SEND_ID.fullmatch(record.key):
        raise replies.refused(record, "the key has characters that external_send_id cannot have")
    campaign = quote(_one(records, "campaign_id"), safe="")
    body = {
        "external_send_id": record.key,
        "trigger_properties": _properties(record),
        "recipient": {"external_user_id": _external_id(record)},
    }
    return _post(f"/transactional/v1/campaigns/{campaign}/send", body, records)


BODIES: Mapping[str, Callable[[Records], Request]] = {
    "users": users,
    "subscriptions": subscriptions,
    "aliases": aliases,
    "identifications": identifications,
    "merges": merges,
    "deletions": deletions,
    "catalog_items": catalog_items,
    "messages": messages,
    "canvas_messages": canvas_messages,
    "direct_messages": direct_messages,
    "transactional_messages": transactional_messages,
}
"""By stream."""


def _post(path: str, body: Any, records: Records) -> Request:
    return Request("POST", path, body, tuple(records))


def _external_id(record: Record) -> str:
    return replies.identifier(record, "external_id")


def _attributes(record: Record) -> dict[str, Any]:
    external_id = _external_id(record)
    has_email = bool(record.identity.get("email"))
    email = {"email": replies.identifier(record, "email")} if has_email else {}
    return {**replies.given(record.fields), **email, "external_id": external_id}


def _alias(record: Record) -> dict[str, str]:
    return {name: replies.text(record, name) for name in ("alias_name", "alias_label")}


def _properties(record: Record) -> dict[str, Any]:
    return replies.given(record.fields, but=_ADDRESSING)


def _recipient(record: Record, properties: str) -> dict[str, Any]:
    return {"external_user_id": _external_id(record), properties: _properties(record)}


def _item_id(record: Record) -> str:
    """The catalog's own id of the item; the record's key when no other is given."""
    item = str(record.fields.get("item_id") or record.key)
    if not _CATALOG.fullmatch(item):
        raise replies.refused(record, "item_id has characters that Braze does not take")
    return item


def _are_deleted(records: Records) -> bool:
    return replies.all_deleted(records)


def _one(records: Records, name: str) -> str:
    """What all records agree in. ValueError when they do not, RefusedRecordError for nothing."""
    values = {str(record.fields.get(name) or "") for record in records}
    if len(values) != 1:
        raise ValueError(f"`records` must all have the same {name}")
    value = values.pop()
    if not value:
        raise replies.refused(records[0], f"no {name}")
    return value
