"""The profile lane over the warehouse: what changed since the last confirmed row goes out.

The difference is taken in the warehouse, between an outbox and the rows a destination has
confirmed. A row moves to the confirmed side only with an accepted receipt, so a crash or a
rejection makes it come up again. It is put in doubt before it is sent, so that a row of which
nobody knows comes up again even if it has changed back.

A mirror says at the start of each run which store it is. What another one had confirmed is
forgotten then, so a store that was lost is filled again whole.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from connectors import failpoint
from connectors.base import Lane, Receipt, Record, Status, Warehouse
from connectors.calls import Target
from connectors.destinations.hot_store import OTHER_INSTANCE
from connectors.errors import ConnectorError, UnavailableError
from connectors.limits import Limiter
from connectors.sync import ProfileSync
from decision_engine.confirmed import (
    INSTANCE,
    KEY,
    UNSENT,
    Confirmed,
    Outbox,
    outboxes_of,
)
from decision_engine.fence import Fence
from decision_engine.outbox_checks import look, refusal
from decision_engine.sync_runs import SyncRun, tolerated
from decision_engine.tables import RECEIPTS
from decision_engine.workspace import Workspace

_IDENTITY = ("external_id", "email", "contact_id")
_AS_OF = "as_of"
THERE = "there"
"""The `instance` of rows that a vendor has: there is only one of it."""
_FIELDS = ("extracted", "accepted", "rejected", "skipped", "unknown")

Totals = dict[str, int]


@dataclass
class OutboxSync:
    """Brings one destination up to date, or `only` one stream of it.

    `totals` are by title, `runs` for the history. `stopped` says why it ended early; `refused`
    what is wrong with outboxes that were left alone, unless they are `allowed` ("braze.users").
    `at_once` tries all rejected rows again, whenever that was.
    """

    workspace: Workspace
    warehouse: Warehouse
    name: str
    target: Target
    now: datetime
    limiter: Limiter
    fence: Fence | None = None
    only: str = ""
    allowed: Collection[str] = ()
    at_once: bool = False

    def __post_init__(self) -> None:
        found = outboxes_of(self.workspace, self.warehouse, self.name)
        self.outboxes = [o for o in found if self.only in ("", o.stream)]
        self.runs: list[SyncRun] = []
        self.refused: list[ConnectorError] = []
        zeros = dict.fromkeys((*_FIELDS, "removed"), 0)
        self.totals: dict[str, Totals] = {o.title: dict(zeros) for o in self.outboxes}
        self.stopped: ConnectorError | None = None
        self.instance: str | None = None
        self._payloads: dict[str, str] = {}

    def run(self) -> None:
        """Deliver the changed rows of all outboxes."""
        mirrors = [o for o in self.outboxes if o.is_mirror]
        if mirrors:
            self.instance = self._greet({})
        done = [outbox for outbox in self.outboxes if not self.stopped and self._timed(outbox)]
        for outbox in done:
            if _AS_OF in outbox.quiet:
                self._complete(outbox)

    def _timed(self, outbox: Outbox) -> bool:
        """One outbox, and the line of the history that tells of it; whether it was fit for it."""
        start = time.perf_counter()
        confirmed = Confirmed.of(self.workspace, self.warehouse, self.name, outbox)
        found = look(self.workspace, confirmed, self.name)
        title = f"{self.name}.{outbox.stream}"
        is_fit = not found.problems or (title in self.allowed and not found.is_hopeless)
        if is_fit:
            confirmed.prepare()
            self._sync(confirmed)
            reason = str(self.stopped) if self.stopped else ""
        else:
            self.refused.append(refusal(title, found))
            reason = "; ".join(found.problems)
        self.runs.append(
            SyncRun.of(
                (self.name, outbox.stream, Lane.PROFILE),
                self.now,
                time.perf_counter() - start,
                {**self.totals[outbox.title], "in_outbox": found.rows},
                reason,
                standing=confirmed.rejected() if is_fit else 0,
                tolerated=tolerated(self.workspace),
            )
        )
        return is_fit

    def _sync(self, confirmed: Confirmed) -> None:
        outbox = confirmed.outbox
        instance = self.instance if outbox.is_mirror else THERE if outbox.removes else None
        if outbox.is_mirror and instance is not None:
            confirmed.forget_others(instance)
        if outbox.removes:
            confirmed.mark_vanished()
        left_alone_at = None if self.at_once else self.now
        for batch in self._batches(confirmed.changes(left_alone_at)):
            self._bring(confirmed, *split(batch), instance)
        if outbox.removes:
            for batch in self._batches(confirmed.vanished(left_alone_at)):
                rows = pa.Table.from_batches([batch])
                self._remove(confirmed, rows, self._send(outbox, self._removals(outbox, rows)))

    def _bring(
        self, confirmed: Confirmed, rows: pa.Table, changed: list[list[str]], instance: str | None
    ) -> None:
        """Send what has changed of some rows, and note what became of each.

        A row in which only NULLs changed has nothing to send and counts as confirmed.
        """
        records = self._records(confirmed.outbox, rows, changed)
        sent, mark = {record.key for record in records}, secrets.token_hex(8)
        is_sent = pa.array([key in sent for key in rows[KEY].to_pylist()], pa.bool_())
        with self.warehouse.transaction():
            self._check()
            confirmed.keep(rows.filter(pc.invert(is_sent)), instance)
            confirmed.doubt(rows.filter(is_sent), instance, mark)
        failpoint.hit("outbox.doubt.after_commit")
        receipts = self._send(confirmed.outbox, records)
        self._keep(confirmed, rows.filter(is_sent), receipts, instance, mark)

    def _batches(self, query: str) -> Iterator[pa.RecordBatch]:
        for batch in self.warehouse.query(query):
            if self.stopped:
                return
            yield batch

    def _records(self, outbox: Outbox, rows: pa.Table, changed: list[list[str]]) -> list[Record]:
        """A record per row that has something to send."""
        pairs = list(zip(rows.to_pylist(), changed, strict=True))
        if outbox.is_whole:
            pairs = [(row, [c for c in row if c not in UNSENT]) for row, _ in pairs]
        if not outbox.is_mirror:
            return [r for r in (record_of(row, names) for row, names in pairs) if r.fields]
        return [self._mirrored(row[KEY], {c: plain(row[c]) for c in names}) for row, names in pairs]

    def _removals(self, outbox: Outbox, rows: pa.Table) -> list[Record]:
        if outbox.is_mirror:
            return [self._mirrored(key, {"deleted": True}) for key in rows[KEY].to_pylist()]
        gone = [record_of(r, [c for c in r if c not in UNSENT]) for r in rows.to_pylist()]
        return [Record(r.key, r.identity, {**r.fields, "deleted": True}) for r in gone]

    def _mirrored(self, key: str, fields: dict[str, Any]) -> Record:
        return Record(key, {KEY: key}, {**fields, INSTANCE: self.instance})

    def _send(self, outbox: Outbox, records: Sequence[Record]) -> dict[str, Receipt]:
        """The receipts by key."""
        salt = self.workspace.project.salt
        self._payloads = {record.key: payload_digest(record, salt) for record in records}
        sync = ProfileSync(self.target, outbox.stream, records, self.limiter, name=self.name)
        receipts = {r.key: r for r in sync}
        for field in _FIELDS:
            self.totals[outbox.title][field] += getattr(sync.totals, field)
        self.stopped = self.stopped or sync.stopped
        if self._is_of_another(outbox, receipts):
            self.stopped = UnavailableError(
                f"{self.name} was made anew while it was filled", "the next delivery fills it"
            )
        return receipts

    def _is_of_another(self, outbox: Outbox, receipts: Mapping[str, Receipt]) -> bool:
        """Whether a mirror was made anew since it was greeted."""
        return outbox.is_mirror and any(r.http_status == OTHER_INSTANCE for r in receipts.values())

    def _keep(
        self,
        confirmed: Confirmed,
        rows: pa.Table,
        receipts: Mapping[str, Receipt],
        instance: str | None,
        mark: str,
    ) -> None:
        """Receipts, and the rows that are now confirmed, in one transaction.

        What has no receipt was never sent: the run was stopped before. Of what another store than
        was meant refused we know nothing any more.
        """
        keys = rows[KEY].to_pylist()
        ends = [receipts[k].status if k in receipts else Status.SKIPPED for k in keys]
        accepted, rejected = (
            pa.array([end is status for end in ends], pa.bool_())
            for status in (Status.ACCEPTED, Status.REJECTED)
        )
        unsent = [k for k, end in zip(keys, ends, strict=True) if end is Status.SKIPPED]
        with self.warehouse.transaction():
            self._check()
            confirmed.keep(rows.filter(accepted), instance)
            confirmed.undoubt(unsent, mark)
            if self._is_of_another(confirmed.outbox, receipts):
                confirmed.forget(rows[KEY].filter(rejected).to_pylist())
            elif pc.any(rejected).as_py():
                confirmed.reject(rows.filter(rejected), instance, self.now)
            self._append(confirmed.outbox, rows, receipts)
            failpoint.hit("outbox.keep.before_commit")
        failpoint.hit("outbox.keep.after_commit")

    def _remove(
        self, confirmed: Confirmed, rows: pa.Table, receipts: Mapping[str, Receipt]
    ) -> None:
        """Receipts; forget the rows that are gone on the other side, leave the refused alone."""
        gone = [k for k, r in receipts.items() if r.status is Status.ACCEPTED]
        refused = {k for k, r in receipts.items() if r.status is Status.REJECTED}
        is_refused = pa.array([key in refused for key in rows[KEY].to_pylist()], pa.bool_())
        self.totals[confirmed.outbox.title]["removed"] += len(gone)
        with self.warehouse.transaction():
            self._check()
            if gone:
                confirmed.forget(gone)
            if refused and not self._is_of_another(confirmed.outbox, receipts):
                confirmed.reject(rows.filter(is_refused), None, self.now)
            self._append(confirmed.outbox, rows, receipts)

    def _check(self) -> None:
        if self.fence is not None:
            self.fence.check(self.warehouse)

    def _append(self, outbox: Outbox, rows: pa.Table, receipts: Mapping[str, Receipt]) -> None:
        has_customers = "customer_id" in rows.column_names
        ids = rows["customer_id"].to_pylist() if has_customers else [None] * len(rows)
        customers = dict(zip(rows[KEY].to_pylist(), ids, strict=True))
        lines = [
            receipt_row(
                r,
                customers[r.key],
                (row_digest(r.key, self.workspace.project.salt), self._payloads[r.key]),
                self.name,
                outbox,
                self.now,
            )
            for r in receipts.values()
        ]
        table = pa.Table.from_pylist(lines, schema=RECEIPTS)
        self.warehouse.append(self.workspace.engine("receipts"), table)

    def _greet(self, fields: Mapping[str, Any]) -> str | None:
        """Which store is there."""
        record = Record("hot_store", {KEY: "hot_store"}, fields)
        sync = ProfileSync(self.target, "store", [record], self.limiter, name=self.name)
        (receipt,) = sync
        if receipt.status is Status.ACCEPTED:
            return receipt.vendor_ref
        self.stopped = sync.stopped or UnavailableError(
            f"{self.name}: {receipt.reason}", "is `nextmove serve` running, and at this URL?"
        )
        return None

    def _complete(self, outbox: Outbox) -> None:
        """Tell as of when all profiles are up to date, unless some were left."""
        totals = self.totals[outbox.title]
        if self.stopped or totals["skipped"] or totals["unknown"]:
            return
        model = Confirmed.of(self.workspace, self.warehouse, self.name, outbox).model
        (as_of,) = self.warehouse.rows(f"select max({_AS_OF}) from {model}")[0]
        if as_of is not None:
            self._greet({INSTANCE: self.instance, _AS_OF: int(as_of)})


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


def row_digest(key: str, salt: str) -> str:
    """What stands for a row's key, which may be an address."""
    return hashlib.sha256(f"{salt}\x1f{key}".encode()).hexdigest()[:16]


def payload_digest(record: Record, salt: str) -> str:
    """What stands for all that was sent of a row: the same for the same values only."""
    sent = msgspec.json.encode((record.identity, record.fields), order="deterministic")
    return hashlib.sha256(salt.encode() + b"\x1f" + sent).hexdigest()[:16]


def receipt_row(
    receipt: Receipt,
    customer_id: str | None,
    digests: tuple[str, str],
    name: str,
    outbox: Outbox,
    now: datetime,
) -> dict[str, Any]:
    """A profile-lane receipt, with digests of the row's key and of what was sent of it."""
    key, payload = digests
    return {
        "send_key": f"{name}.{outbox.stream}:{key}:{now.isoformat()}:{payload}",
        "decision_id": None,
        "destination": name,
        "stream": outbox.stream,
        "customer_id": customer_id,
        "attempt": 1,
        "status": receipt.status.value,
        "reason": receipt.reason,
        "http_status": receipt.http_status,
        "vendor_ref": receipt.vendor_ref,
        "at": now,
    }
