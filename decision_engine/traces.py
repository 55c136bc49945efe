"""Where the engine's tables hold a person."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from connectors.base import Warehouse
from decision_engine.confirmed import KEY, Confirmed, outboxes_of
from decision_engine.workspace import Workspace


@dataclass(frozen=True)
class Person:
    """`ids` are customer ids, those merged into the present one too; `identifiers` by kind."""

    ids: list[str]
    identifiers: dict[str, list[str]]

    def values(self, *kinds: str) -> list[str]:
        """The identifiers of these kinds."""
        return [value for kind in kinds for value in self.identifiers.get(kind, [])]


class Trace(NamedTuple):
    """Rows of a person: `where` is a condition of one `?`, which takes the list of `values`."""

    title: str
    table: str
    where: str
    values: list[str]

    def count(self, warehouse: Warehouse) -> int:
        """How many there are."""
        found = warehouse.rows(
            f"select count(*) from {self.table} where {self.where}", [self.values]
        )
        return int(found[0][0])

    def delete(self, warehouse: Warehouse) -> int:
        """Delete them; how many there were."""
        there = self.count(warehouse)
        if there:
            warehouse.rows(f"delete from {self.table} where {self.where}", [self.values])
        return there


def traces(workspace: Workspace, warehouse: Warehouse, person: Person) -> list[Trace]:
    """What is to be deleted, in this order: what hangs on decisions goes before them."""
    of_user = [*person.ids, *person.values("user_id")]
    of_decisions = (
        f"decision_id in (select decision_id from {workspace.engine('decisions')}"
        f" where {warehouse.among('customer_id')})"
    )

    def by(column: str, values: list[str], table: str, how: str = "") -> Trace:
        title, where = table + how, warehouse.among(column)
        return Trace(title, workspace.engine(table), where, values)

    return [
        *(
            Trace(table, workspace.engine(table), of_decisions, person.ids)
            for table in ("learned_rewards", "override_labels")
        ),
        by("customer_id", person.ids, "receipts"),
        by("customer_id", person.ids, "decisions"),
        by("external_id", of_user, "inbound_events"),
        by("email", person.values("email"), "inbound_events", " (by email)"),
        by("user_id", person.values("user_id"), "tracked_events"),
        by("anonymous_id", person.values("anonymous_id"), "tracked_events", " (by browser)"),
        by("email", person.values("email"), "tracked_events", " (by email)"),
        by("phone", person.values("phone"), "tracked_events", " (by phone)"),
        *_confirmed(workspace, warehouse, person, removes=False),
    ]


def leaving(workspace: Workspace, warehouse: Warehouse, person: Person) -> list[Trace]:
    """What the next delivery is to take away on the other side, and only then forgets here."""
    return list(_confirmed(workspace, warehouse, person, removes=True))


def _confirmed(
    workspace: Workspace, warehouse: Warehouse, person: Person, *, removes: bool
) -> Iterator[Trace]:
    """Rows that destinations have confirmed, of the outboxes whose rows are taken away or not."""
    for name in workspace.project.destinations:
        for outbox in outboxes_of(workspace, warehouse, name):
            table = Confirmed.of(workspace, warehouse, name, outbox).table
            columns = warehouse.columns(table)
            if columns is None or outbox.removes != removes:
                continue
            column, values = KEY, [*person.ids, *person.values(*person.identifiers)]
            if "customer_id" in columns:
                column, values = "customer_id", person.ids
            yield Trace(table.partition(".")[2], table, warehouse.among(column), values)


class Version(NamedTuple):
    """A version of an agent's state."""

    agent: str
    version: str


def learned_versions(
    workspace: Workspace, warehouse: Warehouse, person: Person, current: Collection[str]
) -> list[Version]:
    """The versions that may hold a share of the person: learned after the first decision on them.

    Of the current ones only those of the agents in `current`: `learned_rewards` tells for sure.
    """
    first: dict[str, datetime] = dict(
        warehouse.rows(
            f"select agent, min(decided_at) from {workspace.engine('decisions')}"
            f" where {warehouse.among('customer_id')} group by agent",
            [person.ids],
        )
    )
    states = warehouse.rows(
        f"select agent, version, as_of, is_current from {workspace.engine('policy_states')}"
        " where n_decisions > 0 order by agent, as_of, version"
    )
    return [
        Version(agent, version)
        for agent, version, as_of, is_current in states
        if (agent in current if is_current else agent in first and as_of >= first[agent])
    ]
