"""What was written differently, field by field, by the names things have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from decision_engine.load import rules_of
from decision_engine.overrides import Override, Overrides
from decision_engine.workspace import Workspace

HIDDEN = "project.salt"
"""Its value is nobody's business."""

_NAMES = ("name", "creative", "incentive", "column", "event", "limit")
"""What tells the entries of a list apart."""


class Edit(NamedTuple):
    """`before` and `after` as JSON; empty where there was or is nothing."""

    path: str
    before: str
    after: str


def edits(before: Workspace, after: Workspace) -> tuple[Edit, ...]:
    """The fields that differ, in the order of their paths; a new agent or creative is one edit."""
    old, new = _fields(before), _fields(after)
    if not before.agents:  # nothing was in force: the agents say it all
        old, new = {}, {path: text for path, text in new.items() if path.startswith("agents.")}
    found = (Edit(path, old.get(path, ""), new.get(path, "")) for path in sorted({*old, *new}))
    different = [edit for edit in found if edit.before != edit.after]
    return tuple(_hidden(edit) for edit in _whole(different, before, after))


def decreed(
    before: Overrides, after: Overrides, as_of: datetime, not_daily: Set[str]
) -> tuple[Edit, ...]:
    """The overrides that came or went: the action, whom it is for and the reason that was given.

    Not those of single decisions, nor those that have ended by themselves. Nor those of the agents
    `not_daily`: an epoch does not freeze them, so what was in force of theirs is not known.
    """
    old, new = (
        {o.override_id: o for o in side.frozen if o.holds_at(as_of) and o.agent not in not_daily}
        for side in (before, after)
    )
    return tuple(
        Edit(
            f"override.{o.kind}.{o.agent or 'all agents'}",
            _told(o) if o.override_id in old else "",
            _told(o) if o.override_id in new else "",
        )
        for o in (old | new).values()
        if (o.override_id in old) != (o.override_id in new)
    )


def _told(override: Override) -> str:
    what = (override.action, override.rule and f"where {override.rule}")
    return ": ".join(filter(None, (" ".join(filter(None, what)), override.why)))


def _whole(found: list[Edit], before: Workspace, after: Workspace) -> Iterator[Edit]:
    """The edits, those of something that came or went as a whole drawn together."""
    news = {
        f"{kind}.{name}."
        for kind in ("agents", "creatives")
        for name in getattr(before, kind).keys() ^ getattr(after, kind).keys()
    }
    told = set()
    for edit in found:
        whole = next((prefix for prefix in news if edit.path.startswith(prefix)), None)
        if whole is None:
            yield edit
        elif whole not in told:
            told.add(whole)
            yield Edit(whole[:-1], "there" if edit.before else "", "there" if edit.after else "")


def _hidden(edit: Edit) -> Edit:
    return Edit(edit.path, "…", "another one") if edit.path == HIDDEN else edit


def _fields(workspace: Workspace) -> dict[str, str]:
    """Path to value of every field that has one of its own."""
    rules = rules_of(workspace.project, workspace.agents, workspace.creatives)
    return dict(_walk("", msgspec.to_builtins(rules)))


def _walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(f"{path}.{name}" if path else str(name), inner)
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from _walk(f"{path}[{_label(inner, value) or i}]", inner)
    elif value is not None:
        yield path, msgspec.json.encode(value).decode()


def _label(entry: Any, among: Any) -> str:
    """The name of a list's entry, if it has one that no other has."""
    for name in _NAMES:
        if isinstance(entry, Mapping) and isinstance(entry.get(name), str):
            same = [e for e in among if isinstance(e, Mapping) and e.get(name) == entry[name]]
            return entry[name] if len(same) == 1 else ""
    return ""
