"""Weak creatives of the warehouse's agents: found for `evaluate`, frozen by `learn` where allowed.

It is an override like any other: in the log, with its reason, scored later, for a person to
release; and then it is not given again. What people have chosen themselves, in a fixed policy or
a small list, is left alone.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np

from connectors.base import Warehouse
from decision_engine import overriding
from decision_engine.config import Agent, FixedPolicy, Project
from decision_engine.epochs import read_state
from decision_engine.evaluation_log import AgentLog, fit_of, read_drawn
from decision_engine.held_out import chances_of
from decision_engine.overrides import actions_of
from decision_engine.reward_model import CrossFit
from decision_engine.types import Ints
from decision_engine.weak import Without, without_each
from decision_engine.workspace import Workspace

BY = "nextmove"


def withouts_of(
    workspace: Workspace,
    warehouse: Warehouse,
    name: str,
    moment: datetime,
    found: AgentLog,
    rows: Ints,
    fit: CrossFit | None,
) -> dict[str, Without]:
    """Each creative's `Without` by the rows made at random; of those not frozen at the moment."""
    if fit is None:
        return {}
    catalog, state = workspace.catalog(name), read_state(workspace, warehouse, name)
    eligible = found.eligible[rows]
    for freeze in workspace.override_log.current().of(name).on("freeze", moment):
        eligible[:, actions_of(freeze, catalog)] = False
    eligible[~eligible.any(axis=1), 0] = True
    creatives = {
        creative: np.array([i for i, a in enumerate(catalog.actions) if a.creative == creative])
        for creative in dict.fromkeys(a.creative for a in catalog.actions[1:])
    }
    return without_each(
        found.log.take(rows),
        eligible,
        fit.predictions,
        lambda possible: chances_of(workspace, name, state, found.x[rows], possible),
        {name: at for name, at in creatives.items() if eligible[:, at].any()},
    )


def pause_weak(
    workspace: Workspace, warehouse: Warehouse, name: str, moment: datetime, dry_run: bool
) -> str:
    """Freeze the weakest creative of an agent that asks for it; what was done, in words.

    One at a time: of two that do the same, either is missed only without the other.
    """
    agent = workspace.agents[name]
    found = read_drawn(workspace, warehouse, name) if agent.pause_weak else None
    if found is None:
        return ""
    rows = np.arange(len(found.log))
    judged = withouts_of(workspace, warehouse, name, moment, found, rows, fit_of(found, rows))
    log = workspace.override_log.read()
    given = {o.action for o in log if (o.kind, o.by, o.agent) == ("freeze", BY, name)}
    chosen = _chosen_by_people(agent, workspace.project)
    for creative, without in judged.items():
        keys = {a.key for a in workspace.catalog(name).actions if a.creative == creative}
        if without.is_weak and creative not in given and not keys & chosen:
            if not dry_run:
                why = words(without)
                overriding.give(workspace, "freeze", BY, why, agent=name, action=creative)
            return f"paused {creative}: {words(without)}"
    return ""


def words(without: Without) -> str:
    """What is certain of a weak creative."""
    gain, loss = without.gain, max(without.loss.high, 0.0)
    return (
        f"without it {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] of reward a decision;"
        f" where it is the best known, at most {loss:.4f} is lost"
    )


def _chosen_by_people(agent: Agent, project: Project) -> set[str]:
    """The keys of actions that a fixed policy or a small list names."""
    policies = [agent.policy, *(g.policy for g in agent.groups or project.groups)]
    fixed = [key for p in policies if isinstance(p, FixedPolicy) for key in p.actions]
    return {*fixed, *(key for small in agent.lists for key in small.actions)}
