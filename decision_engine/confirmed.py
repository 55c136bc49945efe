"""What a destination has confirmed of an outbox, and what of it has changed since: all SQL.

Where rows are taken away again, the confirmed table has one more column, `instance`: the store
that confirmed the row, and NULL while the row's removal is on its way.

Before a row is sent it is put in doubt, for a call can have its effect without our hearing of it.
Until a receipt says what became of it the row is sent whole, whatever it looks like: it may have
changed back since, and the other side have what it was in between.

A row that was rejected would be rejected again as it is. It is kept as it was, with how often
that was and the moment until which it is left alone, unless it changes; then it is sent whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from connectors.base import Lane, Warehouse
from connectors.destinations import DESTINATIONS
from decision_engine.workspace import Workspace

KEY = "key"
INSTANCE = "instance"
DOUBT = "in_doubt"
REJECTIONS, AGAIN_AT = "rejections", "again_at"
UNSENT = (KEY, "customer_id")
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=15), timedelta(days=1)
"""How long a rejected row is left alone. The wait doubles with each rejection in a row."""
LAST = 14
"""After so many rejections in a row, eight days, the verdict on a row as it is is final."""
_NEVER = datetime.max


@dataclass(frozen=True)
class Outbox:
    """What keeps one stream of a destination in step: the model `outbox_<kind>__<stream>`.

    `title` names it in totals. A mirror's other side is a copy of the model: a NULL is a value
    there, and the copy may be lost and made anew. `deletes`: the vendor can take rows away.
    `is_whole`: a changed row is sent with all its columns. `quiet` columns go along with others
    but are no reason to send a row.
    """

    stream: str
    title: str = "profiles"
    is_mirror: bool = False
    quiet: tuple[str, ...] = ()
    deletes: bool = False
    is_whole: bool = False

    @property
    def removes(self) -> bool:
        """Whether a row that vanishes from the model is taken away on the other side.

        Everywhere else it stays there as it was last confirmed.
        """
        return self.is_mirror or self.deletes


HOT_STORE = (
    Outbox("profiles", is_mirror=True, quiet=("as_of",)),
    Outbox("policies", title="policies", is_mirror=True),
)
SHIPPED: Mapping[str, tuple[str, ...]] = {
    "braze": ("users",),
    "iterable": ("users",),
    "hubspot": ("contacts",),
    "salesforce": ("contacts",),
    "hot_store": ("profiles", "policies"),
}
"""Streams by the kind of destination whose outbox our dbt package builds."""


def outboxes_of(workspace: Workspace, warehouse: Warehouse, name: str) -> list[Outbox]:
    """The outboxes of a destination: ours, and those that the company's own dbt project builds.

    In the order of the destination's streams; ours even when they are not built.
    """
    kind = workspace.project.destinations[name].kind
    if kind == "hot_store":
        return list(HOT_STORE)
    shipped = SHIPPED.get(kind, ())
    streams = DESTINATIONS[kind].streams
    bulk = {stream.bulk for stream in streams.values()}
    return [
        Outbox(
            stream.name,
            title="profiles" if stream.name in shipped else stream.name,
            deletes=stream.deletes,
            is_whole=stream.whole_rows,
        )
        for stream in streams.values()
        if stream.lane is Lane.PROFILE
        and stream.name not in bulk
        and (
            stream.name in shipped
            or warehouse.columns(model_of(workspace, kind, stream.name)) is not None
        )
    ]


def model_of(workspace: Workspace, kind: str, stream: str) -> str:
    """`schema.name` of the outbox of a stream."""
    return workspace.model(f"outbox_{kind}__{stream}")


@dataclass(frozen=True)
class Confirmed:
    """The confirmed rows of one outbox at one destination."""

    warehouse: Warehouse
    outbox: Outbox
    model: str
    table: str

    @classmethod
    def of(cls, workspace: Workspace, warehouse: Warehouse, name: str, outbox: Outbox) -> Confirmed:
        """Of the destination called `name`."""
        kind = workspace.project.destinations[name].kind
        model = model_of(workspace, kind, outbox.stream)
        table = workspace.engine(f"confirmed_{name}__{outbox.stream}")
        return cls(warehouse, outbox, model, table)

    def is_built(self) -> bool:
        """Whether there is an outbox."""
        return self.warehouse.columns(self.model) is not None

    def prepare(self) -> None:
        """Have the table, with at least the outbox's columns.

        A column whose type has changed is begun anew: all rows count as changed in it.
        """
        create = f"create table if not exists {self.table} as select * from {self.model} limit 0"
        self.warehouse.rows(create)
        have = self.warehouse.columns(self.table) or {}
        wanted = dict(self._model_columns())
        own = (DOUBT, REJECTIONS, AGAIN_AT, *((INSTANCE,) if self.outbox.removes else ()))
        wanted |= dict.fromkeys(own, wanted[KEY])
        for column, sql_type in wanted.items():
            name = self.warehouse.quote(column)
            if have.get(column, sql_type) != sql_type:
                self.warehouse.rows(f"alter table {self.table} drop column {name}")
            if have.get(column) != sql_type:
                self.warehouse.rows(f"alter table {self.table} add column {name} {sql_type}")

    def changes(self, now: datetime | None = None) -> str:
        """SQL: outbox rows that are new, differ or are in doubt, with flags `changed_<column>`.

        Rejected ones too, but those that are left alone at the moment `now`, if it is given. In a
        mirror all columns of a new row count as changed; everywhere, of one in doubt or rejected.
        """
        quote = self.warehouse.quote
        flags = {
            c: f"(o.{quote(c)} is distinct from c.{quote(c)})"
            for c in self._model_columns()
            if c not in UNSENT
        }
        is_new, is_doubtful = f"c.{KEY} is null", f"c.{DOUBT} is not null"
        is_rejected = f"c.{AGAIN_AT} is not null"
        is_due = f"c.{AGAIN_AT} <= '{_text(now)}'" if now else is_rejected
        differs = [f for c, f in flags.items() if c not in self.outbox.quiet]
        reasons = [is_new, is_doubtful, is_due, *differs]
        whole = f"{is_doubtful} or {is_rejected}"
        whole = f"{is_new} or {whole}" if self.outbox.is_mirror else whole
        flags = {c: f"({whole} or {flag})" for c, flag in flags.items()}
        named = ", ".join(f"{f} as {quote(f'changed_{c}')}" for c, f in flags.items())
        there = f" and c.{INSTANCE} is not null" if self.outbox.removes else ""
        return (
            f"select o.*, {named} from {self.model} o"
            f" left join {self.table} c on o.{KEY} = c.{KEY}{there}"
            f" where {' or '.join(reasons)} order by o.{KEY}"
        )

    def one(self) -> str:
        """SQL: as `changes`, but the one row with the key that is bound to the `?`."""
        return f"select * from ({self.changes()}) as changed where {KEY} = ?"

    def counts(self, now: datetime) -> tuple[int, int, int]:
        """How many rows to be sent are new and changed, and how many vanished from the outbox."""
        self.prepare()
        accepted = f"c.{KEY} = changed.{KEY} and c.{AGAIN_AT} is null"
        new = f"(select 1 from {self.table} c where {accepted})"
        sql = f"select count(*), sum(case when not exists {new} then 1 else 0 end) from"
        waiting, fresh = self.warehouse.rows(f"{sql} ({self.changes(now)}) as changed")[0]
        gone = self.warehouse.rows(
            f"select count(*) from {self.table} c where not exists"
            f" (select 1 from {self.model} o where o.{KEY} = c.{KEY})"
        )
        return int(fresh or 0), int(waiting) - int(fresh or 0), int(gone[0][0])

    def waiting(self, now: datetime) -> int:
        """How many rows of the outbox are to be sent."""
        self.prepare()
        query = f"select count(*) from ({self.changes(now)}) as changed"
        return int(self.warehouse.rows(query)[0][0])

    def rejected(self) -> int:
        """How many rows of the outbox, and removals, were rejected and not accepted since."""
        there = f"exists (select 1 from {self.model} o where o.{KEY} = c.{KEY})"
        meant = f"({there} or c.{INSTANCE} is null)" if self.outbox.removes else there
        query = f"select count(*) from {self.table} c where c.{AGAIN_AT} is not null and {meant}"
        return int(self.warehouse.rows(query)[0][0])

    def doubt(self, rows: pa.Table, instance: str | None, mark: str) -> None:
        """Note, before they are sent, that the other side may have these rows or not.

        `mark` is of this sending alone. What was in doubt before stays so in its own right.
        """
        doubted = f"update {self.table} set {DOUBT} = ? where {DOUBT} is null"
        keys = rows[KEY].to_pylist()
        self.warehouse.rows(f"{doubted} and {self.warehouse.among(KEY)}", [f"old {mark}", keys])
        new = _with(_with(rows, INSTANCE, instance), DOUBT, f"new {mark}")
        self.warehouse.insert_absent(self.table, new, [KEY])

    def undoubt(self, keys: Sequence[str], mark: str) -> None:
        """Take back the doubt of a sending that surely had no effect on these rows."""
        among = self.warehouse.among(KEY)
        is_from = f"where {DOUBT} = ? and {among}"
        self.warehouse.rows(f"delete from {self.table} {is_from}", [f"new {mark}", list(keys)])
        self.warehouse.rows(
            f"update {self.table} set {DOUBT} = null {is_from}", [f"old {mark}", list(keys)]
        )

    def keep(self, rows: pa.Table, instance: str | None) -> None:
        """Note rows of the outbox as confirmed, beyond doubt."""
        self.warehouse.merge(self.table, _with(rows, INSTANCE, instance), [KEY])

    def reject(self, rows: pa.Table, instance: str | None, now: datetime) -> None:
        """Note rows as rejected: they are left alone for a while. No `instance`: removals."""
        before = dict(
            self.warehouse.rows(
                f"select {KEY}, {REJECTIONS} from {self.table}"
                f" where {REJECTIONS} is not null and {self.warehouse.among(KEY)}",
                [rows[KEY].to_pylist()],
            )
        )
        times = [int(before.get(key, 0)) + 1 for key in rows[KEY].to_pylist()]
        rows = rows.append_column(REJECTIONS, pa.array(map(str, times), pa.string()))
        until = [_text(now + wait(n) if n < LAST else _NEVER) for n in times]
        rows = rows.append_column(AGAIN_AT, pa.array(until, pa.string()))
        self.warehouse.merge(self.table, _with(rows, INSTANCE, instance), [KEY])

    def forget(self, keys: Sequence[str]) -> None:
        """Take rows as not confirmed: they are sent whole, if they are to be sent."""
        among = self.warehouse.among(KEY)
        self.warehouse.rows(f"delete from {self.table} where {among}", [list(keys)])

    def forget_others(self, instance: str) -> None:
        """Forget what another store has confirmed."""
        self.warehouse.rows(f"delete from {self.table} where {INSTANCE} <> ?", [instance])

    def mark_vanished(self) -> None:
        """Mark confirmed rows that the outbox has no more as to be removed.

        An outbox without any row is no reason to empty the other side: something went wrong.
        """
        self.warehouse.rows(
            f"update {self.table} set {INSTANCE} = null, {REJECTIONS} = null, {AGAIN_AT} = null"
            f" where {INSTANCE} is not null and exists (select 1 from {self.model})"
            f" and not exists (select 1 from {self.model} o where o.{KEY} = {self.table}.{KEY})"
        )

    def vanished(self, now: datetime | None = None) -> str:
        """SQL: the rows to be removed that did not come back since they were marked.

        But those whose removal was refused and that are left alone at `now`, if it is given.
        """
        is_due = f" and (c.{AGAIN_AT} is null or c.{AGAIN_AT} <= '{_text(now)}')" if now else ""
        own = (INSTANCE, DOUBT, REJECTIONS, AGAIN_AT)
        columns = ", ".join(f"c.{self.warehouse.quote(c)}" for c in self._columns() if c not in own)
        return (
            f"select {columns} from {self.table} c left join {self.model} o on o.{KEY} = c.{KEY}"
            f" where c.{INSTANCE} is null and o.{KEY} is null{is_due} order by c.{KEY}"
        )

    def _columns(self) -> dict[str, str]:
        return self.warehouse.columns(self.table) or {}

    def _model_columns(self) -> dict[str, str]:
        return self.warehouse.columns(self.model) or {}


def wait(rejections: int) -> timedelta:
    """How long a row is left alone after so many rejections in a row."""
    doublings = min(rejections - 1, 10)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def _text(moment: datetime) -> str:
    """A moment as text that sorts by time."""
    return moment.isoformat(timespec="microseconds")


def _with(rows: pa.Table, column: str, value: str | None) -> pa.Table:
    """The rows with one more column of text, unless there is nothing to put in it."""
    if value is None:
        return rows
    return rows.append_column(column, pa.array([value] * len(rows), pa.string()))
