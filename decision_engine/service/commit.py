"""Group commit: many calls, one write and one fsync."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from connectors.framed import MAX_PAYLOAD, FramedLog, frame_end
from decision_engine.service.records import Record, frame


class Position(NamedTuple):
    """A point in the log: all before it is included."""

    segment: int
    offset: int


class Place(NamedTuple):
    """Where a frame is in the log: the offsets of its first byte and behind its last."""

    segment: int
    start: int
    end: int

    @property
    def position(self) -> Position:
        """Behind the frame."""
        return Position(self.segment, self.end)


Applied = Callable[[Sequence[Record], Place], None]
"""Told what is durable, call by call in the order of the log, on the event loop."""


class GroupCommit:
    """Appends to a log for one event loop.

    Whoever comes while the disk is busy waits for it to be free, and all who waited then
    share the next fsync. `applied` hears of a call's records before the call returns.
    `seconds` hears how long each call has waited.
    """

    def __init__(self, log: FramedLog, applied: Applied, seconds: Callable[[float], None]) -> None:
        self._log = log
        self._applied = applied
        self._seconds = seconds
        self._waiting: list[_Call] = []
        self._writing: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[Record]) -> None:
        """Return when the records are on the disk, as one frame, and applied.

        Raises OSError or LogError when the former cannot be known; they may then be there
        or not. Raises ValueError, and stores nothing, for records that do not fit in a frame.
        """
        payload = frame(records)
        if not 0 < len(payload) <= MAX_PAYLOAD:
            raise ValueError(f"`records` must come to 1 to {MAX_PAYLOAD} bytes")
        call = _Call(records, payload, asyncio.get_running_loop().create_future())
        start = time.perf_counter()
        self._waiting.append(call)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await call.done
        self._seconds(time.perf_counter() - start)

    async def _write_all(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting, []
            try:
                places = await asyncio.to_thread(self._write, [c.payload for c in calls])
            except Exception as error:
                for call in calls:
                    call.end(error)
                continue
            for call, place in zip(calls, places, strict=True):
                call.end(self._apply(call, place))
        self._writing = None

    def _write(self, payloads: Sequence[bytes]) -> list[Place]:
        segment, offsets = self._log.place(payloads)
        self._log.sync()
        return [
            Place(segment, offset, frame_end(offset, payload))
            for offset, payload in zip(offsets, payloads, strict=True)
        ]

    def _apply(self, call: _Call, place: Place) -> Exception | None:
        """What goes wrong here is for this call to hear, not for its neighbours."""
        try:
            self._applied(call.records, place)
        except Exception as error:
            return error
        return None


class _Call(NamedTuple):
    records: Sequence[Record]
    payload: bytes
    done: asyncio.Future[None]

    def end(self, error: Exception | None) -> None:
        if self.done.cancelled():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
