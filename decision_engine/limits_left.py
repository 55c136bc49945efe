"""What is left of the limits of a project, and that no message takes what is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from connectors.base import Warehouse
from decision_engine.budgets import use
from decision_engine.config import Limit
from decision_engine.intents import unsettled
from decision_engine.types import Action
from decision_engine.workspace import Workspace

Used = tuple[Action, int]
"""What is told of messages that are gone: channel, creative, incentive; and how many."""

_ALWAYS = timedelta(days=36_500)


def left(workspace: Workspace, warehouse: Warehouse, at: datetime) -> dict[str, float]:
    """What is left of each limit at a moment, in its rolling window; at least 0."""
    return {
        limit.limit: _less(
            workspace, warehouse, limit, _used(workspace, warehouse, at - days_of(limit))
        )
        for limit in workspace.project.limits
    }


def left_to_decide(
    workspace: Workspace, warehouse: Warehouse, at: datetime, decided_before: datetime
) -> dict[str, float]:
    """What is left of each limit for the decisions of a date, at least 0.

    A decision takes from the days of its limit that begin with its own date, so each date has
    its share, and does not wait for the hour at which the last one's messages left. What waits for
    days takes from those around the moment at which it is meant to leave.
    """
    found = {}
    for limit in workspace.project.limits:
        spoken_for = _spoken_for(workspace, warehouse, at, days_of(limit), decided_before)
        found[limit.limit] = _less(workspace, warehouse, limit, spoken_for)
    return found


def first_date(at: datetime, days: timedelta) -> datetime:
    """The midnight with which the days begin of which a moment's date is the last."""
    return datetime(at.year, at.month, at.day) - days + timedelta(days=1)


def days_of(limit: Limit) -> timedelta:
    """The days of a limit's window."""
    return timedelta(days=limit.days) if limit.days else _ALWAYS


def _less(workspace: Workspace, warehouse: Warehouse, limit: Limit, used: list[Used]) -> float:
    """What there is of a limit, less what is used."""
    gone = sum(n * use(limit, action, workspace.project.incentives) for action, n in used)
    return max(0.0, _most(workspace, warehouse, limit) - gone)


def _most(workspace: Workspace, warehouse: Warehouse, limit: Limit) -> float:
    if limit.max != "rep_capacity":
        return float(limit.max)
    table = workspace.built(warehouse, "stg_crm__reps")
    (capacity,) = warehouse.rows(f"select sum(capacity_per_day) from {table} where is_available")[0]
    return float(capacity or 0) * (limit.days or 1)


def _used(workspace: Workspace, warehouse: Warehouse, since: datetime) -> list[Used]:
    """Messages that left or may have left, and decisions that others carry out."""
    where = (
        "(d.carried_out_by = 'caller' and d.decided_at > ?)"
        f" or exists (select 1 from {workspace.engine('receipts')} r"
        "  where r.decision_id = d.decision_id and r.status in ('accepted', 'unknown')"
        "  and r.at > ?)"
    )
    return _counted(workspace, warehouse, where, [since, since])


def _spoken_for(
    workspace: Workspace, warehouse: Warehouse, at: datetime, days: timedelta, before: datetime
) -> list[Used]:
    """What was decided before a moment, unless it ended without leaving, and takes from the days.

    Those are the dates up to the one of `at`, or on either side of it for what waits for days.
    What a person has stopped is not to leave any more.
    """
    stopped = sorted(workspace.overrides().stopped)
    may_leave = f"not ({warehouse.among('d.decision_id')})" if stopped else "1 = 1"
    receipts = f"exists (select 1 from {workspace.engine('receipts')} r"
    waits = "d.send_at >= d.decided_at + interval '1 day'"
    where = (
        f"d.decided_at < ? and (case when {waits} then d.send_at > ? and d.send_at <= ?"
        " else d.decided_at >= ? end)"
        f" and (d.carried_out_by = 'caller' or {receipts}"
        "   where r.decision_id = d.decision_id and r.status in ('accepted', 'unknown'))"
        f"  or (d.expires_at > ? and {may_leave} and {unsettled(workspace)}))"
    )
    times = [before, at - days, at + days, first_date(at, days), before]
    return _counted(workspace, warehouse, where, [*times, *([stopped] if stopped else ())])


def _counted(
    workspace: Workspace, warehouse: Warehouse, where: str, values: Sequence[object]
) -> list[Used]:
    if None in map(warehouse.columns, map(workspace.engine, ("decisions", "receipts"))):
        return []  # nothing was ever decided
    rows = warehouse.rows(
        "select channel, creative, incentive, count(*)"
        f" from {workspace.engine('decisions')} d where action <> 'no_action' and ({where})"
        " group by channel, creative, incentive order by channel, creative, incentive",
        values,
    )
    return [(Action("used", *what), int(n)) for *what, n in rows]


class Till:
    """Keeps the limits where messages leave: each message takes what it uses, once."""

    def __init__(self, workspace: Workspace, left_over: Mapping[str, float]) -> None:
        self._project = workspace.project
        self._left = dict(left_over)
        self._taken: set[str] = set()

    def take(self, send_key: str, action: Action) -> bool:
        """Whether there is enough left for the message; then it is taken."""
        if send_key in self._taken:
            return True
        needs = {
            limit.limit: use(limit, action, self._project.incentives)
            for limit in self._project.limits
        }
        if any(n > 0 and n > self._left[name] for name, n in needs.items()):
            return False
        for name, n in needs.items():
            self._left[name] -= n
        self._taken.add(send_key)
        return True
