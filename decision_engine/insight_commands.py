"""What was decided and why, what came of it, and what a change would do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from decision_engine.command import (
    JSON,
    PROJECT,
    emit,
    open_workspace,
    progress_line,
    reported_errors,
)
from decision_engine.terminal import totals_table

if TYPE_CHECKING:
    from decision_engine.explain.readers import Reader


@click.command()
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


@click.command()
@click.argument("decision_ids", nargs=-1)
@PROJECT
@click.option(
    "--sample",
    default=1000,
    show_default=True,
    type=click.IntRange(1, 10**9),
    help="How many when no id is given.",
)
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


@click.command()
@PROJECT
@JSON
def evaluate(folder: Path, as_json: bool) -> None:
    """Lift, its parts, what each action causes, who stays, and whether the experiment is sound.

    Reads closed decisions and their rewards as the last build left them; changes nothing.

    \b
    Example:  nextmove evaluate --json
    """
    from decision_engine.evaluation import evaluate_all
    from decision_engine.evaluation_report import render

    with reported_errors():
        emit(evaluate_all(open_workspace(folder)), as_json, render)


@click.command()
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


@click.command()
@PROJECT
@click.option("--against", help="A project folder or git revision.", show_default="last epoch")
@click.option(
    "--days",
    default=1,
    show_default=True,
    type=click.IntRange(1, 30),
    help="Let the customers live on for so many days, in which nothing happens but our messages.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with plots there.",
)
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

    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"'{html.parent}' is not a folder", param_hint="'--html'")
    with reported_errors(), progress_line(as_json, "planning") as progress:
        found = compare(open_workspace(folder), against, days, progress)
        if html is not None:
            html.write_text(page(found), encoding="utf-8")
    shown = {"has_changes": found.has_changes, **msgspec.to_builtins(found)} if as_json else found
    emit(shown, as_json, render)
    if exit_code and found.has_changes:
        sys.exit(4)
