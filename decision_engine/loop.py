"""One round of the loop: load, build, learn, decide, dispatch, deliver.

A round belongs to a slot (the UTC date). Each step that has ended is marked in
`runs`, so a round that was cut short resumes where it stopped, as of the same moment;
a repeated round does nothing but deliver what is still due.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, MutableMapping
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Any

import pyarrow as pa

from connectors.base import Warehouse
from connectors.errors import ConfigurationError
from connectors.journal import Journal
from decision_engine.batch import decide_all
from decision_engine.build import BuildTotals, Progress, build, prepare
from decision_engine.confirmed import outboxes_of
from decision_engine.data_checks import check
from decision_engine.delivery import (
    Delivery,
    clock_from,
    open_delivery,
    project_receipts,
    require_real_clock,
)
from decision_engine.epochs import FEATURES
from decision_engine.errors import unknown
from decision_engine.features import Distrusted
from decision_engine.inbound import load_log
from decision_engine.intents import undispatched
from decision_engine.tables import RUNS
from decision_engine.training import learn_all
from decision_engine.workspace import Workspace

QUICK = "tag:daily"
STANDING = "tag:standing"
"""Views that need not be made anew with the tables under them, but where those take them along."""
AFTER_DECIDE = (
    "fct_decisions int_features__decisions int_outbox__next_steps"
    " outbox_hubspot__contacts outbox_salesforce__contacts int_outbox__tasks outbox_*__tasks"
)
"""What shows today's decisions to the people who use the CRM."""

STEPS = ("build", "learn", "decide", "dispatch", "deliver")


def run(
    workspace: Workspace,
    as_of: datetime,
    *,
    quick: bool = False,
    progress: Progress = lambda _: None,
    delivery: Delivery | None = None,
    seconds: MutableMapping[str, float] | None = None,
) -> dict[str, Any]:
    """One round for the date of `as_of` (UTC); what each step did.

    `quick` builds only the models that change daily and leaves the dbt tests out.
    `delivery` is one that is open already; `seconds`, when given, is added to by step.
    """
    require_real_clock(workspace, as_of)
    workspace.require_keys()
    slot, clock = as_of.date().isoformat(), clock_from(as_of)
    if not _is_dispatched(workspace, slot):
        prepare(workspace)
    done = finished_steps(workspace, slot)
    as_of = done.get("build", (as_of, {}))[0]

    def with_delivery(work: Callable[[Delivery], dict[str, Any]]) -> dict[str, Any]:
        # Held only while it is needed: others may send while dbt builds.
        with nullcontext(delivery) if delivery else open_delivery(workspace) as opened:
            return work(opened)

    works: dict[str, Callable[[], dict[str, Any]]] = {
        "build": lambda: build_step(workspace, as_of, quick, progress, delivery),
        "learn": lambda: learn_all(workspace, as_of),
        "decide": lambda: decide_all(workspace, as_of, progress=progress),
        "dispatch": lambda: dispatch_step(workspace, as_of, with_delivery, slot),
        "deliver": lambda: with_delivery(lambda d: d.deliver(clock(), progress=progress)),
    }
    totals: dict[str, Any] = {}
    # One connection for the whole round, but while dbt works.
    with workspace.warehouse():
        for step in STEPS:
            if step in done and step != "deliver":
                totals[step] = done[step][1]
                continue
            start = time.perf_counter()
            totals[step] = works[step]()
            mark_finished(workspace, slot, step, as_of, totals[step])
            if seconds is not None:
                seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start
            progress(step)
    return {"slot": slot, "steps": summary(totals), **totals}


def _is_dispatched(workspace: Workspace, slot: str) -> bool:
    """Whether a round was cut short after its last step that needs dbt; nothing is changed."""
    with suppress(ConfigurationError), workspace.warehouse_to_read() as warehouse:
        runs = workspace.engine("runs")
        asked = f"select 1 from {runs} where slot = ? and step = 'dispatch'"
        return warehouse.columns(runs) is not None and bool(warehouse.rows(asked, [slot]))
    return False


def preview(workspace: Workspace, as_of: datetime) -> dict[str, Any]:
    """What a round would decide and deliver with the profiles as they are; changes nothing."""
    totals: dict[str, Any] = {
        "build": {"inbound_events": 0, "tracked_events": 0, "models": 0, "tests": 0},
        "decide": decide_all(workspace, as_of, dry_run=True),
        "deliver": deliver(workspace, as_of, dry_run=True),
    }
    return {"slot": as_of.date().isoformat(), "steps": summary(totals), **totals}


def take_in(workspace: Workspace, journal: Journal | None = None) -> dict[str, int]:
    """Bring what happened outside into the warehouse; the number of new rows of each table.

    Receipts too: a delivery that was cut short has not copied its own, and without them the
    frequency caps would not know of its sends.
    """
    held = nullcontext(journal) if journal else workspace.journal()
    with held as opened, workspace.warehouse() as warehouse:
        project_receipts(workspace, warehouse, opened)
    return load_log(workspace)


