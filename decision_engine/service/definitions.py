"""Features that the moment changes, as the dbt project defines them.

One text defines each of them for the warehouse and for the service: `vars` in
dbt_project/dbt_project.yml. Here it is read and compiled, there it becomes SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import yaml

from decision_engine.build import package_folder
from decision_engine.rules import Rule, parsed
from decision_engine.types import Column

Events = Literal["web", "messages"]


@dataclass(frozen=True)
class WindowedCount:
    """How many of a person's events satisfy `where` and are less than `hours` old.

    An event of exactly that age is out; one of this very moment is in. `events` says which
    ones: web (columns type, event, page_class, platform) or messages (event_type, channel,
    is_machine).
    """

    name: str
    events: Events
    hours: int
    where: Rule


@cache
def windowed_counts() -> tuple[WindowedCount, ...]:
    """All counts, in the order of the file."""
    counts = _vars()["nextmove_windowed_counts"]
    return tuple(_count(name, count) for name, count in counts.items())


@cache
def profile_types() -> dict[str, str]:
    """The columns of a profile with their types, as the contract of dim_customer_features says."""
    path = package_folder() / "models" / "marts" / "_marts__models.yml"
    models = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    (features,) = (m for m in models if m["name"] == "dim_customer_features")
    return {c["name"]: c["data_type"] for c in features["columns"]}


@cache
def page_path() -> WindowedCount:
    """The web events whose page classes, oldest first and joined by `>`, are `pages_24h`.

    Events of one moment are in the order of their ids. `last_page_class` is the class of the
    newest such event of all time.
    """
    path = _vars()["nextmove_page_path"]
    return _count(path["name"], path)


def engagement_velocity(counts: Mapping[str, float]) -> float:
    """Opens and clicks per day lately, less those per day usually."""
    (recent, recent_days), (usual, usual_days) = _rates()
    now, before = sum(counts[name] for name in recent), sum(counts[name] for name in usual)
    return now / recent_days - before / usual_days


def counted_in(events: Events, event: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the counts, and of the page path, that an event counts for while it is young.

    `event` has the columns by name; one that is absent or None is NULL. Answers for the same
    values are remembered.
    """
    columns = _columns(events)
    return _matches(events, tuple(event.get(column) for column in columns))


@lru_cache(maxsize=4096)
def _matches(events: Events, values: tuple[Any, ...]) -> tuple[str, ...]:
    row = {n: _one(value) for n, value in zip(_columns(events), values, strict=True)}
    found = []
    for count in (*windowed_counts(), page_path()):
        if count.events == events:
            result = count.where.evaluate(row, 1)
            if result.valid[0] and result.values[0]:
                found.append(count.name)
    return tuple(found)


def _one(value: Any) -> Column:
    valid = np.array([value is not None])
    if isinstance(value, bool):
        return Column(np.array([value]), valid)
    return Column(np.array(["" if value is None else value], dtype=object), valid)


@cache
def _columns(events: Events) -> tuple[str, ...]:
    """The columns that any rule over these events reads."""
    rules = [c.where for c in (*windowed_counts(), page_path()) if c.events == events]
    return tuple(sorted({column for rule in rules for column in rule.columns}))


def _count(name: str, count: Mapping[str, Any]) -> WindowedCount:
    return WindowedCount(name, count["events"], count["hours"], parsed(count["where"]))


@cache
def _rates() -> tuple[tuple[tuple[str, ...], float], tuple[tuple[str, ...], float]]:
    rates = _vars()["nextmove_engagement_velocity"]
    recent, usual = ((tuple(r["counts"]), float(r["days"])) for r in rates.values())
    return recent, usual


@cache
def _vars() -> dict[str, Any]:
    text = (package_folder() / "dbt_project.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["vars"]
    return found
