"""What was accepted, in order: an append-only file of JSON lines, and the same in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class Entry(msgspec.Struct, kw_only=True):
    """One accepted effect.

    `kind`: profile, contact, event, message, undeliverable (accepted by the API, reaches
    nobody; see `reason`) or unsubscribe; alias, identify, merge, deletion, subscription, item,
    item_deletion, subscribe (to a list), note, task, association.
    `dispatch_id` is Braze's id of one send call; `message_id` is unique per person and message,
    or the caller's event id.
    `properties` is what the caller sent; `metadata` the part of it that Iterable gives back
    in webhooks. `at` is ISO-8601 UTC.
    """

    n: int = 0
    vendor: str
    kind: str
    external_id: str = ""
    email: str = ""
    channel: str = ""
    campaign_id: str = ""
    message_id: str = ""
    dispatch_id: str = ""
    reason: str = ""
    properties: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    at: str = ""


class Ledger:
    """Entries numbered from 1. `add` is not visible in the file before `flush`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.entries = list(_read(path))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._encode = msgspec.json.Encoder().encode
        self._pending: list[bytes] = []
        self._is_synced = True

    def add(self, entry: Entry) -> Entry:
        """Number the entry and queue it for the file."""
        entry.n = len(self.entries) + 1
        self.entries.append(entry)
        self._pending.append(self._encode(entry))
        return entry

    def flush(self) -> None:
        """Hand everything queued to the operating system."""
        if not self._pending:
            return
        data = memoryview(b"\n".join(self._pending) + b"\n")
        self._pending.clear()
        while data:
            data = data[os.write(self._file, data) :]
        self._is_synced = False

    def sync(self) -> None:
        """Have everything flushed so far on the disk."""
        if not self._is_synced:
            self._is_synced = True
            os.fsync(self._file)

    def close(self) -> None:
        """Flush, sync, close."""
        self.flush()
        self.sync()
        os.close(self._file)


def _read(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    with path.open("rb+") as lines:
        for line in lines:
            if not line.endswith(b"\n"):  # torn by a kill in mid-write; it was never answered
                lines.truncate(lines.seek(-len(line), os.SEEK_END))
                return
            yield msgspec.json.decode(line, type=Entry)
