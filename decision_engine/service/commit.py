"""Group commit: many requests, one write and one fsync."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from connectors.framed import FramedLog


class GroupCommit:
    """Appends to a log for one event loop.

    Whoever comes while the disk is busy waits for it to be free, and all who waited then
    share the next fsync.
    """

    def __init__(self, log: FramedLog) -> None:
        self._log = log
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def append(self, payloads: Sequence[bytes]) -> None:
        """Return when the payloads are on the disk.

        Raises OSError or LogError when that cannot be known; they may then be there or not.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((payloads, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await done

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error = await asyncio.to_thread(self._write, [p for ps, _ in batch for p in ps])
            for _, done in batch:
                if not done.cancelled():
                    done.set_exception(error) if error else done.set_result(None)
        self._writing = None

    def _write(self, payloads: Sequence[bytes]) -> Exception | None:
        try:
            self._log.append(payloads)
            self._log.sync()
        except Exception as error:
            return error
        return None
