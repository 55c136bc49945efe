"""HubSpot: contacts by email, notes and tasks on contacts by a key of ours.

Answers 200 or 207. A result or an error belongs to the input whose `objectWriteTraceId` it
repeats; results without one are known by the property they were addressed by. Results come in
any order, and a 2xx may hold neither results nor errors: then nothing was written.

A note or a task is written first and then put on its contact by a second call. Both can be
repeated: the first is an upsert, and an association that exists stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors.base import REP, Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies

KEY = "nextmove_key"
"""The property of notes and tasks that holds our key; it must be unique in the account."""

_TRACE = "objectWriteTraceId"
_PATH = "/crm/v3/objects/{}/batch/upsert"
_KINDS = {"notes": "note", "tasks": "task"}
_SAME_KEY_S = 86_400.0
"""The property is unique for good, so the same key is the same task; a day is more than a run."""


def _told_about(request: Request, reply: Reply | None) -> Request | None:
    """The same where what is written tells a rep, who knows of it from then on."""
    following = _associate(request, reply)
    return following and replace(following, memory={**following.memory, "tells": True})


def _associate(request: Request, reply: Reply | None) -> Request | None:
    """The call that puts what was written on its contacts; None when nothing was."""
    if reply is None or request.memory or replies.without_verdicts(request, reply, "") is not None:
        return None
    body = replies.body_of(reply)
    written = _written(_dicts(body.get("results")), request)
    kind = _KINDS[request.path.split("/")[4]]
    inputs = [
        {
            "from": {"id": str(written[str(i)])},
            "to": {"id": record.identity["contact_id"]},
            "type": f"{kind}_to_contact",
        }
        for i, record in enumerate(request.records)
        if str(i) in written
    ]
    if not inputs:
        return None
    memory = {"written": written, "blamed": _blamed(_dicts(body.get("errors")))}
    path = f"/crm/v3/associations/{kind}/contact/batch/create"
    return Request("POST", path, {"inputs": inputs}, request.records, memory=memory)


def _stream(name: str, *, is_on_contact: bool = False) -> Stream:
    return Stream(
        name=name,
        lane=Lane.PROFILE,
        batch_size=100,
        pool="crm",
        windows=(Window(100, 10), Window(250_000, 86_400)),
        splits_on_400=True,
        whole_rows=is_on_contact,
        follow=_associate if is_on_contact else None,
        used=_used,
    )


def _used(reply: Reply) -> float | None:
    """What the account has used of the day's calls."""
    limit = reply.headers.get("x-hubspot-ratelimit-daily", "")
    left = reply.headers.get("x-hubspot-ratelimit-daily-remaining", "")
    if not (limit.isdecimal() and left.isdecimal() and int(limit)):
        return None
    return 1 - int(left) / int(limit)


