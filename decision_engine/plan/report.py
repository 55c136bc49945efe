"""The plan for the terminal, readable at 100 columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from decision_engine.backtest_report import number
from decision_engine.plan.result import Plan
from decision_engine.plan.tally import Change
from decision_engine.terminal import new_table

SHOWN = 12
"""Rows a table shows, those that change most; --json has them all."""

_KINDS = {
    "edited message": "have an edited message",
    "other action": "are another action",
    "other agent": "are another agent's",
    "comes in": "come in",
    "falls out": "fall out",
}

APPROVALS = "Messages that wait for a person's approval"
NO_CHANGE = "No change: the same decisions would be made as before."


def render(plan: Plan) -> RenderableType:
    """What changes, what it costs and earns, and what to look at first."""
    parts: list[RenderableType] = [*map(Text, headline(plan))]
    if plan.edits:
        parts.append(_edits(plan))
    parts += [Text(f"! {warning}", style="yellow") for warning in plan.warnings]
    if plan.has_changes:  # asking for approval changes no decision
        parts += _changes(APPROVALS, plan.approvals)
    if plan.different:
        parts += [
            *_changes("Decisions, and messages among them", _per_agent(plan)),
            *_changes("Messages by channel", plan.sends),
            *_changes("Given away at most, dollars", plan.incentive_cents, 100),
            *_changes("Minutes that sending takes at the vendors' limits", _slow(plan), 60),
            *_changes("Actions that change most", _most(plan.actions)),
            *_changes("Decisions in which a guardrail ruled a message out", plan.guardrails),
            *_segments(plan),
        ]
    if plan.days > 1:
        days = {f"day {i + 1}": change for i, change in enumerate(plan.daily)}
        parts += _changes("Messages by day", days)
    return Group(*parts, *map(Text, estimates(plan)))


def headline(plan: Plan) -> list[str]:
    """What was compared with what, and how much is different, in sentences."""
    over = f", {plan.days} days" if plan.days > 1 else ""
    lines = [
        f"The project as it is, against {plan.against}:",
        f"{plan.customers:,} customers as of {plan.as_of:%Y-%m-%d %H:%M}{over}.",
    ]
    if not plan.has_changes:
        return [*lines, NO_CHANGE]
    total = sum(plan.kinds.values())
    kinds = [f"{plan.kinds[kind]:,} {text}" for kind, text in _KINDS.items() if plan.kinds[kind]]
    lines.append(
        f"{plan.different:,} of {total:,} decisions change: {', '.join(kinds)}."
        if plan.different
        else f"None of {total:,} decisions changes."
    )
    if plan.learned:
        lines.append(f"{plan.learned:,} would change without an edit: policies have learned since.")
    if plan.gained or plan.lost:
        lost = ", ".join(f"{name} {n:,}" for name, n in plan.lost.items())
        lines.append(
            f"{plan.gained:,} customers become reachable,"
            f" {sum(plan.lost.values()):,} are not any more{f' ({lost})' if lost else ''}."
        )
    return lines


def estimates(plan: Plan) -> list[str]:
    """What each agent's change would have earned, in sentences; those of 0 are left out."""
    found = []
    for name, agent in plan.agents.items():
        if agent.expected is None or agent.expected.change.value == 0:
            continue
        e = agent.expected.change
        if e.verdict == "refused":
            found.append(f"- {name}: what it changes in reward cannot be told: {e.reason}.")
        else:
            found.append(
                f"- {name}: reward per decision {e.value:+.3g} [{e.low:.3g}, {e.high:.3g}] at"
                f" {number(agent.expected.logged_mean)} so far, by {e.n:,} logged decisions."
            )
    return ["Expected change in reward of the treatment, 95% interval:", *found] if found else []


def _edits(plan: Plan) -> Table:
    table = new_table("Edited")
    for name in ("where", "before", "after"):
        table.add_column(name, overflow="fold", max_width=48 if name == "where" else 22)
    for edit in plan.edits[:SHOWN]:
        table.add_row(*(Text(text) for text in edit))
    if len(plan.edits) > SHOWN:
        table.add_row(f"and {len(plan.edits) - SHOWN} more", "", "")
    return table


def _per_agent(plan: Plan) -> dict[str, Change]:
    rows: dict[str, Change] = {}
    for name, agent in plan.agents.items():
        rows |= {name: agent.decisions, f"  messages of {name}": agent.sends}
    return rows


def _most(changes: Mapping[str, Change]) -> dict[str, Change]:
    moved = {name: c for name, c in changes.items() if c.before != c.after}
    return dict(sorted(moved.items(), key=lambda item: -abs(item[1].after - item[1].before)))


def _slow(plan: Plan) -> dict[str, Change]:
    """The destinations whose limits are felt."""
    return {name: seconds for name, seconds in plan.seconds.items() if max(seconds) >= 60}


def _changes(title: str, changes: Mapping[str, Change], unit: int = 1) -> list[Table]:
    """One row each: before, after, difference, in whole units; no table for nothing."""
    if not any(before or after for before, after in changes.values()):
        return []
    table = new_table(title)
    table.add_column("", overflow="fold")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right", no_wrap=True, min_width=7)
    for name, change in list(changes.items())[:SHOWN]:
        before, after = (
            round(n / unit) for n in change
        )  # their difference is that of what is seen
        moved = f"{after - before:+,}" if after != before else "0"
        table.add_row(Text(name), f"{before:,}", f"{after:,}", moved)
    if len(changes) > SHOWN:
        table.add_row(f"and {len(changes) - SHOWN} more", "", "", "")
    return [table]


def _segments(plan: Plan) -> list[Table]:
    """Messages per decision by segment: does the change reach some people less than others?"""
    found = []
    for column, values in plan.segments.items():
        table = new_table(f"By {column}")
        for name in (column, "decisions", "that change", "messages before", "after"):
            table.add_column(name, justify="left" if name == column else "right")
        for value, s in list(values.items())[:SHOWN]:
            share = s.different / s.decisions
            before, after = s.sends
            table.add_row(
                Text(value), f"{s.decisions:,}", f"{share:.0%}", f"{before:,}", f"{after:,}"
            )
        found.append(table)
    return found
