"""deliver over the warehouse: decisions become send intents, what is due is sent.

Profiles are kept in step, and receipts are projected into the warehouse: the journal is the
truth about sends, the warehouse has a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from connectors import failpoint
from connectors.base import Lane, Warehouse
from connectors.call_book import CallBook
from connectors.calls import Target, connected
from connectors.deliver import deliver_sends
from connectors.destinations import DESTINATIONS
from connectors.errors import ConfigurationError, ConnectorError
from connectors.journal import Journal
from connectors.limits import Limiter
from decision_engine.alerts import tell
from decision_engine.build import Progress
from decision_engine.config import Destination
from decision_engine.confirmed import Confirmed, outboxes_of
from decision_engine.epochs import EVENTS
from decision_engine.errors import StepError
from decision_engine.fence import Fence
from decision_engine.gate import Gate
from decision_engine.intents import MESSAGES, approved, intents, lapsed
from decision_engine.merged import follow, known_as, readdressed
from decision_engine.outbox import OutboxSync
from decision_engine.outbox_checks import require_built
from decision_engine.reconcile import settle_unknowns
from decision_engine.sync_runs import SyncRun, record, tolerated
from decision_engine.tables import JOURNAL_POSITION, RECEIPTS
from decision_engine.workspace import Workspace

CLOCK_TOLERANCE = timedelta(minutes=5)
_CHUNK = 10_000


class Delivery:
    """An open journal and the way to each destination. Use `open_delivery`."""

    def __init__(
        self,
        workspace: Workspace,
        journal: Journal,
        targets: dict[str, Target],
        limiter: Limiter | None = None,
    ) -> None:
        self.workspace = workspace
        self.journal = journal
        self.targets = targets
        self.limiter = limiter or Limiter()
        self._fence: Fence | None = None

    def dispatch(self, slot: str, as_of: datetime) -> dict[str, int]:
        """Write the send intents of a slot's decisions that have not expired."""
        with self.workspace.warehouse() as warehouse:
            added = self.journal.add(intents(self.workspace, warehouse, slot, as_of))
        return {"intents": added}

    def deliver(
        self,
        now: datetime,
        *,
        profiles: bool = True,
        allowed: Collection[str] = (),
        progress: Progress = lambda _: None,
    ) -> dict[str, Any]:
        """Bring profiles up to date, send what is due, project receipts; totals by stream.

        Outboxes that look wrong are left alone, unless they are `allowed` ("braze.users").
        StepError, after all is written down, when a destination or an outbox could not go on.
        """
        with self.workspace.warehouse() as warehouse:
            return self.deliver_from(
                warehouse, now, profiles=profiles, allowed=allowed, progress=progress
            )

    def deliver_from(
        self,
        warehouse: Warehouse,
        now: datetime,
        *,
        profiles: bool = True,
        allowed: Collection[str] = (),
        progress: Progress = lambda _: None,
    ) -> dict[str, Any]:
        """`deliver` with a warehouse that is open already."""
        streams: dict[str, dict[str, int]] = {}
        problems: list[ConnectorError] = []
        runs: list[SyncRun] = []
        clock = clock_from(now)
        for name in self.targets if profiles else ():
            sync = self.sync(warehouse, name, now, allowed=allowed)
            sync.run()
            for title, totals in sync.totals.items():
                streams[f"{name} {title}"] = {**totals, "not_sent": 0}
            problems += [*sync.refused, *([sync.stopped] if sync.stopped else [])]
            runs += sync.runs
            progress(f"{name} profiles")
        runs += self._sends(warehouse, clock, streams, problems)
        settle_unknowns(self.workspace, warehouse, self.journal)
        project_receipts(self.workspace, warehouse, self.journal, self.fence(warehouse))
        if self.journal.is_worth_compacting(now):
            self.journal.compact(now, self.journal.end)
        tell(self.workspace, self.targets, self.limiter, record(self.workspace, warehouse, runs))
        if problems:
            raise StepError("\n".join(dict.fromkeys(str(p) for p in problems)))
        return {"streams": streams}

    def sync(
        self,
        warehouse: Warehouse,
        name: str,
        now: datetime,
        *,
        only: str = "",
        allowed: Collection[str] = (),
        at_once: bool = False,
    ) -> OutboxSync:
        """One destination's profiles, ready to be brought up to date."""
        return OutboxSync(
            self.workspace,
            warehouse,
            name,
            self.targets[name],
            now,
            self.limiter,
            self.fence(warehouse),
            only,
            allowed,
            at_once,
        )

    def fence(self, warehouse: Warehouse) -> Fence:
        """The number of this delivery, drawn when it is first asked for."""
        if self._fence is None:
            self._fence = Fence.draw(warehouse, self.workspace.engine("fences"))
        return self._fence

    def _sends(
        self,
        warehouse: Warehouse,
        clock: Callable[[], datetime],
        streams: dict[str, dict[str, int]],
        problems: list[ConnectorError],
    ) -> list[SyncRun]:
        self.journal.add(intents(self.workspace, warehouse, EVENTS, clock()))
        self.journal.add(approved(self.workspace, warehouse, clock()))
        self.journal.add(lapsed(self.workspace, warehouse, clock()))
        due = follow(self.workspace, warehouse, self.journal, clock())
        if not due:
            return []
        start, began = time.perf_counter(), clock()
        # A delivery that was cut short has not copied its own; the limits count them.
        project_receipts(self.workspace, warehouse, self.journal, self.fence(warehouse))
        gate = Gate(self.workspace, warehouse, self.journal, due)
        run = deliver_sends(self.journal, self.targets, gate, clock, self.limiter)
        totals = run.totals
        streams[MESSAGES] = {
            "extracted": totals.extracted + run.waiting,
            "accepted": totals.accepted,
            "rejected": totals.rejected,
            "skipped": totals.skipped,
            "unknown": totals.unknown,
            "not_sent": run.waiting,
        }
        problems += run.stopped.values()
        reason = "; ".join(str(error) for error in run.stopped.values())
        what = ("", MESSAGES, Lane.SEND)
        took, limit = time.perf_counter() - start, tolerated(self.workspace)
        return [SyncRun.of(what, began, took, streams[MESSAGES], reason, tolerated=limit)]

    def next_due(self) -> datetime | None:
        """When the next waiting message is meant to leave."""
        return self.journal.next_due()

    def preview(self, now: datetime, slots: Iterable[str] = ()) -> dict[str, Any]:
        """What `deliver` would do now, after a dispatch of `slots`; nothing changes."""
        streams = {}
        with self.workspace.warehouse() as warehouse:
            for name in self.targets:
                for outbox in outboxes_of(self.workspace, warehouse, name):
                    confirmed = Confirmed.of(self.workspace, warehouse, name, outbox)
                    require_built(confirmed, name)
                    streams[f"{name} {outbox.title}"] = _only_extracted(confirmed.waiting(now))
            due = [*self.journal.due(now), *self._due_once_added(warehouse, now, slots)]
            into = known_as(self.workspace, warehouse, (i["customer_id"] for i in due))
            due = [
                readdressed(i, into[i["customer_id"]]) if i["customer_id"] in into else i
                for i in due
            ]
            gate = Gate(self.workspace, warehouse, self.journal, [i["customer_id"] for i in due])
            skipped = sum(gate(intent, now) is not None for intent in due)
        streams[MESSAGES] = {**_only_extracted(len(due)), "skipped": skipped}
        return {"streams": streams}

    def _due_once_added(
        self, warehouse: Warehouse, now: datetime, slots: Iterable[str]
    ) -> Iterator[dict[str, Any]]:
        for intent in (i for slot in slots for i in intents(self.workspace, warehouse, slot, now)):
            is_new = self.journal.state(intent["send_key"]) is None
            if is_new and datetime.fromisoformat(intent["send_at"]) <= now:
                yield intent


