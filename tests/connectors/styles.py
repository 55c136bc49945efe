"""How each vendor answers when it takes some rows and refuses others, as documented.

One imitation a stream, in memory: `post` takes a request, keeps what it took in `took`, refuses
the rows in `bad`, and answers in the vendor's own style. Written from the vendors' documents; it
shares nothing with the destinations but the names of their streams.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.base import Record, Reply, Request

Rows = list[str]
Answer = Callable[[Request, Rows, list[bool]], Reply]


def person(i: int, **fields: Any) -> Record:
    return Record(f"k{i}", {"external_id": f"u{i}", "email": f"p{i}@example.com"}, fields)


def record_of(name: str, stream: str, i: int) -> Record:
    """A record that the stream takes; row i of a batch."""
    fields = FIELDS.get((name, stream), {"tier": "gold"})
    if (name, stream) in TO_REPS:
        return Record(f"k{i}", {"external_id": f"u{i}", "contact_id": str(500 + i)}, fields)
    if name == "hubspot" and stream != "contacts":
        return Record(f"k{i}", {"contact_id": str(500 + i)}, fields)
    if name == "slack":
        return Record(f"k{i}", {"slack_channel": f"C{i:08}"}, fields)
    if stream == "catalog_items":
        return Record(f"k{i}", {}, {**fields, "item_id": f"k{i}"})
    if stream == "merges":
        return person(i, merged_id=f"old{i}")
    return person(i, **fields)


TO_REPS = (("hubspot", "messages"), ("salesforce", "messages"))
_TOLD = {"subject": "s", "text": "t", "rep_id": "9", "due_at": "2026-03-02T09:00:00Z"}
_MESSAGE = {"campaign_id": "7", "channel": "email", "decision_id": "d"}
FIELDS: Mapping[tuple[str, str], dict[str, Any]] = {
    ("braze", "subscriptions"): {
        "subscription_group_id": "g",
        "subscription_state": "subscribed",
    },
    ("braze", "aliases"): {"alias_name": "n", "alias_label": "l"},
    ("braze", "identifications"): {"alias_name": "n", "alias_label": "l"},
    ("braze", "catalog_items"): {"catalog": "shoes"},
    ("braze", "messages"): _MESSAGE,
    ("braze", "canvas_messages"): _MESSAGE,
    ("braze", "direct_messages"): {**_MESSAGE, "subject": "s", "body": "b"},
    ("braze", "transactional_messages"): _MESSAGE,
    ("iterable", "events"): {"event_name": "moved"},
    ("iterable", "subscriptions"): {"email_list_ids": "7"},
    ("iterable", "list_members"): {"list_id": 7},
    ("iterable", "catalog_items"): {"catalog": "shoes"},
    ("iterable", "messages"): _MESSAGE,
    ("hubspot", "notes"): {"hs_note_body": "b"},
    ("hubspot", "tasks"): {"hs_task_subject": "s"},
    **dict.fromkeys(TO_REPS, _TOLD),
    ("slack", "messages"): {"text": "hello"},
}


@dataclass
class Vendor:
    """One stream's other side. `bad` holds the records' keys that it refuses."""

    answer: Answer
    rows: Callable[[Request], Rows]
    bad: Collection[str] = ()
    took: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def post(self, request: Request) -> Reply:
        """One call."""
        if "/jobs/ingest" in request.path:
            return self._bulk(request)
        if "/associations/" in request.path:
            return reply(201, {"results": request.json["inputs"]})
        keys = self.rows(request)
        good = [key not in self.bad for key in keys]
        answered = self.answer(request, keys, good)
        if answered.status < 300 and not is_refusal(answered):
            self.took.update(key for key, is_good in zip(keys, good, strict=True) if is_good)
        return answered

    def _bulk(self, request: Request) -> Reply:
        """Salesforce's bulk jobs: create, upload, close, ask, results."""
        parts = request.path.partition("/jobs/ingest")[2].strip("/").split("/")
        if request.method == "POST":
            job = f"J{len(self.jobs)}"
            self.jobs[job] = []
            return reply(200, {"id": job, "state": "Open"})
        job, rows = parts[0], self.jobs[parts[0]]
        if request.method == "PUT":
            rows += csv.DictReader(io.StringIO((request.body or b"").decode()))
            return reply(201, None)
        if request.method == "PATCH":
            self.took.update(key for key in map(_bulk_key, rows) if key not in self.bad)
            return reply(200, {"id": job, "state": "UploadComplete"})
        if len(parts) == 1:
            return reply(200, {"id": job, "state": "JobComplete"})
        is_failed = parts[1] == "failedResults"
        chosen = [row for row in rows if (_bulk_key(row) in self.bad) == is_failed]
        extra = {"sf__Id": "", "sf__Error": "BAD"} if is_failed else {"sf__Id": "003"}
        text = io.StringIO()
        writer = csv.DictWriter(text, [*extra, *(rows[0] if rows else [])])
        writer.writeheader()
        writer.writerows([{**extra, **row} for row in chosen])
        return Reply(200, text.getvalue().encode())


