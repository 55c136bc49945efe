"""The hot store: what the service knows of people, embedded in its process.

Two sources write it. The log: `put_*` keep rows in memory, seen at once by every `get_*`, and
`write` makes them durable together with the position in the log they came from; what a crash
loses is replayed from there. The warehouse: `publish_*` are durable when they return.

All times are microseconds since 1970, UTC. `get_*`, `put_*` and `take` are for one thread, the
event loop; `write`, `publish_*`, `complete` and `prune` may run in others. StoreError means
that the file cannot be used.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from decision_engine.service import store_rows
from decision_engine.service.store_file import connect, hold, understood
from decision_engine.service.store_memory import Batch, Cache
from decision_engine.service.store_rows import Policy

CACHE_ROWS = 10_000
"""Of profiles, live states and identifiers, each; a decoded profile takes about 6 KB."""

_SEPARATOR = "\x1f"
_encode, _decode = msgspec.json.encode, msgspec.json.decode


class HotStore:
    """The open store of one folder; nobody else can open it meanwhile."""

    def __init__(self, folder: Path, cache_rows: int = CACHE_ROWS) -> None:
        """Raises LockedError when a service has it open, StoreError when it cannot be used."""
        self.folder = folder
        self._lock_fd = hold(folder)
        try:
            self._writer, self._reader = connect(folder), connect(folder)
            with understood(folder):
                self._meta = dict(self._reader.execute("select key, value from meta").fetchall())
                self._policies = store_rows.read_policies(self._reader)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._writing, self._memory = threading.Lock(), threading.Lock()
        self._commits = 0
        self._waiting, self._in_flight = Batch(), Batch()
        self._profiles = Cache(cache_rows)
        self._live = Cache(cache_rows)
        self._customers = Cache(cache_rows)

    # ---- what is known ----

    @property
    def instance(self) -> str:
        """The id this store was made with: another id means that everything must come again."""
        return str(self._meta["instance"])

    @property
    def position(self) -> tuple[int, int] | None:
        """The position in the log (segment, offset) behind what is durable; None at first."""
        found = self._meta.get("position")
        return _decode(found, type=tuple[int, int]) if found else None

    @property
    def as_of(self) -> int | None:
        """As of when all profiles are up to date; None before they were published."""
        found = self._meta.get("as_of")
        return int(found) if found else None

    def policies(self) -> Mapping[str, Policy]:
        """Agent to its published policy: a new object whenever one of them has changed."""
        return self._policies

    def get_profile(self, customer_id: str) -> Mapping[str, Any] | None:
        """The published row of a customer, without its key; not to be changed."""
        found: Mapping[str, Any] | None = self._cached(
            self._profiles, customer_id, "select row from profiles where key = ?", _decode
        )
        return found

    def customer_of(self, identifiers: Iterable[str]) -> str | None:
        """The customer of the first identifier (`kind:value`) that leads to one."""
        for identifier in identifiers:
            with self._memory:
                found = self._waiting.identifiers.get(identifier)
                found = found or self._in_flight.identifiers.get(identifier)
            found = found or self._cached(
                self._customers, identifier, "select customer_id from identifiers where key = ?"
            )
            if found:
                return found
        return None

    def get_live(self, person: str) -> bytes | None:
        """The live state last put, written or not."""
        with self._memory:
            for batch in (self._waiting, self._in_flight):
                if person in batch.live:
                    row = batch.live[person]
                    return row[1] if row else None
        found: bytes | None = self._cached(
            self._live, person, "select value from live where key = ?"
        )
        return found

    def get_decision(self, decision_id: str) -> tuple[int, int] | None:
        """Where in the log the frame with this decision is: segment and offset."""
        with self._memory:
            for batch in (self._waiting, self._in_flight):
                if decision_id in batch.decisions:
                    return batch.decisions[decision_id][2:]
        found: list[tuple[int, int]] = self._all(
            "select segment, start from decisions where key = ?", decision_id
        )
        return found[0] if found else None

    def find_decision(self, slot: str, person: str) -> str | None:
        """The id of the decision that was made for this slot and person."""
        key = slot + _SEPARATOR + person
        with self._memory:
            found = self._waiting.slots.get(key) or self._in_flight.slots.get(key)
        return found or self._one("select key from decisions where slot = ?", key)

    def get_plan(self, epoch_id: str) -> bytes | None:
        """What was frozen in an epoch."""
        with self._memory:
            for batch in (self._waiting, self._in_flight):
                if epoch_id in batch.plans:
                    return batch.plans[epoch_id][1]
        found: bytes | None = self._one("select value from plans where key = ?", epoch_id)
        return found

    # ---- from the log ----

    def put_live(self, person: str, value: bytes | None, at: int) -> None:
        """Set a person's live state; None deletes it. `at` is when it last changed."""
        with self._memory:
            self._waiting.live[person] = None if value is None else (at, value)

    def put_identifier(self, identifier: str, customer_id: str) -> None:
        """Have an identifier (`kind:value`) lead to a customer, until publishing says otherwise."""
        with self._memory:
            self._waiting.identifiers[identifier] = customer_id

    def put_decision(
        self, decision_id: str, at: int, slot: str, person: str, place: tuple[int, int]
    ) -> None:
        """Keep where in the log (segment, offset) the frame with a decision is.

        The log is what has it: a second copy of every decision cost as much as deciding it.
        """
        key = slot + _SEPARATOR + person
        with self._memory:
            self._waiting.decisions[decision_id] = (key, at, *place)
            self._waiting.slots[key] = decision_id

    def put_plan(self, epoch_id: str, plan: bytes, at: int) -> None:
        """Keep what was frozen in an epoch; `at` is when it was last in use."""
        with self._memory:
            self._waiting.plans[epoch_id] = (at, plan)

    def take(self) -> Batch:
        """What was put since the last call, to be given to `write` before the next one."""
        with self._memory:
            if len(self._in_flight):
                raise RuntimeError("the batch taken before is not written yet")
            self._in_flight, self._waiting = self._waiting, Batch()
            return self._in_flight

    def write(self, batch: Batch, position: tuple[int, int]) -> None:
        """Commit a batch and the position in the log behind it: both or neither.

        When it fails the rows wait for the next `take`.
        """
        try:
            with self._committing(position=_encode(position).decode()) as database:
                store_rows.write_live(database, batch.live)
                store_rows.write_decisions(database, batch.decisions)
                store_rows.write_plans(database, batch.plans)
                store_rows.write_identifiers(database, batch.identifiers)
        except BaseException:
            with self._memory:
                batch.update(self._waiting)
                self._waiting, self._in_flight = batch, Batch()
            raise
        with self._memory:
            for person, row in batch.live.items():
                self._live.put(person, row[1] if row else None)
            for identifier, customer_id in batch.identifiers.items():
                self._customers.put(identifier, customer_id)
            self._in_flight = Batch()

    # ---- from the warehouse ----

    def publish_profiles(self, rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """Merge rows onto the stored ones by `key`, or delete; why each was not taken, or None."""
        with self._committing() as database:
            reasons = store_rows.publish_profiles(database, rows)
        with self._memory:
            for row in rows:
                self._profiles.put(str(row.get("key")), None)
            self._customers.clear()
        return reasons

    def publish_policies(self, rows: Sequence[Mapping[str, Any]], now: int) -> list[str | None]:
        """The same for policy states; `now` becomes their `published_at`."""
        with self._committing() as database:
            reasons = store_rows.publish_policies(database, rows, now)
            policies = store_rows.read_policies(database)
        self._policies = policies
        return reasons

    def complete(self, as_of: int) -> None:
        """Note that all profiles are published as of this moment."""
        with self._committing(as_of=str(as_of)):
            pass

    def prune(self, older_than: int) -> int:
        """Delete live states, decisions and plans from before a moment; how many."""
        with self._committing() as database:
            removed = store_rows.prune(database, older_than)
        with self._memory:
            self._live.clear()
        return removed

    def close(self) -> None:
        """Let go of the files; what was not written is in the log."""
        with self._writing:
            if self._lock_fd >= 0:
                self._reader.close()
                self._writer.close()
                os.close(self._lock_fd)
                self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- how ----

    @contextmanager
    def _committing(self, **meta: str) -> Iterator[sqlite3.Connection]:
        """A transaction that also sets these facts about the store."""
        with self._writing, understood(self.folder):
            self._writer.execute("begin immediate")
            try:
                yield self._writer
                self._writer.executemany("insert or replace into meta values (?, ?)", meta.items())
                self._writer.execute("commit")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("rollback")
                raise
            self._meta.update(meta)
        with self._memory:
            self._commits += 1

    def _cached(
        self, cache: Cache, key: str, sql: str, decode: Callable[[Any], Any] = lambda row: row
    ) -> Any:
        """A row from memory or from the file.

        What was read while something was committed may be of before: it is not kept.
        """
        with self._memory:
            found, before = cache.find(key), self._commits
        if found is not None:
            return found
        row = self._one(sql, key)
        if row is None:
            return None
        value = decode(row)
        with self._memory:
            if before == self._commits:
                cache.put(key, value)
        return value

    def _one(self, sql: str, key: str) -> Any:
        found = self._all(sql, key)
        return found[0][0] if found else None

    def _all(self, sql: str, key: str) -> list[Any]:
        with understood(self.folder):
            return self._reader.execute(sql, (key,)).fetchall()