def _only_extracted(n: int) -> dict[str, int]:
    zeros = dict.fromkeys(("accepted", "rejected", "skipped", "unknown", "not_sent"), 0)
    return {"extracted": n, **zeros}


@contextmanager
def open_delivery(workspace: Workspace) -> Iterator[Delivery]:
    """The journal and all destinations, ready. ConfigurationError for a missing key."""
    with ExitStack() as stack:
        targets = {
            name: stack.enter_context(
                connected(DESTINATIONS[d.kind], d.url, workspace.api_key(name), d.daily_share)
            )
            for name, d in workspace.project.destinations.items()
        }
        journal = stack.enter_context(workspace.journal())
        book = stack.enter_context(CallBook(workspace.state_folder / "calls", time.time()))
        yield Delivery(workspace, journal, targets, Limiter(book=book))


def require_real_clock(workspace: Workspace, now: datetime) -> None:
    """Another time than the present may only be delivered to a sandbox on this machine."""
    present = utc_now()
    if abs(now - present) <= CLOCK_TOLERANCE:
        return
    real = [n for n, d in workspace.project.destinations.items() if not is_local(d)]
    if real:
        raise ConfigurationError(
            f"delivering as of {now:%Y-%m-%d %H:%M} is for the sandbox only,"
            f" but {', '.join(real)} is a real destination; leave --as-of out"
        )


def utc_now() -> datetime:
    """The present, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def clock_from(now: datetime) -> Callable[[], datetime]:
    """A clock for a pass that begins at `now`: it runs, unless `now` is not the present.

    A pass may take hours: quiet hours and expiry are those of the moment a message leaves.
    """
    if abs(now - utc_now()) <= CLOCK_TOLERANCE:
        return utc_now
    return lambda: now


def is_local(destination: Destination) -> bool:
    """Whether a destination's URL is on this machine."""
    host = urlsplit(destination.url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def project_receipts(
    workspace: Workspace, warehouse: Warehouse, journal: Journal, fence: Fence | None = None
) -> int:
    """Copy the journal's new receipts into the warehouse, exactly once; how many."""
    table = workspace.engine("journal_position")
    found = warehouse.rows(f"select max(position) from {table}")
    position, copied = int(found[0][0] or 0), 0
    if position > journal.end:
        raise StepError(
            "the delivery journal is older than its copy in the warehouse: bring the journal"
            f" folder back, or empty {table} if it is gone for good"
        )
    receipts = journal.receipts(after=position)
    while chunk := list(islice(receipts, _CHUNK)):
        copied += _copy(workspace, warehouse, [row for _, row in chunk], chunk[-1][0], fence)
    return copied


def _copy(
    workspace: Workspace,
    warehouse: Warehouse,
    rows: list[dict[str, Any]],
    position: int,
    fence: Fence | None,
) -> int:
    mark = pa.Table.from_pylist([{"position": position}], schema=JOURNAL_POSITION)
    with warehouse.transaction():
        if fence is not None:
            fence.check(warehouse)
        warehouse.append(workspace.engine("receipts"), pa.Table.from_pylist(rows, schema=RECEIPTS))
        failpoint.hit("project.receipts.before_commit")
        warehouse.rows(f"delete from {workspace.engine('journal_position')}")
        warehouse.append(workspace.engine("journal_position"), mark)
    failpoint.hit("project.receipts.after_commit")
    return len(rows)
