"""The profile lane over the warehouse: what changed since the last confirmed row goes out.

The difference is taken in the warehouse, between an outbox and the rows a destination has
confirmed. A row moves to the confirmed side only with an accepted receipt, so a crash or a
rejection makes it come up again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from connectors.base import Receipt, Record, Status, Warehouse
from connectors.calls import Target
from connectors.errors import ConnectorError
from connectors.limits import Limiter
from connectors.sync import sync_profiles
from decision_engine.tables import RECEIPTS
from decision_engine.workspace import Workspace

OUTBOXES: Mapping[str, str] = {"braze": "users", "iterable": "users", "hubspot": "contacts"}
"""Destination kind to the stream its outbox feeds; the model is `outbox_<kind>__<stream>`."""

KEY = "key"
_IDENTITY = ("external_id", "email")
_UNSENT = (KEY, "customer_id")


def sync_outbox(
    workspace: Workspace,
    warehouse: Warehouse,
    name: str,
    target: Target,
    now: datetime,
    limiter: Limiter,
) -> tuple[dict[str, int], ConnectorError | None]:
    """Deliver one destination's changed rows; totals, and why it stopped early if it did."""
    kind = workspace.project.destinations[name].kind
    totals = {"extracted": 0, "accepted": 0, "rejected": 0, "skipped": 0, "unknown": 0}
    confirmed = prepare_confirmed(workspace, warehouse, kind)
    for batch in warehouse.query(difference(workspace, warehouse, kind)):
        rows, changed = split(batch)
        records = [record_of(r, c) for r, c in zip(rows.to_pylist(), changed, strict=True)]
        sendable = [r for r in records if r.fields]
        sync = sync_profiles(target, OUTBOXES[kind], sendable, limiter)
        receipts = {r.key: r for r in sync}
        keep(workspace, warehouse, confirmed, rows, receipts, name, now)
        for field in totals:
            totals[field] += getattr(sync.totals, field)
        if sync.stopped:
            return totals, sync.stopped
    return totals, None


def waiting(workspace: Workspace, warehouse: Warehouse, name: str) -> int:
    """How many rows of the outbox differ from what the destination has confirmed."""
    kind = workspace.project.destinations[name].kind
    if warehouse.columns(confirmed_table(workspace, kind)) is None:
        return int(warehouse.rows(f"select count(*) from {outbox_model(workspace, kind)}")[0][0])
    query = difference(workspace, warehouse, kind)
    return int(warehouse.rows(f"select count(*) from ({query}) as changed")[0][0])


def outbox_model(workspace: Workspace, kind: str) -> str:
    """`schema.name` of a destination's outbox."""
    return workspace.model(f"outbox_{kind}__{OUTBOXES[kind]}")


def confirmed_table(workspace: Workspace, kind: str) -> str:
    """`schema.name` of the rows a destination has confirmed."""
    return workspace.engine(f"confirmed_{kind}__{OUTBOXES[kind]}")


def prepare_confirmed(workspace: Workspace, warehouse: Warehouse, kind: str) -> str:
    """The confirmed table with at least the outbox's columns."""
    table, model = confirmed_table(workspace, kind), outbox_model(workspace, kind)
    warehouse.rows(f"create table if not exists {table} as select * from {model} limit 0")
    have = warehouse.columns(table) or {}
    for column, sql_type in (warehouse.columns(model) or {}).items():
        if column not in have:
            warehouse.rows(f"alter table {table} add column {warehouse.quote(column)} {sql_type}")
    return table


def difference(workspace: Workspace, warehouse: Warehouse, kind: str) -> str:
    """SQL: outbox rows that are new or differ, with a flag `changed_<column>` per column."""
    model = outbox_model(workspace, kind)
    columns = [c for c in warehouse.columns(model) or {} if c not in _UNSENT]
    quote = warehouse.quote
    flags = [f"(o.{quote(c)} is distinct from c.{quote(c)})" for c in columns]
    named = ", ".join(
        f"{f} as {quote(f'changed_{c}')}" for f, c in zip(flags, columns, strict=True)
    )
    return (
        f"select o.*, {named} from {model} o"
        f" left join {confirmed_table(workspace, kind)} c on o.{KEY} = c.{KEY}"
        f" where c.{KEY} is null or {' or '.join(flags)} order by o.{KEY}"
    )


def split(batch: pa.RecordBatch) -> tuple[pa.Table, list[list[str]]]:
    """The outbox rows, and for each the names of the columns that changed."""
    table = pa.Table.from_batches([batch])
    flags = [c for c in table.column_names if c.startswith("changed_")]
    names = [f.removeprefix("changed_") for f in flags]
    rows = zip(*(table[f].to_pylist() for f in flags), strict=True)
    changed = [[n for n, is_new in zip(names, row, strict=True) if is_new] for row in rows]
    return table.drop_columns(flags), changed


def record_of(row: Mapping[str, Any], changed: list[str]) -> Record:
    """The changed columns of a row. A NULL overwrites nothing at the destination."""
    fields = {c: plain(row[c]) for c in changed if row[c] is not None}
    identity = {c: str(row[c]) for c in _IDENTITY if row.get(c)}
    return Record(str(row[KEY]), identity, fields)


def plain(value: Any) -> Any:
    """A value as JSON knows it; times become ISO text in UTC."""
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value


def keep(
    workspace: Workspace,
    warehouse: Warehouse,
    confirmed: str,
    rows: pa.Table,
    receipts: Mapping[str, Receipt],
    name: str,
    now: datetime,
) -> None:
    """Receipts, and the rows that are now confirmed, in one transaction.

    A row in which only NULLs changed has nothing to send and counts as confirmed.
    """
    keys = rows[KEY].to_pylist()
    done = [k not in receipts or receipts[k].status is Status.ACCEPTED for k in keys]
    customers = dict(zip(keys, rows["customer_id"].to_pylist(), strict=True))
    lines = [receipt_row(r, customers[r.key], workspace, name, now) for r in receipts.values()]
    with warehouse.transaction():
        warehouse.merge(confirmed, rows.filter(pa.array(done)), [KEY])
        warehouse.append(workspace.engine("receipts"), pa.Table.from_pylist(lines, schema=RECEIPTS))


def receipt_row(
    receipt: Receipt, customer_id: str, workspace: Workspace, name: str, now: datetime
) -> dict[str, Any]:
    """A profile-lane receipt. The key may be an address, so only its digest is kept."""
    stream = OUTBOXES[workspace.project.destinations[name].kind]
    digest = hashlib.sha256(f"{workspace.project.salt}\x1f{receipt.key}".encode()).hexdigest()
    return {
        "send_key": f"{name}.{stream}:{digest[:16]}:{now.isoformat()}",
        "decision_id": None,
        "destination": name,
        "stream": stream,
        "customer_id": customer_id,
        "attempt": 1,
        "status": receipt.status.value,
        "reason": receipt.reason,
        "http_status": receipt.http_status,
        "vendor_ref": receipt.vendor_ref,
        "at": now,
    }
