"""The send boundary: may this message leave now? Asked again for every intent.

The answer comes from the profiles, corrected by what is fresher than they are: opt-outs and
complaints that came after they were built, and sends the journal has made since then.
It can only take a send away, never change a decision.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from connectors.base import LATER, Warehouse
from connectors.journal import Journal
from decision_engine.epochs import FEATURES
from decision_engine.guardrails import (
    OTHER_GROUP,
    REASON_NAMES,
    UNKNOWN_AGENT,
    at_send,
    columns_of,
    message_of,
    refused,
)
from decision_engine.intents import DECIDED_FOR
from decision_engine.limits_left import Till, left
from decision_engine.merged import is_kept_out, known_as, once_known_as
from decision_engine.news import Feed, Identifier
from decision_engine.overrides import Overrides
from decision_engine.types import Action, Reason
from decision_engine.workspace import Workspace

CONTACT = "contact"
"""The kind of what a CRM knows a person by."""
LOOK_SECONDS = 1.0
"""How old what we know of opt-outs and complaints may be while a long pass runs."""
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
        self.warehouse = warehouse
        self.customer_ids = set(customer_ids)
        self.overrides = workspace.overrides()
        self.profiles = _profiles(workspace, warehouse, customer_ids, self.overrides)
        oldest = min(map(_built, self.profiles.values()), default=datetime.max)
        self.people = People(workspace, warehouse)
        self.earlier = once_known_as(workspace, warehouse, customer_ids)
        self.moved: set[str] = set()
        self.till: Till | None = None
        self.feed = Feed(workspace, warehouse, oldest)
        self.look()

    def look(self) -> None:
        """Take in what was received until now."""
        refusals, complaints = self.feed.read()
        self.refusals = self.people.channels(refusals)
        self.complaining = self.people.who(complaints)
        self.looked = time.monotonic()

    def __call__(self, intent: Mapping[str, Any], now: datetime) -> str | None:
        """None to send, the reason to skip, or `LATER` when it has yet to follow its person."""
        if time.monotonic() - self.looked > LOOK_SECONDS:
            self.look()
        self.look_at_overrides()
        agent = self.workspace.agents.get(intent["agent"])
        if agent is None:  # its rules, and whether a person has to approve, went with it
            return UNKNOWN_AGENT
        rules = None
        if DECIDED_FOR in intent:
            if is_kept_out(self.workspace, agent.agent, intent):
                return OTHER_GROUP
            rules = self._action(intent)
            if rules is None:
                return REASON_NAMES[Reason.NOT_ELIGIBLE]
        profile = self._profile(intent["customer_id"])
        if intent["customer_id"] in self.moved:
            return LATER
        fresh = self.fresh(intent, profile) if profile is not None else None
        reason = at_send(
            intent,
            fresh,
            self.workspace.project,
            now,
            self.workspace.is_stopped,
            agent,
            self.overrides,
            rules,
        )
        if reason is None and self.workspace.project.limits and not self.is_left(intent, now):
            return REASON_NAMES[Reason.BUDGET]
        return reason

    def _profile(self, customer_id: str) -> dict[str, Any] | None:
        """A profile; read now for a message that has become due since the pass began."""
        if customer_id not in self.customer_ids:
            where = self.workspace, self.warehouse, [customer_id]
            self.customer_ids.add(customer_id)
            self.profiles |= _profiles(*where, self.overrides)
            self.earlier |= once_known_as(*where)
            self.moved |= known_as(*where).keys()
        return self.profiles.get(customer_id)

    def _action(self, intent: Mapping[str, Any]) -> Action | None:
        """The intent's action as its agent has it now."""
        actions = self.workspace.catalog(intent["agent"]).actions
        return next((a for a in actions if a.key == intent["action"]), None)

    def is_left(self, intent: Mapping[str, Any], now: datetime) -> bool:
        """Whether the limits have room for the message, which then takes what it uses."""
        if self.till is None:
            self.till = Till(self.workspace, left(self.workspace, self.warehouse, now))
        return self.till.take(intent["send_key"], message_of(intent))

    def look_at_overrides(self) -> None:
        """Before every message; a new rule may ask for columns that were not read yet."""
        overrides = self.workspace.overrides()
        if overrides.columns - self.overrides.columns:
            self.profiles = _profiles(self.workspace, self.warehouse, self.customer_ids, overrides)
        self.overrides = overrides

    def fresh(self, intent: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
        """The profile with newer opt-outs, complaints and sends worked in."""
        facts = dict(profile)
        people = (intent["customer_id"], *self.earlier.get(intent["customer_id"], ()))
        names = (*people, intent["external_id"])
        for channel in set().union(*(self.refusals.get(name, set()) for name in names)):
            facts |= refused(channel)
        if not self.complaining.isdisjoint(names):
            facts["has_open_complaint"] = True
        built = _built(profile)
        for send in (s for who in people for s in self.journal.recent_sends(who, built)):
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


class People:
    """Whom identifiers lead to, as of the last build; each is looked up once."""

    def __init__(self, workspace: Workspace, warehouse: Warehouse) -> None:
        self._workspace = workspace
        self._warehouse = warehouse
        self._found: dict[Identifier, set[str]] = {}

    def channels(self, refusals: Mapping[str, set[str]]) -> dict[str, set[str]]:
        """What is refused, by what a vendor was told and by the customers that leads to.

        A vendor is told a user id, a customer id or an e-mail address; a CRM has its own ids.
        """
        kinds = ("user_id", "email", CONTACT)
        self._look_up({(kind, value) for kind in kinds for value in refusals})
        found: dict[str, set[str]] = {}
        for value, channels in refusals.items():
            for name in {value}.union(*(self._found[kind, value] for kind in kinds)):
                found.setdefault(name, set()).update(channels)
        return found

    def who(self, identifiers: Set[Identifier]) -> set[str]:
        """User ids among the identifiers, and the customers that all of them lead to."""
        self._look_up(identifiers)
        users = {value for kind, value in identifiers if kind == "user_id"}
        return users.union(*(self._found[i] for i in identifiers))

    def _look_up(self, identifiers: Set[Identifier]) -> None:
        new = identifiers - self._found.keys()
        self._found.update({identifier: set() for identifier in new})
        for kind in sorted({kind for kind, _ in new}):
            values = [value for k, value in new if k == kind]
            if kind == CONTACT:
                self._look_up_contacts([v for v in values if v.startswith(f"{CONTACT}:")])
                continue
            query = (
                f"select identifier_value, customer_id from {self._map}"
                f" where identifier_kind = ? and {self._warehouse.among('identifier_value')}"
            )
            for part in _parts(values):
                for value, customer_id in self._warehouse.rows(query, [kind, part]):
                    self._found[kind, value].add(customer_id)

    @property
    def _map(self) -> str:
        return self._workspace.model("int_identity__map")

    def _look_up_contacts(self, values: list[str]) -> None:
        """By the CRM's own ids, "contact:123"."""
        query = (
            "select c.contact_id, m.customer_id"
            f" from {self._workspace.model('stg_crm__contacts')} c join {self._map} m"
            " on m.identifier_kind = 'email' and m.identifier_value = c.email"
            f" where {self._warehouse.among('c.contact_id')}"
        )
        for part in _parts([value.partition(":")[2] for value in values]):
            for contact_id, customer_id in self._warehouse.rows(query, [part]):
                self._found[CONTACT, f"{CONTACT}:{contact_id}"].add(customer_id)


def _profiles(
    workspace: Workspace,
    warehouse: Warehouse,
    customer_ids: Iterable[str],
    overrides: Overrides,
) -> dict[str, dict[str, Any]]:
    wanted = {
        c
        for name, agent in workspace.agents.items()
        for c in columns_of(workspace.catalog(name), workspace.project, agent)
    }
    names = ["customer_id", *sorted(wanted | overrides.columns)]
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
