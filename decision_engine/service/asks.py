"""Who waits for a decision, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Any, NamedTuple

from decision_engine.record import CarriedOutBy


class Kind(NamedTuple):
    """What is the same for those who are decided for in one call."""

    agents: tuple[str, ...]
    channel: str | None
    carried_out_by: CarriedOutBy


class Ask(NamedTuple):
    """Somebody waits for the decision of a slot about a person."""

    key: str
    slot: str
    kind: Kind
    answer: asyncio.Future[dict[str, Any] | None]

    def tell(self, row: dict[str, Any] | None) -> None:
        """Answer, if that has not been done and is still wanted."""
        if not self.answer.done():
            self.answer.set_result(row)

    def fail(self, error: BaseException) -> None:
        """Say why there is no answer."""
        if isinstance(error, asyncio.CancelledError):
            self.answer.cancel()
        elif not self.answer.done():
            self.answer.set_exception(error)


class Asks:
    """Those who wait, by person: a flood about one costs others no turn."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Ask]] = OrderedDict()

    def add(self, ask: Ask) -> None:
        """Behind the others about the same person."""
        self._waiting.setdefault(ask.key, deque()).append(ask)

    def turn(self, most: int) -> list[Ask]:
        """The next ask about each of the people whose turn it is, `most` at most.

        One for each, for a decision counts in the person's next; they are behind all others then.
        """
        taken = []
        for _ in range(min(most, len(self._waiting))):
            key, asks = self._waiting.popitem(last=False)
            taken.append(asks.popleft())
            if asks:
                self._waiting[key] = asks
        return taken

    def cancel(self) -> None:
        """Nobody is going to be answered."""
        for asks in self._waiting.values():
            for ask in asks:
                ask.answer.cancel()
        self._waiting.clear()

    def __len__(self) -> int:
        """How many people's turns are due."""
        return len(self._waiting)
