"""`nextmove override`: what people decree, without retraining and at once."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from decision_engine.command import (
    AS_OF,
    JSON,
    PROJECT,
    Moment,
    emit,
    open_workspace,
    reported_errors,
)
from decision_engine.overrides import Kind, Override
from decision_engine.terminal import new_table

BY = click.option(
    "--by", default=getpass.getuser, show_default="your user name", help="Who decides this."
)
WHY = click.option("--why", required=True, help="The reason, for the log and for explanations.")
UNTIL = click.option("--until", type=Moment(), help="When it ends by itself, UTC.")
Command = Callable[..., None]


def shared(command: Command) -> Command:
    """The options that every override has."""
    for option in reversed((PROJECT, BY, WHY, JSON)):
        command = option(command)
    return command


@click.group()
def override() -> None:
    """Overrule the engine: at once in decide, serve and deliver, without retraining.

    Each override is logged with who and why. `learn` notes what would have been chosen without
    it, and `nextmove override score` compares later.

    \b
    Example:  nextmove override pause win_back --why "stock is late" --until 2026-12-01
    """


def give(folder: Path, as_json: bool, kind: Kind, by: str, why: str, **target: Any) -> None:
    """Log it and say how to take it back."""
    from decision_engine import overriding

    with reported_errors():
        _logged(overriding.give(open_workspace(folder), kind, by, why, **target), as_json)


def _logged(made: Override, as_json: bool, too_late: str = "") -> None:
    """`too_late` is why it changes nothing any more."""
    if has_ended(made.until):
        too_late = f"it ended on {shown_time(made.until)} already; an earlier --as-of heeds it"
    state = f"is logged, but {too_late}" if too_late else "is in force"
    result = {"override_id": made.override_id, "kind": made.kind}
    emit(
        result | ({"too_late": too_late} if too_late else {}),
        as_json,
        lambda r: (
            f"{r['kind']} {r['override_id']} {state}. To end it:"
            f" nextmove override release {r['override_id']} --why ..."
        ),
    )


def has_ended(until: str | None) -> bool:
    """Whether an override has ended by itself by now."""
    return until is not None and datetime.fromisoformat(until) <= datetime.now(UTC).replace(
        tzinfo=None
    )


def shown_time(at: str | None) -> str:
    """`2026-03-08 13:00`."""
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M}" if at else ""


@override.command()
@click.argument("agent")
@UNTIL
@shared
def pause(
    agent: str, until: datetime | None, folder: Path, by: str, why: str, as_json: bool
) -> None:
    """Stop all messages of an agent; it goes on deciding to do nothing.

    \b
    Example:  nextmove override pause win_back --why "stock is late"
    """
    give(folder, as_json, "pause", by, why, agent=agent, until=until)


@override.command()
@click.argument("rule")
@click.option("--agent", help="Only from this agent's messages; from all when not given.")
@UNTIL
@shared
def exclude(
    rule: str,
    agent: str | None,
    until: datetime | None,
    folder: Path,
    by: str,
    why: str,
    as_json: bool,
) -> None:
    """No messages for the people of a rule. Who may be among them counts as one.

    \b
    Example:  nextmove override exclude "country = 'PT'" --why "outage in Portugal"
    """
    give(folder, as_json, "exclude", by, why, rule=rule, agent=agent, until=until)


@override.command()
@click.argument("agent")
@click.argument("action")
@UNTIL
@shared
def freeze(
    agent: str,
    action: str,
    until: datetime | None,
    folder: Path,
    by: str,
    why: str,
    as_json: bool,
) -> None:
    """Take an action, or all actions of a creative, out of an agent's choice.

    \b
    Example:  nextmove override freeze win_back miss_you_email --why "wrong price"
    """
    give(folder, as_json, "freeze", by, why, agent=agent, action=action, until=until)


@override.command()
@click.argument("agent")
@click.argument("action")
@click.option("--where", "rule", help="Only for the people of this rule.")
@UNTIL
@shared
def pin(
    agent: str,
    action: str,
    rule: str | None,
    until: datetime | None,
    folder: Path,
    by: str,
    why: str,
    as_json: bool,
) -> None:
    """Have an agent take this action, or one of this creative, for whom it is possible.

    In the treatment group only. Guardrails stay what they are. The last pin wins.

    \b
    Example:  nextmove override pin win_back miss_you_email --where "tier = 'gold'" --why "launch"
    """
    give(folder, as_json, "pin", by, why, agent=agent, action=action, rule=rule, until=until)


@override.command()
@click.argument("decision_id")
@shared
def stop(decision_id: str, folder: Path, by: str, why: str, as_json: bool) -> None:
    """Overrule one decision: its message does not leave, unless it has left.

    A prefix of the id is enough when it names one decision only.

    \b
    Example:  nextmove override stop 3f2a9c --why "we spoke on the phone"
    """
    from decision_engine import overriding
    from decision_engine.explain.words import moment
    from decision_engine.overriding import decision_of

    with reported_errors():
        workspace = open_workspace(folder)
        decision, left = decision_of(workspace, decision_id)
        target = {"agent": decision["agent"], "decision_id": decision["decision_id"]}
        made = overriding.give(workspace, "stop", by, why, **target)
        _logged(made, as_json, f"the message left on {moment(left)}" if left else "")


@override.command()
@click.argument("decision_id")
@shared
def approve(decision_id: str, folder: Path, by: str, why: str, as_json: bool) -> None:
    """Let the message of a held decision leave, as it is now, with the next delivery.

    The `owner` of the agent cannot. If what would be sent changes, it is held again.

    \b
    Example:  nextmove override approve 3f2a9c --why "checked with the customer's file"
    """
    from decision_engine import overriding

    with reported_errors():
        _logged(overriding.approve(open_workspace(folder), decision_id, by, why), as_json)


@override.command()
@PROJECT
@AS_OF
@JSON
def held(folder: Path, as_of: datetime, as_json: bool) -> None:
    """The decisions that wait for approval, those that expire first at the front.

    \b
    Example:  nextmove override held
    """
    from decision_engine.audit import warehouse_of_decisions
    from decision_engine.intents import held as waiting

    with reported_errors():
        workspace = open_workspace(folder)
        with warehouse_of_decisions(workspace) as warehouse:
            rows = waiting(workspace, warehouse, as_of)
        names = ("decision_id", "agent", "customer_id", "action", "subject")
        result = [
            {**{n: row[n] for n in names}, "expires_at": row["expires_at"].isoformat()}
            for row in rows
        ]
        emit({"held": result}, as_json, lambda r: _held(r["held"]))


def _held(rows: list[dict[str, Any]]) -> Any:
    if not rows:
        return "No decision waits for approval."
    table = new_table("held for approval")
    for name in ("decision", "expires", "agent", "customer", "action", "subject"):
        table.add_column(name, no_wrap=name in ("decision", "expires"), overflow="fold")
    for row in rows:
        decision, *told, expires = row.values()
        table.add_row(decision[:12], shown_time(expires), *(Text(str(v)) for v in told))
    return table


@override.command()
@click.argument("override_id")
@shared
def release(override_id: str, folder: Path, by: str, why: str, as_json: bool) -> None:
    """End an override. A message that it stopped is not sent after the fact.

    A prefix of the id is enough when it names one override only.

    \b
    Example:  nextmove override release 0c41d2aa90f3 --why "stock is here"
    """
    from decision_engine import overriding

    with reported_errors():
        made = overriding.release(open_workspace(folder), override_id, by, why)
        emit({"released": made.releases}, as_json, lambda r: f"{r['released']} has ended.")


@override.command("list")
@PROJECT
@click.option("--all", "everything", is_flag=True, help="Also those that were released.")
@JSON
def list_(folder: Path, everything: bool, as_json: bool) -> None:
    """The overrides in force.

    \b
    Example:  nextmove override list --all --json
    """
    from decision_engine.overriding import listed

    with reported_errors():
        result = listed(open_workspace(folder), everything=everything)
        emit({"overrides": result}, as_json, lambda r: _table(r["overrides"]))


@override.command()
@PROJECT
@JSON
def score(folder: Path, as_json: bool) -> None:
    """How overrides turned out: what was earned, and what the engine expected of its own choice.

    `learn` writes the labels, one for each decision that came out differently. Expected is the
    engine's own opinion at the time, in reward units; outcomes still open do not count.

    \b
    Example:  nextmove override score
    """
    from decision_engine.audit import warehouse_of_decisions
    from decision_engine.override_labels import score as scores

    with reported_errors():
        workspace = open_workspace(folder)
        with warehouse_of_decisions(workspace) as warehouse:
            result = scores(workspace, warehouse)
        emit({"overrides": result}, as_json, lambda r: _scores(r["overrides"]))


def _scores(rows: list[dict[str, Any]]) -> Any:
    if not rows:
        return "No override has changed a decision that `nextmove learn` has gone through."
    table = new_table("how overrides turned out")
    for name in ("id", "what", "agent", "labels", "settled", "earned", "expected"):
        table.add_column(name, no_wrap=name == "id")
    for row in rows:
        means = ("-" if row[n] is None else f"{row[n]:.3f}" for n in ("earned", "expected"))
        table.add_row(
            str(row["override_id"]), row["kind"], row["agent"], f"{row['labels']:,}",
            f"{int(row['settled'] or 0):,}", *means,
        )  # fmt: skip
    return table


def _table(rows: list[dict[str, Any]]) -> Any:
    if not rows:
        return "No override is in force."
    table = new_table("overrides")
    for name in ("id", "at", "by", "what", "until", "why"):
        table.add_column(name, no_wrap=name in ("id", "at"), overflow="fold")
    for row in rows:
        names = ("kind", "agent", "action", "rule", "decision_id", "releases")
        shown = row | {"decision_id": row.get("decision_id", "")[:12]}
        what = " ".join(str(shown[n]) for n in names if shown.get(n))
        table.add_row(
            row["override_id"],
            row["at"][:10],
            Text(row["by"]),
            Text(what),
            f"{shown_time(row.get('until'))}{' (ended)' if has_ended(row.get('until')) else ''}",
            Text(row["why"]),
        )
    return table