class HubSpot:
    """CRM API of one HubSpot account.

    A contact is known by `email`, and by `contact_id` where a note or a task is put on it.
    `messages` is what a rep is told: a task of the contact's owner.
    """

    name = "hubspot"
    streams: Mapping[str, Stream] = {
        "contacts": _stream("contacts"),
        "notes": _stream("notes", is_on_contact=True),
        "tasks": _stream("tasks", is_on_contact=True),
        "messages": replace(
            _stream("messages", is_on_contact=True),
            lane=Lane.SEND,
            batch_size=10,
            channels=(REP,),
            repeat_s=_SAME_KEY_S,
            follow=_told_about,
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication with a private app's token."""
        return {"Authorization": f"Bearer {api_key}"}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """One batch upsert, each input with its position as trace id.

        Raises RefusedRecordError for a record without a usable identifier, ValueError for a
        batch that is empty or too large.
        """
        replies.check_batch(self.streams[stream], records)
        make = _MAKERS.get(stream, _on_contact)
        objects = "tasks" if stream == "messages" else stream
        inputs = [{**make(record), _TRACE: str(i)} for i, record in enumerate(records)]
        return Request("POST", _PATH.format(objects), {"inputs": inputs}, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """Verdicts by trace id or key; an input that the reply does not name is unknown."""
        body = replies.body_of(reply)
        receipts = replies.without_verdicts(request, reply, _refusal(body))
        if request.memory:
            return _on_contacts(request, reply, body, receipts)
        if receipts is not None:
            return receipts
        written = _written(_dicts(body.get("results")), request)
        blamed = _blamed(_dicts(body.get("errors")))
        is_half = "contacts" not in request.path
        return [
            _verdict(record, str(i), {} if is_half else written, blamed, reply)
            for i, record in enumerate(request.records)
        ]


def _contact(record: Record) -> dict[str, Any]:
    return {
        "idProperty": "email",
        "id": replies.identifier(record, "email"),
        "properties": _properties(record, "email"),
    }


def _on_contact(record: Record) -> dict[str, Any]:
    """A note or a task. Its columns are HubSpot's own properties (hs_note_body, ...)."""
    if not replies.identifier(record, "contact_id").isdecimal():
        raise replies.refused(record, "contact_id is not a number")
    return {
        "idProperty": KEY,
        "id": record.key,
        "properties": {**_properties(record, "contact_id"), KEY: record.key},
    }


def _told(record: Record) -> dict[str, Any]:
    """What a rep is told, as a task that is due when it is brought."""
    message = record.fields
    task = {
        "hs_task_subject": replies.text(record, "subject"),
        "hs_task_body": message.get("text"),
        "hubspot_owner_id": message.get("rep_id"),
        "hs_timestamp": message.get("due_at"),
    }
    return _on_contact(Record(record.key, record.identity, task))


_MAKERS: Mapping[str, Callable[[Record], dict[str, Any]]] = {
    "contacts": _contact,
    "messages": _told,
}


def _properties(record: Record, identifier: str) -> dict[str, str]:
    return {n: _text(v) for n, v in replies.given(record.fields, but=(identifier,)).items()}


def _text(value: Any) -> str:
    """HubSpot takes every property as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refusal(body: Mapping[str, Any]) -> str:
    return str(body.get("message") or body.get("category") or "")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _written(results: Iterable[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Trace id to the object's id, for the inputs that a result names."""
    inputs = request.json["inputs"]
    traces = {entry["id"].lower(): entry[_TRACE] for entry in inputs}
    results = [result for result in results if result.get("id")]
    if len(results) == len(traces) == 1:
        # A contact found by a secondary address comes back with its primary one.
        return {"0": results[0]["id"]}
    written: dict[str, Any] = {}
    for result in results:
        properties = result.get("properties")
        key = properties.get(inputs[0]["idProperty"]) if isinstance(properties, dict) else None
        trace = result.get(_TRACE) or traces.get(str(key).lower())
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


def _on_contacts(
    request: Request, reply: Reply, body: Mapping[str, Any], refused: list[Receipt] | None
) -> list[Receipt]:
    """Written and on their contact; what is written only is tried again, which repeats nothing.

    Where it tells a rep, nothing that is written counts as not sent.
    """
    blamed: Mapping[str, str] = request.memory["blamed"]
    pairs = {
        (str(_id(result.get("from"))), str(_id(result.get("to"))))
        for result in _dicts(body.get("results"))
    }
    written = {
        trace: ref
        for trace, ref in request.memory["written"].items()
        if (str(ref), request.records[int(trace)].identity["contact_id"]) in pairs
    }
    receipts = [
        refused[i]
        if refused is not None and str(i) not in blamed
        else _verdict(record, str(i), written, blamed, reply)
        for i, record in enumerate(request.records)
    ]
    told = request.memory["written"] if "tells" in request.memory else {}
    return [
        replace(r, status=Status.UNKNOWN)
        if str(i) in told and r.status is not Status.ACCEPTED
        else r
        for i, r in enumerate(receipts)
    ]


def _id(end: Any) -> Any:
    return end.get("id") if isinstance(end, dict) else None


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
    reason = f"HTTP {reply.status} without a result for this record"
    return replies.receipt(record, Status.UNKNOWN, reason, reply)
