"""Messages that are decided and have not left yet, as profiles list them.

`moment channel decision_id`, by comma, the moment in microseconds since 1970, UTC; empty when
there are none. What a plan supposes to be decided has no id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decision_engine.types import Bools, Column, Contexts, Pair

WAITING = "messages_waiting"
"""The column."""


class Waiting(NamedTuple):
    """m messages of n people: whose (m,), on which channel (m,), when they leave (m,) seconds.

    Plain lists for one person.
    """

    rows: Any
    channels: Any
    at: Any


_NONE = Waiting(np.empty(0, np.int64), np.empty(0, object), np.empty(0))
_NONE_OF_ONE = Waiting([], [], [])


def waiting_in(column: Pair) -> Waiting:
    """What the column says; of whom it is not known, nothing."""
    texts, known = column
    if not isinstance(texts, np.ndarray):
        return Waiting(*_entries([texts], [0])) if known and texts != "" else _NONE_OF_ONE
    found = _rows(texts, known)
    if not found:
        return _NONE
    rows, channels, at = _entries(texts, found)
    return Waiting(np.array(rows), np.array(channels, dtype=object), np.array(at))


def _entries(
    texts: Any, found: Sequence[int]
) -> tuple[Sequence[int], Sequence[str], Sequence[float]]:
    """The row, the channel and the moment of each message."""
    entries = [(row, *entry.split(" ")[:2]) for row in found for entry in texts[row].split(",")]
    rows, moments, channels = zip(*entries, strict=True)
    return rows, channels, [int(moment) / 1e6 for moment in moments]


def listed(text: str | None, more: Iterable[tuple[object, ...]]) -> str:
    """The text with more messages, each (microseconds, channel, decision id if there is one)."""
    return ",".join([*filter(None, [text]), *(" ".join(map(str, entry)) for entry in more)])


def without(contexts: Contexts, stopped: Collection[str]) -> Contexts:
    """The same people, of whose messages those of stopped decisions do not wait any more."""
    if not stopped or WAITING not in contexts.columns:
        return contexts
    texts, known = contexts.columns[WAITING]
    left = texts.copy()
    for row in _rows(texts, known):
        entries = texts[row].split(",")
        left[row] = ",".join(e for e in entries if e.rpartition(" ")[2] not in stopped)
    return Contexts(contexts.customer_ids, {**contexts.columns, WAITING: Column(left, known)})


def _rows(texts: NDArray[Any], known: Bools) -> list[int]:
    """Those for whom something is listed."""
    listed = known & (texts != "") if texts.dtype == object else known
    rows: list[int] = listed.nonzero()[0].tolist()
    return rows
