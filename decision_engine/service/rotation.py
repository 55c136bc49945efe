"""When a segment of the event log is closed, so that it can be loaded.

The receiver closes the open segment when its first event is older than `ROTATE_SECONDS`,
when it is larger than `ROTATE_BYTES`, on SIGUSR1, on request, and when it starts and ends.
A request is a file named `rotate` in the log's directory, which the receiver deletes when
it is done: it needs no port and no process id, and works between containers that share
the directory.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from connectors.errors import LockedError, LogError
from connectors.framed import FramedLog

KEPT_DAYS = 15
"""Loaded segments: longer than what a hot store that is lost counts from them."""
ROTATE_SECONDS = 60.0
ROTATE_BYTES = 64 << 20
POLL_SECONDS = 0.05

_logger = logging.getLogger(__name__)


def close_segment(log: Path, timeout: float = 15.0) -> None:
    """Have everything received so far in closed segments: ask the receiver, or do it.

    Raises LogError when a receiver is running but does not answer within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    request = log / "rotate"
    while time.monotonic() < deadline:
        try:
            with FramedLog(log) as idle:
                idle.rotate()
                request.unlink(missing_ok=True)
                return
        except LockedError:
            request.touch()
        if _is_gone(request, min(deadline, time.monotonic() + 1.0)):
            return
    raise LogError(f"the receiver does not close its segment of {log}", "look at its output")


def _is_gone(request: Path, deadline: float) -> bool:
    while request.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS / 5)
    return True


class Rotation:
    """Closes segments while its `async with` block runs, and at both ends of it."""

    def __init__(
        self, log: FramedLog, seconds: float = ROTATE_SECONDS, size: int = ROTATE_BYTES
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._size = size
        self._request = log.directory / "rotate"
        self._is_signalled = False
        self._since: float | None = None

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._signal)
        await self._rotate()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watching.cancel()
        await asyncio.wait([self._watching])
        await self._rotate()

    def _signal(self) -> None:
        self._is_signalled = True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._is_due() and not await self._rotate():
                await asyncio.sleep(1.0)  # the disk is full or broken: no use to hammer it

    def _is_due(self) -> bool:
        now = time.monotonic()
        if not self._log.size:
            self._since = None
        elif self._since is None:
            self._since = now
        is_old = self._since is not None and now - self._since >= self._seconds
        is_large = self._log.size >= self._size
        return is_old or is_large or self._is_signalled or self._request.exists()

    async def _rotate(self) -> bool:
        self._is_signalled = False
        try:
            closed = await asyncio.to_thread(self._log.rotate)
            self._request.unlink(missing_ok=True)
            self._since = None
            if closed:
                _logger.info("segment %s is closed", closed.name)
        except (OSError, LogError) as error:
            _logger.error("the segment cannot be closed: %s", error)
            return False
        return True
