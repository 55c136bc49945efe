"""Overrides as people give them: checked, logged, listed; and in the warehouse as a table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from connectors.base import Status, Warehouse
from connectors.errors import ConfigurationError
from decision_engine.audit import one_decision, warehouse_of_decisions
from decision_engine.config import needs_approval
from decision_engine.errors import unknown
from decision_engine.intents import message_of
from decision_engine.overrides import Kind, Override, digest_of, may_approve, standing
from decision_engine.rules import compile_rule
from decision_engine.service.definitions import profile_types
from decision_engine.tables import OVERRIDES
from decision_engine.workspace import Workspace


def give(workspace: Workspace, kind: Kind, by: str, why: str, **target: Any) -> Override:
    """Log an override; everything that decides or sends heeds it from now on.

    `target` are the fields of `Override` that the kind has. ConfigurationError or RuleError, and
    nothing is logged, when one names what is not there.
    """
    for name, value in (("--by", by), ("--why", why)):
        if not value.strip():
            raise ConfigurationError(f"{name} is empty; say who decided this, and why")
    _check(workspace, target)
    until = target.get("until")
    if isinstance(until, datetime):
        target["until"] = until.isoformat()
    given = {name: value for name, value in target.items() if value is not None}
    return workspace.override_log.add(kind=kind, by=by, why=why, **given)


def approve(workspace: Workspace, prefix: str, by: str, why: str) -> Override:
    """Log that a held message may leave as it is now; not by its agent's owner.

    ConfigurationError, or StepError when the prefix does not name one decision.
    """
    with warehouse_of_decisions(workspace) as warehouse:
        decision = one_decision(workspace, warehouse, prefix)
        intent = message_of(workspace, warehouse, decision["decision_id"])
    name = decision["agent"]
    if name not in workspace.agents:
        raise ConfigurationError(unknown("agent", name, workspace.agents))
    if intent is None or not needs_approval(workspace.agents[name]):
        raise ConfigurationError(f"no message of decision {prefix} waits for approval")
    owner = workspace.agents[name].owner
    if owner is None:
        raise ConfigurationError(
            f"agent {name} names no `owner`: say in its file who answers for it, so that somebody"
            " else approves its messages"
        )
    if not may_approve(by, owner):
        raise ConfigurationError(f"--by: {by} owns {name}; somebody else has to approve this")
    target = {"agent": name, "decision_id": decision["decision_id"], "content": digest_of(intent)}
    return give(workspace, "approve", by, why, **target)


def _check(workspace: Workspace, target: Mapping[str, Any]) -> None:
    agent, action, rule = (target.get(name) for name in ("agent", "action", "rule"))
    if agent is not None and agent not in workspace.agents:
        raise ConfigurationError(unknown("agent", agent, workspace.agents))
    if agent is not None and action is not None:
        actions = workspace.catalog(agent).actions[1:]
        names = {a.key for a in actions} | {a.creative for a in actions}
        if action not in names:
            raise ConfigurationError(unknown("action or creative", action, names))
    if rule is not None:
        compile_rule(rule, profile_types())


def release(workspace: Workspace, prefix: str, by: str, why: str) -> Override:
    """End the override that an id, or the beginning of one, names. ConfigurationError."""
    log = workspace.override_log.read()
    known = {o.override_id for o in standing(log)}
    found = sorted(name for name in known if prefix and name.startswith(prefix))
    if len(found) > 1:
        raise ConfigurationError(f"'{prefix}' begins {len(found)} ids: {', '.join(found)}")
    if not found:
        ended = any(o.releases == prefix for o in log)
        said = f"override {prefix} has been released already"
        raise ConfigurationError(said if ended else unknown("override", prefix, known))
    return give(workspace, "release", by, why, releases=found[0])


def decision_of(workspace: Workspace, prefix: str) -> tuple[dict[str, Any], datetime | None]:
    """The decision that an id, or the beginning of one, names, and when its message has left.

    StepError when it is not one. What left after the last delivery's receipts is not known here.
    """
    with warehouse_of_decisions(workspace) as warehouse:
        decision = one_decision(workspace, warehouse, prefix)
        ((left,),) = warehouse.rows(
            f"select min(r.at) from {workspace.engine('receipts')} r"
            f" where r.decision_id = ? and r.status in ('{Status.ACCEPTED}', '{Status.UNKNOWN}')",
            [decision["decision_id"]],
        )
        return decision, left


def listed(workspace: Workspace, *, everything: bool = False) -> list[dict[str, Any]]:
    """The overrides in force, or all that were ever given, as plain data, oldest first."""
    log = workspace.override_log.read()
    return [msgspec.to_builtins(o) for o in (log if everything else standing(log))]


def load_overrides(workspace: Workspace, warehouse: Warehouse) -> int:
    """Copy the log into the table `overrides`, each once; how many were new."""
    log = workspace.override_log.read()
    rows = [{**dict.fromkeys(OVERRIDES.names), **_row(o)} for o in log]
    if not rows:
        return 0
    _have_content(workspace, warehouse, [o.override_id for o in log if o.content is not None])
    table = pa.Table.from_pylist(rows, schema=OVERRIDES)
    return warehouse.insert_absent(workspace.engine("overrides"), table, ["override_id"])


def _have_content(workspace: Workspace, warehouse: Warehouse, approvals: list[str]) -> None:
    """What was copied before the table said what was approved is copied once more."""
    table = workspace.engine("overrides")
    have = warehouse.columns(table) or {}
    if "content" in have:
        return
    warehouse.rows(f"alter table {table} add column content {have['why']}")
    if approvals:
        warehouse.rows(f"delete from {table} where {warehouse.among('override_id')}", [approvals])


def _row(override: Override) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(override)
    times = {name: datetime.fromisoformat(row[name]) for name in ("at", "until") if row.get(name)}
    return {**row, **times}
