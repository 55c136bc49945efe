"""What a person has just done, and the profile columns that follow from it at any moment.

A profile is as of its last build. What happened since, and what the warehouse knew of the days
before, is kept here as a short list of events; windowed columns are counted from it at the
moment they are asked for, by the definitions that dbt counts by (`definitions`).

Times are integer microseconds since 1970, UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec

from decision_engine.guardrails import refused
from decision_engine.service.definitions import (
    counted_in,
    engagement_velocity,
    page_path,
    windowed_counts,
)
from decision_engine.service.profiles import HOUR, days, happenings
from decision_engine.service.records import Event, Webhook
from decision_engine.waiting import WAITING, listed

DAY = 24 * HOUR
PAGES = ("page", "screen")
KEPT = 14 * DAY
"""The longest window of a column that is counted here."""
MAX_ITEMS = 2_000
"""Of one person; a robot's flood costs its own oldest events, not everybody's memory."""

MAX_TICKETS = 100
"""Of one person, likewise."""

COMPLAINT = "complaint"
OPENED, SOLVED = "Support Ticket Opened", "Support Ticket Solved"
PUSH_TOKEN = "Push Token Registered"  # noqa: S105  (the name of an event)
REFUSALS = ("unsubscribe", "complaint")


class Item(msgspec.Struct, array_like=True, frozen=True):
    """One event: when, what it counts for while it is young, and the class of a page."""

    at: int
    counts: tuple[str, ...]
    is_page: bool
    page_class: str | None = None


class Ticket(msgspec.Struct, array_like=True, frozen=True):
    """When a ticket was opened and solved last; None when that was not heard of.

    `kind` and `sentiment` are of its last opening: a ticket may be opened again.
    """

    opened_at: int | None = None
    sentiment: float | None = None
    solved_at: int | None = None
    kind: str | None = None

    def is_open(self, at: int) -> bool:
        """Whether the last thing heard of it by then is an opening."""
        if self.opened_at is None or self.opened_at > at:
            return False
        return self.solved_at is None or self.solved_at > at or self.solved_at < self.opened_at


class Touch(msgspec.Struct, array_like=True, frozen=True):
    """The last decision."""

    at: int
    decision_id: str
    action: str
    channel: str | None
    incentive: str


class Message(msgspec.Struct, array_like=True, frozen=True):
    """A message that was decided here to leave later."""

    decided_at: int
    send_at: int
    channel: str


class Person(msgspec.Struct):
    """`items` by the id of the event, so that what comes twice counts once.

    `identifiers` are those learned here ("user_id:42"); `refused` has the moment of the last
    opt-out by channel; `waiting` the messages that leave later, by decision.
    """

    identifiers: list[str] = []
    items: dict[str, Item] = {}
    tickets: dict[str, Ticket] = {}
    refused: dict[str, int] = {}
    has_push: bool = False
    touch: Touch | None = None
    waiting: dict[str, Message] = {}

    def absorb(self, other: Person) -> None:
        """Take over what was seen of the same person under another name."""
        self.identifiers += [i for i in other.identifiers if i not in self.identifiers]
        self.items.update(other.items)
        for ticket_id, ticket in other.tickets.items():
            merge_ticket(self.tickets, ticket_id, ticket)
        for channel, at in other.refused.items():
            self.refused[channel] = max(at, self.refused.get(channel, at))
        self.has_push |= other.has_push
        self.touch = latest(self.touch, other.touch)
        self.waiting.update(other.waiting)


def latest(one: Touch | None, other: Touch | None) -> Touch | None:
    """The later of two decisions."""
    touches = [t for t in (one, other) if t]
    return max(touches, key=lambda t: (t.at, t.decision_id), default=None)


def micros(text: str) -> int:
    """ISO text (UTC unless it says otherwise) as microseconds."""
    moment = datetime.fromisoformat(text)
    return micros_of(moment)


def micros_of(moment: datetime) -> int:
    """A datetime (UTC unless it says otherwise) as microseconds."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(at: int) -> datetime:
    """Microseconds as naive UTC datetime, the form of all our tables."""
    seconds, rest = divmod(at, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None, microsecond=rest)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = -(1 << 63)


