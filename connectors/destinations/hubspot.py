"""HubSpot: contacts by batch upsert on email.

Answers 200 or 207. A result or an error belongs to the input whose `objectWriteTraceId` it
repeats; results without one are known by their email. Results come in any order, and a 2xx
may hold neither results nor errors: then nothing was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from connectors.base import Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies

_TRACE = "objectWriteTraceId"


class HubSpot:
    """CRM API of one HubSpot account; a contact is known by `email`."""

    name = "hubspot"
    streams: Mapping[str, Stream] = {
        "contacts": Stream(
            name="contacts",
            lane=Lane.PROFILE,
            batch_size=100,
            pool="crm",
            windows=(Window(100, 10), Window(250_000, 86_400)),
            splits_on_400=True,
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication with a private app's token."""
        return {"Authorization": f"Bearer {api_key}"}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """One batch upsert, each input with its position as trace id.

        Raises RefusedRecordError for a record without a usable email, ValueError for a batch
        that is empty or too large.
        """
        replies.check_batch(self.streams[stream], records)
        inputs = [_input(i, record) for i, record in enumerate(records)]
        path = "/crm/v3/objects/contacts/batch/upsert"
        return Request("POST", path, {"inputs": inputs}, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by trace id or email; an input that the reply does not name is unknown."""
        body = replies.body_of(reply)
        receipts = replies.without_verdicts(request, reply, _refusal(body))
        if receipts is not None:
            return receipts
        written = _written(_dicts(body.get("results")), request)
        blamed = _blamed(_dicts(body.get("errors")))
        return [
            _verdict(record, str(i), written, blamed, reply)
            for i, record in enumerate(request.records)
        ]


def _input(position: int, record: Record) -> dict[str, Any]:
    return {
        "idProperty": "email",
        "id": replies.identifier(record, "email"),
        "properties": {
            name: _text(value)
            for name, value in replies.given(record.fields, but=("email",)).items()
        },
        _TRACE: str(position),
    }


def _text(value: Any) -> str:
    """HubSpot takes every property as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal(body: Mapping[str, Any]) -> str:
    return str(body.get("message") or body.get("category") or "")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _written(results: Iterable[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Trace id to the contact's id, for the inputs that a result names."""
    traces = {entry["id"].lower(): entry[_TRACE] for entry in request.json["inputs"]}
    results = [result for result in results if result.get("id")]
    if len(results) == len(traces) == 1:
        # A contact found by a secondary address comes back with its primary one.
        return {"0": results[0]["id"]}
    written: dict[str, Any] = {}
    for result in results:
        properties = result.get("properties")
        email = properties.get("email") if isinstance(properties, dict) else None
        trace = result.get(_TRACE) or traces.get(str(email).lower())
        if isinstance(trace, str):
            written[trace] = result["id"]
    return written


def _blamed(errors: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Trace id to reason, for the inputs that an error names."""
    blamed: dict[str, str] = {}
    for error in errors:
        context = error.get("context")
        traces = context.get(_TRACE) if isinstance(context, dict) else None
        for trace in traces if isinstance(traces, list) else []:
            blamed[str(trace)] = f"{error.get('category', '')} {error.get('message', '')}".strip()
    return blamed


def _verdict(
    record: Record,
    trace: str,
    written: Mapping[str, Any],
    blamed: Mapping[str, str],
    reply: Reply,
) -> Receipt:
    if trace in blamed:
        return replies.receipt(record, Status.REJECTED, blamed[trace] or "refused", reply)
    if trace in written:
        return replies.receipt(record, Status.ACCEPTED, "", reply, written[trace])
    reason = f"HTTP {reply.status} without a result for this contact"
    return replies.receipt(record, Status.UNKNOWN, reason, reply)
