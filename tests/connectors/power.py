"""A disk whose power can be cut, that can be full, and whose fsync can fail.

It stands between `framed.py` and the system. What was written and not synced is in doubt: after a
cut, of each file's unsynced bytes any beginning is there, and the rest is missing or zeros; a
file whose directory was not synced may be gone.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any


class PowerCutError(BaseException):
    """The machine is off. Nothing catches it by accident."""


class Disk:
    """Put it in the place of `os` in `framed`. Counts down to its trouble.

    `trouble` is cut, full or fsync; it strikes at the `at`-th write or sync.
    """

    def __init__(self, trouble: str, at: int, dice: random.Random) -> None:
        self.trouble = trouble
        self.left = at
        self.dice = dice
        self.is_off = False
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, int] = {}
        self._unsafe_names: set[Path] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        """Remember which files are new, and what of the others is safe."""
        self._check()
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
        os.close(descriptor)

    def _check(self) -> None:
        if self.is_off:
            raise PowerCutError

    def _strike(self, what: str, descriptor: int, data: Any) -> None:
        self._check()
        if self.trouble == "fsync" and what != "sync":
            return
        if self.trouble == "full" and what != "write":
            return
        self.left -= 1
        if self.left:
            return
        if self.trouble == "fsync":
            raise OSError(errno.EIO, "fsync failed")
        os.write(descriptor, bytes(data)[: self.dice.randrange(len(data) + 1)])
        if self.trouble == "full":
            raise OSError(errno.ENOSPC, "no space left")
        self.is_off = True
        raise PowerCutError

    def after(self) -> None:
        """What is found when the power is back; the files must be closed."""
        for path, safe in self._synced.items():
            if not path.exists():
                continue
            if path in self._unsafe_names and safe == 0 and self.dice.random() < 0.5:
                path.unlink()
                continue
            data = path.read_bytes()
            kept = self.dice.randint(safe, len(data)) if len(data) > safe else safe
            zeros = self.dice.choice((0, 0, 3, 8, len(data) - kept))
            path.write_bytes(data[:kept] + bytes(max(0, zeros)))