def _bulk_key(row: Mapping[str, str]) -> str:
    key = next(v for name, v in row.items() if name in ("nextmove_id__c", "nextmove_key__c"))
    return f"k{key[1:]}"


def is_refusal(answered: Reply) -> bool:
    """Slack says no with a 200."""
    return b'"ok": false' in answered.body


def reply(status: int, body: Any) -> Reply:
    return Reply(status, json.dumps(body).encode())


# ---- whose rows they are ----


def rows_by_record(request: Request) -> Rows:
    """By the records a request was made for: their order is the order of the rows."""
    return [record.key for record in request.records]


def listed(*path: str) -> Callable[[Request], Rows]:
    """By what is really in the body: the list at `path`, each entry leading to a key."""

    def rows(request: Request) -> Rows:
        body = request.json
        for name in path:
            body = body[name]
        return [_key(entry) for entry in body]

    return rows


def _key(entry: Any) -> str:
    """u3, p3@example.com and k3 are all row 3."""
    for name in ("external_id", "external_user_id", "userId", "nextmove_id__c", "id", "key"):
        if isinstance(entry, dict) and name in entry:
            entry = entry[name]
    if isinstance(entry, dict):
        entry = entry["identifier_to_keep"]["external_id"]
    return f"k{str(entry).partition('@')[0][1:]}"


# ---- the styles of answering ----


def braze(array: str, status: int = 201) -> Answer:
    """By index within the array."""

    def answer(_: Request, keys: Rows, good: list[bool]) -> Reply:
        errors = [
            {"type": "invalid", "input_array": array, "index": i}
            for i, is_good in enumerate(good)
            if not is_good
        ]
        if not any(good):
            return reply(400, {"message": "nothing valid", "errors": errors})
        body = {"message": "success", "dispatch_id": "d"}
        return reply(status, {**body, **({"errors": errors} if errors else {})})

    return answer


def whole(body: Any, status: int = 200) -> Answer:
    """One bad row and nothing is taken."""

    def answer(_: Request, keys: Rows, good: list[bool]) -> Reply:
        return reply(status, body) if all(good) else reply(400, {"message": "bad row"})

    return answer


def iterable(_: Request, keys: Rows, good: list[bool]) -> Reply:
    """By identifier value."""
    bad = [int(key[1:]) for key, is_good in zip(keys, good, strict=True) if not is_good]
    failed = [f"u{i}" if i % 2 else f"P{i}@Example.com" for i in bad]
    lists = {"invalidUserIds": failed[::2], "conflictEmails": failed[1::2]}
    return reply(200, {"successCount": sum(good), "failCount": len(bad), "failedUpdates": lists})


def hubspot(request: Request, keys: Rows, good: list[bool]) -> Reply:
    """By trace id, results in the reverse of the request's order."""
    inputs = request.json["inputs"]
    results = [
        {
            "id": f"9{i}",
            "properties": {entry["idProperty"]: entry["id"]},
            "objectWriteTraceId": entry["objectWriteTraceId"],
        }
        for i, entry in enumerate(inputs)
        if good[i]
    ]
    errors = [
        {"category": "BAD", "context": {"objectWriteTraceId": [entry["objectWriteTraceId"]]}}
        for i, entry in enumerate(inputs)
        if not good[i]
    ]
    body = {"results": results[::-1], **({"errors": errors} if errors else {})}
    return reply(207 if errors else 200, body)


