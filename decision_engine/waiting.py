"""Messages that are decided and have not left yet, as profiles list them.

`moment channel`, by comma, the moment in microseconds since 1970, UTC; empty when there are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decision_engine.types import Column, Floats, Ints

WAITING = "messages_waiting"
"""The column."""


class Waiting(NamedTuple):
    """m messages of n people: whose (m,), on which channel (m,), when they leave (m,) seconds."""

    rows: Ints
    channels: NDArray[Any]
    at: Floats


_NONE = Waiting(np.empty(0, np.int64), np.empty(0, object), np.empty(0))


def waiting_in(column: Column) -> Waiting:
    """What the column says; of whom it is not known, nothing."""
    texts, known = column
    found = (known & (texts != "")).nonzero()[0].tolist() if texts.dtype == object else []
    if not found:
        return _NONE
    entries = [(row, *entry.split(" ")) for row in found for entry in texts[row].split(",")]
    rows, moments, channels = zip(*entries, strict=True)
    at = np.array([int(moment) / 1e6 for moment in moments])
    return Waiting(np.array(rows), np.array(channels, dtype=object), at)


def listed(text: str | None, more: Iterable[tuple[int, str]]) -> str:
    """The text with more messages, each (microseconds, channel)."""
    return ",".join([*filter(None, [text]), *(f"{at} {channel}" for at, channel in more)])
