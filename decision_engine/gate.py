"""The send boundary: may this message leave now? Asked again for every intent.

The answer comes from the profiles, corrected by what is fresher than they are: opt-outs and
complaints that came after they were built, and sends the journal has made since then.
It can only take a send away, never change a decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.base import Warehouse
from connectors.journal import Journal
from decision_engine.epochs import FEATURES
from decision_engine.guardrails import at_send, columns_of
from decision_engine.news import Identifier, news
from decision_engine.workspace import Workspace

_LIST = 20_000
"""Values in one statement: some warehouses limit its length to a megabyte."""


class Gate:
    """A `SendGate` over the profiles of the given customers, as they are when it is made."""

    def __init__(
        self,
        workspace: Workspace,
        warehouse: Warehouse,
        journal: Journal,
        customer_ids: Sequence[str],
    ) -> None:
        self.workspace = workspace
        self.journal = journal
        self.profiles = _profiles(workspace, warehouse, customer_ids)
        oldest = min(map(_built, self.profiles.values()), default=datetime.max)
        self.refused_ids, complaints = news(workspace, warehouse, oldest)
        self.refusals = _by_customer(workspace, warehouse, self.refused_ids)
        self.complaining = _complaining(workspace, warehouse, complaints)

    def __call__(self, intent: Mapping[str, Any], now: datetime) -> str | None:
        """None to send, or the reason to skip."""
        profile = self.profiles.get(intent["customer_id"])
        fresh = self.fresh(intent, profile) if profile is not None else None
        return at_send(intent, fresh, self.workspace.project, now, self.workspace.is_stopped)

    def fresh(self, intent: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
        """The profile with newer opt-outs, complaints and sends worked in."""
        facts = dict(profile)
        by_id = self.refused_ids.get(intent["external_id"], set())
        for channel in by_id | self.refusals.get(intent["customer_id"], set()):
            facts[f"consent_{channel}"] = False
        if self.complaining & {intent["customer_id"], intent["external_id"]}:
            facts["has_open_complaint"] = True
        for send in self.journal.recent_sends(intent["customer_id"], _built(profile)):
            for name in _counters(send.channel):
                if facts.get(name) is not None:
                    facts[name] += 1
        return facts


def _built(profile: Mapping[str, Any]) -> datetime:
    """When a profile was built; what is fresher than one of unknown age is everything."""
    built: datetime | None = profile["as_of"]
    return built or datetime.min


def _counters(channel: str) -> list[str]:
    return [f"{prefix}sends_{days}d" for prefix in ("", f"{channel}_") for days in (1, 7, 30)]


def _by_customer(
    workspace: Workspace, warehouse: Warehouse, refusals: Mapping[str, set[str]]
) -> dict[str, set[str]]:
    """The channels that customers refuse, by any identifier that leads to them."""
    query = (
        "select identifier_value, customer_id"
        f" from {workspace.model('int_identity__map')}"
        f" where identifier_kind in ('user_id', 'email') and {warehouse.among('identifier_value')}"
        f" union select customer_id, customer_id from {workspace.model(FEATURES)}"
        f" where {warehouse.among('customer_id')}"
    )
    found: dict[str, set[str]] = {}
    for identifiers in _parts(list(refusals)):
        for identifier, customer_id in warehouse.rows(query, [identifiers, identifiers]):
            found.setdefault(customer_id, set()).update(refusals[identifier])
    return found


def _complaining(
    workspace: Workspace, warehouse: Warehouse, complaints: set[Identifier]
) -> set[str]:
    """Customers and external ids that the identifiers of complaints lead to."""
    found = {value for kind, value in complaints if kind == "user_id"}
    for kind in sorted({kind for kind, _ in complaints}):
        query = (
            f"select customer_id from {workspace.model('int_identity__map')}"
            f" where identifier_kind = ? and {warehouse.among('identifier_value')}"
        )
        for values in _parts([value for k, value in complaints if k == kind]):
            found |= {row[0] for row in warehouse.rows(query, [kind, values])}
    return found


def _profiles(
    workspace: Workspace, warehouse: Warehouse, customer_ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    wanted = {
        c for a in workspace.agents for c in columns_of(workspace.catalog(a), workspace.project)
    }
    names = ["customer_id", *sorted(wanted)]
    columns = ", ".join(warehouse.quote(n) for n in names)
    query = (
        f"select {columns} from {workspace.model(FEATURES)} where {warehouse.among('customer_id')}"
    )
    return {
        row[0]: dict(zip(names[1:], row[1:], strict=True))
        for ids in _parts(list(customer_ids))
        for row in warehouse.rows(query, [ids])
    }


def _parts(values: list[str]) -> Iterator[list[str]]:
    return (values[at : at + _LIST] for at in range(0, len(values), _LIST))
