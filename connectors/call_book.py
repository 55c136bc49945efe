"""Which calls were made, kept in a file: the limits go on counting in the next process.

Whoever may write it holds the journal's lock, so there is one at a time. A call is noted before
it is made. What was noted outlasts the process, however that ends; of a power cut it may miss the
last seconds.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

KEPT_SECONDS = 86_400.0
"""The longest window that a vendor has."""


class CallBook:
    """The calls of a day by pool: `name<tab>epoch seconds`, a line each."""

    def __init__(self, path: Path, now: float) -> None:
        """Open or create the file, without what is older than a day at `now`."""
        self._earlier = _read(path, now - KEPT_SECONDS)
        new = path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            file.writelines(_line(n, at) for n, times in self._earlier.items() for at in times)
        new.replace(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def earlier(self, pool: str) -> list[float]:
        """When this pool was called before this process, in order."""
        return self._earlier.get(pool, [])

    def note(self, pool: str, at: float) -> None:
        """One more call. A full disk is no reason not to make it."""
        with suppress(OSError):
            os.write(self._file, _line(pool, at).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


def _line(pool: str, at: float) -> str:
    return f"{pool}\t{at:.3f}\n"


def _read(path: Path, since: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            pool, _, text = line.rpartition("\t")
            with suppress(ValueError):  # cut off by a full disk or a power cut
                at = float(text)
                if pool and at >= since:
                    found.setdefault(pool, []).append(at)
    return {pool: sorted(times) for pool, times in found.items()}
