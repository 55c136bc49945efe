"""How fast we may call: the vendor's documented windows, and what its replies tell us.

The unit is the vendor's pool, which several streams may share. No window ever sees more calls
than it allows, wherever it is laid over the calls of this process and, by the call book, of those
before it. What counts is when calls arrive, and they do not arrive as evenly as they leave: each
window is taken for a little longer than it is, and for longer yet when the vendor refuses calls
all the same.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from connectors.base import Reply, Window
from connectors.call_book import CallBook

SHORTEST, LONGEST = 1.0, 900.0
"""Seconds a vendor can make us wait for one answer, whatever it asks for."""

TOO_MANY = 429

SLACK, MOST_SLACK = 0.04, 0.3
"""The share of its seconds by which a window is taken for longer, at first and at most."""
LONGEST_SLACK = 0.3
"""Seconds: long windows need no more."""


@dataclass
class _Pool:
    calls: list[deque[float]]
    shut_until: float = float("-inf")
    refusals: int = 0
    slack: float = SLACK


@dataclass
class Limiter:
    """Waits for a free place in every window of a pool. Safe to use from several threads.

    `clock` is monotonic seconds, `wall` epoch seconds (for reset headers), `jitter` 0..1. `book`
    has the calls of earlier processes, and gets ours.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    book: CallBook | None = None
    _pools: dict[str, _Pool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acquire(
        self,
        pool: str,
        windows: Sequence[Window],
        patience: float = LONGEST,
        share: float = 1.0,
    ) -> float:
        """Take one call's place, sleeping until there is one; the seconds waited.

        Returns -1 at once, and takes nothing, when the wait would be longer than `patience`.
        A caller with a `share` finds a window full when that share of its calls is taken, but
        always has one call.
        """
        waited = 0.0
        while True:
            with self._lock:
                wait = self._try(self._pool(pool, windows), windows, share)
                if wait <= 0 and self.book:
                    self.book.note(pool, self.wall())
            if wait <= 0:
                return waited
            if waited + wait > patience:
                return -1.0
            self.sleep(wait)
            waited += wait

    def _pool(self, name: str, windows: Sequence[Window]) -> _Pool:
        if name not in self._pools:
            made = self._earlier(name)
            self._pools[name] = _Pool([deque(made, maxlen=window.calls) for window in windows])
        return self._pools[name]

    def _earlier(self, pool: str) -> list[float]:
        """The calls of the book by our clock. None was later than now, whatever the wall says."""
        ahead = self.wall() - self.clock()
        return (
            [min(at - ahead, self.clock()) for at in self.book.earlier(pool)] if self.book else []
        )

    def _try(self, pool: _Pool, windows: Sequence[Window], share: float) -> float:
        """Take a place and return 0, or the seconds until there may be one."""
        now = self.clock()
        wait = pool.shut_until - now
        for window, calls in zip(windows, pool.calls, strict=True):
            ours = max(1, int(window.calls * share))
            if len(calls) >= ours:
                slack = min(window.seconds * pool.slack, LONGEST_SLACK)
                wait = max(wait, calls[-ours] + window.seconds + slack - now)
        if wait <= 0:
            for calls in pool.calls:
                calls.append(now)
        return wait

    def heed(self, pool: str, windows: Sequence[Window], reply: Reply) -> None:
        """Shut the pool for as long as the reply asks, between 1 s and 15 min."""
        with self._lock:
            state = self._pool(pool, windows)
            asked = self._asked(reply.headers)
            if reply.status == TOO_MANY:
                state.refusals += 1
                state.slack = min(2 * state.slack, MOST_SLACK)
                asked = self._backoff(state.refusals) if asked is None else asked
            else:
                state.refusals = 0
                if reply.headers.get("x-ratelimit-remaining") != "0":
                    return
            if asked is not None:
                self._shut(state, min(max(asked, SHORTEST), LONGEST))

    def shut(self, pool: str, windows: Sequence[Window], seconds: float) -> None:
        """Let nothing through for so long."""
        with self._lock:
            self._shut(self._pool(pool, windows), seconds)

    def _shut(self, pool: _Pool, seconds: float) -> None:
        pool.shut_until = max(pool.shut_until, self.clock() + seconds)

    def _asked(self, headers: Mapping[str, str]) -> float | None:
        """Seconds the headers ask us to wait; None when they say nothing we can read."""
        for name in ("retry-after", "x-ratelimit-retry-after"):
            seconds = _number(headers.get(name))
            if seconds is not None:
                return seconds
        until = _date(headers.get("retry-after"))
        if until is not None:
            return until - self.wall()
        reset = _number(headers.get("x-ratelimit-reset"))
        return None if reset is None else reset - self.wall()

    def pause(self, attempt: int) -> None:
        """Sleep before the next attempt: about 2, 4, 8, ... seconds, at random a little less."""
        self.sleep(min(self._backoff(attempt), LONGEST))

    def _backoff(self, refusals: int) -> float:
        return float(2 ** min(refusals, 10)) * (0.5 + self.jitter() / 2)


def _date(text: str | None) -> float | None:
    """Epoch seconds of an HTTP date, the other form that Retry-After may have."""
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    """A finite number; NaN and infinity are not."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
