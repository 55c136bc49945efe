"""What the last batch has found out, where the service finds it: the prices of limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T", bound=Mapping[str, Any])


class Posted(Generic[T]):
    """A mapping in a file: the batch replaces it, the service looks whether it was replaced."""

    def __init__(self, file: Path, kind: Any, nothing: T) -> None:
        self._file, self._kind = file, kind
        self._seen: tuple[int, int] | None = None
        self._current = nothing

    def write(self, found: T) -> None:
        """Replace it."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(dict(found)))
        new.replace(self._file)

    def current(self) -> T:
        """The same object while nothing changes; nothing before the first batch."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return self._current
        if (seen := (found.st_ino, found.st_mtime_ns)) != self._seen:
            self._current = msgspec.json.decode(self._file.read_bytes(), type=self._kind)
            self._seen = seen
        return self._current
