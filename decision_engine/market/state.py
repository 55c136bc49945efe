"""Where every person stands at the moment; the only part of the market that changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decision_engine.market.people import DAY, People
from decision_engine.types import Bools, Floats, Ints

_REMEMBERED = 8


@dataclass
class State:
    """Arrays over t people; times are Unix seconds UTC, -inf for never.

    `sends` (t, 8) the last messages that reached them, in a ring · `left` (t, 3) channels they
    unsubscribed from · a complaint is open from `complained` until `calmed`.
    """

    orders: Ints
    last_order: Floats
    signed_up: Floats
    steps: Ints
    last_visit: Floats
    sends: Floats
    send_count: Ints
    complained: Floats
    calmed: Floats
    left: Bools

    def sends_since(self, people: Ints, since: Floats, until: Floats) -> Ints:
        """Messages (n,) that reached people in (since, until]."""
        times = self.sends[people]
        recent: Ints = ((times > since[:, None]) & (times <= until[:, None])).sum(axis=1)
        return recent

    def remember_send(self, people: Ints, at: Floats) -> None:
        """A message reached each of these different people."""
        self.sends[people, self.send_count[people] % _REMEMBERED] = at
        self.send_count[people] += 1

    def remember_orders(self, people: Ints, at: Floats) -> None:
        """Paid orders; a person may appear more than once."""
        np.add.at(self.orders, people, 1)
        np.maximum.at(self.last_order, people, at)

    def remember_visits(self, people: Ints, at: Floats) -> None:
        """Visits; a person may appear more than once."""
        np.maximum.at(self.last_visit, people, at)


def first_state(people: People, start: float) -> State:
    """Day 0, at `start` (Unix seconds)."""
    t = len(people)
    never: Floats = np.full(t, -np.inf)
    signed_up = start + DAY * people.signup_day.astype(np.float64)
    return State(
        orders=people.orders.copy(),
        last_order=start - people.order_age * DAY,
        signed_up=signed_up,
        steps=np.zeros(t, dtype=np.int64),
        last_visit=never.copy(),
        sends=np.full((t, _REMEMBERED), -np.inf),
        send_count=np.zeros(t, dtype=np.int64),
        complained=never.copy(),
        calmed=never.copy(),
        left=np.zeros((t, 3), dtype=bool),
    )