def item_of_event(event: Event) -> Item:
    """A tracked event."""
    row = {
        "type": event.type,
        "event": event.event,
        "page_class": event.page_class,
        "platform": event.platform,
    }
    is_page = event.type in PAGES
    return Item(micros(event.occurred_at), counted_in("web", row), is_page, event.page_class)


def item_of_webhook(hook: Webhook) -> Item:
    """What a vendor told."""
    row = {
        "event_type": hook.event_type,
        "channel": hook.channel,
        "is_machine": hook.is_machine,
    }
    return Item(micros(hook.occurred_at), counted_in("messages", row), False)


@cache
def _windows() -> dict[str, int]:
    return {count.name: count.hours * HOUR for count in windowed_counts()}


def counted(items: Iterable[Item], at: int) -> dict[str, int]:
    """Each windowed count over (at - window, at]."""
    windows = _windows()
    found = dict.fromkeys(windows, 0)
    for item in items:
        age = at - item.at
        if age >= 0:
            for name in item.counts:
                if age < windows.get(name, 0):
                    found[name] += 1
    return found


def take_event(person: Person, event: Event) -> bool:
    """Work an event in; False when it was there already."""
    if event.message_id in person.items:
        return False
    person.items[event.message_id] = item_of_event(event)
    if len(person.items) > 2 * MAX_ITEMS:
        forget_items(person)  # every look at a person costs as much as there is
    take_ticket(person, event)
    person.has_push |= event.event == PUSH_TOKEN
    return True


def take_webhook(person: Person, hook: Webhook) -> None:
    """Work in what a vendor told."""
    item = item_of_webhook(hook)
    if item.counts:
        person.items.setdefault(f"{hook.vendor}:{hook.event_id}", item)
    if hook.event_type in REFUSALS:
        channel = hook.channel or "email"
        # From when it was received, if that is later: the profile cannot have known it before.
        at = max(item.at, micros(hook.received_at))
        person.refused[channel] = max(at, person.refused.get(channel, at))


def take_ticket(person: Person, event: Event) -> None:
    """Work in what an event says of a ticket, if it does."""
    if event.ticket_id and event.event in (OPENED, SOLVED):
        at = micros(event.occurred_at)
        opened = Ticket(at, event.sentiment, kind=event.ticket_kind)
        new = Ticket(solved_at=at) if event.event == SOLVED else opened
        merge_ticket(person.tickets, event.ticket_id, new)


def merge_ticket(tickets: dict[str, Ticket], ticket_id: str, new: Ticket) -> None:
    """Put together what is known of one ticket: the last opening and the last solution."""
    old = tickets.get(ticket_id, new)
    last = min(old, new, key=_recency)
    solved = [t.solved_at for t in (old, new) if t.solved_at is not None]
    tickets[ticket_id] = msgspec.structs.replace(last, solved_at=max(solved, default=None))


def _recency(ticket: Ticket) -> tuple[int, str, float]:
    """The last opening first; of one moment, as the warehouse does, a complaint, the worst."""
    at = _NEVER if ticket.opened_at is None else ticket.opened_at
    return -at, ticket.kind or "", math.inf if ticket.sentiment is None else ticket.sentiment


def forget(person: Person, now: int) -> None:
    """Drop what no column can count any more, and what is too much."""
    forget_tickets(person)
    person.waiting = {k: m for k, m in person.waiting.items() if m.send_at > now}
    old = [key for key, item in person.items.items() if now - item.at > KEPT]
    for key in old:
        del person.items[key]
    forget_items(person)


def forget_items(person: Person) -> None:
    """Keep the last `MAX_ITEMS`."""
    surplus = max(len(person.items) - MAX_ITEMS, 0)
    for key in sorted(person.items, key=lambda k: person.items[k].at)[:surplus]:
        del person.items[key]


