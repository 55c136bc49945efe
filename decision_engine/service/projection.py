"""What the event log says, worked in: people, decisions, and what is still to be decided.

`applied` is told what is durable, in the order of the log; now and then what has changed is
written to the store together with the position in the log, and at the start the rest of the log
is applied again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from connectors import framed
from decision_engine.service import live
from decision_engine.service.commit import Place, Position
from decision_engine.service.live import Message, Touch, micros
from decision_engine.service.people import (
    People,
    identifiers_of_event,
    identifiers_of_webhook,
)
from decision_engine.service.profiles import HOUR
from decision_engine.service.records import Decision, Epoch, Event, Record, Webhook, records
from decision_engine.service.rotation import KEPT_DAYS
from decision_engine.service.store import HotStore
from decision_engine.service.store_file import StoreError

SLICE, SLICE_SECONDS = 50, 0.002
"""So many people are written down at a time, and then others have their turn so long."""
PENDING = "pending"
"""The row of the store with the decisions that events have called for; no person has this key."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Pending(msgspec.Struct, frozen=True):
    """A decision that an event has called for: by which agents, about whom, and since when.

    Whom `identifier` leads to is asked when it is made: a visitor may turn out to be a customer.
    """

    identifier: str
    agents: tuple[str, ...]
    at: int


class Projection:
    """For one event loop. `pending` has the decisions that are not made yet, by slot."""

    def __init__(
        self, store: HotStore, log: Path, heard: Callable[[str, str, Event], None]
    ) -> None:
        """`heard` is told of each new event whom it is of: the person and the identifier."""
        self.people = People(store)
        self.pending = _pending_of(store.get_live(PENDING))
        self._store = store
        self._log = log
        self._heard = heard
        self._position = Position(*(store.position or (0, 0)))
        self._writing: asyncio.Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, "hot-store", _in_no_hurry)

    # ---- in ----

    @property
    def position(self) -> Position:
        """How much of the log has been applied."""
        return self._position

    def applied(self, durable: Sequence[Record], place: Place) -> None:
        """Work in what is durable; to be called in the order of the log."""
        for record in durable:
            if isinstance(record, Event):
                self._event(record)
            elif isinstance(record, Webhook):
                self._webhook(record)
            elif isinstance(record, Decision):
                self._decision(record.row, place)
            elif isinstance(record, Epoch):
                self._epoch(record.row)
        self._position = place.position

    def work_in(self) -> None:
        """Apply what the log has and the store has not; to be called before `start`.

        Raises StoreError when the store is ahead of the log.
        """
        done = self._position
        for segment in framed.segments(self._log):
            if (n := framed.number(segment)) < done.segment:
                continue
            start = done.offset if n == done.segment else 0
            for offset, payload in framed.frames(segment, start):
                place = Place(n, offset, framed.frame_end(offset, payload))
                self.applied(list(records(payload)), place)
        end = framed.segments(self._log)[-1:]
        if end and done > (framed.number(end[0]), end[0].stat().st_size):
            raise StoreError(
                f"{self._store.folder} knows more than {self._log} holds: it is of another log",
                "delete the folder; it is filled again by the log and by the next delivery",
            )

    def _event(self, event: Event) -> None:
        self.people.hear_of_ticket(event)
        identifiers = identifiers_of_event(event)
        if not identifiers:
            return
        key = self.people.meet(identifiers)
        if live.take_event(self.people.get(key), event):
            self.people.changed(key)
            self._heard(key, identifiers[0], event)

    def _webhook(self, hook: Webhook) -> None:
        if hook.external_id and self.people.is_customer(hook.external_id):
            key: str | None = hook.external_id
        else:
            key = self.people.find(identifiers_of_webhook(hook))
        if key is not None:
            live.take_webhook(self.people.get(key), hook)
            self.people.changed(key)

    def _decision(self, row: dict[str, Any], place: Place) -> None:
        key, slot = row["customer_id"], row["slot"]
        person = self.people.get(key)
        touch = Touch(
            at=micros(row["decided_at"]),
            decision_id=row["decision_id"],
            action=row["action"],
            channel=row["channel"] or None,
            incentive=row["incentive"],
        )
        person.touch = live.latest(person.touch, touch)
        if row["send_at"] and row["carried_out_by"] == "delivery":
            message = Message(touch.at, micros(row["send_at"]), row["channel"])
            if message.send_at > touch.at:
                person.waiting[touch.decision_id] = message
        self.people.changed(key)
        self._store.put_decision(touch.decision_id, touch.at, slot, key, place[:2])
        self.pending.pop(slot, None)

    def _epoch(self, row: dict[str, Any]) -> None:
        self._store.put_plan(row["epoch_id"], row["plan"].encode(), micros(row["as_of"]))

    # ---- out ----

    def decision(self, decision_id: str) -> dict[str, Any] | None:
        """A decision that was made here and is still in the log; None for any other."""
        place = self._store.get_decision(decision_id)
        payload = framed.payload_at(self._log, *place) if place else None
        found = records(payload, Decision) if payload else ()
        return next((d.row for d in found if d.row["decision_id"] == decision_id), None)

    def plan_of(self, epoch_id: str) -> dict[str, Any] | None:
        """What was frozen in the epoch of a decision made here."""
        blob = self._store.get_plan(epoch_id)
        return None if blob is None else _decode(blob)

    def decision_of(self, slot: str, key: str) -> dict[str, Any] | None:
        """The decision of a slot for a person; None when there is none yet."""
        decision_id = self._store.find_decision(slot, key)
        return None if decision_id is None else self.decision(decision_id)

    # ---- keeping ----

    async def flush(self, now: int) -> None:
        """Write to the store what has changed, with the position it stands for."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        if self._position == self._store.position:
            return
        for _ in range(self.people.changes // SLICE):
            self.people.put_changes(now, SLICE)
            await asyncio.sleep(SLICE_SECONDS)
        # From here to `take` nothing can be applied: the rows are those of the position.
        self.people.put_changes(now)
        self._store.put_live(PENDING, _encode(self.pending), now)
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._writer, self._store.write, self._store.take(), self._position
        )
        await asyncio.shield(self._writing)  # a thread cannot be stopped

    async def prune(self, now: int) -> None:
        """Forget what is older than the log."""
        await asyncio.to_thread(self._store.prune, now - KEPT_DAYS * 24 * HOUR)

    def keep_plan(self, epoch_id: str, plan: dict[str, Any], now: int) -> None:
        """Decisions to come refer to it, however old it is."""
        self._store.put_plan(epoch_id, _encode(plan), now)

    def close(self) -> None:
        """Write no more."""
        self._writer.shutdown()


def _in_no_hurry() -> None:
    """The log has it all, so the thread that answers comes first where both share a core."""
    if sys.platform == "linux":  # elsewhere threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def _pending_of(blob: bytes | None) -> dict[str, Pending]:
    return msgspec.json.decode(blob, type=dict[str, Pending]) if blob else {}
