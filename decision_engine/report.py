"""The report at the end of the demo: tables for the terminal, one picture, JSON."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from connectors.base import Warehouse
from decision_engine.audit import explain_decision
from decision_engine.epochs import EVENTS
from decision_engine.guardrails import REASON_NAMES
from decision_engine.lift import Group, Lift, group_of, lift, mean_interval
from decision_engine.market.truth import Truth
from decision_engine.tables import exact
from decision_engine.terminal import new_table
from decision_engine.types import TREATMENT, Reason
from decision_engine.workspace import Workspace

HOLDOUT = "holdout"
LATENCY = "nextmove_event_to_decision_seconds"


@dataclass(frozen=True)
class DemoReport:
    """Everything the report shows, as plain data."""

    customers: int
    days: int
    decisions: int
    sends_by_channel: dict[str, dict[str, int]]
    deliveries: dict[str, int]
    blocked: dict[str, int]
    hot_path: dict[str, int]
    latency_ms: dict[str, float | None]
    clicks: dict[str, int]
    reward_by_group: dict[str, dict[str, float]]
    lift: dict[str, dict[str, float]]
    verdict: str
    gap_share_by_week: list[float]
    random_share_by_week: list[float]
    explained: str
    decision_id: str
    seconds: dict[str, float]


def collect(
    workspace: Workspace, truth: Truth, measured: Mapping[str, float], seconds: dict[str, float]
) -> DemoReport:
    """Read the report off the warehouse, and the gap off the simulation's own truth.

    `measured` are the service's metrics, and `seconds` where the time went with its `total`.
    """
    with workspace.warehouse() as warehouse:
        groups = rewards_by_group(workspace, warehouse)
        lifts = {g: lift(groups[TREATMENT], groups[g]) for g in groups if g != TREATMENT}
        decision_id = interesting_decision(workspace, warehouse)
        facts = counts(workspace, warehouse)
    explained = explain_decision(workspace, decision_id).text if decision_id else ""
    return DemoReport(
        **facts,
        reward_by_group={
            name: {"n": group.n, **asdict(mean_interval(group))} for name, group in groups.items()
        },
        lift={g: asdict(v.always_valid) for g, v in lifts.items()},
        verdict=verdict(lifts.get(HOLDOUT)),
        gap_share_by_week=[a.share for a in truth.by_week(TREATMENT)],
        random_share_by_week=[a.share for a in truth.by_week("random")],
        explained=explained,
        decision_id=decision_id,
        latency_ms=latency(measured),
        seconds=seconds,
    )


def rewards_by_group(workspace: Workspace, warehouse: Warehouse) -> dict[str, Group]:
    """Reward per customer over all closed decisions, by the group the customer is in."""
    # Summed exactly and read in order, so that a figure is the same to its last digit every time.
    found = warehouse.rows(
        f"select group_name, cast(sum({exact('reward')}) as double precision)"
        f" from {workspace.model('fct_decision_rewards')} where is_closed"
        " group by group_name, customer_id order by group_name, customer_id"
    )
    return {
        str(name): group_of(np.array([reward for _, reward in rows]))
        for name, rows in groupby(found, key=itemgetter(0))
    }


def counts(workspace: Workspace, warehouse: Warehouse) -> dict[str, Any]:
    """Customers, decisions, sends by channel and status, and what the guardrails blocked."""
    decisions, receipts = workspace.engine("decisions"), workspace.engine("receipts")
    customers, days, decided = warehouse.rows(
        "select count(distinct customer_id), count(distinct cast(decided_at as date)), count(*)"
        f" from {decisions}"
    )[0]
    by_channel: dict[str, dict[str, int]] = {}
    # What was unknown until a webhook came is accepted, and counts once.
    settled = f"select 1 from {receipts} s where s.send_key = r.send_key and s.status = 'accepted'"
    for channel, status, n in warehouse.rows(
        f"select d.channel, r.status, count(*) from {receipts} r join {decisions} d"
        " using (decision_id) where r.status <> 'not_sent'"
        f" and not (r.status = 'unknown' and exists ({settled}))"
        " group by d.channel, r.status order by d.channel, r.status"
    ):
        by_channel.setdefault(channel, {})[status] = n
    deliveries = dict(
        warehouse.rows(f"select status, count(*) from {receipts} group by status order by status")
    )
    return {
        "customers": customers,
        "days": days,
        "decisions": decided,
        "sends_by_channel": by_channel,
        "deliveries": deliveries,
        "blocked": blocked(workspace, warehouse),
        "hot_path": hot_path(workspace, warehouse),
        "clicks": clicks(workspace, warehouse),
    }


def clicks(workspace: Workspace, warehouse: Warehouse) -> dict[str, int]:
    """Clicks on our messages, and those of programs: flagged by a vendor, found out by us."""
    total, flagged, timed = warehouse.rows(
        "select count(*), sum(case when m.is_machine then 1 else 0 end), count(p.event_key)"
        f" from {workspace.model('int_events__messages')} m"
        f" left join {workspace.model('int_events__machine_clicks')} p on p.event_key = m.event_key"
        " where m.event_type = 'click' and m.decision_id is not null"
    )[0]
    return {"all": total, "flagged": int(flagged or 0), "found_out": timed}


def hot_path(workspace: Workspace, warehouse: Warehouse) -> dict[str, int]:
    """Events taken in, decisions that they called for, and messages accepted of those."""
    decisions = (
        f"{workspace.engine('decisions')} d join {workspace.engine('epochs')} e"
        f" on e.epoch_id = d.epoch_id and e.slot = '{EVENTS}'"
    )
    queries = {
        "events": f"select count(*) from {workspace.engine('tracked_events')}",
        "decisions": f"select count(*) from {decisions}",
        "sends": f"select count(*) from {decisions} join {workspace.engine('receipts')} r"
        " on r.decision_id = d.decision_id and r.status = 'accepted'",
    }
    return {name: warehouse.rows(query)[0][0] for name, query in queries.items()}


def latency(measured: Mapping[str, float]) -> dict[str, float | None]:
    """Milliseconds from an event to the decision it called for: bounds of the median and p99."""
    return {"p50": bound_ms(measured, LATENCY, 0.5), "p99": bound_ms(measured, LATENCY, 0.99)}


def bound_ms(measured: Mapping[str, float], histogram: str, share: float) -> float | None:
    """The smallest bound of a histogram that keeps this share of its values; None for no bound."""
    start, end = f'{histogram}_bucket{{le="', '"}'
    buckets = {k[len(start) : -len(end)]: n for k, n in measured.items() if k.startswith(start)}
    total = buckets.pop("+Inf", 0)
    kept = [float(le) for le, n in buckets.items() if total and n >= share * total]
    return 1000 * min(kept) if kept else None


def blocked(workspace: Workspace, warehouse: Warehouse) -> dict[str, int]:
    """How many actions each guardrail ruled out, the busiest first."""
    counts = Counter[Reason]()
    for batch in warehouse.query(f"select reasons from {workspace.engine('decisions')}"):
        for found in batch["reasons"].flatten().value_counts().to_pylist():
            counts[Reason(found["values"])] += found["counts"]
    del counts[Reason.ELIGIBLE]
    return {REASON_NAMES[code]: n for code, n in counts.most_common()}


def interesting_decision(workspace: Workspace, warehouse: Warehouse) -> str:
    """A recent treated send with something blocked: the one worth reading about."""
    found = warehouse.rows(
        f"select d.decision_id from {workspace.engine('decisions')} d"
        f" join {workspace.engine('epochs')} e on e.epoch_id = d.epoch_id"
        " where e.slot <> ? and d.group_name = ? and d.action <> 'no_action'"
        " and d.n_eligible < d.n_actions"
        " order by d.slot desc, d.p_action desc, d.decision_id limit 1",
        [EVENTS, TREATMENT],
    )
    return str(found[0][0]) if found else ""


def verdict(against: Lift | None) -> str:
    """What the interval of treatment against holdout allows us to say."""
    if against is None:
        return "There is no holdout group, so lift cannot be measured."
    if against.verdict == "refused":
        return f"Lift against the holdout cannot be judged: {against.reason}."
    interval = against.always_valid
    if interval.low > 0:
        return "Treatment earns more per customer than the holdout: the interval is above zero."
    if interval.high < 0:
        return "Treatment earns less per customer than the holdout: the interval is below zero."
    return "No lift shown: the interval of treatment against holdout includes zero."


def render(report: DemoReport, folder: Path) -> RenderableType:
    """The report for a terminal, at most 100 columns."""
    command = own_command()
    return Lines(
        f"[bold]nextmove demo[/bold] · {report.customers:,} customers decided for on"
        f" {report.days} days · {report.decisions:,} decisions",
        "",
        sends_table(report),
        blocked_table(report),
        reward_table(report),
        f"{report.verdict}\n",
        clicks_line(report),
        gap_table(report),
        hot_path_lines(report),
        f"[bold]One decision, explained[/bold]\n{escape(report.explained)}\n",
        time_line(report),
        "\n[bold]Where to look next[/bold]\n"
        f"  picture          {folder}/report.png\n"
        f"  this decision    {command} explain {report.decision_id[:12]} --project {folder}\n"
        f"  decide it again  {command} replay --project {folder}\n"
        f"  what to change   {folder}/agents/, then: {command} check --project {folder}",
    )


def own_command() -> str:
    """How the reader can call this program: by its name if that is on the path."""
    if shutil.which("nextmove"):
        return "nextmove"
    return os.path.relpath(Path(sys.executable).parent / "nextmove")


def sends_table(report: DemoReport) -> Table:
    """Sends by channel and what became of them."""
    statuses = ("accepted", "rejected", "skipped", "unknown")
    table = new_table("Sends by channel")
    table.add_column("channel")
    for status in statuses:
        table.add_column(status, justify="right")
    for channel, row in report.sends_by_channel.items():
        table.add_row(channel, *(f"{row.get(s, 0):,}" for s in statuses))
    return table


def blocked_table(report: DemoReport) -> Table:
    """How often each guardrail ruled an action out."""
    table = new_table("Actions ruled out, by guardrail")
    table.add_column("guardrail")
    table.add_column("times", justify="right")
    for name, n in report.blocked.items():
        table.add_row(name.replace("_", " "), f"{n:,}")
    return table


def reward_table(report: DemoReport) -> Table:
    """Mean reward per customer by group, and treatment's lift over each."""
    table = new_table("Reward per customer (95 % intervals; lift always-valid)")
    for name in ("group", "customers", "mean", "interval", "treatment minus this"):
        table.add_column(name, justify="left" if name == "group" else "right")
    for group, m in report.reward_by_group.items():
        gain = report.lift.get(group)
        table.add_row(
            group.replace("_", " "),
            f"{int(m['n']):,}",
            f"{m['value']:.3f}",
            f"{m['low']:.3f} to {m['high']:.3f}",
            gain_text(gain) if gain else "",
        )
    return table


