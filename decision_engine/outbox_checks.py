"""Is an outbox fit to be sent? Asked before each sync; what is wrong is said with counts.

A key that is missing or there twice would send one person's row for another's. A column whose
type has changed, and ten times the rows of last time or none at all, are mostly a mistake in a
model, and cost more at a vendor than a question costs here.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.errors import ConnectorError
from decision_engine.confirmed import KEY, Confirmed
from decision_engine.sync_runs import last_rows
from decision_engine.workspace import Workspace

FEW = 100
"""Rows: what grows from fewer than these is not asked about."""
TIMES = 10


@dataclass(frozen=True)
class Look:
    """What was found: `rows` in the outbox, and a line for each problem.

    `is_hopeless`: no permission makes it right. `is_built`: there is a table at all.
    """

    rows: int
    problems: tuple[str, ...] = ()
    is_hopeless: bool = False
    is_built: bool = True


class OutboxError(ConnectorError):
    """An outbox is not fit to be sent."""


def look(workspace: Workspace, confirmed: Confirmed, name: str) -> Look:
    """Keys, types and number of rows of one outbox of the destination called `name`."""
    if not confirmed.is_built():
        return _not_built(confirmed)
    rows, keys, different = confirmed.warehouse.rows(
        f"select count(*), count({KEY}), count(distinct {KEY}) from {confirmed.model}"
    )[0]
    if keys < rows or different < keys:
        return Look(rows, tuple(_key_problems(rows, keys, different)), is_hopeless=True)
    before = last_rows(workspace, confirmed.warehouse, name, confirmed.outbox.stream)
    return Look(rows, (*_type_problems(confirmed), *_count_problems(rows, before)))


def require_built(confirmed: Confirmed, name: str) -> None:
    """OutboxError when the outbox of the destination called `name` is not there."""
    if not confirmed.is_built():
        raise refusal(f"{name}.{confirmed.outbox.stream}", _not_built(confirmed))


def _not_built(confirmed: Confirmed) -> Look:
    problem = f"{confirmed.model} does not exist"
    return Look(0, (problem,), is_hopeless=True, is_built=False)


def _key_problems(rows: int, keys: int, different: int) -> list[str]:
    missing = f"{rows - keys:,} of {rows:,} rows have no {KEY}"
    repeated = f"{keys - different:,} of {rows:,} rows repeat another row's {KEY}"
    return ([missing] if keys < rows else []) + ([repeated] if different < keys else [])


def _type_problems(confirmed: Confirmed) -> list[str]:
    have = confirmed.warehouse.columns(confirmed.table) or {}
    if not have or not confirmed.warehouse.rows(f"select 1 from {confirmed.table} limit 1"):
        return []
    wanted = confirmed.warehouse.columns(confirmed.model) or {}
    return [
        f"column {column} was {have[column]} and is {kind}"
        for column, kind in wanted.items()
        if column in have and have[column] != kind
    ]


def _count_problems(rows: int, before: int | None) -> list[str]:
    if before is None or before < FEW or 0 < rows < before * TIMES:
        return []
    return [f"{rows:,} rows, where there were {before:,} last time"]


def refusal(title: str, found: Look) -> OutboxError:
    """What to tell who runs it."""
    if not found.is_built:
        hint = "run `nextmove build`, then deliver again"
    elif found.is_hopeless:
        hint = "repair the model, then build and deliver again"
    else:
        hint = f"nothing of it was sent; if it is right, run `nextmove deliver --allow {title}`"
    return OutboxError(f"outbox {title}: {'; '.join(found.problems)}", hint)
