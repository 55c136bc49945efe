"""Braze: profiles, subscriptions, identities, catalogs, and messages of four kinds.

Partial failures come with a 2xx: `errors` names rows by `index` within `input_array`. An entry
may also be a bare string that names nobody; then nobody is taken as accepted. Success means
queued at Braze, not delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import Receipt, Record, Reply, Request, Status, Stream
from connectors.destinations import _replies as replies
from connectors.destinations.braze.bodies import BODIES
from connectors.destinations.braze.streams import STREAMS

_ARRAYS = (
    "attributes",
    "recipients",
    "user_aliases",
    "aliases_to_identify",
    "merge_updates",
    "external_ids",
    "items",
)
"""Lists with one entry a record, in their order."""
_COUNTS = ("attributes_processed", "aliases_processed")
_STATUSES = ("sent", "queued", "processed", "delivered", "success")
"""What the transactional endpoint says of a message that it has taken."""


class Braze:
    """REST API of one Braze workspace; a person is known by `external_id`."""

    name = "braze"
    streams: Mapping[str, Stream] = STREAMS

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication."""
        return {"Authorization": f"Bearer {api_key}"}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """What the endpoint of the stream asks for.

        Raises RefusedRecordError for a record that lacks something, ValueError for an empty
        batch or one whose records cannot share a request.
        """
        replies.check_batch(self.streams[stream], records)
        return BODIES[stream](records)

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by index; see the module's docstring."""
        body = replies.body_of(reply)
        array = next((name for name in _ARRAYS if name in request.json), "")
        blamed, is_clear = _blamed(body.get("errors"), array, len(request.records))
        if reply.status == 400 and blamed:
            return _refused(request, reply, blamed)
        receipts = replies.without_verdicts(request, reply, body.get("message"))
        if receipts is not None:
            return receipts
        rest = Status.ACCEPTED, ""
        doubt = _doubt(request, body, reply, is_clear, len(request.records) - len(blamed))
        if doubt:
            rest = Status.UNKNOWN, doubt
        ref = body.get("dispatch_id") if rest[0] is Status.ACCEPTED else ""
        return [
            replies.receipt(record, Status.REJECTED, blamed[i], reply)
            if i in blamed
            else replies.receipt(record, *rest, reply, ref)
            for i, record in enumerate(request.records)
        ]


def _blamed(errors: Any, array: str, count: int) -> tuple[dict[int, str], bool]:
    """Index to reason for the rows that `errors` names, and whether every error names a row."""
    blamed: dict[int, str] = {}
    is_clear = errors is None or isinstance(errors, list)
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        is_ours = isinstance(error, dict) and array and error.get("input_array", array) == array
        if is_ours and type(index) is int and 0 <= index < count:
            blamed.setdefault(index, str(error.get("type") or error.get("message") or "invalid"))
        else:
            is_clear = False
    return blamed, is_clear


def _refused(request: Request, reply: Reply, blamed: Mapping[int, str]) -> list[Receipt]:
    """A refused batch that names the guilty: the others were not taken and may go again."""
    return [
        replies.receipt(record, Status.REJECTED, blamed[i], reply)
        if i in blamed
        else replies.receipt(record, Status.NOT_SENT, "refused with its batch", reply)
        for i, record in enumerate(request.records)
    ]


def _doubt(
    request: Request, body: Mapping[str, Any], reply: Reply, is_clear: bool, rest: int
) -> str:
    """Why the rows that no error names cannot be taken as accepted; empty when they can."""
    if "external_send_id" in request.json:
        is_taken = body.get("status") in _STATUSES and bool(body.get("dispatch_id"))
        return "" if is_taken and is_clear else f"HTTP {reply.status} without a status"
    message = body.get("message")
    if message != "success" and not (reply.status == 202 and message == "queued"):
        return f"HTTP {reply.status} without success: {message or 'unreadable answer'}"
    if not is_clear:
        return "an error in the answer names no row"
    for name in _COUNTS:
        count = body.get(name)
        if isinstance(count, int) and count < rest:
            return f"only {count} of {rest} rows were processed"
    deleted = body.get("deleted")
    if isinstance(deleted, int) and deleted < rest and rest > 1:
        # Alone, one that was not there is as good as deleted.
        return f"only {deleted} of {rest} people were there to delete"
    return ""
