"""Iterable: profiles, events, subscriptions, lists and catalogs in bulk, messages one by one.

Bulk calls answer 200 and list failures by identifier value, never by index: records of one
batch that share an email or user id fail together. A malformed row refuses the whole batch
with 400.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies
from connectors.destinations.iterable.bodies import BODIES

_BULK = ("users", "events", "updateSubscriptionsRequests", "subscribers")
"""Lists with one entry a record, which are answered by counts."""
_NO_FAILURES = ("createdFields", "filteredOutFields")
_TRY_AGAIN = ("validemailfailures", "validuseridfailures")
"""Subscriptions: the person is known, and yet it did not work."""


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
            whole_rows=True,
        ),
        # The vendor states no limit for these two; its answer 429 sets the pace.
        "subscriptions": Stream(
            name="subscriptions",
            lane=Lane.PROFILE,
            batch_size=1_000,
            pool="subscriptions",
            windows=(Window(5, 1), Window(300, 60)),
            splits_on_400=True,
        ),
        "list_members": Stream(
            name="list_members",
            lane=Lane.PROFILE,
            batch_size=1_000,
            pool="lists",
            windows=(Window(5, 1), Window(300, 60)),
            splits_on_400=True,
            together=("list_id", "deleted"),
            deletes=True,
        ),
        "catalog_items": Stream(
            name="catalog_items",
            lane=Lane.PROFILE,
            # 1,000 items of 30 KB would be above the 4 MB of a body.
            batch_size=100,
            pool="catalogs",
            windows=(Window(100, 1), Window(6_000, 60)),
            splits_on_400=True,
            together=("catalog", "deleted"),
            deletes=True,
        ),
        "deletions": Stream(
            name="deletions",
            lane=Lane.PROFILE,
            batch_size=1,
            pool="users.forget",
            windows=(Window(3, 1), Window(1_000, 86_400)),
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
        """What the endpoint of the stream asks for.

        Raises RefusedRecordError for a record that lacks something, ValueError for a batch that
        is empty, too large or cannot share a request.
        """
        replies.check_batch(self.streams[stream], records)
        return BODIES[stream](records)

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by identifier value; or one for the message, the person or the batch."""
        body = replies.body_of(reply)
        receipts = replies.without_verdicts(request, reply, body.get("msg") or body.get("code"))
        if receipts is not None:
            return receipts
        rows = next((request.json[name] for name in _BULK if name in request.json), None)
        if rows is not None:
            return _bulk(request, rows, reply, body)
        if body.get("code") != "Success":
            reason = f"HTTP {reply.status} without Success"
            return [replies.receipt(r, Status.UNKNOWN, reason, reply) for r in request.records]
        params = body.get("params")
        ref = params.get("messageId") if isinstance(params, dict) else ""
        return [replies.receipt(r, Status.ACCEPTED, "", reply, ref) for r in request.records]


def _bulk(
    request: Request, rows: Sequence[Mapping[str, Any]], reply: Reply, body: Mapping[str, Any]
) -> list[Receipt]:
    blamed = _blamed(body)
    reasons = [_reason(row, blamed) for row in rows]
    doubt = _doubt(body, sum(not reason for reason in reasons), reply)
    rest = (Status.UNKNOWN, doubt) if doubt else (Status.ACCEPTED, "")
    return [
        replies.receipt(record, _refusal(reason), reason, reply)
        if reason
        else replies.receipt(record, *rest, reply)
        for record, reason in zip(request.records, reasons, strict=True)
    ]


def _refusal(reason: str) -> Status:
    return Status.NOT_SENT if reason.lower() in _TRY_AGAIN else Status.REJECTED


def _blamed(body: Mapping[str, Any]) -> dict[str, str]:
    """Lower-case identifier (or event name) to the name of the list it was found in."""
    failed = body.get("failedUpdates")
    lists = {**body, **(failed if isinstance(failed, dict) else {})}
    return {
        value.lower(): kind
        for kind, values in lists.items()
        if kind not in _NO_FAILURES and isinstance(values, list)
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
