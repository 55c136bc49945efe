"""Rows of deliveries, for the people who look after them: what waits, what failed, one to try."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from connectors.base import Record, Request, Warehouse
from connectors.calls import Line
from connectors.errors import ConfigurationError, ConnectorError
from decision_engine.confirmed import UNSENT, Confirmed, Outbox, outboxes_of
from decision_engine.delivery import Delivery, open_delivery, require_real_clock, utc_now
from decision_engine.errors import StepError
from decision_engine.outbox import THERE, record_of, split
from decision_engine.outbox_checks import look, require_built
from decision_engine.sync_runs import record
from decision_engine.workspace import Workspace

_ROW = ("at", "destination", "stream", "customer_id", "http_status", "reason", "decision_id")


def with_status(
    workspace: Workspace, warehouse: Warehouse, status: str, limit: int
) -> list[dict[str, Any]]:
    """Receipts of rejected or unknown records that nothing has changed since, newest first.

    A record is known by the customer: its key may be an address, and is not kept. `payload` is a
    digest of what was sent of it: the same as long as nothing of it has changed.
    """
    receipts = workspace.engine("receipts")
    # A profile's key is "destination.stream:digest of the row:moment:digest of what was sent"; a
    # message's has no colon.
    same = " and ".join(
        f"split_part(l.send_key, ':', {n}) = split_part(r.send_key, ':', {n})" for n in (1, 2)
    )
    # What a webhook has settled is as of the same moment.
    later = (
        f"select 1 from {receipts} l where {same} and l.status <> 'not_sent'"
        " and (l.at > r.at or (l.at = r.at and l.status = 'accepted'))"
    )
    names = ", ".join(f"r.{name}" for name in (*_ROW, "send_key"))
    found = warehouse.rows(
        f"select {names} from {receipts} r where r.status = ? and not exists ({later})"
        f" order by r.at desc, r.send_key limit {int(limit)}",
        [status],
    )
    return [{**dict(zip(_ROW, row, strict=False)), "payload": _payload(row[-1])} for row in found]


def _payload(send_key: str) -> str:
    """The digest of what was sent of a row; a message is known by its decision."""
    return send_key.rpartition(":")[2] if ":" in send_key else ""


def plan(workspace: Workspace, warehouse: Warehouse) -> list[dict[str, Any]]:
    """What each outbox would send: its rows, how many are new, changed, vanished; problems."""
    return [
        _planned(workspace, Confirmed.of(workspace, warehouse, name, outbox), name, utc_now())
        for name in workspace.project.destinations
        for outbox in outboxes_of(workspace, warehouse, name)
    ]


def _planned(
    workspace: Workspace, confirmed: Confirmed, name: str, now: datetime
) -> dict[str, Any]:
    found = look(workspace, confirmed, name)
    new, changed, vanished = (0, 0, 0) if found.problems else confirmed.counts(now)
    return {
        "stream": f"{name}.{confirmed.outbox.stream}",
        "rows": found.rows,
        "new": new,
        "changed": changed,
        "vanished": vanished,
        "problems": list(found.problems),
    }


@contextmanager
def _one(
    workspace: Workspace, stream: str, now: datetime
) -> Iterator[tuple[Delivery, Warehouse, str, Outbox]]:
    """One outbox by "destination.stream", with everything open that it takes to deliver it."""
    name, _, wanted = stream.partition(".")
    if name not in workspace.project.destinations:
        known = ", ".join(workspace.project.destinations)
        raise ConfigurationError(f"no destination is called {name}", f"there are {known}")
    require_real_clock(workspace, now)
    with open_delivery(workspace) as delivery, workspace.warehouse() as warehouse:
        found = {o.stream: o for o in outboxes_of(workspace, warehouse, name)}
        if wanted not in found:
            raise ConfigurationError(
                f"{name} has no outbox {wanted}", f"there are {', '.join(found) or 'none'}"
            )
        yield delivery, warehouse, name, found[wanted]


def retry(workspace: Workspace, stream: str, now: datetime) -> dict[str, int]:
    """Bring one outbox up to date, rejected rows at once; its totals.

    StepError when it could not go on.
    """
    with _one(workspace, stream, now) as (delivery, warehouse, name, outbox):
        sync = delivery.sync(warehouse, name, now, only=outbox.stream, at_once=True)
        sync.run()
        record(workspace, warehouse, sync.runs)
        problems = [*sync.refused, *([sync.stopped] if sync.stopped else [])]
        if problems:
            raise StepError("\n".join(map(str, problems)))
        return sync.totals[outbox.title]


def test(
    workspace: Workspace, stream: str, key: str, now: datetime, *, send: bool
) -> dict[str, Any]:
    """One changed row as a request and, with `send`, the verdict on it.

    What is accepted is not noted as confirmed: the next delivery brings the row once more, which
    changes nothing. StepError when there is no such row, or nothing of it has changed.
    """
    with _one(workspace, stream, now) as (delivery, warehouse, name, outbox):
        confirmed = Confirmed.of(workspace, warehouse, name, outbox)
        require_built(confirmed, name)
        confirmed.prepare()
        rows, row = _row(confirmed, key)
        line = Line(name, delivery.targets[name], delivery.limiter)
        found = line.stream(outbox.stream)
        request, refused = line.build(found, [row])
        if request is None:
            return {**_call(None), "status": "rejected", "reason": refused[0].reason}
        if not send:
            return {**_call(request), "status": "", "reason": "not sent"}
        confirmed.doubt(rows, THERE if outbox.removes else None, secrets.token_hex(8))
        try:
            line.acquire(found)
            (receipt,) = line.call(found, request)[1]
        except ConnectorError as error:
            raise StepError(str(error)) from None
        return {**_call(request), "status": receipt.status.value, "reason": receipt.reason}


def _row(confirmed: Confirmed, key: str) -> tuple[pa.Table, Record]:
    """The first changed row, or the one with that key, and what would be sent of it."""
    sql, values = (confirmed.one(), [key]) if key else (f"{confirmed.changes()} limit 1", [])
    for batch in confirmed.warehouse.query(sql, values):
        rows, changed = split(batch)
        if len(rows):
            row = rows.to_pylist()[0]
            is_whole = confirmed.outbox.is_whole
            names = [c for c in row if c not in UNSENT] if is_whole else changed[0]
            return rows.slice(0, 1), record_of(row, names)
    which = f"row {key}" if key else "row"
    raise StepError(f"no {which} of {confirmed.model} has anything to send")


def _call(request: Request | None) -> dict[str, Any]:
    if request is None:
        return {"method": "", "path": "", "body": None}
    return {"method": request.method, "path": request.path, "body": request.json}


def shown(result: dict[str, Any]) -> str:
    """The request and what became of it, for a terminal."""
    body = msgspec.json.format(msgspec.json.encode(result["body"])).decode()
    verdict = f"{result['status']} {result['reason']}".strip()
    return f"{result['method']} {result['path']}\n{body}\n\n{verdict}"
