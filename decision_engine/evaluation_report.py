"""The result of evaluate for the terminal, readable at 100 columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from decision_engine.backtest_report import number, shown_interval
from decision_engine.causes import Retention
from decision_engine.evaluation import AgentEvaluation, Contamination
from decision_engine.lift import Interval, mean_interval
from decision_engine.pausing import words
from decision_engine.progress import DAYS, WORTH
from decision_engine.terminal import new_table
from decision_engine.uplift import Effect

SHOWN = 8
"""Actions and campaigns a table shows; --json has them all."""

SHOWN_DIFFERENCES = 2

MOVED = 0.01
"""The share of customers in more than one group that is told: fewer are merged identities."""


def render(result: Mapping[str, AgentEvaluation | None]) -> RenderableType:
    """Agent by agent: groups and lift, soundness, waterfall, effects, drift."""
    parts: list[RenderableType] = []
    for name, found in result.items():
        parts.append(Text(f"\n{name}", style="bold"))
        parts += [Text("No closed decisions yet.")] if found is None else _agent(name, found)
    return Group(*parts)


def _agent(name: str, found: AgentEvaluation) -> list[RenderableType]:
    text = f"{found.decisions:,} closed decisions"
    if found.left_out:
        text += f"; {found.left_out:,}, with other features or actions, count for the lift only"
    parts: list[RenderableType] = [Text(text), _groups(found), *map(Text, soundness(found))]
    if found.waterfall is not None and found.waterfall.verdict == "estimated":
        parts += ["", _waterfall(found)]
    elif found.waterfall is not None:
        parts.append(Text(f"- The lift cannot be divided: {found.waterfall.reason}."))
    known = [e for e in found.effects.values() if e.estimate.verdict == "estimated"]
    if known:
        parts += ["", _effects(found)]
    elif found.effects:
        parts.append(Text(f"- What an action causes cannot be told yet: {_why(found.effects)}."))
    return [
        *parts,
        *([] if found.retention is None else _retention(found.retention)),
        *map(Text, price_lines(found)),
        *map(Text, fairness_lines(found)),
        *map(Text, drift_lines(found)),
        *map(Text, progress_lines(found)),
        *map(Text, weak_lines(name, found)),
    ]


def _groups(found: AgentEvaluation) -> Table:
    table = new_table("Reward per customer; treatment's lift is valid at every look")
    for name in ("group", "customers", "mean reward", "treatment's lift over it"):
        table.add_column(name, justify="left" if name == "group" else "right", no_wrap=True)
    for name, group in found.groups.items():
        lift = found.lifts.get(name)
        shown = "" if lift is None else _bounds(lift.always_valid)
        table.add_row(name, f"{group.n:,}", shown_interval(mean_interval(group)), shown)
    return table


def soundness(found: AgentEvaluation) -> list[str]:
    """What may make the comparison unsound, in sentences."""
    lines = []
    if found.sizes is not None and found.sizes.verdict == "refused":
        lines.append(f"- Beware: {found.sizes.reason}.")
    elif found.sizes is not None:
        lines.append(f"- Group sizes fit their shares (p = {found.sizes.p_value:.2g}).")
    customers = sum(group.n for group in found.groups.values())
    if found.moved > MOVED * customers:
        lines.append(
            f"- Beware: {found.moved:,} of {customers:,} customers have been in more than one"
            " group. They count where they were first, so lift mixes what was done in both."
        )
    if found.machine_events:
        lines.append(f"- {found.machine_events:,} opens and clicks of programs count for nothing.")
    return lines + contamination_lines(found.contamination)


def contamination_lines(found: tuple[Contamination, ...]) -> list[str]:
    """How many of the held-out people got a message all the same, and from which campaigns."""
    if not found:
        return []
    whole, *campaigns = found
    if not whole.messages:
        return [f"- No message reached the {whole.held_out_customers:,} held-out customers."]
    messages = "1 message" if whole.messages == 1 else f"{whole.messages:,} messages"
    text = (
        f"- Beware: {messages} reached {whole.reached_customers:,} of"
        f" {whole.held_out_customers:,} held-out customers ({whole.reached_share:.1%}):"
    )
    named = [
        f"  {c.vendor} · {c.campaign}: {c.messages:,} to {c.reached_customers:,}"
        for c in campaigns[:SHOWN]
    ]
    return [text, *named]


def _waterfall(found: AgentEvaluation) -> Table:
    table = new_table("Where the lift over the holdout comes from, per decision")
    table.add_column("part", no_wrap=True)
    table.add_column("reward", justify="right", no_wrap=True)
    if found.waterfall is not None:
        for name, part in {**found.waterfall.parts, "total": found.waterfall.total}.items():
            table.add_row(name, _bounds(part))
    return table


def _effects(found: AgentEvaluation) -> Table:
    table = new_table("What each action causes over doing nothing, per decision")
    for name in ("action", "effect", "certain"):
        table.add_column(name, justify="left" if name == "action" else "right")
    for name, effect in list(found.effects.items())[:SHOWN]:
        e = effect.estimate
        shown = _bounds(Interval(e.value, e.low, e.high))
        table.add_row(name, shown if e.verdict == "estimated" else "-", number(effect.certain))
    return table


def _retention(found: Retention) -> list[RenderableType]:
    days = found.window_hours / 24
    when = f"active again {days / 2:g} to {days:g} days later"
    if not found.decisions:
        return [Text(f"- Retention ({when}) cannot be told yet: no decision is old enough.")]
    effects = {name: action.effect for name, action in found.actions.items()}
    if not any(e.estimate.verdict == "estimated" for e in effects.values()):
        return [Text(f"- What an action does to retention cannot be told yet: {_why(effects)}.")]
    table = new_table(f"Who stays: {when}, in points over doing nothing")
    for name in ("action", "causes", "certain", "goes together", "helps"):
        left = name == "action"
        table.add_column(name, justify="left" if left else "right", no_wrap=not left)
    for name, action in list(found.actions.items())[:SHOWN]:
        e = action.effect.estimate
        table.add_row(
            name,
            _points(Interval(e.value, e.low, e.high)),
            _point(action.effect.certain),
            _point(action.together),
            "-" if action.helped != action.helped else f"{action.helped:.0%}",
        )
    return ["", table, *map(Text, retention_lines(found))]


def retention_lines(found: Retention) -> list[str]:
    """How to read the table, what only looks good or bad, and for whom an action does more."""
    text = (
        f"- After {found.share:.0%} of {found.decisions:,} decisions the customer was active again."
        " Helps: the share of customers whom the action certainly keeps."
    )
    lines = [text]
    shown = list(found.actions.items())[:SHOWN]
    for name, action in shown:
        e = action.effect.estimate
        if action.together > e.high or action.together < e.low:
            looks = "better" if action.together > e.high else "worse"
            lines.append(
                f"- {name} looks {looks} than it is: {_point(action.together)} for those who got it"
                " beside those who got nothing, who were other people."
            )
    for name, action in shown:
        for d in action.differences[:SHOWN_DIFFERENCES]:
            where = (
                (f"for {d.column}", "for others")
                if "=" in d.column
                else (
                    f"with more {d.column} (about {d.high:.3g})",
                    f"with less (about {d.low:.3g})",
                )
            )
            lines.append(f"- {name}: {_points(d.above)} {where[0]}, {_points(d.below)} {where[1]}.")
    return lines


def price_lines(found: AgentEvaluation) -> list[str]:
    """What each waived guardrail costs, per customer whom it has ruled something out for."""
    lines = []
    for name, price in found.prices.items():
        said = name.replace("_", " ")
        if price.verdict == "refused":
            lines.append(f"- What the {said} costs cannot be told yet: {price.reason}.")
        else:
            lines.append(
                f"- The {said} costs {_bounds(price.always_valid)} of reward per customer it bites"
                f" ({price.treatment.n:,} without it, {price.control.n:,} with it)."
            )
    return lines


def fairness_lines(found: AgentEvaluation) -> list[str]:
    """Who gets certainly less than others, or is hardly known of."""
    low = [
        f"- Beware: people with {s.column} {s.value} get {s.ratio:.0%} of the {s.what} that others"
        f" get [{s.low:.0%}, {s.high:.0%}], measured by the lot."
        if s.what != "what was learned from"
        else f"- Beware: little is learned of people with {s.column} {s.value}: {s.ratio:.0%} as"
        f" much as of others [{s.low:.0%}, {s.high:.0%}]."
        for s in found.fairness
        if s.is_low
    ]
    if low or not found.fairness:
        return low
    columns = ", ".join(sorted({s.column for s in found.fairness}))
    people = len({(s.column, s.value) for s in found.fairness})
    text = f"- None of {people} groups of people, by {columns}, is certainly left behind"
    if all(s.what == "what was learned from" for s in found.fairness):
        text += " in what is learned; what they get cannot be judged yet"
    return [text + "."]


def progress_lines(found: AgentEvaluation) -> list[str]:
    """Whether anything is left to gain, and what the next weeks can still show."""
    if found.progress is None or found.progress.found is None:
        return []
    left = found.progress.found
    worth = f"the least gain worth having is {number(left.margin)} a decision ({WORTH:.0%})"
    seen = f"the next {DAYS} days can show a gain of {number(left.detectable)}"
    said = {
        "plateau": f"Plateau: the actions that exist cannot earn {number(left.possible)} more a"
        f" decision than they do, and {worth}. Write new variants.",
        "gain": f"There is more in these actions: at least {number(left.certain)} a decision;"
        f" {worth}.",
        "open": f"Still learning: {seen}, and {worth}.",
        "undecidable": f"Whether more is in these actions will stay open: {seen}, but {worth}.",
    }
    return [f"- {said[left.verdict]}"]


def weak_lines(agent: str, found: AgentEvaluation) -> list[str]:
    """The creative that the agent would be better off without, and how to pause it."""
    weak = [(name, without) for name, without in found.withouts.items() if without.is_weak]
    return [
        f"- {name} is weak: {words(without)}. To pause it: nextmove override freeze {agent} {name}"
        " --why ..."
        for name, without in weak[:1]
    ]


def drift_lines(found: AgentEvaluation) -> list[str]:
    """The actions that began to earn more or less."""
    return [
        f"- {name} earns {number(abs(d.change))} {'more' if d.change > 0 else 'less'} per decision"
        " than it did: look for what changed, or set `half_life_days`."
        for name, d in found.drifts.items()
        if d.found
    ]


def _why(effects: Mapping[str, Effect]) -> str:
    """Why all are refused: the reason of the one that is nearest to an answer."""
    if not effects:
        return "no group chooses at random"
    name, effect = max(effects.items(), key=lambda e: e[1].estimate.effective_n)
    return f"of {name}, {effect.estimate.reason}"


def _points(interval: Interval) -> str:
    """`+2.1 [0.4, 3.8]` of 100; a dash when refused."""
    if interval.value != interval.value:
        return "-"
    return f"{_point(interval.value)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _point(value: float) -> str:
    return "-" if value != value else f"{100 * value:+.1f}"


def _bounds(interval: Interval) -> str:
    """`+0.12 [0.02, 0.22]`; a dash when refused."""
    if interval.value != interval.value:
        return "-"
    return f"{interval.value:+.3g} [{interval.low:.3g}, {interval.high:.3g}]"
