"""The prices that the last batch has set, where the service finds them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from decision_engine.budgets import NO_PRICES, Prices


class PriceFile:
    """The prices of the last batch, which the service decides by."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int] | None = None
        self._prices: Prices = NO_PRICES

    def write(self, prices: Prices) -> None:
        """Replace them."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(dict(prices)))
        new.replace(self._file)

    def current(self) -> Prices:
        """The same object while nothing changes; none before the first batch."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return self._prices
        if (seen := (found.st_ino, found.st_mtime_ns)) != self._seen:
            self._prices = msgspec.json.decode(self._file.read_bytes(), type=dict[str, float])
            self._seen = seen
        return self._prices
