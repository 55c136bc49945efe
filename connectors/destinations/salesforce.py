"""Salesforce: contacts and tasks by upsert on an external id.

Up to 2,000 records of a run go by sObject Collections, 200 a call, answered in the order of the
request; more go by Bulk API 2.0 (`_salesforce_bulk`). A record that lost a race for a lock was
not written and goes again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from connectors.base import REP, Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies
from connectors.destinations import _salesforce_bulk as bulk
from connectors.destinations._salesforce_fields import OBJECTS, ROOT, TASK, Kind, fields_of, key_of

TOKEN = "/services/oauth2/token"  # noqa: S105 - a path
_WINDOWS = (Window(10, 1), Window(15_000, 86_400))
"""A pace of our own for the second; the day's limit is the account's, see `daily_share`."""
_MOST_BY_COLLECTIONS = 2_000
_SAME_KEY_S = 86_400.0
"""The key is an external id, so it is the same task for good; a day is more than a run."""
_AGAIN = ("UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
_USAGE = re.compile(r"api-usage=(\d+)/(\d+)")


def _used(reply: Reply) -> float | None:
    """The share of the day's calls that everybody together has used."""
    if any(error.get("errorCode") == "REQUEST_LIMIT_EXCEEDED" for error in _errors(reply)):
        return 1.0
    usage = _USAGE.search(reply.headers.get("sforce-limit-info", ""))
    return int(usage[1]) / int(usage[2]) if usage and int(usage[2]) else None


def _streams(kind: Kind) -> tuple[Stream, Stream]:
    by_collections = Stream(
        name=kind.stream,
        lane=Lane.PROFILE,
        batch_size=200,
        pool="api",
        windows=_WINDOWS,
        splits_on_400=True,
        bulk=kind.bulk,
        bulk_above=_MOST_BY_COLLECTIONS,
        used=_used,
    )
    by_bulk = Stream(
        name=kind.bulk,
        lane=Lane.PROFILE,
        batch_size=10_000,
        pool="api",
        windows=_WINDOWS,
        follow=bulk.follow,
        used=_used,
    )
    return by_collections, by_bulk


class Salesforce:
    """REST API of one org; a person is known by our `external_id` in an external id field.

    `messages` is what a rep is told: a task of the contact's owner.
    """

    name = "salesforce"
    streams: Mapping[str, Stream] = {
        **{s.name: s for k in OBJECTS for s in _streams(k)},
        "messages": Stream(
            name="messages",
            lane=Lane.SEND,
            batch_size=10,
            pool="api",
            windows=_WINDOWS,
            splits_on_400=True,
            channels=(REP,),
            repeat_s=_SAME_KEY_S,
            used=_used,
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication with an access token."""
        return {"Authorization": f"Bearer {api_key}"}

    def is_client(self, api_key: str) -> bool:
        """`consumer key:consumer secret`; an access token has no colon."""
        return ":" in api_key

    def login(self, api_key: str) -> Request:
        """The client credentials flow of OAuth 2.0, at the org's own address."""
        client, _, secret = api_key.partition(":")
        form = {
            "grant_type": "client_credentials",
            "client_id": client.strip(),
            "client_secret": secret.strip(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", TOKEN, None, (), headers=headers, body=urlencode(form).encode())

    def token(self, reply: Reply) -> str | None:
        """`access_token` of the answer."""
        found = replies.body_of(reply).get("access_token")
        return found if isinstance(found, str) and found else None

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """One Collections upsert, or the first call of a bulk job.

        Raises RefusedRecordError for a record without a usable identifier, ValueError for a
        batch that is empty or too large.
        """
        replies.check_batch(self.streams[stream], records)
        tells = stream == "messages"
        kind = TASK if tells else next(k for k in OBJECTS if stream in (k.stream, k.bulk))
        if stream == kind.bulk:
            return bulk.create(kind, records)
        body = {
            "allOrNone": False,
            "records": [_entry(kind, _told(r) if tells else r) for r in records],
        }
        path = f"{ROOT}/composite/sobjects/{kind.name}/{kind.key}"
        return Request("PATCH", path, body, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by position, or by external id for a bulk job."""
        if request.memory or request.path.startswith(bulk.JOBS):
            return bulk.verdicts(request, reply)
        errors = _errors(reply)
        text = errors[0].get("message") or errors[0].get("errorCode") if errors else ""
        if errors and errors[0].get("errorCode") in _AGAIN:
            return [replies.receipt(r, Status.NOT_SENT, text, reply) for r in request.records]
        receipts = replies.without_verdicts(request, reply, text)
        if receipts is not None:
            return receipts
        results = _list(reply)
        if len(results) != len(request.records):
            reason = f"HTTP {reply.status} with {len(results)} results"
            return [replies.receipt(r, Status.UNKNOWN, reason, reply) for r in request.records]
        return [_verdict(*pair, reply) for pair in zip(request.records, results, strict=True)]


def _told(record: Record) -> Record:
    """What a rep is told, as a task that is due on the day it is brought."""
    message = record.fields
    task = {
        "subject": replies.text(record, "subject"),
        "description": message.get("text"),
        "account_id": message.get("account_id"),
        "owner_id": message.get("rep_id"),
        "due_on": str(message.get("due_at") or "")[:10] or None,
    }
    return Record(record.key, {"contact_id": replies.identifier(record, "contact_id")}, task)


def _entry(kind: Kind, record: Record) -> dict[str, Any]:
    return {
        "attributes": {"type": kind.name},
        kind.key: key_of(kind, record),
        **fields_of(kind, record),
    }


def _list(reply: Reply) -> list[Any]:
    try:
        body = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        return []
    return body if isinstance(body, list) else []


def _errors(reply: Reply) -> list[dict[str, Any]]:
    """What is wrong with the whole call: a list of errors instead of results."""
    return [e for e in _list(reply) if isinstance(e, dict) and "errorCode" in e]


def _verdict(record: Record, result: Any, reply: Reply) -> Receipt:
    result = result if isinstance(result, dict) else {}
    if result.get("success") is True and result.get("id"):
        return replies.receipt(record, Status.ACCEPTED, "", reply, result["id"])
    errors = result.get("errors")
    errors = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
    if result.get("success") is not False or not errors:
        return replies.receipt(record, Status.UNKNOWN, "a result without a verdict", reply)
    code = str(errors[0].get("statusCode") or "")
    reason = f"{code} {errors[0].get('message') or ''}".strip()
    status = Status.NOT_SENT if code in _AGAIN else Status.REJECTED
    return replies.receipt(record, status, reason, reply)
