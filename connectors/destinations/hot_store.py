"""The hot store of `nextmove serve`: what the service decides with, kept in step like a vendor.

Rows are answered one by one, in their order, by key. Every call names the store it means, by
the id under which that was filled so far: a store that was lost and made anew refuses with
409, and all must come again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies

OTHER_INSTANCE = 409
_PATH = "/v1/hot_store"
_PACE = (Window(20, 2),)
"""2,500 profiles a second, for the service has decisions to make meanwhile."""


class HotStore:
    """The store of one service.

    Records of `profiles` and `policies` carry the store's id as the field `instance`. The one
    record of `store` asks for it, and may say `as_of` when all profiles are up to date; the
    receipt's `vendor_ref` is the id.
    """

    name = "hot_store"
    streams: Mapping[str, Stream] = {
        "store": Stream("store", Lane.PROFILE, 1, "policies", _PACE),
        "profiles": Stream("profiles", Lane.PROFILE, 250, "profiles", _PACE, splits_on_400=True),
        # A policy may be tens of megabytes.
        "policies": Stream("policies", Lane.PROFILE, 1, "policies", _PACE),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication."""
        return {"Authorization": f"Bearer {api_key}"}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """Rows with their changed columns, nulls among them; or the one greeting.

        Raises RefusedRecordError for a key that is not plain text, ValueError for a batch that
        is empty, too large or meant for two stores.
        """
        replies.check_batch(self.streams[stream], records)
        rows = [_row(record) for record in records]
        if stream == "store":
            return Request("PUT", _PATH, _but(rows[0], "key"), tuple(records))
        instances = {row.get("instance") for row in rows}
        if len(instances) != 1:
            raise ValueError("`records` must all have the same instance")
        body = {"instance": instances.pop(), "rows": [_but(row, "instance") for row in rows]}
        return Request("PUT", f"{_PATH}/{stream}", body, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """The verdict on each row; one that the reply does not name is unknown."""
        body = replies.body_of(reply)
        if reply.status == OTHER_INSTANCE:
            # Final for this run: the same call would be refused again.
            reason = body.get("error") or "another store"
            return [replies.receipt(r, Status.REJECTED, reason, reply) for r in request.records]
        receipts = replies.without_verdicts(request, reply, body.get("error"))
        if receipts is not None:
            return receipts
        if "rows" not in request.json:
            return [_greeted(request.records[0], reply, body.get("instance"))]
        verdicts = body.get("rows")
        named = verdicts if isinstance(verdicts, list) else []
        missing = [None] * (len(request.records) - len(named))
        return [
            _verdict(record, verdict, reply)
            for record, verdict in zip(request.records, [*named, *missing], strict=False)
        ]


def _row(record: Record) -> dict[str, Any]:
    for name in record.identity:
        replies.identifier(record, name)
    fields = {name: replies.json_value(value) for name, value in record.fields.items()}
    return {**fields, "key": record.key}


def _but(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _greeted(record: Record, reply: Reply, instance: Any) -> Receipt:
    if isinstance(instance, str) and instance:
        return replies.receipt(record, Status.ACCEPTED, "", reply, instance)
    return replies.receipt(record, Status.UNKNOWN, "the answer has no instance", reply)


def _verdict(record: Record, verdict: Any, reply: Reply) -> Receipt:
    if isinstance(verdict, dict) and verdict.get("key") == record.key:
        if verdict.get("status") == "accepted":
            return replies.receipt(record, Status.ACCEPTED, "", reply)
        if verdict.get("status") == "rejected":
            return replies.receipt(record, Status.REJECTED, verdict.get("reason"), reply)
    return replies.receipt(record, Status.UNKNOWN, "the answer does not name this row", reply)