def salesforce(_: Request, keys: Rows, good: list[bool]) -> Reply:
    """By position."""
    refused = {"success": False, "errors": [{"statusCode": "BAD", "message": "bad"}]}
    taken = {"success": True, "errors": [], "id": "003"}
    return reply(200, [taken if is_good else refused for is_good in good])


def hot_store(_: Request, keys: Rows, good: list[bool]) -> Reply:
    """By key, in order."""
    words = ["accepted" if is_good else "rejected" for is_good in good]
    rows = [{"key": key, "status": word} for key, word in zip(keys, words, strict=True)]
    return reply(200, {"instance": "i", "rows": rows})


def slack(_: Request, keys: Rows, good: list[bool]) -> Reply:
    """A 200, whatever it is."""
    return reply(200, {"ok": True, "ts": "1.0"} if good[0] else {"ok": False, "error": "no"})


_SUCCESS = {"message": "success"}
_CODE = {"code": "Success", "params": {"messageId": "m"}}
_DISPATCHED = {**_SUCCESS, "dispatch_id": "d"}
_SENT = {"dispatch_id": "d", "status": "sent"}

STYLES: Mapping[tuple[str, str], tuple[Answer, Callable[[Request], Rows]]] = {
    ("braze", "users"): (braze("attributes"), listed("attributes")),
    ("braze", "subscriptions"): (whole(_SUCCESS), rows_by_record),
    ("braze", "aliases"): (braze("user_aliases"), listed("user_aliases")),
    ("braze", "identifications"): (braze("aliases_to_identify"), listed("aliases_to_identify")),
    ("braze", "merges"): (whole(_SUCCESS, 202), listed("merge_updates")),
    ("braze", "deletions"): (whole(_SUCCESS, 201), listed("external_ids")),
    ("braze", "catalog_items"): (whole(_SUCCESS, 202), listed("items")),
    ("braze", "messages"): (braze("recipients"), listed("recipients")),
    ("braze", "canvas_messages"): (braze("recipients"), listed("recipients")),
    ("braze", "direct_messages"): (whole(_DISPATCHED, 201), listed("external_user_ids")),
    ("braze", "transactional_messages"): (whole(_SENT, 201), rows_by_record),
    ("iterable", "users"): (iterable, listed("users")),
    ("iterable", "events"): (iterable, listed("events")),
    ("iterable", "subscriptions"): (iterable, listed("updateSubscriptionsRequests")),
    ("iterable", "list_members"): (iterable, listed("subscribers")),
    ("iterable", "catalog_items"): (whole(_CODE, 202), rows_by_record),
    ("iterable", "deletions"): (whole(_CODE), rows_by_record),
    ("iterable", "messages"): (whole(_CODE), rows_by_record),
    ("hubspot", "contacts"): (hubspot, listed("inputs")),
    ("hubspot", "notes"): (hubspot, listed("inputs")),
    ("hubspot", "tasks"): (hubspot, listed("inputs")),
    ("hubspot", "messages"): (hubspot, listed("inputs")),
    ("hot_store", "store"): (whole({"instance": "i"}), rows_by_record),
    ("hot_store", "profiles"): (hot_store, listed("rows")),
    ("hot_store", "policies"): (hot_store, listed("rows")),
    ("salesforce", "contacts"): (salesforce, listed("records")),
    ("salesforce", "contacts_in_bulk"): (salesforce, rows_by_record),
    ("salesforce", "tasks"): (salesforce, rows_by_record),
    ("salesforce", "tasks_in_bulk"): (salesforce, rows_by_record),
    ("salesforce", "messages"): (salesforce, rows_by_record),
    ("slack", "messages"): (slack, rows_by_record),
    ("webhook", "events"): (whole(None), rows_by_record),
    ("webhook", "messages"): (whole(None), rows_by_record),
}


def vendor_of(name: str, stream: str, bad: Sequence[str]) -> Vendor:
    """The other side of a stream, which refuses the rows with these keys."""
    answer, rows = STYLES[name, stream]
    return Vendor(answer, rows, frozenset(bad))
