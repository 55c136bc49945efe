"""What the delivery journal keeps in memory: some 70 bytes a send intent, and two dicts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from enum import IntEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

NONE = -1


class State(IntEnum):
    """Where a send intent is. INTENT and SENDING are on the way, the others are final."""

    INTENT = 0
    SENDING = 1
    ACCEPTED = 2
    REJECTED = 3
    UNKNOWN = 4
    SKIPPED = 5


def digest(text: str, size: int) -> int:
    """A stable number of `size` bytes for `text`: smaller to keep than the text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest(), "little")


class JournalIndex:
    """Columns over slots (one per intent, in order of arrival); all times are epoch seconds.

    `position` is where the intent's frame is. `sent_at` is when the last call began, 0 before.
    """

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.state = array("B")
        self.attempt = array("H")
        self.send_at = array("d")
        self.expires_at = array("d")
        self.sent_at = array("d")
        self.position = array("q")
        self._channel = array("B")
        self._channels: list[str] = []
        self._customer = array("Q")
        self._previous = array("i")
        self._latest: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.state)

    def find(self, send_key: str) -> int:
        """The slot of an intent, or NONE."""
        return self.slots.get(digest(send_key, 16), NONE)

    def add(
        self,
        send_key: str,
        customer_id: str,
        channel: str,
        times: tuple[float, float],
        position: int,
    ) -> None:
        """A new intent with (send_at, expires_at).

        A known key only moves to `position`, and to the customer, if that is another one.
        """
        key, customer = digest(send_key, 16), digest(customer_id, 8)
        slot = self.slots.get(key)
        if slot is not None:
            self.position[slot] = position
            self._move(slot, customer)
            return
        slot = self.slots[key] = len(self.state)
        self.state.append(State.INTENT)
        self.attempt.append(1)
        self.send_at.append(times[0])
        self.expires_at.append(times[1])
        self.sent_at.append(0.0)
        self.position.append(position)
        self._channel.append(self._channel_number(channel))
        self._customer.append(customer)
        self._previous.append(self._latest.get(customer, NONE))
        self._latest[customer] = slot

    def _move(self, slot: int, customer: int) -> None:
        """From the list of one customer to that of another."""
        before = self._customer[slot]
        if before == customer:
            return
        if self._latest[before] == slot:
            self._latest[before] = self._previous[slot]
        else:
            at = self._latest[before]
            while self._previous[at] != slot:
                at = self._previous[at]
            self._previous[at] = self._previous[slot]
        self._customer[slot] = customer
        self._previous[slot] = self._latest.get(customer, NONE)
        self._latest[customer] = slot

    def _channel_number(self, channel: str) -> int:
        if channel not in self._channels:
            self._channels.append(channel)
        return self._channels.index(channel)

    def due(self, now: float) -> NDArray[np.int64]:
        """Slots that wait and whose time has come, by (send_at, arrival)."""
        send_at = np.frombuffer(self.send_at)
        waits = np.frombuffer(self.state, np.uint8) == State.INTENT
        slots = np.flatnonzero(waits & (send_at <= now))
        return slots[np.argsort(send_at[slots], kind="stable")]

    def next_due(self) -> float | None:
        """The earliest send_at among waiting intents."""
        waits = np.frombuffer(self.state, np.uint8) == State.INTENT
        if not waits.any():
            return None
        return float(np.frombuffer(self.send_at)[waits].min())

    def in_state(self, state: State) -> list[int]:
        """All slots in one state."""
        slots: list[int] = np.flatnonzero(np.frombuffer(self.state, np.uint8) == state).tolist()
        return slots

    def counts(self) -> dict[str, int]:
        """Intents per state, by lower-case name; every state is there."""
        numbers = np.bincount(np.frombuffer(self.state, np.uint8), minlength=len(State))
        return {state.name.lower(): int(numbers[state]) for state in State}

    def recent_sends(self, customer_id: str, since: float) -> Iterator[tuple[str, float]]:
        """(channel, sent_at) of calls begun since then that reached, or may have reached, them."""
        slot = self._latest.get(digest(customer_id, 8), NONE)
        while slot != NONE:
            if self.sent_at[slot] >= since and self.state[slot] in _MAY_HAVE_REACHED:
                yield self._channels[self._channel[slot]], self.sent_at[slot]
            slot = self._previous[slot]

    def droppable(self, now: float, keep_sends_since: float) -> NDArray[np.bool_]:
        """(n,) True where an intent is final, expired, and too old to count for a cap."""
        state = np.frombuffer(self.state, np.uint8)
        final = state >= State.ACCEPTED
        old = np.frombuffer(self.sent_at) < keep_sends_since
        counts = np.isin(state, _MAY_HAVE_REACHED)
        return final & (np.frombuffer(self.expires_at) < now) & (old | ~counts)


_MAY_HAVE_REACHED = (State.SENDING, State.ACCEPTED, State.UNKNOWN)
