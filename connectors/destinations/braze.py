"""Braze: profiles by /users/track, messages by API-triggered campaigns.

Partial failures come with HTTP 201: `errors` names rows by `index` within `input_array`.
An entry may also be a bare string that names nobody; then nobody is taken as accepted.
Success means queued at Braze, not delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies

_ADDRESSING = ("campaign_id", "channel")


class Braze:
    """REST API of one Braze workspace; a person is known by `external_id`."""

    name = "braze"
    streams: Mapping[str, Stream] = {
        "users": Stream(
            name="users",
            lane=Lane.PROFILE,
            batch_size=75,
            pool="users.track",
            windows=(Window(3_000, 3), Window(250_000, 3_600)),
            splits_on_400=True,
        ),
        "messages": Stream(
            name="messages",
            lane=Lane.SEND,
            # The limit is 50, but one lost answer makes the whole batch unknown.
            batch_size=10,
            pool="messages",
            windows=(Window(500, 1), Window(250_000, 3_600)),
            splits_on_400=True,
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication."""
        return {"Authorization": f"Bearer {api_key}"}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """Attributes, or one campaign's recipients with their trigger properties.

        Raises RefusedRecordError for a record without a usable external_id, ValueError for an
        empty batch or one of several campaigns.
        """
        replies.check_batch(self.streams[stream], records)
        if stream == "users":
            attributes = [_attributes(record) for record in records]
            return Request("POST", "/users/track", {"attributes": attributes}, tuple(records))
        body = {
            "campaign_id": _campaign(records),
            "recipients": [_recipient(record) for record in records],
        }
        return Request("POST", "/campaigns/trigger/send", body, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by index; see the module's docstring."""
        body = replies.body_of(reply)
        array = "attributes" if "attributes" in request.json else "recipients"
        blamed, is_clear = _blamed(body.get("errors"), array, len(request.records))
        if reply.status == 400 and blamed:
            return _refused(request, reply, blamed)
        receipts = replies.without_verdicts(request, reply, body.get("message"))
        if receipts is not None:
            return receipts
        rest = Status.ACCEPTED, ""
        doubt = _doubt(body, reply, is_clear, len(request.records) - len(blamed))
        if doubt:
            rest = Status.UNKNOWN, doubt
        ref = body.get("dispatch_id") if rest[0] is Status.ACCEPTED else ""
        return [
            replies.receipt(record, Status.REJECTED, blamed[i], reply)
            if i in blamed
            else replies.receipt(record, *rest, reply, ref)
            for i, record in enumerate(request.records)
        ]


def _attributes(record: Record) -> dict[str, Any]:
    external_id = replies.identifier(record, "external_id")
    has_email = bool(record.identity.get("email"))
    email = {"email": replies.identifier(record, "email")} if has_email else {}
    return {**replies.given(record.fields), **email, "external_id": external_id}


def _recipient(record: Record) -> dict[str, Any]:
    return {
        "external_user_id": replies.identifier(record, "external_id"),
        "trigger_properties": replies.given(record.fields, but=_ADDRESSING),
    }


def _campaign(records: Sequence[Record]) -> str:
    campaigns = {str(record.fields.get("campaign_id") or "") for record in records}
    if len(campaigns) != 1:
        raise ValueError("`records` must all have the same campaign_id")
    campaign = campaigns.pop()
    if not campaign:
        raise replies.refused(records[0], "no campaign_id")
    return campaign


def _blamed(errors: Any, array: str, count: int) -> tuple[dict[int, str], bool]:
    """Index to reason for the rows that `errors` names, and whether every error names a row."""
    blamed: dict[int, str] = {}
    is_clear = errors is None or isinstance(errors, list)
    for error in errors if isinstance(errors, list) else []:
        index = error.get("index") if isinstance(error, dict) else None
        is_ours = isinstance(error, dict) and error.get("input_array", array) == array
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


def _doubt(body: Mapping[str, Any], reply: Reply, is_clear: bool, rest: int) -> str:
    """Why the rows that no error names cannot be taken as accepted; empty when they can."""
    message = body.get("message")
    if message != "success" and not (reply.status == 202 and message == "queued"):
        return f"HTTP {reply.status} without success: {message or 'unreadable answer'}"
    if not is_clear:
        return "an error in the answer names no row"
    processed = body.get("attributes_processed")
    if isinstance(processed, int) and processed < rest:
        return f"only {processed} of {rest} rows were processed"
    return ""
