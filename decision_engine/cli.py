"""The command line. Each command does one step of the loop; `run` does one round of it.

Exit codes: 0 done · 1 failed (the message says what was and was not done) ·
2 wrong usage or configuration, nothing was changed · 3 done, but some records were
rejected or their fate is unknown · 4 `plan --exit-code` found changes.
"""

from __future__ import annotations

from pathlib import Path

import click

from decision_engine.command import (
    DRY_RUN,
    JSON,
    PROJECT,
    emit,
    errors,
    open_workspace,
    reported_errors,
)
from decision_engine.insight_commands import backtest, evaluate, explain, plan, replay
from decision_engine.loop_commands import build, decide, deliver, learn, load, run
from decision_engine.override_commands import override
from decision_engine.sync_commands import syncs
from decision_engine.terminal import totals_table

PORT = click.IntRange(0, 65535)


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
@click.option("--port", default=8800, show_default=True, type=PORT, help="0 picks a free port.")
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
@click.option("--port", default=8801, show_default=True, type=PORT, help="0 picks a free port.")
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
            found = totals_of(take_out(workspace, who, dry_run=True))
            errors.print(totals_table("what will be erased", found))
            click.confirm("Erase this person? It cannot be undone.", abort=True, err=True)
        result = take_out(workspace, who, dry_run=dry_run)
    title = "what would be erased; nothing was changed" if dry_run else "erased"
    emit(result, as_json, lambda r: totals_table(title, totals_of(r)))


for command in (
    load, build, learn, decide, deliver, run,
    explain, replay, evaluate, backtest, plan,
    override, syncs,
):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
