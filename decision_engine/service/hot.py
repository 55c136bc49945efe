"""The core of the hot path: durable records in, decisions out. It knows nothing of HTTP.

Everything it remembers is a projection of the event log. `applied` is told what is durable, in
the order of the log; now and then what has changed is written to the store together with the
position in the log, and at the start the rest of the log is applied again.

A decision is made from what is known at that moment, becomes durable, is applied, and only then
is answered or counts. An event that calls for one leaves it pending, so that it is made after a
crash too; nothing is ever sent from here, a later delivery does that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from connectors import framed
from decision_engine.config import hours
from decision_engine.record import CarriedOutBy
from decision_engine.service import live
from decision_engine.service.asks import Ask, Asks, Kind
from decision_engine.service.commit import Place, Position
from decision_engine.service.deciding import Decider
from decision_engine.service.live import Touch, micros, micros_of
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
from decision_engine.service.store_rows import Policy
from decision_engine.state import load
from decision_engine.workspace import Workspace

FLUSH_SECONDS = 5.0
"""What comes after costs a replay at the start; a page of the store is written once for all who
are on it, so a short while costs more."""
SLICE, SLICE_SECONDS = 50, 0.002
"""So many people are written down at a time, and then others have their turn so long."""
GROUP = 64
"""People decided for together at most: the last one of a group waits for all of it."""
PENDING = "pending"
"""The row of the store with the decisions that events have called for; no person has this key."""
RETRY_SECONDS = 1.0

_logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Commit(Protocol):
    """Makes records durable and has them applied. Raises when they may not be durable."""

    async def __call__(self, records: Sequence[Record]) -> None:
        """Return when they are both."""
        ...


class Pending(msgspec.Struct, frozen=True):
    """A decision that an event has called for: by which agents, about whom, and since when.

    Whom `identifier` leads to is asked when it is made: a visitor may turn out to be a customer.
    """

    identifier: str
    agents: tuple[str, ...]
    at: int


class NotReadyError(Exception):
    """No policy state has been published, so nothing can be decided yet."""


class HotPath:
    """For one event loop. `applied` may be called before `start`, to work the log in."""

    def __init__(
        self,
        workspace: Workspace,
        store: HotStore,
        log: Path,
        commit: Commit,
        clock: Callable[[], datetime],
        took: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`took` hears the seconds from an event that is durable to the decision it called for."""
        self._took = took
        self.people = People(store)
        self._workspace = workspace
        self._overrides, self._prices = workspace.override_log, workspace.prices
        self._store = store
        self._log = log
        self._commit = commit
        self._clock = clock
        self._position = Position(*(store.position or (0, 0)))
        self._pending = _pending_of(store.get_live(PENDING))
        self._asks = Asks()
        self._deciding: asyncio.Task[None] | None = None
        self._epochs: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: asyncio.Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, "hot-store", _in_no_hurry)
        self._is_running = False
        self._policies: Mapping[str, Policy] = {}
        self._decider: Decider | None = None
        self._refresh()

    # ---- the log ----

    @property
    def position(self) -> Position:
        """How much of the log has been applied."""
        return self._position

    @property
    def pending(self) -> Mapping[str, Pending]:
        """The decisions that events have called for and that are not made yet, by slot."""
        return self._pending

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
            self._consider(key, identifiers[0], event)

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
        self.people.changed(key)
        self._store.put_decision(touch.decision_id, touch.at, slot, key, place[:2])
        self._pending.pop(slot, None)

    def _epoch(self, row: dict[str, Any]) -> None:
        self._store.put_plan(row["epoch_id"], row["plan"].encode(), micros(row["as_of"]))

    # ---- deciding ----

    def _refresh(self) -> None:
        """Decide with the policy states published last; heed kill switch and overrides."""
        policies, is_stopped = self._store.policies(), self._workspace.is_stopped
        overrides, prices = self._overrides.current(), self._prices.current()
        frozen, last = (is_stopped, overrides, prices), self._decider
        known = last is not None and (last.is_stopped, last.overrides, last.prices) == frozen
        if policies and not (known and policies is self._policies):
            states = {name: load(policy.state) for name, policy in policies.items()}
            self._policies = policies
            self._decider = Decider(
                self._workspace, states, is_stopped=is_stopped, overrides=overrides, prices=prices
            )

    @property
    def is_ready(self) -> bool:
        """Whether anything can be decided."""
        self._refresh()
        return self._decider is not None

    @property
    def agents(self) -> Collection[str]:
        """Those that can decide. Raises NotReadyError when no policy state is published."""
        policies = self._store.policies()
        if not policies:
            raise NotReadyError
        return sorted(policies.keys() & self._workspace.agents.keys())

    @property
    def decider(self) -> Decider:
        """What decides now. Raises NotReadyError when no policy state is published."""
        self._refresh()
        if self._decider is None:
            raise NotReadyError
        return self._decider

    async def decide(
        self,
        key: str,
        agents: Sequence[str],
        slot: str,
        *,
        channel: str | None = None,
        carried_out_by: CarriedOutBy = "caller",
    ) -> dict[str, Any] | None:
        """The decision of this slot for a person, made now unless it was made before.

        A row of `decisions` with times as ISO text; None when the person is in no audience.
        Raises NotReadyError, and what the commit raises.
        """
        kind = Kind(tuple(agents), channel, carried_out_by)
        ask = Ask(key, slot, kind, asyncio.get_running_loop().create_future())
        self._asks.add(ask)
        if self._deciding is None or self._deciding.done():
            self._deciding = self._spawn(self._decide_all())
        return await ask.answer

    async def _decide_all(self) -> None:
        """Decide for all who wait, group by group."""
        while self._asks:
            group = self._asks.turn(GROUP)
            try:
                await self._decide_for(self._undecided(group))
            except BaseException as error:
                for ask in group:
                    ask.fail(error)
                if not isinstance(error, Exception):
                    raise
            await asyncio.sleep(0)  # nothing was to be waited for if nothing was to be stored

    def _undecided(self, group: Sequence[Ask]) -> list[Ask]:
        """Those of whom nothing is decided yet; the others get what is."""
        left = []
        for ask in group:
            if ask.answer.done():
                continue  # whoever asked has gone
            if (made := self.decision_of(ask.slot, ask.key)) is not None:
                ask.tell(made)
            else:
                left.append(ask)
        return left

    async def _decide_for(self, group: Sequence[Ask]) -> None:
        """Decide, make it durable, answer."""
        decider, now = self.decider, self._clock()
        rows: dict[str, dict[str, Any]] = {}
        for kind in dict.fromkeys(ask.kind for ask in group):
            rows |= self._rows([ask for ask in group if ask.kind == kind], kind, decider, now)
        if rows:
            await self._commit([*self._new_epoch(decider, now), *map(Decision, rows.values())])
            self._epochs.add(decider.epoch_id)
        for ask in group:
            ask.tell(rows.get(ask.key))

    def _rows(
        self, group: Sequence[Ask], kind: Kind, decider: Decider, now: datetime
    ) -> dict[str, dict[str, Any]]:
        """The rows of those who are in an audience, by person."""
        try:
            at = micros_of(now)
            people = [(ask.slot, ask.key, self.people.columns(ask.key, at)) for ask in group]
            made = decider.decide(people, kind.agents, now, kind.channel, kind.carried_out_by)
        except Exception as error:
            # One person's trouble is not the others'.
            if len(group) == 1:
                group[0].fail(error)
                return {}
            return {
                key: row
                for ask in group
                for key, row in self._rows([ask], kind, decider, now).items()
            }
        return {
            key: {c: v.isoformat() if isinstance(v, datetime) else v for c, v in row.items()}
            for key, row in made.items()
        }

    def _new_epoch(self, decider: Decider, now: datetime) -> Iterable[Record]:
        """Decisions are never durable before their epoch is."""
        return () if decider.epoch_id in self._epochs else (decider.epoch_record(now),)

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

    # ---- triggers ----

    def _consider(self, key: str, identifier: str, event: Event) -> None:
        """Leave a decision pending if the event calls for one."""
        if self._decider is None:
            self._refresh()
        if self._decider is None:
            return
        called = self._decider.called_by(event)
        if not called:
            return
        at = micros(event.occurred_at)
        values = self.people.columns(key, at)
        agents = [n for n, when in called if self._decider.holds(when, key, values)]
        if agents:
            slot = f"event:{event.message_id}"
            if slot in self._pending:
                return  # one event has one decision, whoever repeats its id
            self._pending[slot] = Pending(identifier, tuple(dict.fromkeys(agents)), at)
            if self._is_running:
                self._spawn(self._answer(slot, time.perf_counter()))

    async def _answer(self, slot: str, since: float | None = None) -> None:
        """Make a pending decision; try as long as it is worth something."""
        while (pending := self._pending.get(slot)) is not None:
            key = self.people.find([pending.identifier])
            if key is not None and not self._is_late(pending):
                try:
                    # One of them may be gone from the project since.
                    agents = [name for name in pending.agents if name in self.agents]
                    await self.decide(key, agents, slot, carried_out_by="delivery")
                except Exception:
                    _logger.exception("a decision that an event called for could not be made yet")
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if since is not None:
                    self._took(time.perf_counter() - since)
            if self._pending.get(slot) is pending:
                # Too late, in no audience, or made long ago.
                del self._pending[slot]

    def _is_late(self, pending: Pending) -> bool:
        ages = [
            hours(self._workspace.agents[name].time_to_live)
            for name in pending.agents
            if name in self._workspace.agents
        ]
        now = micros_of(self._clock())
        return not ages or now - pending.at > max(ages) * HOUR

    # ---- running ----

    async def start(self) -> None:
        """Make the decisions that were pending, and keep the store up to date from now on."""
        self._is_running = True
        for slot in list(self._pending):
            self._spawn(self._answer(slot))
        self._spawn(self._keep_flushing())

    async def stop(self) -> None:
        """Write everything down. What is still pending is made after the next start."""
        await self.cancel()
        await self.flush()
        self._writer.shutdown()

    async def cancel(self) -> None:
        """Do no more; what was not flushed is in the log."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._asks.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_flushing(self) -> None:
        pruned = 0
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
                now = micros_of(self._clock())
                if now - pruned > 24 * HOUR:
                    await self._prune(now)
                    pruned = now
            except Exception:
                # The log has it all: the store only falls behind.
                _logger.exception("the hot store could not be written")

    async def _prune(self, now: int) -> None:
        await asyncio.to_thread(self._store.prune, now - KEPT_DAYS * 24 * HOUR)
        if self._decider is not None:
            # Decisions to come refer to it, however old it is.
            self._store.put_plan(self._decider.epoch_id, _encode(self._decider.plan), now)

    async def flush(self) -> None:
        """Write to the store what has changed, with the position it stands for."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        if self._position == self._store.position:
            return
        now = micros_of(self._clock())
        for _ in range(self.people.changes // SLICE):
            self.people.put_changes(now, SLICE)
            await asyncio.sleep(SLICE_SECONDS)
        # From here to `take` nothing can be applied: the rows are those of the position.
        self.people.put_changes(now)
        self._store.put_live(PENDING, _encode(self._pending), now)
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._writer, self._store.write, self._store.take(), self._position
        )
        await asyncio.shield(self._writing)  # a thread cannot be stopped


def _in_no_hurry() -> None:
    """The log has it all, so the thread that answers comes first where both share a core."""
    if sys.platform == "linux":  # elsewhere threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _pending_of(blob: bytes | None) -> dict[str, Pending]:
    return msgspec.json.decode(blob, type=dict[str, Pending]) if blob else {}
