"""What the hot store has in memory: rows that wait to be written, and rows used lately."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Batch:
    """Rows to be written together. A live state of None is to be deleted."""

    live: dict[str, tuple[int, bytes] | None] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, tuple[str, int, int, int]] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    plans: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.live) + len(self.identifiers) + len(self.decisions) + len(self.plans)

    def update(self, later: Batch) -> None:
        """Put the rows of a later batch over these."""
        self.live.update(later.live)
        self.identifiers.update(later.identifiers)
        self.decisions.update(later.decisions)
        self.slots.update(later.slots)
        self.plans.update(later.plans)


class Cache(OrderedDict[str, Any]):
    """The rows used last; None is no row."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def find(self, key: str) -> Any:
        """The row, which counts as used now; None when it is not here."""
        found = self.get(key)
        if found is not None:
            self.move_to_end(key)
        return found

    def put(self, key: str, value: Any) -> None:
        """Keep a row, and let go of the one not used for longest; None forgets it."""
        if value is None:
            self.pop(key, None)
            return
        self[key] = value
        if len(self) > self._size:
            self.popitem(last=False)
