"""How long the messages take at the limits that the destinations document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil

from connectors.base import Stream
from connectors.destinations import senders_of
from decision_engine.config import Project
from decision_engine.plan.sides import Moves
from decision_engine.plan.tally import Change, Tally


def seconds_needed(project: Project, tally: Tally) -> dict[str, Change]:
    """Destination to seconds, at least, for the messages before and after; 0 without a limit."""
    needed = [_seconds(project, tally, side) for side in (0, 1)]
    return {name: Change(needed[0].get(name, 0), needed[1].get(name, 0)) for name in needed[1]}


def _seconds(project: Project, tally: Tally, side: int) -> dict[str, int]:
    out = {}
    for name in sorted(set(project.channels.values())):
        kind = project.destinations[name].kind
        channels = {str(c) for c, sender in project.channels.items() if sender == name}
        stream = next((s for c in sorted(channels) for s in senders_of(kind, c)), None)
        if stream is not None:
            out[name] = _at_least(stream, _messages(tally.pairs, tally.moves, side, channels))
    return out


def _messages(
    pairs: Mapping[tuple[int, int], int], moves: Moves, side: int, channels: set[str]
) -> Counter[str]:
    """Messages by action: those of one request have their campaign in common."""
    found: Counter[str] = Counter()
    for pair, count in pairs.items():
        if moves.channels[pair[side]] in channels:
            found[moves.actions[pair[side]]] += count
    return found


def _at_least(stream: Stream, messages: Counter[str]) -> int:
    """The seconds until the last call may be made, when the first window begins empty."""
    calls = sum(ceil(n / stream.batch_size) for n in messages.values())
    waits = (max(ceil(calls / w.calls) - 1, 0) * w.seconds for w in stream.windows)
    return ceil(max(waits, default=0))
