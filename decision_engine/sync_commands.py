"""`nextmove syncs`: what deliveries did, and one stream or one row at a time."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click
from rich.table import Table

from decision_engine.command import (
    AS_OF,
    JSON,
    PROJECT,
    emit,
    open_workspace,
    reported_errors,
)
from decision_engine.terminal import new_table

STREAM = click.argument("stream", metavar="DESTINATION.STREAM")
LIMIT = click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))


@click.group()
def syncs() -> None:
    """What deliveries did; rejected rows; one stream or one row at a time.

    \b
    Example:  nextmove syncs history
    """


@syncs.command()
@PROJECT
@LIMIT
@JSON
def history(folder: Path, limit: int, as_json: bool) -> None:
    """The last runs of all streams, newest first.

    \b
    Example:  nextmove syncs history --limit 50
    """
    from decision_engine import sync_runs

    with reported_errors():
        workspace = open_workspace(folder)
        with workspace.warehouse_to_read() as warehouse:
            rows = sync_runs.history(warehouse, workspace, limit)
        emit(rows, as_json, lambda found: _table("syncs", _of_streams(found), HISTORY))


@syncs.command()
@PROJECT
@LIMIT
@JSON
def rejected(folder: Path, limit: int, as_json: bool) -> None:
    """Rows that a destination refuses, with its reason, newest first.

    Rows of profiles go out again with every delivery until they are accepted.

    \b
    Example:  nextmove syncs rejected --limit 100
    """
    _listed(folder, "rejected", limit, as_json)


@syncs.command()
@PROJECT
@LIMIT
@JSON
def unknown(folder: Path, limit: int, as_json: bool) -> None:
    """Records whose fate is not known, newest first. No message among them is sent again.

    \b
    Example:  nextmove syncs unknown
    """
    _listed(folder, "unknown", limit, as_json)


def _listed(folder: Path, status: str, limit: int, as_json: bool) -> None:
    from decision_engine import sync_rows

    with reported_errors():
        workspace = open_workspace(folder)
        with workspace.warehouse_to_read() as warehouse:
            rows = sync_rows.with_status(workspace, warehouse, status, limit)
        emit(rows, as_json, lambda found: _table(status, found, ROWS))


@syncs.command()
@PROJECT
@JSON
def plan(folder: Path, as_json: bool) -> None:
    """What would go out now: new, changed and vanished rows of each stream, and what is wrong.

    \b
    Example:  nextmove syncs plan
    """
    from decision_engine import sync_rows

    with reported_errors():
        workspace = open_workspace(folder)
        with workspace.warehouse() as warehouse:
            rows = sync_rows.plan(workspace, warehouse)
        emit(rows, as_json, lambda found: _table("plan", found, PLAN))
    if any(row["problems"] for row in rows):
        sys.exit(3)


@syncs.command()
@STREAM
@PROJECT
@AS_OF
@JSON
def retry(stream: str, folder: Path, as_of: datetime, as_json: bool) -> None:
    """Bring one stream up to date now, the rows that were rejected before among them.

    \b
    Example:  nextmove syncs retry braze.users
    """
    from decision_engine import sync_rows

    with reported_errors():
        totals = sync_rows.retry(open_workspace(folder), stream, as_of)
        emit([totals], as_json, lambda found: _table(stream, found, tuple(totals)))
    if totals["rejected"] or totals["unknown"]:
        sys.exit(3)


@syncs.command("test")
@STREAM
@PROJECT
@AS_OF
@click.option("--key", default="", help="The row's key; the first that has changed if not given.")
@click.option("--send", is_flag=True, help="Send it. Without it the request is only shown.")
@JSON
def test_row(
    stream: str, folder: Path, as_of: datetime, key: str, send: bool, as_json: bool
) -> None:
    """One row: the request as it would be and, when it is sent, the verdict.

    The row's data is printed here, and nowhere else.

    \b
    Example:  nextmove syncs test braze.users --key u42 --send
    """
    from decision_engine import sync_rows

    with reported_errors():
        result = sync_rows.test(open_workspace(folder), stream, key, as_of, send=send)
        emit(result, as_json, sync_rows.shown)
    if result["status"] not in ("", "accepted"):
        sys.exit(3)


HISTORY = (
    "at",
    "stream",
    "state",
    *("rows", "accepted", "rejected", "unknown", "removed"),
    "reason",
)
ROWS = ("at", "destination", "stream", "customer_id", "http_status", "payload", "reason")
PLAN = ("stream", "rows", "new", "changed", "vanished", "problems")


def _of_streams(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs as a person reads them: the stream by the name that the other commands take."""
    return [
        {
            **run,
            "at": run["started_at"],
            "stream": ".".join(part for part in (run["destination"], run["stream"]) if part),
            "rows": run["extracted"],
        }
        for run in runs
    ]


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table | str:
    """Columns in which no row says anything are left out, so that the others can be read."""
    if not rows:
        return f"{title}: none"
    table = new_table(title)
    shown = [name for name in columns if any(row[name] for row in rows)]
    for name in shown:
        is_count = isinstance(rows[0][name], int)
        justify: Literal["left", "right"] = "right" if is_count else "left"
        table.add_column(name.replace("_", " "), justify=justify, no_wrap=is_count or name == "at")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in shown))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, list):
        return "; ".join(value)
    return f"{value:,}" if isinstance(value, int) else str("" if value is None else value)