def forget_tickets(person: Person) -> None:
    """Keep the last `MAX_TICKETS`, open complaints before all others."""
    surplus = len(person.tickets) - MAX_TICKETS
    if surplus > 0:
        for ticket_id in sorted(person.tickets, key=lambda k: _weight(person.tickets[k]))[:surplus]:
            del person.tickets[ticket_id]


def _weight(ticket: Ticket) -> tuple[bool, int]:
    turns = [at for at in (ticket.opened_at, ticket.solved_at) if at is not None]
    last = max(turns, default=_NEVER)
    return ticket.kind == COMPLAINT and ticket.is_open(last), last


def columns(
    person: Person, profile: Mapping[str, Any], as_of: int | None, at: int
) -> dict[str, Any]:
    """The columns that events decide, as of a moment; NULL is None.

    `profile` are the other columns at that moment and `as_of` the one they were built for, empty
    and None for a person whom the warehouse does not know. `person` has the events published
    with the profile worked in.
    """
    counts = counted(person.items.values(), at)
    out: dict[str, Any] = {**counts, "engagement_velocity": engagement_velocity(counts)}
    out.update(_pages(person, profile.get("days_since_last_visit"), as_of, at))
    out.update(_complaints(person, at))
    for channel, refused_at in person.refused.items():
        if refused_at <= at and (as_of is None or refused_at > as_of):
            out |= refused(channel)
    if person.has_push:
        out["has_push"] = True
    if person.touch and (as_of is None or person.touch.at > as_of):
        out.update(_touched(person.touch, at))
    # Those that were decided before the profile was built are in it.
    later = [
        (message.send_at, message.channel, decision_id)
        for decision_id, message in person.waiting.items()
        if message.send_at > at and (as_of is None or message.decided_at > as_of)
    ]
    if later:
        out[WAITING] = listed(profile.get(WAITING), later)
    return out


def _pages(
    person: Person, days_since_last_visit: float | None, as_of: int | None, at: int
) -> dict[str, Any]:
    path = page_path()
    past = sorted(
        (item.at, key, item) for key, item in person.items.items() if item.is_page and item.at <= at
    )
    classed = [(when, item.page_class) for when, _, item in past if path.name in item.counts]
    steps = [str(name) for when, name in classed if at - when < path.hours * HOUR]
    out: dict[str, Any] = {path.name: ">".join(steps) or None}
    if past and (days_since_last_visit is None or days(past[-1][0], at) < days_since_last_visit):
        out["days_since_last_visit"] = days(past[-1][0], at)
    # Of older pages only those are here that still count for something.
    if classed and (as_of is None or classed[-1][0] > as_of):
        out["last_page_class"] = classed[-1][1]
    return out


def _complaints(person: Person, at: int) -> dict[str, Any]:
    heard = [
        (t.opened_at, ticket_id, t)
        for ticket_id, t in person.tickets.items()
        if t.kind == COMPLAINT and t.opened_at is not None and t.opened_at <= at
    ]
    if not heard:
        return {}
    _, _, last = max(heard, key=lambda h: h[:2])
    return {
        "has_open_complaint": any(t.is_open(at) for _, _, t in heard),
        "days_since_complaint": days(max(h[0] for h in heard), at),
        "complaint_sentiment": last.sentiment,
    }


def _touched(touch: Touch, at: int) -> dict[str, Any]:
    return {
        "last_action": touch.action,
        "last_channel": touch.channel,
        "last_incentive": touch.incentive,
        "days_since_last_decision": days(min(touch.at, at), at),
    }


def past_of(row: Mapping[str, Any]) -> Person:
    """The events that a profile was published with."""
    person = Person()
    for event in happenings(row):
        if event.kind == "complaint":
            # When it was solved is not told; it was before the profile was built.
            solved_at = event.at if event.values["status"] == "solved" else None
            sentiment = event.values["sentiment"]
            person.tickets[event.id] = Ticket(event.at, sentiment, solved_at, COMPLAINT)
            continue
        values = event.values
        is_page = values.get("type") in PAGES
        names = counted_in(event.kind, values)
        person.items[event.id] = Item(event.at, names, is_page, values.get("page_class"))
    return person
