"""Simulated time for the delivery loops, threads included, and a vendor that keeps its limits.

Time stands still while any thread works, and leaps to the next moment somebody waits for when
all of them sleep. So an hour of calls takes as long as the work of making them.
"""

from __future__ import annotations

import heapq
import random
import threading
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from connectors import deliver, sync
from connectors.base import Reply, Request
from connectors.limits import Limiter

Limits = tuple[tuple[int, float], ...]
"""(calls, seconds) of each window of a pool."""


class Time:
    """Seconds since the beginning. The thread that made it sleeps only while no task runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self._tasks = 0
        self._wakes: list[float] = []
        self._changed = threading.Condition()

    def sleep(self, seconds: float) -> None:
        """Until everybody else sleeps as long, or longer."""
        if seconds <= 0:
            return
        with self._changed:
            wake = self.now + seconds
            if not self._tasks:
                self.now = wake
                return
            heapq.heappush(self._wakes, wake)
            self._leap()
            while self.now < wake:
                self._changed.wait()

    def _leap(self) -> None:
        if self._wakes and len(self._wakes) == self._tasks:
            self.now = self._wakes[0]
            while self._wakes and self._wakes[0] <= self.now:
                heapq.heappop(self._wakes)
            self._changed.notify_all()

    def tasks(self, change: int) -> None:
        """So many tasks more, or fewer."""
        with self._changed:
            self._tasks += change
            self._leap()

    def limiter(self) -> Limiter:
        """By this time."""
        dice = random.Random(1)
        return Limiter(lambda: self.now, self.sleep, lambda: self.now, dice.random)

    @contextmanager
    def rules(self) -> Iterator[None]:
        """The threads of both lanes live by this time."""
        time = self

        class Pool(ThreadPoolExecutor):
            def map(self, work: Callable[..., Any], *rows: Any) -> Iterator[Any]:  # type: ignore[override]
                items = list(zip(*rows, strict=True))
                time.tasks(len(items))

                def task(item: tuple[Any, ...]) -> Any:
                    try:
                        return work(*item)
                    finally:
                        time.tasks(-1)

                return super().map(task, items)

        usual = ThreadPoolExecutor
        vars(sync)["ThreadPoolExecutor"] = vars(deliver)["ThreadPoolExecutor"] = Pool
        try:
            yield
        finally:
            vars(sync)["ThreadPoolExecutor"] = vars(deliver)["ThreadPoolExecutor"] = usual


@dataclass
class Vendor:
    """Takes what its limits allow, wherever a window is laid over the calls; refuses the rest.

    A call is `latency` seconds on its way there and as long back, at random between the two.
    From `outage[0]` to `outage[1]` it answers 503.
    """

    time: Time
    limits: Limits
    take: Callable[[Request], Reply]
    latency: tuple[float, float] = (0.02, 0.04)
    outage: tuple[float, float] = (0.0, 0.0)
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    arrivals: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    rows: list[tuple[float, int]] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    _windows: list[deque[float]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, request: Request) -> Reply:
        """One call."""
        self.time.sleep(self.dice.uniform(*self.latency))
        reply = self._answer(request)
        self.time.sleep(self.dice.uniform(*self.latency))
        return reply

    def _answer(self, request: Request) -> Reply:
        with self._lock:
            now = self.time.now
            self.arrivals.append(now)
            if self.outage[0] <= now < self.outage[1]:
                self.tries.update(record.key for record in request.records)
                return Reply(503, b"")
            if not self._has_room(now):
                self.refused += 1
                return Reply(429, b"")
            self.accepted.append(now)
            self.rows.append((now, len(request.records)))
            return self.take(request)

    def _has_room(self, now: float) -> bool:
        self._windows = self._windows or [deque() for _ in self.limits]
        for (_, seconds), calls in zip(self.limits, self._windows, strict=True):
            while calls and calls[0] <= now - seconds:
                calls.popleft()
        pairs = zip(self.limits, self._windows, strict=True)
        if any(len(calls) >= most for (most, _), calls in pairs):
            return False
        for calls in self._windows:
            calls.append(now)
        return True

    def peak(self) -> float:
        """The most calls that any window ever saw, refused ones too, as a share of its limit."""
        return max(most_in(self.arrivals, seconds) / calls for calls, seconds in self.limits)

    def rate(self, start: float, end: float) -> float:
        """Calls taken per second between two moments."""
        found = bisect_left(self.accepted, end) - bisect_left(self.accepted, start)
        return found / (end - start)


def most_in(moments: Sequence[float], seconds: float) -> int:
    """The most of these sorted moments within so many seconds."""
    # Subtracting loses a bit: what is exactly a window later is in the next one.
    starts = (bisect_right(moments, t - seconds + 1e-9) for t in moments)
    return max((i + 1 - start for i, start in enumerate(starts)), default=0)
