"""The same customers a day later, if nothing happened to them but what was decided.

Assumed: nobody visits, orders, answers or signs up; every message leaves when it is meant to
and is accepted; messages sent before the first day lie evenly within the windows that count them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_engine.plan.sides import Made, Moves
from decision_engine.types import Bools, Column, Contexts, Floats, Ints
from decision_engine.waiting import WAITING, listed

DAY = 86_400.0
TURNS = 6  # as in dim_customer_features
WINDOWS = (1, 7, 30)
COUNTED = ("", "email_", "push_", "sms_", "rep_")

COLUMNS = tuple(f"{prefix}sends_{days}d" for prefix in COUNTED for days in WINDOWS)
"""The counters that a day changes; all of them, because each tells something of the others."""

_LAST = {"last_action": "actions", "last_channel": "channels", "last_incentive": "incentives"}


@dataclass
class Journey:
    """n customers on their way through the days, under one side's decisions.

    `first` are their profiles on the first day.
    """

    first: Contexts
    moves: Moves
    day: int = 0
    _sent: list[tuple[Floats, Ints]] = field(default_factory=list)
    _columns: dict[str, Column] = field(default_factory=dict)

    def today(self) -> Contexts:
        """Their profiles now."""
        return Contexts(self.first.customer_ids, {**self.first.columns, **self._columns})

    def sleep(self, found: Made, as_of: float) -> None:
        """Go on to the day after, which begins at `as_of` (Unix seconds)."""
        self.day += 1
        self._sent.append((found.send_at, found.move))
        for name in self.first.columns:
            self._columns[name] = self._next(name, found, as_of)

    def _next(self, name: str, found: Made, as_of: float) -> Column:
        column = self._columns.get(name, self.first.columns[name])
        values, known = column.values, column.valid
        if name == "as_of":
            return Column(values + DAY, known)
        if name == "turn":
            return Column((values + 1) % TURNS, known)
        if name in COLUMNS:
            return Column(self._counted(name, as_of), known)
        if name == WAITING:
            return Column(self._waiting(as_of), known)
        if name in _LAST:
            texts = getattr(self.moves, _LAST[name])
            return _put(values, known, found.move > 0, texts[found.move])
        if name.startswith("days_since_"):
            return self._since(name, Column(values + 1.0, known), found, as_of)
        return Column(values, known)

    def _since(self, name: str, later: Column, found: Made, as_of: float) -> Column:
        if name == "days_since_last_decision":
            return _put(*later, found.move > 0, np.ones(len(found.move)))
        if name == "days_since_last_send":
            latest = np.max([self._arrived(at, as_of) for at, _ in self._sent], axis=0)
            return _put(*later, np.isfinite(latest), (as_of - latest) / DAY)
        return later

    def _arrived(self, at: Floats, as_of: float) -> Floats:
        return np.where(at <= as_of, at, -np.inf)

    def _counted(self, name: str, as_of: float) -> Floats:
        """What is left of the sends before the first day, and the sends since."""
        prefix, window = name.rsplit("sends_", 1)[0], int(name.rsplit("_", 1)[1][:-1])
        total = self._left(prefix, window)
        for at, move in self._sent:
            on = self.moves.is_send if not prefix else self.moves.channels == prefix[:-1]
            total += on[move] & (at <= as_of) & (at > as_of - window * DAY)
        return total

    def _waiting(self, as_of: float) -> NDArray[Any]:
        """What waited on the first day, and what was decided since and has not left."""
        texts = self.first.columns[WAITING].values.copy()
        for at, move in self._sent:
            for i in np.flatnonzero(at > as_of):
                texts[i] = listed(texts[i], [(int(at[i] * 1e6), self.moves.channels[move[i]])])
        return texts

    def _left(self, prefix: str, window: int) -> Floats:
        total, low, fewer = np.zeros(len(self.first)), 0.0, np.zeros(len(self.first))
        for days in WINDOWS:
            if days > window:
                break
            count = self.first.columns[f"{prefix}sends_{days}d"].values
            share = (window - self.day - low) / (days - low)
            total += np.floor((count - fewer) * min(max(share, 0.0), 1.0) + 0.5)
            low, fewer = float(days), count
        return total


def _put(values: Floats, known: Bools, where: Bools, new: Floats) -> Column:
    return Column(np.where(where, new, values), known | where)
