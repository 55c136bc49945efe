"""The core of the hot path: durable records in, decisions out. It knows nothing of HTTP.

Everything it remembers is a projection of the event log (`projection`).

A decision is made from what is known at that moment, becomes durable, is applied, and only then
is answered or counts. An event that calls for one leaves it pending, so that it is made after a
crash too; nothing is ever sent from here, a later delivery does that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from decision_engine.config import hours
from decision_engine.record import CarriedOutBy
from decision_engine.service.asks import Ask, Asks, Kind
from decision_engine.service.deciding import Decider
from decision_engine.service.live import micros, micros_of
from decision_engine.service.profiles import HOUR
from decision_engine.service.projection import Pending, Projection
from decision_engine.service.records import Decision, Event, Record
from decision_engine.service.store import HotStore
from decision_engine.service.store_rows import Policy
from decision_engine.state import load
from decision_engine.workspace import Workspace

FLUSH_SECONDS = 15.0
"""What comes after costs a replay at the start; a page of the store is written once for all who
are on it, so a short while costs more."""
GROUP = 64
"""People decided for together at most: the last one of a group waits for all of it."""
RETRY_SECONDS = 1.0
TIMES = ("decided_at", "send_at", "expires_at")
"""The columns of a decision that are times; here they are ISO text, UTC."""

_logger = logging.getLogger(__name__)


class Commit(Protocol):
    """Makes records durable and has them applied. Raises when they may not be durable."""

    async def __call__(self, records: Sequence[Record]) -> None:
        """Return when they are both."""
        ...


class NotReadyError(Exception):
    """No policy state has been published, so nothing can be decided yet."""


class HotPath:
    """For one event loop. `known` may be told of the log before `start`."""

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
        self.known = Projection(store, log, self._consider)
        self._workspace = workspace
        self._overrides, self._prices = workspace.override_log, workspace.prices
        self._store = store
        self._commit = commit
        self._clock = clock
        self._asks = Asks()
        self._deciding: asyncio.Task[None] | None = None
        self._epochs: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False
        self._policies: Mapping[str, Policy] = {}
        self._decider: Decider | None = None
        self._refresh()

    # ---- deciding ----

    def _refresh(self) -> None:
        """Decide with the policy states published last; heed kill switch and overrides."""
        policies, is_stopped = self._store.policies(), self._workspace.is_stopped
        overrides, prices = self._overrides.current(), self._prices.current()
        last, frozen = self._decider, (is_stopped, overrides, prices)
        known = last is not None and frozen == (last.is_stopped, last.overrides, last.prices)
        if policies and not (known and policies is self._policies):
            states = {name: load(policy.state) for name, policy in policies.items()}
            self._policies = policies
            self._decider = Decider(
                self._workspace,
                states,
                is_stopped=is_stopped,
                overrides=overrides,
                prices=prices,
                distrusted={name: policy.distrusted for name, policy in policies.items()},
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
            if (made := self.known.decision_of(ask.slot, ask.key)) is not None:
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
            people = [(ask.slot, ask.key, self.known.people.columns(ask.key, at)) for ask in group]
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
        for row in made.values():
            row |= {name: row[name].isoformat() for name in TIMES if row[name] is not None}
        return made

    def _new_epoch(self, decider: Decider, now: datetime) -> Iterable[Record]:
        """Decisions are never durable before their epoch is."""
        return () if decider.epoch_id in self._epochs else (decider.epoch_record(now),)

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
        values = self.known.people.columns(key, at)
        agents = [n for n, when in called if self._decider.holds(when, key, values)]
        if agents:
            slot = f"event:{event.message_id}"
            if slot in self.known.pending:
                return  # one event has one decision, whoever repeats its id
            self.known.pending[slot] = Pending(identifier, tuple(dict.fromkeys(agents)), at)
            if self._is_running:
                self._spawn(self._answer(slot, time.perf_counter()))

    async def _answer(self, slot: str, since: float | None = None) -> None:
        """Make a pending decision; try as long as it is worth something."""
        while (pending := self.known.pending.get(slot)) is not None:
            key = self.known.people.find([pending.identifier])
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
            if self.known.pending.get(slot) is pending:
                # Too late, in no audience, or made long ago.
                del self.known.pending[slot]

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
        for slot in list(self.known.pending):
            self._spawn(self._answer(slot))
        self._spawn(self._keep_flushing())

    async def stop(self) -> None:
        """Write everything down. What is still pending is made after the next start."""
        await self.cancel()
        await self.known.flush(micros_of(self._clock()))
        self.known.close()

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
                now = micros_of(self._clock())
                await self.known.flush(now)
                if now - pruned > 24 * HOUR:
                    await self.known.prune(now)
                    pruned = now
                    if self._decider is not None:
                        self.known.keep_plan(self._decider.epoch_id, self._decider.plan, now)
            except Exception:
                # The log has it all: the store only falls behind.
                _logger.exception("the hot store could not be written")
