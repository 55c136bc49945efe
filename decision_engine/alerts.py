"""Tell somebody when a stream of deliveries changes its state: once, not at every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connectors.base import Record
from connectors.calls import Line, Target
from connectors.errors import ConnectorError
from connectors.limits import Limiter
from decision_engine.config import Alerts
from decision_engine.sync_runs import OK, STOPPED, WARNING, SyncRun
from decision_engine.workspace import Workspace

STREAM = "messages"


def tell(
    workspace: Workspace,
    targets: Mapping[str, Target],
    limiter: Limiter,
    runs: Iterable[tuple[SyncRun, str]],
) -> list[str]:
    """Send an alert for each (run, state before) whose state has changed; what was said.

    An alert that cannot be sent is lost: it must not hold up the delivery it tells of. The run is
    in the history all the same.
    """
    alerts = workspace.project.alerts
    if alerts is None:
        return []
    line = Line(alerts.destination, targets[alerts.destination], limiter)
    said = []
    for run, before in runs:
        now, then = _level(run.state, alerts), _level(before, alerts)
        if now != then:
            said.append(text_of(workspace, run, now))
            _send(line, alerts, run, said[-1])
    return said


def _level(state: str, alerts: Alerts) -> str:
    """Who does not want warnings sees only what stops."""
    return OK if state == WARNING and alerts.only_stopped else state


def text_of(workspace: Workspace, run: SyncRun, state: str) -> str:
    """One line without anybody's data."""
    where = f"{run.destination}.{run.stream}" if run.destination else run.stream
    head = f"nextmove {workspace.project.project}: {where} is {state}"
    if state == OK:
        return f"{head} again"
    counts = (
        f"{run.extracted:,} records: {run.accepted:,} accepted, {run.rejected:,} rejected,"
        f" {run.unknown:,} unknown, {run.skipped:,} skipped"
    )
    return f"{head}. {run.reason if state == STOPPED else counts}"


def _send(line: Line, alerts: Alerts, run: SyncRun, text: str) -> None:
    identity = {"slack_channel": alerts.slack_channel} if alerts.slack_channel else {}
    fields = {
        "type": "nextmove.alert",
        "text": text,
        "destination": run.destination,
        "stream": run.stream,
        "state": run.state,
        "at": run.started_at,
    }
    try:
        stream = line.stream(STREAM)
        request, _ = line.build(stream, [Record(f"alert-{run.run_id}", identity, fields)])
        if request is not None:
            line.acquire(stream)
            line.call(stream, request)
    except ConnectorError:
        return
