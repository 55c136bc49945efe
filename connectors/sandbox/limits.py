"""Rate limits in the windows the vendors document, counted in real, monotonic time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """At most `calls` in `seconds`.

    A rolling window counts the last `seconds` at any moment; the other kind starts with its
    first call and forgets everything at its end.
    """

    name: str
    calls: int
    seconds: float
    is_rolling: bool = False


@dataclass(frozen=True)
class Usage:
    """The state of one window after a call: `resets_in` seconds until calls are free again."""

    limit: Limit
    is_allowed: bool
    remaining: int
    resets_in: float


class _Window:
    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._times: deque[float] = deque()
        self._start = float("-inf")
        self._count = 0

    def used(self, now: float) -> int:
        if self.limit.is_rolling:
            while self._times and self._times[0] <= now - self.limit.seconds:
                self._times.popleft()
            return len(self._times)
        if now >= self._start + self.limit.seconds:
            self._start, self._count = now, 0
        return self._count

    def spend(self, now: float) -> None:
        if self.limit.is_rolling:
            self._times.append(now)
        self._count += 1

    def usage(self, now: float, is_allowed: bool) -> Usage:
        remaining = max(0, self.limit.calls - self.used(now))
        start = (self._times[0] if self._times else now) if self.limit.is_rolling else self._start
        return Usage(self.limit, is_allowed, remaining, max(0.0, start + self.limit.seconds - now))


class Pool:
    """Calls that share their limits. `divisor` makes every limit that much smaller, for tests."""

    def __init__(
        self,
        limits: Sequence[Limit],
        divisor: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._windows = [
            _Window(Limit(x.name, max(1, int(x.calls / divisor)), x.seconds, x.is_rolling))
            for x in limits
        ]

    def take(self) -> list[Usage]:
        """Count one call, unless a window is full: then nothing is counted.

        One usage per window, in the order of the limits.
        """
        now = self._clock()
        full = [window.used(now) >= window.limit.calls for window in self._windows]
        if not any(full):
            for window in self._windows:
                window.spend(now)
        return [w.usage(now, not is_full) for w, is_full in zip(self._windows, full, strict=True)]
