"""The history of syncs: a line per stream and run, in the warehouse."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from connectors.base import Lane, Warehouse
from decision_engine.tables import SYNC_RUNS
from decision_engine.workspace import Workspace

OK, WARNING, STOPPED = "ok", "warning", "stopped"
MESSAGES = "messages"
_NUMBERS = ("extracted", "accepted", "rejected", "skipped", "unknown", "not_sent", "removed")


@dataclass(frozen=True)
class SyncRun:
    """What one run did with one stream. `in_outbox` is None for messages.

    `run_id` says when it was made, so that of runs of one moment the last one is known. `state`
    is ok; warning, when rows are rejected, in this run or since an earlier one, or their fate is
    unknown; or stopped, when the run could not go on. `reason` says why.
    """

    run_id: str
    destination: str
    stream: str
    lane: str
    started_at: datetime
    seconds: float
    in_outbox: int | None
    extracted: int
    accepted: int
    rejected: int
    skipped: int
    unknown: int
    not_sent: int
    removed: int
    state: str
    reason: str

    @classmethod
    def of(
        cls,
        what: tuple[str, str, Lane],
        started_at: datetime,
        seconds: float,
        totals: Mapping[str, int],
        reason: str = "",
        *,
        standing: int = 0,
        tolerated: int = 0,
    ) -> SyncRun:
        """From the totals of (destination, stream, lane).

        `standing` rows are rejected, in this run or since an earlier one. So many rejected and
        unknown ones as are `tolerated` are no warning.
        """
        numbers = {name: totals.get(name, 0) for name in _NUMBERS}
        doubtful = max(numbers["rejected"], standing) + numbers["unknown"] > tolerated
        return cls(
            run_id=f"{time.time_ns():016x}{secrets.token_hex(4)}",
            destination=what[0],
            stream=what[1],
            lane=what[2].value,
            started_at=started_at,
            seconds=seconds,
            in_outbox=totals.get("in_outbox"),
            state=STOPPED if reason else WARNING if doubtful else OK,
            reason=reason,
            **numbers,
        )


def tolerated(workspace: Workspace) -> int:
    """How many rejected or unknown records of a stream are no warning."""
    alerts = workspace.project.alerts
    return alerts.tolerated if alerts else 0


def record(
    workspace: Workspace, warehouse: Warehouse, runs: Iterable[SyncRun]
) -> list[tuple[SyncRun, str]]:
    """Write down the runs that have news; all of them, each with the state before it.

    A run that had nothing to do, and found everything as the last one left it, is no news.
    """
    pairs = [(run, _last(workspace, warehouse, run)) for run in runs]
    news = [run for run, last in pairs if run.extracted or last != (run.state, run.in_outbox)]
    if news:
        rows = pa.Table.from_pylist([asdict(run) for run in news], schema=SYNC_RUNS)
        warehouse.append(workspace.engine("sync_runs"), rows)
    return [(run, last[0] if last else OK) for run, last in pairs]


def _last(
    workspace: Workspace, warehouse: Warehouse, run: SyncRun
) -> tuple[str, int | None] | None:
    found = warehouse.rows(
        f"select state, in_outbox from {workspace.engine('sync_runs')}"
        " where destination = ? and stream = ? order by started_at desc, run_id desc limit 1",
        [run.destination, run.stream],
    )
    return (found[0][0], found[0][1]) if found else None


def last_rows(
    workspace: Workspace, warehouse: Warehouse, destination: str, stream: str
) -> int | None:
    """How many rows the outbox had when it was last worked through; None before that."""
    found = warehouse.rows(
        f"select in_outbox from {workspace.engine('sync_runs')}"
        " where destination = ? and stream = ? and (state <> ? or extracted > 0)"
        " order by started_at desc, run_id desc limit 1",
        [destination, stream, STOPPED],
    )
    return found[0][0] if found else None


def history(warehouse: Warehouse, workspace: Workspace, limit: int) -> list[dict[str, Any]]:
    """The last runs, newest first; none before the first delivery."""
    table, names = workspace.engine("sync_runs"), SYNC_RUNS.names
    if warehouse.columns(table) is None:
        return []
    found = warehouse.rows(
        f"select {', '.join(names)} from {table}"
        f" order by started_at desc, run_id desc limit {int(limit)}"
    )
    return [dict(zip(names, row, strict=True)) for row in found]
