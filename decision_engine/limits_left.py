"""What is left of the limits of a project, and that no message takes what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from connectors.base import Warehouse
from decision_engine.budgets import use
from decision_engine.config import Limit
from decision_engine.errors import StepError
from decision_engine.types import Action
from decision_engine.workspace import Workspace

Used = tuple[Action, int]
"""What is told of messages that are gone: channel, creative, incentive; and how many."""

_ALL_TIME = datetime(1970, 1, 1), datetime(9999, 1, 1)


def left(
    workspace: Workspace,
    warehouse: Warehouse,
    at: datetime,
    *,
    decided_before: datetime | None = None,
) -> dict[str, float]:
    """What is left of each limit at a moment, at least 0.

    With `decided_before`, what is left to decide about: what was decided before then and waits is
    spoken for, where it is meant to leave within the limit's window on either side of the moment.
    """
    found = {}
    for limit in workspace.project.limits:
        window = timedelta(days=limit.days) if limit.days else None
        since, until = (at - window, at + window) if window else _ALL_TIME
        used = [*_used(workspace, warehouse, since)]
        if decided_before is not None:
            used += _waiting(workspace, warehouse, since, until, decided_before)
        gone = sum(n * use(limit, action, workspace.project.incentives) for action, n in used)
        found[limit.limit] = max(0.0, _most(workspace, warehouse, limit) - gone)
    return found


def _most(workspace: Workspace, warehouse: Warehouse, limit: Limit) -> float:
    if limit.max != "rep_capacity":
        return float(limit.max)
    table = workspace.model("stg_crm__reps")
    if warehouse.columns(table) is None:
        raise StepError(f"{table} does not exist; run `nextmove build` first")
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


def _waiting(
    workspace: Workspace, warehouse: Warehouse, since: datetime, until: datetime, now: datetime
) -> list[Used]:
    """Messages decided before now that leave between the two moments and are not at an end."""
    where = (
        "d.carried_out_by = 'delivery' and d.send_at > ? and d.send_at <= ?"
        " and d.decided_at < ? and d.expires_at > ?"
        f" and not exists (select 1 from {workspace.engine('receipts')} r"
        "  where r.decision_id = d.decision_id and r.status <> 'not_sent')"
    )
    return _counted(workspace, warehouse, where, [since, until, now, now])


def _counted(
    workspace: Workspace, warehouse: Warehouse, where: str, values: list[datetime]
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