def gain_text(gain: dict[str, float]) -> str:
    """A lift with its interval, unless a group was too small for one."""
    if gain["value"] != gain["value"]:
        return "too few customers"
    return f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"


def clicks_line(report: DemoReport) -> str:
    """What counts as a click, and what was left out."""
    found = report.clicks
    counted = found["all"] - found["flagged"] - found["found_out"]
    return (
        f"Of {found['all']:,} clicks {counted:,} count. {found['flagged']:,} are of programs that"
        f" their vendor knows; {found['found_out']:,}\nwere found out: within 10 seconds of the"
        " message, three within 3, or more in a day than is credible.\n"
    )


def gap_table(report: DemoReport) -> Table:
    """Share of the random-to-oracle gap by week."""
    table = new_table("Share of the random-to-oracle gap, by week (the simulation knows the truth)")
    table.add_column("group")
    for week in range(1, len(report.gap_share_by_week) + 1):
        table.add_column(f"week {week}", justify="right")
    table.add_row("treatment", *(percent(s) for s in report.gap_share_by_week))
    table.add_row("random", *(percent(s) for s in report.random_share_by_week))
    return table


def percent(share: float) -> str:
    """A share in whole percents; a dash when there is no gap to share."""
    return "-" if share != share else f"{round(100 * share) + 0} %"


def hot_path_lines(report: DemoReport) -> str:
    """What events called for, and how fast it was decided."""
    hot, took = report.hot_path, report.latency_ms
    return (
        "[bold]Decided at once[/bold]\n"
        f"{hot['events']:,} events came in over HTTP and called for {hot['decisions']:,} decisions,"
        f" {hot['sends']:,} of them a message.\n"
        f"From an event to its decision, both on the disk: half {within(took['p50'])},"
        f" 99 % {within(took['p99'])}.\n"
    )


def within(milliseconds: float | None) -> str:
    """A bound in words."""
    return "not measured" if milliseconds is None else f"within {milliseconds:g} ms"


def time_line(report: DemoReport) -> str:
    """Where the seconds went."""
    parts = ", ".join(f"{k} {v:.0f}" for k, v in report.seconds.items() if k != "total")
    return f"Time: {report.seconds['total']:.0f} s ({parts})."
