"""Bulk API 2.0: one job of up to 10,000 rows, from its creation to the last verdict.

    create -> upload CSV -> close -> ask until it has ended -> written rows -> failed rows

A job that cannot go on is aborted, for an open job counts against the org. What is in neither
list of results was not processed. An upsert can be repeated, so a lost answer costs nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import Receipt, Record, Reply, Request, Status
from connectors.destinations import _replies as replies
from connectors.destinations._salesforce_fields import ROOT, Kind, fields_of, key_of

JOBS = f"{ROOT}/jobs/ingest"
_CSV = {"Content-Type": "text/csv", "Accept": "text/csv"}
_CLIENT_ERROR, _SERVER_ERROR, _TIMEOUT = 400, 500, 408
_RUNNING = ("UploadComplete", "InProgress")
_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, *(30.0,) * 20)
"""Seconds between questions; after the last one the job is left to end by itself."""


def create(kind: Kind, records: Sequence[Record]) -> Request:
    """The call that makes the job; the rows wait in `memory`."""
    body = {
        "object": kind.name,
        "externalIdFieldName": kind.key,
        "operation": "upsert",
        "contentType": "CSV",
        "lineEnding": "LF",
    }
    keys, table = _table(kind, records)
    memory = {"step": "create", "keys": keys, "csv": table, "key": kind.key}
    return Request("POST", JOBS, body, tuple(records), memory=memory)


def _table(kind: Kind, records: Sequence[Record]) -> tuple[list[str], bytes]:
    """External ids by record, and the rows as CSV.

    A field that a row lacks is left empty, which Salesforce leaves as it is.
    """
    keys = [key_of(kind, record) for record in records]
    rows = [fields_of(kind, record) for record in records]
    columns = [kind.key, *dict.fromkeys(name for row in rows for name in row)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for key, row in zip(keys, rows, strict=True):
        writer.writerow({kind.key: key, **{n: _cell(v) for n, v in row.items()}})
    return keys, text.getvalue().encode()


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def follow(request: Request, reply: Reply | None) -> Request | None:
    """The job's next call; None when the last reply ends the conversation."""
    memory = request.memory
    if reply is None or not 200 <= reply.status < 300:
        return _aborted(request)
    match memory["step"]:
        case "create":
            return _uploading(request, replies.body_of(reply).get("id"))
        case "upload":
            closing = {"state": "UploadComplete"}
            return _next(request, "close", "PATCH", memory["job"], closing)
        case "close" | "ask":
            return _asking(request, replies.body_of(reply).get("state"))
        case "written":
            rows = _rows(reply.body)
            return _next(
                request, "failed", "GET", f"{memory['job']}/failedResults/", None, written=rows
            )
        case _:
            return None


def _next(request: Request, step: str, method: str, path: str, json: Any, **memory: Any) -> Request:
    return Request(
        method,
        path,
        json,
        request.records,
        headers={"Accept": "text/csv"} if path.endswith("Results/") else {},
        memory={**request.memory, "step": step, **memory},
    )


def _uploading(request: Request, job: Any) -> Request | None:
    if not isinstance(job, str) or not job.isalnum():
        return None
    path = f"{JOBS}/{job}"
    return Request(
        "PUT",
        f"{path}/batches",
        None,
        request.records,
        headers=_CSV,
        body=request.memory["csv"],
        memory={**request.memory, "step": "upload", "job": path},
    )


def _asking(request: Request, state: Any) -> Request | None:
    """Ask again while the job runs, then fetch what was written, even of a failed job."""
    job, asked = request.memory["job"], request.memory.get("asked", 0)
    if state in ("JobComplete", "Failed", "Aborted"):
        return _next(request, "written", "GET", f"{job}/successfulResults/", None, state=state)
    if state not in _RUNNING or asked == len(_WAITS):
        return None
    question = _next(request, "ask", "GET", job, None, asked=asked + 1)
    return Request(
        question.method,
        question.path,
        None,
        question.records,
        wait_s=_WAITS[asked],
        memory=question.memory,
    )


def _aborted(request: Request) -> Request | None:
    """Only a job that is still open can be aborted; the reply changes no verdict."""
    if request.memory["step"] not in ("upload", "close"):
        return None
    was_closed = request.memory["step"] == "close"
    return _next(
        request, "abort", "PATCH", request.memory["job"], {"state": "Aborted"}, closed=was_closed
    )


def _rows(body: bytes) -> list[dict[str, str]]:
    """The rows of a table of results; none for what is not one."""
    return _table_of(body) or []


def _table_of(body: bytes) -> list[dict[str, str]] | None:
    """The rows; None unless the table is whole, for a key that is cut off is another row's key."""
    if not body.lstrip().startswith((b'"sf__Id"', b"sf__Id")) or not body.endswith(b"\n"):
        return None
    rows = list(csv.DictReader(io.StringIO(body.decode("utf-8", "replace"), newline="")))
    is_whole = all(None not in row and None not in row.values() for row in rows)
    return rows if is_whole else None


def verdicts(request: Request, reply: Reply) -> list[Receipt]:
    """One receipt per record, by its external id."""
    memory = request.memory
    if memory["step"] in ("create", "upload", "close", "abort"):
        return _never_begun(request, reply)
    written = {row.get(memory["key"], ""): row for row in memory.get("written", ())}
    is_answered = memory["step"] == "failed" and 200 <= reply.status < 300
    table = _table_of(reply.body) if is_answered else None
    is_whole = table is not None
    failed = {row.get(memory["key"], ""): row for row in table or ()}
    return [
        _verdict(record, key, written, failed, is_whole, reply)
        for record, key in zip(request.records, memory["keys"], strict=True)
    ]


def _never_begun(request: Request, reply: Reply) -> list[Receipt]:
    """The job was refused or aborted before any row was looked at."""
    step = request.memory["step"]
    if step == "abort":
        is_unsure = request.memory["closed"]
    else:
        is_unsure = not _CLIENT_ERROR <= reply.status < _SERVER_ERROR or reply.status == _TIMEOUT
    status = Status.UNKNOWN if is_unsure else Status.NOT_SENT
    reason = f"HTTP {reply.status}: the bulk job did not begin"
    return [replies.receipt(record, status, reason, reply) for record in request.records]


def _verdict(
    record: Record,
    key: str,
    written: Mapping[str, Mapping[str, str]],
    failed: Mapping[str, Mapping[str, str]],
    is_whole: bool,
    reply: Reply,
) -> Receipt:
    if key in failed:
        error = str(failed[key].get("sf__Error") or "refused")
        status = Status.NOT_SENT if error.startswith("UNABLE_TO_LOCK_ROW") else Status.REJECTED
        return replies.receipt(record, status, error, reply)
    if key in written and written[key].get("sf__Id"):
        return replies.receipt(record, Status.ACCEPTED, "", reply, written[key]["sf__Id"])
    if is_whole:
        return replies.receipt(record, Status.NOT_SENT, "not processed by the bulk job", reply)
    return replies.receipt(record, Status.UNKNOWN, "the bulk job's results are not known", reply)
