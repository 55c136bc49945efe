"""The prices of a batch: what a unit of each limit is worth on this date."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from connectors.base import Warehouse
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, at_prices
from decision_engine.arrow import contexts_of
from decision_engine.budgets import Prices, clearing, uses
from decision_engine.epochs import FEATURES
from decision_engine.limits_left import left_to_decide
from decision_engine.types import Contexts, Epoch
from decision_engine.workspace import Workspace

SAMPLE = 5_000
"""Customers that stand for all: the first by id, which is a hash."""


def prices_of(
    workspace: Workspace,
    warehouse: Warehouse,
    agents: list[AgentInEpoch],
    epoch: Epoch,
    columns: Iterable[str],
) -> Prices:
    """The lowest prices at which this epoch's decisions fit what is left of the limits.

    `columns` are those that deciding reads: demand is what would really be decided for the sample,
    scaled up.
    """
    if not workspace.project.limits or not agents:
        return {}
    contexts, scale = sample(workspace, warehouse, columns)
    there_is = left_to_decide(workspace, warehouse, epoch.as_of, epoch.as_of)
    return cleared(workspace, agents, epoch, contexts, scale, there_is)


def cleared(
    workspace: Workspace,
    agents: list[AgentInEpoch],
    epoch: Epoch,
    contexts: Contexts,
    scale: float,
    there_is: Prices,
) -> Prices:
    """The prices at which what is decided for a sample, scaled up, fits what there is."""
    project = workspace.project
    if not len(contexts):
        return {}

    def demand(prices: Prices) -> Prices:
        used = dict.fromkeys((limit.limit for limit in project.limits), 0.0)
        priced = at_prices(workspace, agents, prices)
        for agent, made in decide_batch(contexts, priced, epoch, project, with_propensity=False):
            for limit in project.limits:
                each = uses(limit, agent.plan.catalog, project.incentives)
                used[limit.limit] += scale * float(each[made.action].sum())
        return used

    return clearing(project.limits, there_is, demand)


def sample(
    workspace: Workspace, warehouse: Warehouse, columns: Iterable[str]
) -> tuple[Contexts, float]:
    """Customers to decide for in memory, and how many each of them stands for."""
    table = workspace.model(FEATURES)
    names = ", ".join(warehouse.quote(c) for c in columns)
    query = f"select customer_id, {names} from {table} order by customer_id limit {SAMPLE:d}"
    parts = [contexts_of(batch) for batch in warehouse.query(query)]
    (everybody,) = warehouse.rows(f"select count(*) from {table}")[0]
    if not parts:
        return Contexts(np.array([], dtype=object), {}), 0.0
    contexts = _joined(parts)
    return contexts, float(everybody) / len(contexts)


def _joined(parts: list[Contexts]) -> Contexts:
    def column(name: str) -> Any:
        columns = [part.columns[name] for part in parts]
        kind = type(columns[0])
        return kind(*(np.concatenate(found) for found in zip(*columns, strict=True)))

    ids = np.concatenate([part.customer_ids for part in parts])
    return Contexts(ids, {name: column(name) for name in parts[0].columns})
