"""Whether the columns of profiles are to be trusted, before anything is decided by them.

A column fails when dbt says so (a test on it warns), when the feed it is made of has stopped, when
it has become unknown for many more customers than usual, or when many values lie far outside of
what is usual. Usual is what the profiles of the last four weeks were like that passed; when there
are none, the world has changed and what is there now is usual.

An agent that only learns by a failed column goes on without it: for everybody it is what a usual
customer has, so it adds nothing to any choice. An agent whose audience, rules or guardrails read
it does nothing. Either way the record says why (`batch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import yaml

from connectors.base import Warehouse
from decision_engine.build import package_folder
from decision_engine.epochs import FEATURES, profile_build
from decision_engine.features import ALL_TRUSTED, Distrusted, all_needed_columns
from decision_engine.pricing import sample
from decision_engine.rule_check import kind_of_type
from decision_engine.tables import DATA_CHECKS
from decision_engine.types import Column, Epoch, Floats
from decision_engine.workspace import Workspace

USUAL_DAYS = 28
LEAST = 100
"""Fewer profiles say nothing about a share of them."""
UNKNOWN_JUMP = 0.2
"""So much more may be unknown, as a share of all customers."""
OUTSIDE = 0.1
"""Such a share of the known values may lie outside of the usual range, widened by itself."""


class Seen(NamedTuple):
    """The share of unknown values, and the 1st and 99th percentile of numbers (None for others)."""

    unknown: float | None
    low: float | None
    high: float | None


NOTHING_SEEN = Seen(None, None, None)


def distrusted(
    workspace: Workspace, warehouse: Warehouse, epoch: Epoch, *, write: bool
) -> Distrusted:
    """The columns that failed when the profiles of an epoch were built, with what failed.

    They are looked at now when nobody has done so, as when dbt was run by another tool; without
    `write` nothing is kept of it.
    """
    found = of_build(workspace, warehouse, epoch.profile_build)
    return check(workspace, warehouse, epoch.as_of, {}, write=write) if found is None else found


def of_build(workspace: Workspace, warehouse: Warehouse, build: str) -> Distrusted | None:
    """What failed in a build; None when nobody has looked."""
    table = workspace.engine("data_checks")
    if warehouse.columns(table) is None:
        return None
    rows = warehouse.rows(
        f"select column_name, failed from {table} where profile_build = ?", [build]
    )
    return {column: failed for column, failed in rows if failed} if rows else None


def check(
    workspace: Workspace,
    warehouse: Warehouse,
    as_of: datetime,
    failed_tests: Mapping[str, str],
    *,
    write: bool = True,
) -> Distrusted:
    """Look at the profiles; the columns that fail, with what failed. Kept for what comes after.

    `failed_tests` are the dbt tests that warned, by column.
    """
    if not warehouse.rows(f"select 1 from {workspace.model(FEATURES)} limit 1"):
        return ALL_TRUSTED
    build = profile_build(workspace, warehouse)
    agents = [(agent, workspace.catalog(name)) for name, agent in workspace.agents.items()]
    there = warehouse.columns(workspace.model(FEATURES)) or {}
    # What a person has decreed may go by columns that no agent's file names.
    read = {*all_needed_columns(agents, workspace.project), *workspace.overrides().columns}
    columns = sorted(read & there.keys() - {"customer_id"})
    contexts, _ = sample(workspace, warehouse, columns)
    failed = {**_stopped(workspace, warehouse, as_of), **failed_tests}
    seen: dict[str, Seen] = {}
    if len(contexts) >= LEAST:
        usual = _usual(workspace, warehouse, build, as_of)
        for name in columns:
            column, is_number = contexts.columns[name], kind_of_type(there[name]) == "number"
            seen[name] = _seen(column, is_number)
            if name in usual and (why := _unusual(column, is_number, usual[name])):
                failed.setdefault(name, why)
    failed = {name: why for name, why in failed.items() if name in columns}
    if write:
        kept = {name: seen.get(name, NOTHING_SEEN) for name in columns}
        _keep(workspace, warehouse, build, as_of, kept, failed)
    return failed


def _keep(
    workspace: Workspace,
    warehouse: Warehouse,
    build: str,
    as_of: datetime,
    seen: Mapping[str, Seen],
    failed: Distrusted,
) -> None:
    rows = [
        {
            "profile_build": build,
            "as_of": as_of,
            "column_name": name,
            "unknown_share": found.unknown,
            "low": found.low,
            "high": found.high,
            "failed": failed.get(name, ""),
        }
        for name, found in seen.items()
    ]
    table = pa.Table.from_pylist(rows, schema=DATA_CHECKS)
    with warehouse.transaction():
        keys = ["profile_build", "column_name"]
        warehouse.merge(workspace.engine("data_checks"), table, keys)


def _seen(column: Column, is_number: bool) -> Seen:
    unknown, numbers = 1.0 - float(column.valid.mean()), _numbers(column, is_number)
    if not len(numbers):
        return Seen(unknown, None, None)
    low, high = np.quantile(numbers, [0.01, 0.99])
    return Seen(unknown, float(low), float(high))


def _numbers(column: Column, is_number: bool) -> Floats:
    if not is_number:
        return np.empty(0)
    values: Floats = column.values[column.valid].astype(np.float64)
    return values[np.isfinite(values)]


def _usual(
    workspace: Workspace, warehouse: Warehouse, build: str, as_of: datetime
) -> dict[str, Seen]:
    """The most unknown and the widest range among the builds that passed, by column."""
    table = workspace.engine("data_checks")
    if warehouse.columns(table) is None:
        return {}
    rows = warehouse.rows(
        "select column_name, max(unknown_share), min(low), max(high)"
        f" from {table} where failed = '' and unknown_share is not null"
        " and as_of >= ? and as_of <= ? and profile_build <> ? group by column_name",
        [as_of - timedelta(days=USUAL_DAYS), as_of, build],
    )
    return {name: Seen(*found) for name, *found in rows}


def _unusual(column: Column, is_number: bool, usual: Seen) -> str:
    """What is not as usual; empty when all is."""
    seen, numbers = _seen(column, is_number), _numbers(column, is_number)
    if (seen.unknown or 0.0) > (usual.unknown or 0.0) + UNKNOWN_JUMP:
        return f"{seen.unknown:.0%} unknown, at most {usual.unknown:.0%} before"
    if usual.low is None or usual.high is None or not len(numbers):
        return ""
    margin = max(usual.high - usual.low, 1.0)
    far = (numbers < usual.low - margin) | (numbers > usual.high + margin)
    if far.mean() <= OUTSIDE:
        return ""
    return f"from {seen.low:.4g} to {seen.high:.4g}, {usual.low:.4g} to {usual.high:.4g} before"


# --- feeds that have stopped ---


class Feed(NamedTuple):
    """A dbt model, its time column, the hours after which it has stopped, what it is for."""

    model: str
    at: str
    hours: int
    columns: tuple[str, ...]


@cache
def feeds() -> tuple[Feed, ...]:
    """Those of `nextmove_feeds` in the dbt package."""
    text = (package_folder() / "dbt_project.yml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)["vars"]["nextmove_feeds"]
    return tuple(Feed(m, f["at"], f["hours"], tuple(f["columns"])) for m, f in found.items())


def _stopped(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> dict[str, str]:
    return {c: why for feed in feeds() for c, why in _of_feed(workspace, warehouse, feed, as_of)}


def _of_feed(
    workspace: Workspace, warehouse: Warehouse, feed: Feed, as_of: datetime
) -> Iterator[tuple[str, str]]:
    """Its columns when it has stopped. A feed that never brought anything is not one."""
    table = workspace.model(feed.model)
    if warehouse.columns(table) is None:
        return
    ((newest,),) = warehouse.rows(f"select max({feed.at}) from {table}")
    if newest is not None and newest < as_of - timedelta(hours=feed.hours):
        for column in feed.columns:
            yield column, f"nothing has come in since {newest:%Y-%m-%d %H:%M}"
