"""decide over the warehouse: stream profiles, arbitrate, decide, insert if absent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa

from connectors import failpoint
from connectors.base import Warehouse
from decision_engine import epochs
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, at_prices
from decision_engine.arrow import contexts_of
from decision_engine.build import Progress
from decision_engine.config import Project
from decision_engine.data_checks import distrusted
from decision_engine.epochs import FEATURES, Begun
from decision_engine.errors import StepError
from decision_engine.features import ALL_TRUSTED, all_needed_columns
from decision_engine.load import load_project
from decision_engine.pricing import prices_of
from decision_engine.record import table_of
from decision_engine.rules import compile_rule
from decision_engine.types import Epoch
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
    with workspace.alone("decide"), workspace.warehouse() as warehouse:
        epoch, status, _ = begun = epochs.begin(workspace, warehouse, as_of)
        if status == "done":
            return totals_of(workspace, warehouse, epoch)
        require_columns(workspace, warehouse)
        failed = ALL_TRUSTED
        if begun.is_new:
            failed = distrusted(workspace, warehouse, epoch, write=not dry_run)
        agents = epochs.freeze(workspace, warehouse, begun, failed)
        if status == "new":
            require_audiences(workspace, warehouse, agents)
        if begun.is_new:
            columns = needed(workspace.project, agents)
            prices = prices_of(workspace, warehouse, agents, epoch, columns)
            agents = at_prices(workspace, agents, prices)
        if begun.is_new and not dry_run:
            workspace.prices.write(prices)
            epochs.commit(workspace, warehouse, epoch, agents)
            failpoint.hit("decide.epoch.after_commit")
        tally = Tally()
        for table in decided(workspace, warehouse, agents, begun, progress):
            tally.add(table)
            if not dry_run:
                insert(workspace, warehouse, table, is_first=status == "new")
        if not dry_run:
            epochs.finish(workspace, warehouse, epoch)
            failpoint.hit("decide.epoch.after_finish")
            if status != "new":
                return totals_of(workspace, warehouse, epoch)
    return tally.totals(epoch, epochs.daily_agents(workspace))


def require_columns(workspace: Workspace, warehouse: Warehouse) -> None:
    """Every column that the agents read must be in the profiles, with a fitting type."""
    load_project(workspace.root, warehouse.columns(workspace.model(FEATURES)))


def require_audiences(
    workspace: Workspace, warehouse: Warehouse, agents: list[AgentInEpoch]
) -> None:
    """An audience without a single customer is a mistake until a person says otherwise."""
    empty = empty_audiences(workspace, warehouse, agents)
    if empty:
        raise StepError(
            "\n".join(
                f"agents/{a.name}.yml: audience: no customer matches `{a.config.audience}`;"
                " nothing was decided. Widen it, or take the agent's file away"
                for a in empty
            )
        )


def empty_audiences(
    workspace: Workspace, warehouse: Warehouse, agents: list[AgentInEpoch]
) -> list[AgentInEpoch]:
    """The agents whose audience has no customer."""
    if not agents:
        return []
    table = workspace.model(FEATURES)
    types = warehouse.columns(table)
    rules = [compile_rule(a.config.audience, types) for a in agents]
    counts = ", ".join(
        f"count(case when {rule.sql(warehouse.dialect, warehouse.quote)} then 1 end)"
        for rule in rules
    )
    found = warehouse.rows(f"select {counts} from {table}")[0]
    return [a for a, n in zip(agents, found, strict=True) if n == 0]


def needed(project: Project, agents: list[AgentInEpoch]) -> tuple[str, ...]:
    """The columns of one scan that serves all agents, beside the customer's id."""
    of_agents = all_needed_columns([(a.config, a.plan.catalog) for a in agents], project)
    read = {*of_agents, *(c for a in agents for c in a.overrides.columns)}
    return tuple(sorted(read - {"customer_id"}))


def decided(
    workspace: Workspace,
    warehouse: Warehouse,
    agents: list[AgentInEpoch],
    begun: Begun,
    progress: Progress,
) -> Iterator[pa.Table]:
    """Decisions as tables of the `decisions` schema, batch by batch, in customer order."""
    if not agents:
        return
    columns = ", ".join(warehouse.quote(c) for c in needed(workspace.project, agents))
    among, values = undecided(workspace, warehouse, begun)
    scan = f"select customer_id, {columns} from {among} order by customer_id"
    seen = 0
    for batch in warehouse.query(scan, values):
        seen += batch.num_rows
        for agent, made in decide_batch(contexts_of(batch), agents, begun.epoch, workspace.project):
            if len(made):
                yield table_of(made, agent, begun.epoch)
        progress(f"{seen:,} customers")


def undecided(
    workspace: Workspace, warehouse: Warehouse, begun: Begun
) -> tuple[str, tuple[str, ...]]:
    """SQL, with its values: the profiles of whom this date has not come to yet.

    Who was decided is known by the id of then and, if two customers have become one since, by
    that of now.
    """
    profiles = workspace.model(FEATURES)
    if begun.status == "new":
        return profiles, ()
    logs = [workspace.engine("decisions")]
    if warehouse.columns(workspace.model("fct_decisions")) is not None:
        logs.append(workspace.model("fct_decisions"))
    decided = " union ".join(f"select customer_id from {log} where slot = ?" for log in logs)
    absent = "not exists (select 1 from decided d where d.customer_id = p.customer_id)"
    rest = f"(with decided as ({decided}) select * from {profiles} p where {absent}) as rest"
    return rest, (begun.epoch.slot,) * len(logs)


def insert(workspace: Workspace, warehouse: Warehouse, table: pa.Table, *, is_first: bool) -> None:
    """Append; once somebody may be decided, only those who are not: one decision a date each."""
    name = workspace.engine("decisions")
    with warehouse.transaction():
        if is_first:
            warehouse.append(name, table)
        else:
            warehouse.insert_absent(name, table, ["slot", "customer_id"])
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
        left = zip(table["action"].to_pylist(), table["n_eligible"].to_pylist(), strict=True)
        blocked = sum(1 for action, k in left if k == 1 and action == "no_action")
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
    """The totals of a date that is done; the id is that of its last epoch."""
    rows = warehouse.rows(
        "select agent, count(*), count(case when action <> 'no_action' then 1 end),"
        " count(case when action = 'no_action' then 1 end),"
        " count(case when n_eligible = 1 and action = 'no_action' then 1 end)"
        f" from {workspace.engine('decisions')} where slot = ? group by agent",
        [epoch.slot],
    )
    names = ("decisions", "sends", "no_action", "blocked")
    found = {agent: dict(zip(names, numbers, strict=True)) for agent, *numbers in rows}
    agents = {name: found.get(name, empty_row()) for name in epochs.daily_agents(workspace)}
    return {"epoch_id": epoch.epoch_id, "slot": epoch.slot, "agents": agents}