def build_step(
    workspace: Workspace,
    as_of: datetime,
    quick: bool,
    progress: Progress,
    delivery: Delivery | None = None,
) -> dict[str, Any]:
    """Load receipts and webhooks, then let dbt build; the first build is never partial."""
    with workspace.warehouse() as warehouse:
        loaded = take_in(workspace, delivery.journal if delivery else None)
        is_first = warehouse.columns(workspace.model(FEATURES)) is None
    is_partial = quick and not is_first
    totals = build(
        workspace,
        as_of,
        command="run" if quick else "build",
        select=QUICK if is_partial else None,
        exclude=[STANDING] if is_partial and workspace.warehouse_kind != "postgres" else [],
        progress=progress,
    )
    failed = look_at_data(workspace, as_of, totals)
    return {
        **loaded,
        "models": totals.models,
        "tests": totals.tests,
        "distrusted": dict(failed),
    }


def look_at_data(workspace: Workspace, as_of: datetime, totals: BuildTotals) -> Distrusted:
    """Which columns of the profiles just built are not to be trusted, and why."""
    with workspace.warehouse() as warehouse:
        return check(workspace, warehouse, as_of, totals.failed_columns)


def dispatch_step(
    workspace: Workspace,
    as_of: datetime,
    with_delivery: Callable[[Callable[[Delivery], dict[str, Any]]], dict[str, Any]],
    slot: str,
) -> dict[str, Any]:
    """Show the decisions to the CRM's outbox, and write the send intents."""
    build(workspace, as_of, command="run", select=AFTER_DECIDE)
    return with_delivery(lambda d: dict(d.dispatch(slot, as_of)))


def deliver(
    workspace: Workspace,
    now: datetime,
    *,
    dry_run: bool = False,
    allowed: Collection[str] = (),
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Take in what the service has decided, dispatch decided dates, then one delivery pass."""
    require_real_clock(workspace, now)
    workspace.require_keys()
    if allowed:
        with workspace.warehouse_to_read() as warehouse:
            _require_outboxes(workspace, warehouse, allowed)
    if not dry_run:
        load_log(workspace)
    with workspace.warehouse() as warehouse:
        decided, cut_short = undispatched(workspace, warehouse, now)
    if dry_run:
        with open_delivery(workspace) as delivery:
            return delivery.preview(now, [*decided, *cut_short])
    if decided:
        build(workspace, now, command="run", select=AFTER_DECIDE, progress=progress)
    with open_delivery(workspace) as delivery:
        added = {s: delivery.dispatch(s, now) for s in (*decided, *cut_short)}
        for slot in decided:
            mark_finished(workspace, slot, "dispatch", now, added[slot])
        delivered = delivery.deliver(now, allowed=allowed, progress=progress)
    return {"intents": sum(a["intents"] for a in added.values()), **delivered}


def _require_outboxes(workspace: Workspace, warehouse: Warehouse, named: Collection[str]) -> None:
    """ConfigurationError when there is none of such a name."""
    known = [
        f"{name}.{outbox.stream}"
        for name in workspace.project.destinations
        for outbox in outboxes_of(workspace, warehouse, name)
    ]
    for name in named:
        if name not in known:
            raise ConfigurationError(f"--allow: {unknown('outbox', name, known)}")


def finished_steps(workspace: Workspace, slot: str) -> dict[str, tuple[datetime, dict[str, Any]]]:
    """The steps of this slot that have ended: as of when, and their totals."""
    with workspace.warehouse() as warehouse:
        rows = warehouse.rows(
            f"select step, as_of, totals from {workspace.engine('runs')} where slot = ?", [slot]
        )
    return {step: (as_of, json.loads(totals)) for step, as_of, totals in rows}


def mark_finished(
    workspace: Workspace, slot: str, step: str, as_of: datetime, totals: dict[str, Any]
) -> None:
    """Record that a step has ended."""
    row = {"slot": slot, "step": step, "as_of": as_of, "totals": json.dumps(totals)}
    with workspace.warehouse() as warehouse, warehouse.transaction():
        warehouse.merge(
            workspace.engine("runs"), pa.Table.from_pylist([row], schema=RUNS), ["slot", "step"]
        )


def summary(totals: dict[str, Any]) -> dict[str, Any]:
    """The few numbers a person wants to see of a round."""
    decided = totals["decide"]["agents"].values()
    delivered = totals["deliver"]["streams"].values()
    return {
        "inbound_events": totals["build"]["inbound_events"],
        "tracked_events": totals["build"].get("tracked_events", 0),
        "dbt_models": totals["build"]["models"],
        "dbt_tests": totals["build"]["tests"],
        "decisions": sum(a["decisions"] for a in decided),
        "sends_planned": sum(a["sends"] for a in decided),
        "records_accepted": sum(s["accepted"] for s in delivered),
        "records_rejected": sum(s["rejected"] for s in delivered),
        "records_skipped": sum(s["skipped"] for s in delivered),
        "records_unknown": sum(s["unknown"] for s in delivered),
    }
