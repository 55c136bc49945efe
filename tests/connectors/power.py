"""A disk whose power can be cut, that can be full, and whose writes and syncs can fail.

It stands between `framed.py` and the system. What was written and not synced is in doubt: after a
cut, of each file's unsynced bytes any beginning is there, and the rest is missing or zeros; a
file whose directory was not synced may be gone.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one.

    What a power cut leaves is made by an imitation; a real disk would only make it slow.
    """
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


class PowerCutError(BaseException):
    """The machine is off. Nothing catches it by accident."""


_STRIKES = {
    "none": (),
    "cut": ("write", "sync"),
    "full": ("write",),
    "write": ("write",),
    "fsync": ("sync",),
    "open": ("open",),
}
_ERRORS = {
    "full": errno.ENOSPC,
    "write": errno.EIO,
    "fsync": errno.EIO,
    "open": errno.EMFILE,
}


class Disk:
    """Put it in the place of `os` in `framed`. Counts down to its trouble.

    `trouble` is cut, full, write, fsync or open; it strikes at the `at`-th write, sync or opening.
    A full disk stays full, the others have trouble once. `steps` counts what it could strike.
    """

    def __init__(self, trouble: str, at: int, dice: random.Random) -> None:
        self.trouble = trouble
        self.left = at
        self.dice = dice
        self.steps = 0
        self.has_struck = False
        self.is_off = False
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, int] = {}
        self._unsafe_names: set[Path] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        """Remember which files are new, and what of the others is safe."""
        self._strike("open", -1, b"")
        path = Path(path)
        is_new = not path.exists()
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = path
        if path.is_file() and path.suffix == ".log":
            self._synced.setdefault(path, 0 if is_new else path.stat().st_size)
            if is_new:
                self._unsafe_names.add(path)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        """All of it, or a part and then the trouble."""
        self._strike("write", descriptor, data)
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:
        """Make safe what was written."""
        self._strike("sync", descriptor, b"")
        os.fdatasync(descriptor)
        path = self._paths[descriptor]
        self._synced[path] = path.stat().st_size

    def fsync(self, descriptor: int) -> None:
        """The same; of a directory, its names are safe then."""
        self._strike("sync", descriptor, b"")
        os.fsync(descriptor)
        path = self._paths.get(descriptor)
        if path is not None and path.is_dir():
            self._unsafe_names = {p for p in self._unsafe_names if p.parent != path}

    def ftruncate(self, descriptor: int, size: int) -> None:
        """Undo a write."""
        self._check()
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        """Always possible: descriptors are ours, not the disk's."""
        self._paths.pop(descriptor, None)
        os.close(descriptor)

    def _check(self) -> None:
        if self.is_off:
            raise PowerCutError

    def safe(self, path: Path) -> int:
        """The bytes of a file that would be there after a cut now, whatever that cut leaves."""
        return 0 if path in self._unsafe_names else self._synced.get(path, path.stat().st_size)

    def _strike(self, what: str, descriptor: int, data: Any) -> None:
        self._check()
        if what not in _STRIKES[self.trouble]:
            return
        self.steps += 1
        self.left -= 1
        if self.left > 0 or (self.left < 0 and self.trouble != "full"):
            return
        self.has_struck = True
        if what == "write":
            os.write(descriptor, bytes(data)[: self.dice.randrange(len(data) + 1)])
        if self.trouble == "cut":
            self.is_off = True
            raise PowerCutError
        raise OSError(_ERRORS[self.trouble], "the disk is in trouble")

    def after(self) -> None:
        """What is found when the power is back; the files must be closed."""
        for path, safe in self._synced.items():
            if not path.exists():
                continue
            if path in self._unsafe_names and safe == 0 and self.dice.random() < 0.5:
                path.unlink()
                continue
            data = path.read_bytes()
            if len(data) == safe:
                continue
            kept = self.dice.randint(safe, len(data))
            zeros = self.dice.choice((0, 0, 3, 8, len(data) - kept))
            path.write_bytes(data[:kept] + bytes(max(0, zeros)))
