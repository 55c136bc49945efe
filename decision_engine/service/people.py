"""Who an event is about, and what is known of them: the store's rows, with the newest on top.

An identifier ("user_id:42") leads to a person. A person is a customer of the warehouse or, as
long as the warehouse has not seen them, one of our own making. Seen together with a customer,
the latter are that customer, and so is a customer who has nothing but browsers. Two customers
who have more are never joined here: whether they are one is the warehouse's to find out. Their
event belongs to the customer of its first identifier, as in dbt.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from decision_engine.service import live
from decision_engine.service.live import Person
from decision_engine.service.profiles import columns_of
from decision_engine.service.records import Event, Webhook
from decision_engine.service.store import HotStore

REMEMBERED = 20_000
"""People and profiles kept decoded; the others are read from the store again."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Person).decode


@dataclass(frozen=True)
class Profile:
    """What the warehouse has published of a customer: the row, and the events in it."""

    row: Mapping[str, Any]
    past: Person

    @property
    def identifiers(self) -> list[str]:
        """What leads to the customer."""
        return (self.row.get("identifiers") or "").split("\n") if self.row else []

    def columns(self, seen: Iterable[Person], complete: int | None, at: int) -> dict[str, Any]:
        """Every column of dim_customer_features at a moment, with what was seen since.

        `as_of` is in Unix seconds. A row that has not changed is not published again: all of
        them are as of `complete`, at least.
        """
        everything = Person()
        everything.absorb(self.past)
        for person in seen:
            everything.absorb(person)
        if not self.row:
            return live.columns(everything, {}, None, at)
        columns = columns_of(self.row, at)
        as_of = max(self.row["as_of"], complete or 0)
        return {
            **columns,
            **live.columns(everything, columns, as_of, at),
            "as_of": as_of / 1e6,
        }


NOBODY = Profile({}, Person())
STRANGER, ANONYMOUS, IDENTIFIED = range(3)


