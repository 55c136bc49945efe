"""What came in since the profiles were built and binds the send boundary at once.

Opt-outs and open complaints, from the moment they were received: from the part of the log that
is not loaded yet, the open segment included, and from what is loaded but newer than the profiles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from connectors import framed
from connectors.base import Warehouse
from decision_engine.identifiers import clean_email, clean_id
from decision_engine.inbound import last_loaded
from decision_engine.service.records import Event, Webhook, records
from decision_engine.service.tracked_fields import TICKET_SOLVED
from decision_engine.workspace import Workspace

REFUSALS = ("unsubscribe", "complaint")
COMPLAINT = "complaint"
_MARKS = (b'"unsubscribe"', b'"complaint"', b'"ticket_id":')
"""One of them is in every frame that has news."""

Identifier = tuple[str, str]
"""Kind (user_id, anonymous_id, email) and value."""


class News(NamedTuple):
    """`refusals`: what vendors know a person by to channels that are refused.

    `complaints`: who has a complaint that is open, whoever of those who opened it did so last.
    """

    refusals: Mapping[str, set[str]]
    complaints: set[Identifier]


class Turn(NamedTuple):
    """A ticket was opened or solved. The last turn of a ticket is its state."""

    at: datetime
    is_solved: bool
    kind: str | None
    identifiers: tuple[Identifier, ...]


class Feed:
    """News since profiles of `since`; each `read` goes on where the last one ended."""

    def __init__(self, workspace: Workspace, warehouse: Warehouse, since: datetime) -> None:
        self._log = workspace.inbound_log
        self._refusals: dict[str, set[str]] = defaultdict(set)
        self._turns: dict[str, list[Turn]] = defaultdict(list)
        for row in _loaded_refusals(workspace, warehouse, since):
            self._refuse(*row)
        for ticket_id, turn in _loaded_turns(workspace, warehouse, since):
            self._turns[ticket_id].append(turn)
        self._segment, self._offset = last_loaded(workspace, warehouse) + 1, 0

    def read(self) -> News:
        """Everything that was received by now."""
        for segment in framed.segments(self._log):
            if framed.number(segment) > self._segment:
                self._segment, self._offset = framed.number(segment), 0
            if framed.number(segment) == self._segment:
                self._read(segment)
        is_open = (turns for turns in self._turns.values() if _is_open_complaint(turns))
        openings = (turn for turns in is_open for turn in turns if not turn.is_solved)
        return News(dict(self._refusals), {i for turn in openings for i in turn.identifiers})

    def _read(self, segment: Path) -> None:
        """Refusals and tickets; everything else is passed over without decoding."""
        for offset, payload in framed.frames(segment, self._offset):
            self._offset = framed.frame_end(offset, payload)
            if not any(mark in payload for mark in _MARKS):
                continue
            for webhook in records(payload, Webhook):
                if webhook.event_type in REFUSALS:
                    self._refuse(webhook.external_id, webhook.email, webhook.channel)
            for event in records(payload, Event):
                if event.ticket_id is not None:
                    self._turns[event.ticket_id].append(_turn(event))

    def _refuse(self, external_id: str | None, email: str | None, channel: str | None) -> None:
        for identifier in (clean_id(external_id), clean_email(email)):
            if identifier:
                # As everywhere: who does not say what they leave, leaves e-mail.
                self._refusals[identifier].add(channel or "email")


def _is_open_complaint(turns: Sequence[Turn]) -> bool:
    """By the last turn; of one moment, a solution before an opening, a complaint before others."""
    last = max(turns, key=lambda turn: (turn.at, turn.is_solved, turn.kind == COMPLAINT))
    return last.kind == COMPLAINT and not last.is_solved


def _turn(event: Event) -> Turn:
    return _as_turn(
        datetime.fromisoformat(event.occurred_at),
        event.event,
        event.ticket_kind,
        event.user_id,
        event.anonymous_id,
        event.email,
    )


def _as_turn(at: datetime, event: str | None, kind: str | None, *values: str | None) -> Turn:
    kinds = ("user_id", "anonymous_id", "email")
    known = tuple((k, v) for k, v in zip(kinds, values, strict=True) if v is not None)
    return Turn(at, event == TICKET_SOLVED, kind, known)


def _loaded_refusals(
    workspace: Workspace, warehouse: Warehouse, since: datetime
) -> list[tuple[str | None, str | None, str | None]]:
    rows = warehouse.rows(
        f"select external_id, email, channel from {workspace.engine('inbound_events')}"
        " where event_type in (?, ?) and (occurred_at > ? or received_at > ?)",
        [*REFUSALS, since, since],
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _loaded_turns(
    workspace: Workspace, warehouse: Warehouse, since: datetime
) -> list[tuple[str, Turn]]:
    rows = warehouse.rows(
        "select ticket_id, occurred_at, event, ticket_kind, user_id, anonymous_id, email"
        f" from {workspace.engine('tracked_events')}"
        " where ticket_id is not null and (occurred_at > ? or received_at > ?)",
        [since, since],
    )
    return [(row[0], _as_turn(*row[1:])) for row in rows]
