"""The command line. Each command does one step of the loop; `run` does one round of it.

Exit codes: 0 done · 1 failed (the message says what was and was not done) ·
2 wrong usage or configuration, nothing was changed · 3 done, but some records were
rejected or their fate is unknown · 4 `plan --exit-code` found changes.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from decision_engine.override_commands import override
from decision_engine.sync_commands import syncs
from decision_engine.terminal import new_table, totals_table

if TYPE_CHECKING:
    from decision_engine.explain.readers import Reader


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nextmove", prog_name="nextmove")
@click.option(
    "--progress", is_flag=True, help="Print a line on standard error for each thing done, for logs."
)
def main(progress: bool) -> None:
    """Decide each customer's best next move, deliver it, learn from what happened.

    \b
    Try it:        nextmove demo
    Start yours:   nextmove init myshop && cd myshop && nextmove check
    One round:     nextmove run
    """


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="Project name (lower-case snake case).", show_default="folder name")
@click.option("--sources", default="", help="The raw tables you have, by comma; all if not given.")
@JSON
def init(folder: Path, name: str | None, sources: str, as_json: bool) -> None:
    """Write a new project: configuration, agents, creatives and a dbt project.

    \b
    Example:  nextmove init myshop --sources orders,consents,crm_contacts
    """
    from decision_engine.scaffold import init as write

    with reported_errors():
        wanted = [s.strip() for s in sources.split(",") if s.strip()]
        default = folder.resolve().name.lower().replace("-", "_")
        written = write(folder, name or default, sources=wanted)
        emit(
            {"folder": str(folder), "files": [str(p) for p in written]},
            as_json,
            lambda r: (
                f"Wrote {len(r['files'])} files to {folder}.\n"
                f"Next: load your tables into {folder}/warehouse.duckdb, then\n"
                f"  cd {folder} && nextmove check && nextmove run"
            ),
        )


@main.command()
@PROJECT
@JSON
def check(folder: Path, as_json: bool) -> None:
    """Check configuration, tables and columns; change nothing.

    \b
    Example:  nextmove check --project myshop
    """
    from decision_engine.check import check as run_check

    with reported_errors():
        report = run_check(folder)
        emit(report, as_json, lambda r: totals_table("Everything fits together", r))


@main.command()
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


@main.command()
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
    from decision_engine.loop import take_in

    with reported_errors(), progress_line(as_json, "building") as progress:
        workspace = open_workspace(folder)
        loaded = take_in(workspace)
        totals = run_build(workspace, as_of, select=select, progress=progress)
        result = {
            **loaded,
            "models": totals.models,
            "tests": totals.tests,
            "warnings": list(totals.warnings),
        }
    emit(result, as_json, render_built)


def render_built(result: dict[str, Any]) -> Group:
    """The counts, and a line for each warning of dbt."""
    counts = {name: value for name, value in result.items() if name != "warnings"}
    return Group(totals_table("build", counts), *(f"warning: {w}" for w in result["warnings"]))


@main.command()
@PROJECT
@AS_OF
@DRY_RUN
@JSON
def learn(folder: Path, as_of: datetime, dry_run: bool, as_json: bool) -> None:
    """Turn closed outcomes into a new policy state per agent.

    \b
    Example:  nextmove learn --dry-run
    """
    from decision_engine.training import learn_all

    with reported_errors():
        result = learn_all(open_workspace(folder), as_of, dry_run=dry_run)
        emit(result, as_json, render_learned)


def render_learned(result: dict[str, Any]) -> Table:
    """One row per agent."""
    table = new_table("learn")
    for name in ("agent", "version", "decisions", "what changed"):
        table.add_column(name, no_wrap=name != "what changed")
    for agent, row in result.items():
        table.add_row(agent, row["version"], f"{row['decisions']:,}", row["note"])
    return table


@main.command()
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


@main.command()
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


@main.command()
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


@main.command()
@click.option("--port", default=8800, show_default=True, help="0 picks a free port.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(".nextmove/sandbox"),
    show_default=True,
    help="Where the ledger of accepted effects is kept.",
)
@click.option("--webhooks", help="Base URL of the receiver that engagement is posted to.")
def sandbox(port: int, directory: Path, webhooks: str | None) -> None:
    """Local servers that speak the documented APIs of the vendors we deliver to.

    They imitate public documentation, limits and failures included; they are not the vendors.

    \b
    Example:  nextmove sandbox --port 8800
    """
    from connectors.sandbox.app import serve

    with reported_errors():
        serve(port=port, directory=directory, webhooks=webhooks)


@main.command()
@PROJECT
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8801, show_default=True, help="0 picks a free port.")
def serve(folder: Path, host: str, port: int) -> None:
    """Receive events and webhooks into the durable log, and decide when asked or triggered.

    \b
    Example:  nextmove serve --port 8801
    """
    from decision_engine.service.logs import log_to_stderr
    from decision_engine.service.project import serve_project

    with reported_errors():
        workspace = open_workspace(folder)
        log_to_stderr()
        serve_project(workspace, host=host, port=port)


@main.command()
@click.option("--customers", default=5000, show_default=True, type=click.IntRange(min=200))
@click.option("--days", default=28, show_default=True, type=click.IntRange(min=2))
@click.option("--seed", default=1, show_default=True)
@click.option("--effect", default=1.0, show_default=True, help="0: no message has any effect.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder of the demo project; it is replaced.",
)
@JSON
def demo(customers: int, days: int, seed: int, effect: float, folder: Path, as_json: bool) -> None:
    """Run the whole loop on simulated customers and show what it learned.

    \b
    Example:  nextmove demo --customers 20000 --days 56 --seed 7
    """
    from decision_engine.demo import run_demo

    with reported_errors():
        run_demo(folder, customers=customers, days=days, seed=seed, effect=effect, as_json=as_json)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--action", required=True, help="Column that says what each customer got.")
@click.option("--reward", required=True, help="Numeric column that says what it was worth.")
@click.option("--context", required=True, help="Columns known before the action, by comma.")
@click.option("--propensity", help="Column with P(action); uniform over actions when absent.")
@click.option("--shuffles", default=10, show_default=True, type=click.IntRange(min=2))
@click.option("--seed", default=1, show_default=True)
@JSON
def backtest(
    file: Path,
    action: str,
    reward: str,
    context: str,
    propensity: str | None,
    shuffles: int,
    seed: int,
    as_json: bool,
) -> None:
    """What would the engine have earned on a past randomised campaign (CSV or Parquet)?

    \b
    Example:
      nextmove backtest hillstrom.csv.gz --action segment --reward visit \\
        --context recency,history,mens,womens,zip_code,newbie,channel
    """
    from decision_engine.backtest import run_backtest
    from decision_engine.backtest_report import render

    with reported_errors(), progress_line(as_json, "backtesting") as progress:
        columns = [c.strip() for c in context.split(",") if c.strip()]
        result = run_backtest(file, action, reward, columns, propensity, shuffles, seed, progress)
    emit(result, as_json, render)


@main.command()
@PROJECT
@JSON
def evaluate(folder: Path, as_json: bool) -> None:
    """Lift, its parts, what each action causes, and whether the experiment is sound.

    Reads closed decisions and their rewards as the last build left them; changes nothing.

    \b
    Example:  nextmove evaluate --json
    """
    from decision_engine.evaluation import evaluate_all
    from decision_engine.evaluation_report import render

    with reported_errors():
        emit(evaluate_all(open_workspace(folder)), as_json, render)


@main.command()
@PROJECT
@click.option("--against", help="A project folder or git revision.", show_default="last epoch")
@click.option(
    "--days",
    default=1,
    show_default=True,
    type=click.IntRange(1, 30),
    help="Let the customers live on for so many days, in which nothing happens but our messages.",
)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots there.")
@click.option("--exit-code", is_flag=True, help="Exit 4 when something changes, 0 when not.")
@JSON
def plan(
    folder: Path, against: str | None, days: int, html: Path | None, exit_code: bool, as_json: bool
) -> None:
    """What would change, before anything is sent: decisions, messages, cost, reward, risks.

    Decides for all customers twice, in memory: by the project as it is and by what was in force
    when a date was last decided (or by --against). Changes nothing.

    \b
    Example:  nextmove plan --against origin/main --html plan.html
    """
    import msgspec

    from decision_engine.plan.compare import plan as compare
    from decision_engine.plan.page import page
    from decision_engine.plan.report import render

    with reported_errors(), progress_line(as_json, "planning") as progress:
        found = compare(open_workspace(folder), against, days, progress)
        if html is not None:
            html.write_text(page(found), encoding="utf-8")
    shown = {"has_changes": found.has_changes, **msgspec.to_builtins(found)} if as_json else found
    emit(shown, as_json, render)
    if exit_code and found.has_changes:
        sys.exit(4)


@main.command()
@click.argument("decision_id")
@PROJECT
@click.option(
    "--for",
    "reader",
    type=click.Choice(["marketer", "rep", "customer", "auditor"]),
    default="marketer",
    show_default=True,
    help="Who reads it.",
)
@JSON
def explain(decision_id: str, folder: Path, reader: Reader, as_json: bool) -> None:
    """Why one decision was made, in plain language, from its record.

    What was known and possible, what ruled the rest out, what made the difference to the next
    best, and what would have changed the choice. A prefix of the id is enough when it names one
    decision only.

    \b
    Example:  nextmove explain 3f2a9c --for customer
    """
    from decision_engine.audit import explain_decision

    with reported_errors():
        found = explain_decision(open_workspace(folder), decision_id, reader)
        emit(found, as_json, lambda e: Text(e.text))


@main.command()
@click.argument("decision_ids", nargs=-1)
@PROJECT
@click.option("--sample", default=1000, show_default=True, help="How many when no id is given.")
@JSON
def replay(decision_ids: tuple[str, ...], folder: Path, sample: int, as_json: bool) -> None:
    """Decide logged decisions again and compare: same action, propensity to 1e-12.

    \b
    Example:  nextmove replay --sample 5000
    """
    from decision_engine.audit import replay_decisions

    with reported_errors():
        result = replay_decisions(open_workspace(folder), decision_ids, sample)
        emit(result, as_json, lambda r: totals_table("replay", r))
        if any(result[c] for c in result if c.startswith("different_")):
            sys.exit(1)


@main.command()
@click.argument("who")
@PROJECT
@DRY_RUN
@click.option("--yes", is_flag=True, help="Do not ask; it cannot be undone.")
@JSON
def erase(who: str, folder: Path, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Take a person out of what was learned, and out of every table of the engine.

    WHO is a customer_id, or an identifier as kind:value. The sums that policies have learned are
    proven to be those of everybody else before anything is written. Raw tables are yours to erase.

    \b
    Example:  nextmove erase user_id:4711 --dry-run
    """
    from decision_engine.erase import erase as take_out
    from decision_engine.erase import totals_of

    with reported_errors():
        workspace = open_workspace(folder)
        if not dry_run and not yes:
            click.confirm("Erase this person? It cannot be undone.", abort=True, err=True)
        result = take_out(workspace, who, dry_run=dry_run)
    title = "what would be erased; nothing was changed" if dry_run else "erased"
    emit(result, as_json, lambda r: totals_table(title, totals_of(r)))


main.add_command(syncs)
main.add_command(override)


if __name__ == "__main__":
    main()
