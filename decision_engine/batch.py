"""decide over the warehouse: stream profiles, arbitrate, decide, insert if absent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from connectors import failpoint
from connectors.base import Warehouse
from decision_engine import epochs, keys
from decision_engine.arrow import contexts_of
from decision_engine.build import Progress
from decision_engine.config import Project
from decision_engine.decide import Candidates, arbitrate, decide, values
from decision_engine.epochs import FEATURES, AgentInEpoch
from decision_engine.errors import StepError
from decision_engine.features import all_needed_columns, design
from decision_engine.guardrails import reasons, send_at
from decision_engine.load import load_project
from decision_engine.record import table_of
from decision_engine.rules import parsed
from decision_engine.types import Contexts, Decisions, Epoch, Floats, Ints, Reasons
from decision_engine.workspace import Workspace


def decide_all(
    workspace: Workspace,
    as_of: datetime,
    *,
    dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Decide for everybody in an audience, once per date; totals by agent.

    Goes on with an open epoch, and only reports when the date is decided already. A dry run
    decides in memory and writes nothing.
    """
    with workspace.warehouse() as warehouse:
        epoch, status, is_new = epochs.begin(workspace, warehouse, as_of)
        if status == "done":
            return totals_of(workspace, warehouse, epoch)
        agents = epochs.freeze(workspace, warehouse, epoch, is_new=is_new)
        require_columns(workspace, warehouse)
        require_audiences(workspace, warehouse, agents)
        if is_new and not dry_run:
            epochs.commit(workspace, warehouse, epoch, agents)
            failpoint.hit("decide.epoch.after_commit")
        tally = Tally()
        for table in decided(workspace, warehouse, agents, epoch, progress):
            tally.add(table)
            if not dry_run:
                insert(workspace, warehouse, table, is_new=is_new)
        if not dry_run:
            epochs.finish(workspace, warehouse, epoch)
            failpoint.hit("decide.epoch.after_finish")
    return tally.totals(epoch, epochs.daily_agents(workspace))


def require_columns(workspace: Workspace, warehouse: Warehouse) -> None:
    """Every column that the agents read must be in the profiles, with a fitting type."""
    load_project(workspace.root, warehouse.columns(workspace.model(FEATURES)))


def require_audiences(
    workspace: Workspace, warehouse: Warehouse, agents: list[AgentInEpoch]
) -> None:
    """An audience without a single customer is a mistake until a person says otherwise."""
    if not agents:
        return
    rules = [parsed(a.config.audience).sql(warehouse.dialect) for a in agents]
    counts = ", ".join(f"count(case when {rule} then 1 end)" for rule in rules)
    found = warehouse.rows(f"select {counts} from {workspace.model(FEATURES)}")[0]
    empty = [a for a, n in zip(agents, found, strict=True) if n == 0]
    if empty:
        raise StepError(
            "\n".join(
                f"agents/{a.name}.yml: audience: no customer matches `{a.config.audience}`;"
                " nothing was decided. Widen it, or take the agent's file away"
                for a in empty
            )
        )


def needed(project: Project, agents: list[AgentInEpoch]) -> tuple[str, ...]:
    """The columns of one scan that serves all agents."""
    return all_needed_columns([(a.config, a.plan.catalog) for a in agents], project)


def decided(
    workspace: Workspace,
    warehouse: Warehouse,
    agents: list[AgentInEpoch],
    epoch: Epoch,
    progress: Progress,
) -> Iterator[pa.Table]:
    """Decisions as tables of the `decisions` schema, batch by batch, in customer order."""
    if not agents:
        return
    columns = ", ".join(warehouse.quote(c) for c in needed(workspace.project, agents))
    scan = f"select customer_id, {columns} from {workspace.model(FEATURES)} order by customer_id"
    seen = 0
    for batch in warehouse.query(scan):
        seen += batch.num_rows
        for agent, made in decide_batch(contexts_of(batch), agents, epoch, workspace.project):
            if len(made):
                yield table_of(made, agent, epoch)
        progress(f"{seen:,} customers")


@dataclass(frozen=True)
class Audience:
    """The rows of a batch that one agent may decide about, with what it thinks of them."""

    rows: Ints
    contexts: Contexts
    x: Floats
    reasons: Reasons
    value: Floats


