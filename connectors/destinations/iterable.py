"""Iterable: profiles and events in bulk, messages one by one.

Bulk calls answer 200 and list failures by identifier value, never by index: records of one
batch that share an email or user id fail together. A malformed row refuses the whole batch
with 400.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.base import Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies

_CHANNELS = ("email", "push", "sms")
_LONGEST_EVENT_ID = 512
_EVENT_COLUMNS = ("event_name", "created_at")
_ADDRESSING = ("campaign_id", "channel")


class Iterable:
    """API of one Iterable project; a person is known by user id, and email where there is one."""

    name = "iterable"
    streams: Mapping[str, Stream] = {
        "users": Stream(
            name="users",
            lane=Lane.PROFILE,
            batch_size=1_000,
            pool="users.bulkUpdate",
            windows=(Window(5, 1), Window(300, 60)),
            splits_on_400=True,
        ),
        "events": Stream(
            name="events",
            lane=Lane.PROFILE,
            batch_size=1_000,
            pool="events.trackBulk",
            windows=(Window(10, 1), Window(600, 60)),
            splits_on_400=True,
        ),
        "messages": Stream(
            name="messages",
            lane=Lane.SEND,
            batch_size=1,
            # The vendor states no limit for target calls; its answer 429 sets the pace.
            pool="target",
            windows=(Window(500, 1), Window(30_000, 60)),
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """The key in a header of its own."""
        return {"Api-Key": api_key}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """A bulk update, a bulk of events, or one message.

        Raises RefusedRecordError for a record that cannot be addressed, ValueError for a batch
        that is empty or too large.
        """
        replies.check_batch(self.streams[stream], records)
        if stream == "users":
            users = [_user(record) for record in records]
            return Request("POST", "/api/users/bulkUpdate", {"users": users}, tuple(records))
        if stream == "events":
            events = [_event(record) for record in records]
            return Request("POST", "/api/events/trackBulk", {"events": events}, tuple(records))
        path, body = _message(records[0])
        return Request("POST", path, body, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by identifier value, or of the one message."""
        body = replies.body_of(reply)
        receipts = replies.without_verdicts(request, reply, body.get("msg") or body.get("code"))
        if receipts is not None:
            return receipts
        if "users" in request.json or "events" in request.json:
            return _bulk(request, reply, body)
        record = request.records[0]
        if body.get("code") != "Success":
            reason = f"HTTP {reply.status} without Success"
            return [replies.receipt(record, Status.UNKNOWN, reason, reply)]
        params = body.get("params")
        ref = params.get("messageId") if isinstance(params, dict) else ""
        return [replies.receipt(record, Status.ACCEPTED, "", reply, ref)]


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
    """The record's key is the event id: the same id again updates the event."""
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


def _message(record: Record) -> tuple[str, dict[str, Any]]:
    """Path and body. The decision id comes back with the vendor's webhooks as metadata."""
    channel, campaign = record.fields.get("channel"), str(record.fields.get("campaign_id"))
    if channel not in _CHANNELS:
        raise replies.refused(record, "channel is none of email, push, sms")
    if not (campaign.isascii() and campaign.isdigit()):
        raise replies.refused(record, "campaign_id is not a number")
    body = {
        "campaignId": int(campaign),
        "recipientUserId": replies.identifier(record, "external_id"),
        "dataFields": replies.given(record.fields, but=_ADDRESSING),
        "metadata": {"decision_id": record.fields.get("decision_id")},
    }
    return f"/api/{channel}/target", body


def _bulk(request: Request, reply: Reply, body: Mapping[str, Any]) -> list[Receipt]:
    rows = request.json.get("users") or request.json["events"]
    blamed = _blamed(body)
    reasons = [_reason(row, blamed) for row in rows]
    doubt = _doubt(body, sum(not reason for reason in reasons), reply)
    rest = (Status.UNKNOWN, doubt) if doubt else (Status.ACCEPTED, "")
    return [
        replies.receipt(record, Status.REJECTED, reason, reply)
        if reason
        else replies.receipt(record, *rest, reply)
        for record, reason in zip(request.records, reasons, strict=True)
    ]


def _blamed(body: Mapping[str, Any]) -> dict[str, str]:
    """Lower-case identifier (or event name) to the name of the list it was found in."""
    failed = body.get("failedUpdates")
    lists = {**body, **(failed if isinstance(failed, dict) else {})}
    return {
        value.lower(): kind
        for kind, values in lists.items()
        if kind not in ("createdFields", "filteredOutFields") and isinstance(values, list)
        for value in values
        if isinstance(value, str)
    }


def _reason(row: Mapping[str, Any], blamed: Mapping[str, str]) -> str:
    names = (row.get("userId"), row.get("email"), row.get("eventName"))
    return next((blamed[n.lower()] for n in names if n and n.lower() in blamed), "")


def _doubt(body: Mapping[str, Any], rest: int, reply: Reply) -> str:
    """Why the rows that no list names cannot be taken as accepted; empty when they can."""
    count = body.get("successCount")
    if type(count) is not int:
        return f"HTTP {reply.status} without successCount"
    return f"only {count} of {rest} rows succeeded" if count < rest else ""
