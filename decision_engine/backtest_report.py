"""The result of a backtest for the terminal, readable at 100 columns."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from decision_engine.backtest import BacktestResult
from decision_engine.backtest_runs import ArmTruth, HeldOut, ReplayValue, interval_of
from decision_engine.lift import Interval

ESTIMATORS = {"dr": "DR", "switch_dr": "Switch-DR", "ips": "IPS", "snips": "SNIPS"}


def render(result: BacktestResult) -> RenderableType:
    """Three tables (what happened, replay, held out) between a heading and the conclusions."""
    return Group(
        _heading(result),
        _truth(result.truth, result.reward),
        "",
        _replay(result.replay, result.shuffles),
        "",
        _held_out(result.held_out),
        "",
        *(Text(f"- {line}") for line in result.conclusions),
    )


def _heading(result: BacktestResult) -> Text:
    drawn = f"column {result.propensity}" if result.propensity else "equal for every action"
    text = (
        f"{result.n:,} rows, {len(result.truth)} actions, reward {result.reward}, "
        f"propensity {drawn}, seed {result.seed}, {result.seconds:.0f} s\n"
        f"Context ({len(result.features)} features): {', '.join(result.features) or 'none'}\n"
    )
    dropped = ", ".join(result.dropped)
    return Text(text + (f"Constant, so left out: {dropped}\n" if dropped else ""))


def _truth(arms: tuple[ArmTruth, ...], reward: str) -> Table:
    table = _table("What each action earned", "action", "rows", f"mean {reward}")
    for arm in arms:
        table.add_row(arm.arm, f"{arm.n:,}", shown_interval(arm.mean))
    return table


def _replay(policies: tuple[ReplayValue, ...], shuffles: int) -> Table:
    title = f"Replayed, learning from nothing ({shuffles} shuffles; ± is over shuffles)"
    table = _table(title, "policy", "mean", "2nd half", "vs uniform", "vs best action")
    for p in policies:
        differences = (_signed(p.against_uniform), _signed(p.against_best))
        table.add_row(p.policy, shown_interval(p.mean), number(p.second_half), *differences)
    return table


def _held_out(policies: tuple[HeldOut, ...]) -> Table:
    title = "Held out: learned on one half, valued on the other"
    table = _table(title, "", *(p.policy for p in policies))
    for name, shown in ESTIMATORS.items():
        estimates = [interval_of(getattr(p, name)) for p in policies]
        table.add_row(f"value, {shown}", *map(shown_interval, estimates))
    sizes = (f"{p.dr.effective_n:,.0f}" for p in policies)
    table.add_row("effective rows", *sizes)
    table.add_row("DR vs uniform", *(_signed(p.against_uniform) for p in policies))
    table.add_row("DR vs best action", *(_signed(p.against_best) for p in policies))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def number(value: float) -> str:
    """Five decimals of a rate, three of more; a dash for what was refused."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.5f}" if abs(value) < 1 else f"{value:,.3f}"


def shown_interval(interval: Interval) -> str:
    """`0.183 ± 0.005`: one digit of the half width, two when it begins with 1 to 3."""
    half = (interval.high - interval.low) / 2
    if interval.value == half == 0:
        return "0"
    if not math.isfinite(half) or half < 1e-9 * abs(interval.value):
        return number(interval.value)
    decimals = min(max(math.ceil(math.log10(35 / max(half, 1e-9))) - 1, 0), 5)
    return f"{interval.value:z,.{decimals}f} ± {half:,.{decimals}f}"


def _signed(interval: Interval) -> str:
    """The difference of a policy; a blank for the difference from itself."""
    if interval.value == interval.low == interval.high == 0:
        return ""
    return ("+" if interval.value >= 0 else "") + shown_interval(interval)
