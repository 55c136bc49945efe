"""The frozen part of a batch: what every decision of one slot depends on besides its context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from connectors.base import Warehouse
from decision_engine import configurations
from decision_engine.agent_in_epoch import AgentInEpoch, decreed, in_epoch, initial_state, plan_of
from decision_engine.errors import StepError
from decision_engine.features import (
    ALL_TRUSTED,
    Distrusted,
    feature_names,
)
from decision_engine.guardrails import MAX_PROFILE_AGE
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.state import PolicyState, load, save
from decision_engine.tables import EPOCHS, POLICY_STATES
from decision_engine.types import Epoch
from decision_engine.workspace import Workspace

FEATURES = "dim_customer_features"
EVENTS = "events"
"""The slot of an epoch of the hot path: its decisions have slots of their own, an event or call."""


class Begun(NamedTuple):
    """The epoch to decide under, and where its slot stands.

    `status`: "new", nobody is decided; "rest", an epoch was left open under other profiles or
    another configuration, and this one, not yet written, is for whom it did not come to;
    "open", begun and to be gone on with; "done".
    """

    epoch: Epoch
    status: str
    overrides: Overrides = NO_OVERRIDES

    @property
    def is_new(self) -> bool:
        """Whether the epoch is still to be committed."""
        return self.status in ("new", "rest")


def begin(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> Begun:
    """The epoch of this date. Nothing is written yet.

    An open epoch goes on only when profiles, configuration and overrides are still the ones it
    froze, and the states are still there: those that knew somebody who was erased are not.
    Otherwise the rest of the date is for another epoch: no epoch has decisions by two sets of
    rules, and no customer has decisions by two epochs of a date.
    """
    slot = as_of.date().isoformat()
    build = profile_build(workspace, warehouse)
    overrides, digest = workspace.overrides(), workspace.digest
    found = warehouse.rows(
        "select status, epoch_id, slot, as_of, profile_build, config_digest, kill_switch"
        f" from {workspace.engine('epochs')} where slot = ?",
        [slot],
    )
    begun = {
        epoch_id: Begun(Epoch(epoch_id, *rest), status, overrides)
        for status, epoch_id, *rest in found
    }
    left_open = next((b for b in begun.values() if b.status == "open"), None)
    if left_open and is_of(left_open.epoch, build, digest):
        plan = _plan(workspace, warehouse, left_open.epoch)
        is_decreed = plan["overrides"] == decreed(map(overrides.of, daily_agents(workspace)))
        if is_decreed and _are_there(workspace, warehouse, plan):
            return left_open
    if begun and not left_open:
        last = _epoch_id(workspace, slot, len(begun) - 1)
        return begun.get(last, next(iter(begun.values())))
    _require_recent(workspace, warehouse, as_of)
    name = _epoch_id(workspace, slot, len(begun))
    epoch = Epoch(name, slot, as_of, build, digest, workspace.is_stopped)
    return Begun(epoch, "rest" if begun else "new", overrides)


def _are_there(workspace: Workspace, warehouse: Warehouse, plan: Mapping[str, Any]) -> bool:
    """Whether all states that an epoch froze are in the warehouse."""
    table = workspace.engine("policy_states")
    there = set(warehouse.rows(f"select agent, version from {table}"))
    return {(name, agent["policy_version"]) for name, agent in plan["agents"].items()} <= there


def is_of(epoch: Epoch, build: str, digest: str) -> bool:
    """Whether profiles and configuration are those that the epoch froze."""
    return (epoch.profile_build, epoch.config_digest) == (build, digest)


def _epoch_id(workspace: Workspace, slot: str, number: int) -> str:
    """The id of the first (0), second, ... epoch of a date."""
    name = f"{slot}\x1f{number}" if number else slot
    text = f"{workspace.project.salt}\x1fepoch\x1f{name}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_recent(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> None:
    """Profiles of the future know the outcomes already; those of long ago know too little."""
    (built,) = warehouse.rows(f"select max(as_of) from {workspace.model(FEATURES)}")[0]
    if built is None:  # nobody to decide for
        return
    if not timedelta(0) <= as_of - built <= MAX_PROFILE_AGE:
        raise StepError(
            f"the profiles are as of {built:%Y-%m-%d %H:%M}, which is no ground for decisions"
            f" as of {as_of:%Y-%m-%d %H:%M}; run `nextmove build` for that time first"
        )


def profile_build(workspace: Workspace, warehouse: Warehouse) -> str:
    """The one build that all profiles come from."""
    table = workspace.built(warehouse, FEATURES)
    builds = warehouse.rows(f"select distinct profile_build from {table} limit 2")
    if len(builds) != 1:
        raise StepError(
            f"{table} has no rows; load customers and run `nextmove build`"
            if not builds
            else f"{table} mixes two builds; run `nextmove build` again"
        )
    return str(builds[0][0])


def freeze(
    workspace: Workspace, warehouse: Warehouse, begun: Begun, distrusted: Distrusted = ALL_TRUSTED
) -> list[AgentInEpoch]:
    """The daily agents with the states they use in this epoch, in the order of their names.

    An epoch that goes on has its own `distrusted`.
    """
    plan = {"agents": {}} if begun.is_new else _plan(workspace, warehouse, begun.epoch)
    found = []
    for name in daily_agents(workspace):
        then = plan["agents"].get(name, {})
        state = read_state(workspace, warehouse, name, then.get("policy_version"))
        failed = then.get("distrusted", ALL_TRUSTED) if then else distrusted
        agent = in_epoch(workspace, name, state, begun.overrides, distrusted=failed)
        costs = then.get("costs")
        found.append(agent if costs is None else replace(agent, costs=np.array(costs)))
    return found


def daily_agents(workspace: Workspace) -> list[str]:
    """The agents that the batch decides for, sorted: those without triggers."""
    return sorted(name for name, agent in workspace.agents.items() if not agent.triggers)


def _plan(workspace: Workspace, warehouse: Warehouse, epoch: Epoch) -> dict[str, Any]:
    (text,) = warehouse.rows(
        f"select plan from {workspace.engine('epochs')} where epoch_id = ?", [epoch.epoch_id]
    )[0]
    return {"overrides": [], **json.loads(text)}


def read_state(
    workspace: Workspace, warehouse: Warehouse, agent: str, version: str | None = None
) -> PolicyState | None:
    """A learned state: the given version, else the current one; None when there is none."""
    where = "is_current" if version is None else "version = ?"
    found = warehouse.rows(
        f"select state from {workspace.engine('policy_states')} where agent = ? and {where}",
        [agent] if version is None else [agent, version],
    )
    return load(found[0][0]) if found else None


def commit(
    workspace: Workspace, warehouse: Warehouse, epoch: Epoch, agents: list[AgentInEpoch]
) -> None:
    """Write the epoch, open; to be called before its first decision.

    One of the same date that was left open is closed: nothing more is decided under it.
    StepError when another process has begun the same one in the meantime.
    """
    row = {
        "epoch_id": epoch.epoch_id,
        "slot": epoch.slot,
        "as_of": epoch.as_of,
        "profile_build": epoch.profile_build,
        "config_digest": epoch.config_digest,
        "kill_switch": epoch.kill_switch,
        "plan": json.dumps(plan_of(workspace, agents)),
        "status": "open",
    }
    with warehouse.transaction():
        for agent in agents:
            keep_state(workspace, warehouse, agent.state, epoch.as_of)
        configurations.keep(workspace, warehouse, epoch.config_digest, epoch.as_of)
        _close(workspace, warehouse, "slot", epoch.slot)
        begun = warehouse.insert_absent(
            workspace.engine("epochs"), pa.Table.from_pylist([row], schema=EPOCHS), ["epoch_id"]
        )
        if not begun:
            raise StepError(
                f"another process has just begun to decide for {epoch.slot};"
                " let it end, or stop it and run again"
            )


def keep_state(
    workspace: Workspace, warehouse: Warehouse, state: PolicyState, as_of: datetime
) -> None:
    """Store a state that no learn has stored, so that its decisions can be made again.

    A prior; or a learned one under other `units`, which knows all whom that one knows.
    """
    if read_state(workspace, warehouse, state.agent, state.version) is not None:
        return
    decisions = state.decisions
    note = "other attributes or pairs" if decisions else "prior"
    row = {
        "agent": state.agent,
        "version": state.version,
        "as_of": as_of,
        "policy": state.policy,
        "closed_through": None,
        "n_decisions": decisions,
        "state": save(state),
        "summary": json.dumps({"version": state.version, "decisions": decisions, "note": note}),
        "is_current": False,
    }
    table = pa.Table.from_pylist([row], schema=POLICY_STATES)
    warehouse.append(workspace.engine("policy_states"), table)


def start_from_prior(
    workspace: Workspace, warehouse: Warehouse, agent: str, as_of: datetime
) -> None:
    """Have a current state: the prior, when nothing was learned of the agent's features yet."""
    state = read_state(workspace, warehouse, agent)
    config = workspace.agents[agent]
    if state is not None and state.features == feature_names(config.context):
        return
    prior, table = (
        initial_state(config, workspace.catalog(agent)),
        workspace.engine("policy_states"),
    )
    with warehouse.transaction():
        keep_state(workspace, warehouse, prior, as_of)
        warehouse.rows(
            f"update {table} set is_current = (version = ?) where agent = ?", [prior.version, agent]
        )


def finish(workspace: Workspace, warehouse: Warehouse, epoch: Epoch) -> None:
    """Mark the epoch as done."""
    _close(workspace, warehouse, "epoch_id", epoch.epoch_id)


def _close(workspace: Workspace, warehouse: Warehouse, column: str, value: str) -> None:
    warehouse.rows(
        f"update {workspace.engine('epochs')} set status = 'done'"
        f" where status = 'open' and {column} = ?",
        [value],
    )
