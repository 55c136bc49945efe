"""The delivery journal: the one truth about what was sent to people.

    intent --start--> sending --finish--> accepted | rejected | unknown
      |  ^               |
      |  `---not_sent----'   (attempt + 1)
      `--finish--> skipped | rejected      (refused before any call)

A final state never changes, but that an unknown send may turn out to have been accepted. Every
change is on the disk before the method returns. When a process dies during a call, nobody knows
what became of it: on open, `sending` is `unknown`. Used from one thread of one process at a time;
the directory is locked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors import failpoint
from connectors.base import Receipt, Status
from connectors.framed import FramedLog, frame_at, frame_end, frames, number, segments
from connectors.journal_index import NONE, JournalIndex, State
from connectors.journal_records import (
    RECEIPT,
    Intent,
    Kept,
    ReceiptRecord,
    Sending,
    checked,
    decode,
    decode_receipt,
    encode,
    epoch,
    epoch_of,
    moment,
    row_of,
)

CAP_DAYS = 31
"""Sends are remembered this long for frequency caps, whatever else is compacted away."""
SEGMENT_BYTES = 64 << 20
WORTH_DROPPING = 10_000
"""Intents: some ten megabytes."""
_CHUNK = 4096
_OFFSET_BITS = 40


_FINAL = {
    Status.ACCEPTED: State.ACCEPTED,
    Status.REJECTED: State.REJECTED,
    Status.SKIPPED: State.SKIPPED,
    Status.UNKNOWN: State.UNKNOWN,
    Status.NOT_SENT: State.INTENT,
}
_WITHOUT_A_CALL = (Status.SKIPPED, Status.REJECTED)


class Send(NamedTuple):
    """A message that reached, or may have reached, a customer."""

    channel: str
    at: datetime


class Journal:
    """Everything that was ever to be sent to people, and what became of it."""

    def __init__(self, log: FramedLog) -> None:
        self._log = log
        self._descriptors: dict[int, int] = {}
        self._load()

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open, and if need be create and repair, the journal in a directory.

        Calls that were cut short become `unknown` as of when they began. Raises LockedError,
        or CorruptLogError when a closed segment is damaged.
        """
        log = FramedLog(directory)
        try:
            journal = cls(log)
            journal._recover()
        except BaseException:
            log.close()
            raise
        return journal

    # ---- writing ----

    def add(self, intents: Iterable[Mapping[str, Any]]) -> int:
        """Insert the intents whose send_key is not there yet; how many that were.

        Raises ValueError for an intent that lacks a field or has a wrong one; those before it
        may be in, and adding them again does nothing.
        """
        added, stream = 0, iter(intents)
        while chunk := list(islice(stream, _CHUNK)):
            added += self._add_chunk(chunk)
        failpoint.hit("journal.intent.before_sync")
        self._log.sync()
        failpoint.hit("journal.intent.after_sync")
        return added

    def _add_chunk(self, intents: Sequence[Mapping[str, Any]]) -> int:
        new: dict[str, tuple[Intent, bytes]] = {}
        for intent in intents:
            head = checked(intent)
            if head.send_key not in new and self._index.find(head.send_key) == NONE:
                new[head.send_key] = head, encode({"record": "intent", **intent})
        places = self._append([payload for _, payload in new.values()])
        for (head, _), place in zip(new.values(), places, strict=True):
            self._index_intent(head, place)
        return len(new)

    def readdress(self, intents: Iterable[Mapping[str, Any]]) -> None:
        """Put intents that wait in the place of those with their send_keys: for another customer.

        Raises ValueError unless they wait, and as `add` does.
        """
        heads = []
        for intent in intents:
            heads.append((checked(intent), encode({"record": "intent", **intent})))
            self._slot(intent["send_key"], (State.INTENT,))
        places = self._append([payload for _, payload in heads])
        self._log.sync()
        for (head, _), place in zip(heads, places, strict=True):
            self._index_intent(head, place)

    def start(self, send_keys: Sequence[str], at: datetime) -> None:
        """Mark intents as being sent, before the call. Raises ValueError unless they wait."""
        slots = [self._slot(key, (State.INTENT,)) for key in send_keys]
        began = epoch(at)
        self._append([encode(Sending(key, began)) for key in send_keys])
        failpoint.hit("journal.sending.before_sync")
        self._log.sync()
        failpoint.hit("journal.sending.after_sync")
        for slot in slots:
            self._index.state[slot] = State.SENDING
            self._index.sent_at[slot] = began

    def finish(self, receipts: Sequence[Receipt], at: datetime) -> None:
        """Record the verdicts; `key` is the send_key.

        SKIPPED and REJECTED may also end an intent that was never started. Raises ValueError
        for a key that is not on the way, so that no final state is ever overwritten.
        """
        ended = epoch(at)
        self._finish([self._receipt(receipt, ended) for receipt in receipts], "journal.receipt")

    def settle(self, send_keys: Sequence[str], reason: str) -> None:
        """Unknown sends that were accepted after all, as of when they began.

        Raises ValueError for a key that is not unknown.
        """
        records = []
        for key in send_keys:
            slot = self._slot(key, (State.UNKNOWN,))
            receipt = Receipt(key, Status.ACCEPTED, reason)
            records.append(self._record(slot, receipt, self._index.sent_at[slot]))
        if records:
            self._finish(records, "journal.receipt")

    def _finish(self, records: Sequence[ReceiptRecord], failpoints: str) -> None:
        self._append([encode(record) for record in records])
        failpoint.hit(f"{failpoints}.before_sync")
        self._log.sync()
        failpoint.hit(f"{failpoints}.after_sync")
        for record in records:
            self._apply_receipt(record)

    def _receipt(self, receipt: Receipt, at: float) -> ReceiptRecord:
        without_call = receipt.status in _WITHOUT_A_CALL
        allowed = (State.SENDING, State.INTENT) if without_call else (State.SENDING,)
        return self._record(self._slot(receipt.key, allowed), receipt, at)

    def _record(self, slot: int, receipt: Receipt, at: float) -> ReceiptRecord:
        intent = self.intent(slot)
        return ReceiptRecord(
            send_key=receipt.key,
            decision_id=intent["decision_id"],
            destination=intent["destination"],
            stream=intent["stream"],
            customer_id=intent["customer_id"],
            attempt=self._index.attempt[slot],
            status=receipt.status,
            at=at,
            reason=receipt.reason,
            http_status=receipt.http_status,
            vendor_ref=receipt.vendor_ref,
        )

    def _slot(self, send_key: str, allowed: tuple[State, ...]) -> int:
        slot = self._index.find(send_key)
        if slot == NONE or self._index.state[slot] not in allowed:
            found = "unknown" if slot == NONE else State(self._index.state[slot]).name.lower()
            raise ValueError(f"`send_key` {send_key} is {found}, it cannot change to that")
        return slot

    def _append(self, payloads: Sequence[bytes]) -> list[int]:
        """Append to the open segment; the position of each frame."""
        if self._log.size > SEGMENT_BYTES:
            self._log.rotate()
        base = self._log.number << _OFFSET_BITS
        return [base | offset for offset in self._log.append(payloads)] if payloads else []

    # ---- reading ----

    def due(self, now: datetime) -> Iterator[dict[str, Any]]:
        """The intents that wait and whose send_at has come, in send_at order.

        Looks once at the start: what changes state meanwhile is left out when its turn comes.
        """
        for slot in self._index.due(epoch(now)).tolist():
            if self._index.state[slot] == State.INTENT:
                yield self.intent(slot)

    def count_due(self, now: datetime) -> int:
        """How many intents `due` would yield."""
        return len(self._index.due(epoch(now)))

    def next_due(self) -> datetime | None:
        """When the next waiting intent is due (naive UTC); None when none waits."""
        earliest = self._index.next_due()
        return None if earliest is None else moment(earliest)

    def counts(self) -> dict[str, int]:
        """Intents per state: intent, sending, accepted, rejected, unknown, skipped."""
        return self._index.counts()

    def state(self, send_key: str) -> str | None:
        """The state of one intent, or None when the journal does not know it."""
        slot = self._index.find(send_key)
        return None if slot == NONE else State(self._index.state[slot]).name.lower()

    def unknown(self) -> Iterator[tuple[dict[str, Any], datetime]]:
        """The intents whose fate is not known, and when their last call began (naive UTC)."""
        for slot in self._index.in_state(State.UNKNOWN):
            yield self.intent(slot), moment(self._index.sent_at[slot])

    def recent_sends(self, customer_id: str, since: datetime) -> list[Send]:
        """Calls begun since then that reached or may have reached the customer, newest first."""
        sends = self._index.recent_sends(customer_id, epoch(since))
        return [Send(channel, moment(at)) for channel, at in sends]

    def receipts(self, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """(position behind it, row) of every receipt from position `after` on, in order.

        A row has the columns of the receipts table, `at` is a naive UTC datetime. A position
        is an increasing number for the reader to keep; 0 is before everything.
        """
        for segment in segments(self._log.directory):
            base = number(segment) << _OFFSET_BITS
            if number(segment) < after >> _OFFSET_BITS:
                continue
            for offset, payload in frames(segment, max(0, after - base), is_closed=True):
                if payload.startswith(RECEIPT):
                    record = decode_receipt(payload)
                    yield base | frame_end(offset, payload), row_of(record)

    @property
    def end(self) -> int:
        """The position behind everything written so far."""
        return self._log.number << _OFFSET_BITS | self._log.size

    def intent(self, slot: int) -> dict[str, Any]:
        """The whole intent of a slot, as it was added or readdressed last."""
        position = self._index.position[slot]
        offset = position & ((1 << _OFFSET_BITS) - 1)
        payload = frame_at(self._descriptor(position >> _OFFSET_BITS), offset)
        intent: dict[str, Any] = msgspec.json.decode(payload)
        del intent["record"]
        return intent

    def _descriptor(self, segment: int) -> int:
        if segment not in self._descriptors:
            path = self._log.directory / f"{segment:08}.log"
            self._descriptors[segment] = os.open(path, os.O_RDONLY)
        return self._descriptors[segment]

    # ---- opening ----

    def _load(self) -> None:
        self._close_descriptors()
        self._index = JournalIndex()
        for segment in segments(self._log.directory):
            base = number(segment) << _OFFSET_BITS
            for offset, payload in frames(segment, is_closed=True):
                self._apply(decode(payload), base | offset)

    def _apply(self, record: Intent | Sending | ReceiptRecord | Kept, position: int) -> None:
        match record:
            case Intent():
                self._index_intent(record, position)
            case ReceiptRecord():
                self._apply_receipt(record)
            case Sending():
                slot = self._index.find(record.send_key)
                if slot != NONE:
                    self._index.state[slot] = State.SENDING
                    self._index.sent_at[slot] = record.at
            case Kept():
                slot = self._index.find(record.send_key)
                self._index.state[slot] = record.state
                self._index.attempt[slot] = record.attempt
                self._index.sent_at[slot] = record.sent_at

    def _apply_receipt(self, record: ReceiptRecord) -> None:
        slot = self._index.find(record.send_key)
        if slot == NONE:
            return  # compaction dropped or moved the intent; its state follows or is over
        self._index.state[slot] = _FINAL[record.status]
        if record.status is Status.NOT_SENT:
            self._index.attempt[slot] = record.attempt + 1

    def _index_intent(self, head: Intent, position: int) -> None:
        times = epoch_of(head.send_at), epoch_of(head.expires_at)
        self._index.add(head.send_key, head.customer_id, head.channel, times, position)

    def _recover(self) -> None:
        reason = "process ended during the call"
        records = []
        for slot in self._index.in_state(State.SENDING):
            receipt = Receipt(self.intent(slot)["send_key"], Status.UNKNOWN, reason)
            records.append(self._receipt(receipt, self._index.sent_at[slot]))
        if records:
            self._finish(records, "journal.recover")

    # ---- keeping it small ----

    def is_worth_compacting(self, now: datetime) -> bool:
        """Whether half of it can be dropped, and that is much.

        So the work of rewriting is in proportion to what was written since the last time.
        """
        drop = self._droppable(now)
        return int(drop.sum()) >= max(WORTH_DROPPING, len(drop) // 2)

    def _droppable(self, now: datetime) -> NDArray[np.bool_]:
        return self._index.droppable(epoch(now), epoch(now - timedelta(days=CAP_DAYS)))

    def compact(self, now: datetime, projected: int) -> int:
        """Drop intents that are final, expired and too old for caps; how many were dropped.

        Only segments whose receipts the reader has taken (`projected`, a position) are
        rewritten. A dropped send_key that is added again has expired, so it is never sent.
        """
        self._log.rotate()
        old = self._segments_read(projected)
        drop = self._droppable(now)
        if not old or not drop.any():
            return 0
        last = number(old[-1])
        moved = [s for s in range(len(drop)) if self._index.position[s] >> _OFFSET_BITS <= last]
        self._keep([slot for slot in moved if not drop[slot]])
        self._unlink(old)
        self._load()
        return sum(bool(drop[slot]) for slot in moved)

    def _segments_read(self, projected: int) -> list[Path]:
        """The closed segments without a receipt behind `projected`."""
        unread = next(self.receipts(projected), (self.end, None))[0] >> _OFFSET_BITS
        return [s for s in segments(self._log.directory)[:-1] if number(s) < unread]

    def _keep(self, slots: Sequence[int]) -> None:
        """Write intents and their states anew; twice in the log means the same as once."""
        for start in range(0, len(slots), _CHUNK):
            payloads = []
            for slot in slots[start : start + _CHUNK]:
                intent = self.intent(slot)
                payloads += [encode({"record": "intent", **intent}), self._kept(slot, intent)]
            self._append(payloads)
        failpoint.hit("journal.compact.before_sync")
        self._log.sync()
        failpoint.hit("journal.compact.after_sync")

    def _kept(self, slot: int, intent: Mapping[str, Any]) -> bytes:
        state, attempt = self._index.state[slot], self._index.attempt[slot]
        return encode(Kept(intent["send_key"], state, attempt, self._index.sent_at[slot]))

    def _unlink(self, old: Sequence[Path]) -> None:
        """Oldest first, so that a receipt may lose its intent but no intent its receipt."""
        self._close_descriptors()
        for segment in old:
            segment.unlink()
            failpoint.hit("journal.compact.between_unlinks")

    def close(self) -> None:
        """Let go of the files."""
        self._close_descriptors()
        self._log.close()

    def _close_descriptors(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
