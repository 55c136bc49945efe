"""The picture that goes with the demo's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decision_engine.report import DemoReport


def save_picture(report: DemoReport, path: Path) -> None:
    """Three panels: learning by week, reward by group, sends by channel."""
    # Costs half a second: only the report pays for it. Agg needs no screen.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (learning, reward, sends) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    draw_learning(learning, report)
    draw_reward(reward, report)
    draw_sends(sends, report)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_learning(axes: Any, report: DemoReport) -> None:
    """The share of the gap, week by week."""
    weeks = range(1, len(report.gap_share_by_week) + 1)
    axes.plot(weeks, report.gap_share_by_week, marker="o", label="treatment")
    random = report.random_share_by_week
    axes.plot(range(1, len(random) + 1), random, marker="o", color="0.6", label="random")
    axes.axhline(0, color="0.8", linewidth=1)
    axes.set(xlabel="week", title="Share of the random-to-oracle gap", xticks=list(weeks))
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    axes.legend(frameon=False)


def draw_reward(axes: Any, report: DemoReport) -> None:
    """Mean reward per customer with its interval."""
    groups = list(report.reward_by_group)
    for i, group in enumerate(groups):
        m = report.reward_by_group[group]
        error = [[m["value"] - m["low"]], [m["high"] - m["value"]]]
        axes.errorbar([m["value"]], [i], xerr=error, fmt="o", capsize=4)
    axes.set(title="Reward per customer, 95 % interval", yticks=range(len(groups)))
    axes.set_yticklabels([g.replace("_", " ") for g in groups])
    axes.set_ylim(-0.5, len(groups) - 0.5)


def draw_sends(axes: Any, report: DemoReport) -> None:
    """Accepted sends by channel."""
    channels = list(report.sends_by_channel)
    accepted = [report.sends_by_channel[c].get("accepted", 0) for c in channels]
    axes.bar(channels, accepted)
    axes.set(title="Accepted sends by channel")