class People:
    """All people, by key. For one thread."""

    def __init__(self, store: HotStore) -> None:
        self._store = store
        self._people: OrderedDict[str, Person] = OrderedDict()
        self._profiles: OrderedDict[str, Profile] = OrderedDict()
        self._dirty: set[str] = set()

    # ---- who ----

    def find(self, identifiers: Iterable[str]) -> str | None:
        """Whom the first identifier that leads to somebody leads to."""
        return self._store.customer_of(identifiers)

    def meet(self, identifiers: Sequence[str]) -> str:
        """The person that identifiers seen together belong to; whoever is new is made."""
        leads = {i: self._store.customer_of([i]) for i in identifiers}
        found = list(dict.fromkeys(k for k in leads.values() if k))
        key = max(found, key=self._standing, default=key_of(identifiers[0]))
        for other in found:
            if other != key and self._standing(other) < IDENTIFIED:
                self._join(key, other)
        for identifier, leads_to in leads.items():
            if leads_to is None:
                self._link(identifier, key)
        return key

    def is_customer(self, key: str) -> bool:
        """Whether the warehouse knows the person."""
        return self.profile(key) is not NOBODY

    def publishing(self, customer_id: str, identifiers: Iterable[str]) -> None:
        """The warehouse says who has these identifiers: what was seen of them is this customer's.

        To be called before the row is published.
        """
        for identifier in identifiers:
            other = self._store.customer_of([identifier])
            if other is not None and other != customer_id:
                self._join(customer_id, other)
                self._store.put_identifier(identifier, customer_id)
        self._profiles.pop(customer_id, None)

    def published(self, customer_id: str) -> None:
        """A row is there, or is gone."""
        self._profiles.pop(customer_id, None)

    def _link(self, identifier: str, key: str) -> None:
        self._store.put_identifier(identifier, key)
        self.get(key).identifiers.append(identifier)
        self._dirty.add(key)

    def _standing(self, key: str) -> int:
        """How much is known of who somebody is."""
        profile = self.profile(key)
        if profile is NOBODY:
            return STRANGER
        names = profile.identifiers
        return ANONYMOUS if all(n.startswith("anonymous_id:") for n in names) else IDENTIFIED

    def _join(self, key: str, other: str) -> None:
        """What was seen of `other` was seen of `key`."""
        gone, published = self.get(other), self.profile(other)
        person = self.get(key)
        person.absorb(published.past)
        person.absorb(gone)
        for identifier in {*gone.identifiers, *published.identifiers}:
            self._store.put_identifier(identifier, key)
        self._people[other] = Person()
        self._dirty |= {key, other}

    # ---- what ----

    def get(self, key: str) -> Person:
        """What was seen of a person lately. Say `changed` when you change it."""
        person = self._people.get(key)
        if person is None:
            blob = self._store.get_live(key)
            person = self._people[key] = _decode(blob) if blob else Person()
        self._people.move_to_end(key)
        return person

    def hear_of_ticket(self, event: Event) -> None:
        """Whoever an event is said to be of: a help desk may close a ticket in its own name.

        What is heard of a ticket is kept under the ticket as well, and counts for all who have it.
        """
        if event.ticket_id:
            key = _ticket_key(event.ticket_id)
            live.take_ticket(self.get(key), event)
            self._dirty.add(key)

    def changed(self, key: str) -> None:
        """Have a person written with the next flush."""
        self._dirty.add(key)

    def profile(self, key: str) -> Profile:
        """What is published of a person; `NOBODY` for one that the warehouse does not know."""
        profile = self._profiles.get(key)
        if profile is None:
            row = self._store.get_profile(key)
            profile = self._profiles[key] = Profile(row, live.past_of(row)) if row else NOBODY
            if len(self._profiles) > REMEMBERED:
                self._profiles.popitem(last=False)
        self._profiles.move_to_end(key)
        return profile

    def columns(self, key: str, at: int) -> dict[str, Any]:
        """Every profile column as of a moment (microseconds)."""
        profile, seen = self.profile(key), self.get(key)
        tickets = [*profile.past.tickets.items(), *seen.tickets.items()]
        # Who solves a ticket has not got it.
        opened = dict.fromkeys(name for name, t in tickets if t.opened_at is not None)
        told = [self.get(_ticket_key(name)) for name in opened]
        return profile.columns([seen, *told], self._store.as_of, at)

    # ---- keeping ----

    @property
    def changes(self) -> int:
        """How many have changed and are not given to the store yet."""
        return len(self._dirty)

    def put_changes(self, now: int, most: int | None = None) -> None:
        """Give the store those who have changed, `most` of them at most."""
        for _ in range(self.changes if most is None else min(most, self.changes)):
            key = self._dirty.pop()
            person = self._people[key]
            live.forget(person, now)
            self._store.put_live(key, _encode(person) if person != Person() else None, now)
        while len(self._people) > REMEMBERED and not self._dirty:
            self._people.popitem(last=False)


def _ticket_key(ticket_id: str) -> str:
    """Where a ticket is kept; no person has such a key."""
    return f"ticket:{ticket_id}"


def key_of(identifier: str) -> str:
    """The key of somebody new: the customer_id that dbt gives whose first identifier this is."""
    return "c_" + hashlib.md5(identifier.encode(), usedforsecurity=False).hexdigest()


def identifiers_of_event(event: Event) -> list[str]:
    """In the order that decides whose an event is (as int_events__web)."""
    found = {
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "email": event.email,
        "phone": event.phone,
    }
    return [f"{kind}:{value}" for kind, value in found.items() if value]


def identifiers_of_webhook(hook: Webhook) -> list[str]:
    """As for an event; an external id that is a customer_id is not among them."""
    found = {"user_id": hook.external_id, "email": hook.email}
    return [f"{kind}:{value}" for kind, value in found.items() if value]