def decide_batch(
    contexts: Contexts,
    agents: list[AgentInEpoch],
    epoch: Epoch,
    project: Project,
    *,
    channel: str | None = None,
    with_propensity: bool = True,
) -> Iterator[tuple[AgentInEpoch, Decisions]]:
    """All decisions for n customers: arbitrate among the agents first, then decide for each.

    With a `channel`, nothing goes out on another one. Without `with_propensity`, p_action and
    propensity are NaN, to be computed from the record later (`replay`); p_agent is always there.
    """
    audiences = [audience_of(contexts, agent, epoch, project, channel) for agent in agents]
    value = np.zeros((len(contexts), len(agents)))
    available = np.zeros((len(contexts), len(agents)), dtype=bool)
    for i, audience in enumerate(audiences):
        value[audience.rows, i] = audience.value
        available[audience.rows, i] = True
    touch = keys.customer_keys(project.salt, f"arbiter\x1f{epoch.slot}", contexts.customer_ids)
    winner, p_agent = arbitrate(touch, value, available, project.arbiter_explore)
    for i, (agent, audience) in enumerate(zip(agents, audiences, strict=True)):
        mine = winner[audience.rows] == i
        candidates = candidates_of(audience, mine, agent, epoch, project, p_agent)
        yield agent, decide(agent.plan, candidates, with_propensity=with_propensity)


def audience_of(
    contexts: Contexts, agent: AgentInEpoch, epoch: Epoch, project: Project, channel: str | None
) -> Audience:
    """Who is in the audience, what is possible for them, and what the agent expects to gain."""
    rows = np.flatnonzero(parsed(agent.config.audience).holds(contexts))
    taken = contexts.take(rows)
    x = design(taken, agent.config.context)
    codes = reasons(taken, agent.plan.catalog, project, epoch, channel)
    gain = values(agent.plan, agent.config.policy, x, codes == 0)
    return Audience(rows, taken, x, codes, gain)


def candidates_of(
    audience: Audience,
    mine: Any,
    agent: AgentInEpoch,
    epoch: Epoch,
    project: Project,
    p_agent: Floats,
) -> Candidates:
    """The rows that the arbiter gave to this agent, ready to be decided."""
    contexts = audience.contexts.take(mine)
    row_keys, ids = keys.decision_keys(project.salt, agent.name, epoch.slot, contexts.customer_ids)
    names = np.array([g.name for g in agent.groups], dtype=object)
    return Candidates(
        keys=row_keys,
        decision_ids=ids,
        customer_ids=contexts.customer_ids,
        group=names[agent.group_of(contexts.customer_ids)],
        reasons=audience.reasons[mine],
        x=audience.x[mine],
        send_at=send_at(contexts, agent.plan.catalog, epoch),
        p_agent=p_agent[audience.rows[mine]],
        facts={c: contexts.columns[c] for c in agent.fact_columns},
    )


def insert(workspace: Workspace, warehouse: Warehouse, table: pa.Table, *, is_new: bool) -> None:
    """Append; after a restart only what is not there yet."""
    name = workspace.engine("decisions")
    with warehouse.transaction():
        if is_new:
            warehouse.append(name, table)
        else:
            warehouse.insert_absent(name, table, ["decision_id"])
        failpoint.hit("decide.batch.before_commit")
    failpoint.hit("decide.batch.after_commit")


class Tally:
    """Counts decisions by agent while they stream by."""

    def __init__(self) -> None:
        self.agents: dict[str, dict[str, int]] = {}

    def add(self, table: pa.Table) -> None:
        """Count one table of one agent."""
        agent = table["agent"][0].as_py()
        silent = sum(1 for a in table["action"].to_pylist() if a == "no_action")
        blocked = sum(1 for k in table["n_eligible"].to_pylist() if k == 1)
        row = self.agents.setdefault(agent, empty_row())
        row["decisions"] += table.num_rows
        row["sends"] += table.num_rows - silent
        row["no_action"] += silent
        row["blocked"] += blocked

    def totals(self, epoch: Epoch, agents: list[str]) -> dict[str, Any]:
        """Totals as plain data."""
        rows = {name: self.agents.get(name, empty_row()) for name in agents}
        return {"epoch_id": epoch.epoch_id, "slot": epoch.slot, "agents": rows}


def empty_row() -> dict[str, int]:
    """No decisions yet."""
    return {"decisions": 0, "sends": 0, "no_action": 0, "blocked": 0}


def totals_of(workspace: Workspace, warehouse: Warehouse, epoch: Epoch) -> dict[str, Any]:
    """The totals of an epoch that is done."""
    rows = warehouse.rows(
        "select agent, count(*), count(case when action <> 'no_action' then 1 end),"
        " count(case when action = 'no_action' then 1 end),"
        " count(case when n_eligible = 1 then 1 end)"
        f" from {workspace.engine('decisions')} where epoch_id = ? group by agent",
        [epoch.epoch_id],
    )
    names = ("decisions", "sends", "no_action", "blocked")
    found = {agent: dict(zip(names, numbers, strict=True)) for agent, *numbers in rows}
    agents = {name: found.get(name, empty_row()) for name in epochs.daily_agents(workspace)}
    return {"epoch_id": epoch.epoch_id, "slot": epoch.slot, "agents": agents}
