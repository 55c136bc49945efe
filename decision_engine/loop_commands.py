"""The steps of the loop on the command line, and `run`, one round of it."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from decision_engine.command import (
    AS_OF,
    DRY_RUN,
    JSON,
    PROJECT,
    emit,
    open_workspace,
    progress_line,
    reported_errors,
)
from decision_engine.terminal import new_table, totals_table


@click.command()
@PROJECT
@JSON
def load(folder: Path, as_json: bool) -> None:
    """Load what was received since the last time into the warehouse; each event once.

    `build` does this too, before anything else.

    \b
    Example:  nextmove load
    """
    from decision_engine.inbound import load_log

    with reported_errors(), progress_line(as_json, "loading") as progress:
        result = load_log(open_workspace(folder), progress)
    emit(result, as_json, lambda r: totals_table("load", r))


@click.command()
@PROJECT
@AS_OF
@click.option("--select", help="Only these dbt models, in dbt's own selection syntax.")
@JSON
def build(folder: Path, as_of: datetime, select: str | None, as_json: bool) -> None:
    """Load the inbound log, then build and test the dbt models.

    \b
    Example:  nextmove build --select dim_customer_features
    """
    from decision_engine.build import build as run_build
    from decision_engine.build import prepare
    from decision_engine.loop import look_at_data, take_in

    with reported_errors(), progress_line(as_json, "building") as progress:
        workspace = open_workspace(folder)
        prepare(workspace)
        loaded = take_in(workspace)
        totals = run_build(workspace, as_of, select=select, progress=progress)
        failed = look_at_data(workspace, as_of, totals) if select is None else {}
        result = {
            **loaded,
            "models": totals.models,
            "tests": totals.tests,
            "warnings": list(totals.warnings),
            "distrusted": dict(failed),
        }
    emit(result, as_json, render_built)


def render_built(result: dict[str, Any]) -> Group:
    """The counts, a line for each warning of dbt and for each column not to be trusted."""
    counts = {n: value for n, value in result.items() if n not in ("warnings", "distrusted")}
    bad = [f"not to be trusted: {name} ({why})" for name, why in result["distrusted"].items()]
    warnings = [f"warning: {name}" for name in result["warnings"]]
    return Group(totals_table("build", counts), *map(Text, [*warnings, *bad]))


@click.command()
@PROJECT
@AS_OF
@DRY_RUN
@click.option(
    "--promote",
    multiple=True,
    metavar="AGENT",
    help="Put this agent's new state to use even if held-out decisions speak against it.",
)
@JSON
def learn(
    folder: Path, as_of: datetime, dry_run: bool, promote: tuple[str, ...], as_json: bool
) -> None:
    """Turn closed outcomes into a new policy state per agent.

    A new state that would certainly earn less, or bring more unsubscribes or complaints, than what
    was done is held back: the agent goes on with the old one.

    \b
    Example:  nextmove learn --dry-run
    """
    from decision_engine.training import learn_all

    with reported_errors():
        result = learn_all(open_workspace(folder), as_of, dry_run=dry_run, promote=promote)
        emit(result, as_json, render_learned)


def render_learned(result: dict[str, Any]) -> Table:
    """One row per agent."""
    table = new_table("learn")
    for name in ("agent", "version", "decisions", "what changed"):
        table.add_column(name, no_wrap=name != "what changed")
    for agent, row in result.items():
        table.add_row(agent, row["version"], f"{row['decisions']:,}", row["note"])
    return table


@click.command()
@PROJECT
@AS_OF
@DRY_RUN
@JSON
def decide(folder: Path, as_of: datetime, dry_run: bool, as_json: bool) -> None:
    """Decide for every customer in an agent's audience, once per date.

    \b
    Example:  nextmove decide --dry-run --json
    """
    from decision_engine.batch import decide_all

    with reported_errors(), progress_line(as_json, "deciding") as progress:
        result = decide_all(open_workspace(folder), as_of, dry_run=dry_run, progress=progress)
    emit(result, as_json, render_decided)


def render_decided(result: dict[str, Any]) -> Table:
    """Decisions by agent and what was chosen."""
    table = new_table(f"decide · epoch {result['epoch_id']}")
    table.add_column("agent", no_wrap=True)
    for name in ("decisions", "sends", "no action", "all else blocked"):
        table.add_column(name, justify="right")
    for agent, row in result["agents"].items():
        table.add_row(
            agent, *(f"{row[c]:,}" for c in ("decisions", "sends", "no_action", "blocked"))
        )
    return table


@click.command()
@PROJECT
@AS_OF
@DRY_RUN
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    help="An outbox that was held back, though it looks wrong: braze.users. May be repeated.",
)
@JSON
def deliver(
    folder: Path, as_of: datetime, dry_run: bool, allowed: tuple[str, ...], as_json: bool
) -> None:
    """Send what is due and bring profiles at the destinations up to date.

    Messages of new decisions are taken up first. Each is sent at most once, however often
    this runs. A time in the past or future (--as-of) may only be delivered to the sandbox.

    \b
    Example:  nextmove deliver --dry-run
    """
    from decision_engine.loop import deliver as run_deliver

    with reported_errors(), progress_line(as_json, "delivering") as progress:
        result = run_deliver(
            open_workspace(folder), as_of, dry_run=dry_run, allowed=allowed, progress=progress
        )
    emit(result, as_json, render_delivered)
    exit_for(result)


def render_delivered(result: dict[str, Any]) -> Table:
    """One row per stream: rows = accepted + rejected + skipped + unknown + waiting."""
    table = new_table("deliver")
    streams = result["streams"]
    is_waiting = any(row["not_sent"] for row in streams.values())
    shown = DELIVERED_COLUMNS if is_waiting else DELIVERED_COLUMNS[:-1]
    table.add_column("stream", overflow="fold")
    for name in shown:
        heading = {"extracted": "rows"}.get(name, name.replace("_", " "))
        table.add_column(heading, justify="right", no_wrap=True)
    for stream, row in streams.items():
        table.add_row(stream, *(f"{row[c]:,}" for c in shown))
    return table


DELIVERED_COLUMNS = ("extracted", "accepted", "rejected", "skipped", "unknown", "not_sent")


def exit_for(result: dict[str, Any]) -> None:
    """Exit 3 when records were rejected or their fate is unknown."""
    if any(row["rejected"] or row["unknown"] for row in result["streams"].values()):
        sys.exit(3)


@click.command()
@PROJECT
@AS_OF
@click.option("--quick", is_flag=True, help="Only models that change daily, without dbt tests.")
@DRY_RUN
@JSON
def run(folder: Path, as_of: datetime, quick: bool, dry_run: bool, as_json: bool) -> None:
    """One round of the loop: build, learn, decide, deliver. Safe to repeat and to resume.

    \b
    Example:  nextmove run --quick
    """
    from decision_engine import loop

    with reported_errors(), progress_line(as_json, "running") as progress:
        workspace = open_workspace(folder)
        if dry_run:
            result = loop.preview(workspace, as_of)
        else:
            result = loop.run(workspace, as_of, quick=quick, progress=progress)
    emit(result, as_json, lambda r: totals_table(f"run · {r['slot']}", r["steps"]))
    exit_for(result["deliver"])
