"""The log of overrides: one append-only file, which everything that decides or sends looks at.

Batch, service and send boundary see an override as soon as it is written. A log that cannot be
read stops all messages, as an unreadable kill switch does.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from connectors import framed
from connectors.errors import CorruptLogError
from decision_engine.overrides import NO_OVERRIDES, Override, Overrides, standing

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Override).decode
_UNREADABLE = Overrides(is_known=False)


class OverrideLog:
    """The log in a folder; `current` costs one look at the file's size while nothing is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "00000001.log"
        self._seen: tuple[int, int] | None = None
        self._current = NO_OVERRIDES

    def current(self) -> Overrides:
        """What is in force now: the same object as long as nothing changes."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._seen, self._current = None, NO_OVERRIDES
            return NO_OVERRIDES
        except OSError:
            return _UNREADABLE
        if (seen := (found.st_size, found.st_mtime_ns)) != self._seen:
            try:
                self._current = Overrides(standing(self.read()))
            except (OSError, msgspec.DecodeError, CorruptLogError):
                return _UNREADABLE
            self._seen = seen
        return self._current

    def read(self) -> list[Override]:
        """All there ever were, oldest first. Raises CorruptLogError when a part is damaged."""
        if not self._file.exists():
            return []
        return [_decode(payload) for payload in framed.read(self._file)]

    def add(self, **fields: Any) -> Override:
        """Write one, durable when it returns. Raises LockedError when another is being written."""
        at = datetime.now(UTC).replace(tzinfo=None).isoformat()
        text = msgspec.json.encode({**fields, "at": at}, order="sorted")
        override = Override(hashlib.sha256(text).hexdigest()[:12], at, **fields)
        with closing(framed.FramedLog(self._folder)) as log:
            log.append([_encode(override)])
        return override
