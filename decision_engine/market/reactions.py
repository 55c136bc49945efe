"""What people do with a message: one draw per person and message, and its consequences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decision_engine.keys import streams, uniforms
from decision_engine.market.people import CHANNELS
from decision_engine.market.response import ActionView, Chances, Response
from decision_engine.market.state import State
from decision_engine.types import Bools, Floats, Ints, Keys

VISIT, ORDER, STEP, LEAVE = range(4)
"""Kinds of consequences that show in raw tables."""

EFFECT = np.dtype(
    [("kind", "i8"), ("who", "i8"), ("at", "f8"), ("send", "i8"), ("channel", "i8"),
     ("dollars", "f8")]
)  # fmt: skip
"""One consequence: who, when (Unix seconds), of which of their messages, sent how."""

Effects = NDArray[np.void]

_HOUR = 3600.0
_DRAWS = ("click", "order", "open", "step", "unsubscribe", "complaint", "scanner",
          "click delay", "order delay", "leave delay", "machine delay")  # fmt: skip
_STREAMS = streams([f"market {name}" for name in _DRAWS])
_SCANNED = 0.05
_THOROUGH = 0.5
"""The share of messages of which a scanner that no vendor knows opens all links."""


class Message(NamedTuple):
    """A message of the vendors' ledger, as a person gets it."""

    who: int
    at: float
    vendor: str
    message_id: str
    view: ActionView


Batch = list[Message]


@dataclass
class Reactions:
    """Receives messages; what they cause waits here until its day comes."""

    response: Response
    state: State
    seed: int
    _seen: set[str] = field(default_factory=set)
    _waiting: list[Effects] = field(default_factory=list)

    def receive(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Engagements in time order. A message that was received before is not received again."""
        engagements: list[tuple[float, str, str, str, bool]] = []
        for batch in _rounds(self._new(messages)):
            by_view: dict[ActionView, Batch] = defaultdict(list)
            for message in batch:
                by_view[message.view].append(message)
            for view, group in by_view.items():
                engagements += self._react(view, group)
        return [
            {"vendor": v, "message_id": m, "type": kind, "at": _iso(at), "is_machine": machine}
            for at, v, m, kind, machine in sorted(engagements)
        ]

    def due(self, until: float) -> Effects:
        """Take out the consequences before `until`, in time order."""
        waiting = np.concatenate([np.empty(0, EFFECT), *self._waiting])
        is_due = waiting["at"] < until
        self._waiting = [waiting[~is_due]]
        effects = waiting[is_due]
        return effects[
            np.lexsort((effects["kind"], effects["send"], effects["who"], effects["at"]))
        ]

    def _new(self, messages: Sequence[Message]) -> Iterator[Message]:
        for message in messages:
            if message.message_id not in self._seen:
                self._seen.add(message.message_id)
                yield message

    def _react(self, view: ActionView, group: Batch) -> Iterator[tuple[float, str, str, str, bool]]:
        who = np.array([m.who for m in group], dtype=np.int64)
        at = np.array([m.at for m in group])
        chances = self.response.chances(self.state, who, [view], at)
        channel = CHANNELS.index(view.channel)
        draws = uniforms(person_keys(self.seed, who, self.state.send_count[who]), _STREAMS)
        drawn = Outcome.draw(chances, dict(zip(_DRAWS, draws.T, strict=True)), at)
        arrived = self.response.arrives(self.state, who, channel)
        self._queue(drawn, who, channel, self.response.dollars(view.incentive))
        self.state.remember_send(who[arrived], at[arrived])
        has_proxy = arrived & (channel == 0) & self.response.people.has_mail_proxy[who]
        has_scanner = arrived & (channel == 0) & self.response.people.has_scanner[who]
        for kind, mask, when, is_machine in drawn.engagements(channel, has_proxy, has_scanner):
            for i in np.flatnonzero(mask).tolist():
                yield float(when[i]), group[i].vendor, group[i].message_id, kind, is_machine

    def _queue(self, drawn: Outcome, who: Ints, channel: int, dollars: float) -> None:
        send = self.state.send_count[who]
        for kind, mask, at in drawn.consequences():
            effects = np.zeros(int(mask.sum()), EFFECT)
            effects["kind"], effects["channel"], effects["dollars"] = kind, channel, dollars
            effects["who"], effects["at"], effects["send"] = who[mask], at[mask], send[mask]
            self._waiting.append(effects)


@dataclass(frozen=True)
class Outcome:
    """What n people do with one message each: masks (n,) and moments (n,) in Unix seconds."""

    clicks: Bools
    opens: Bools
    orders: Bools
    steps: Bools
    unsubscribes: Bools
    complains: Bools
    bounces: Bools
    is_scanned: Bools
    is_thorough: Bools
    clicked_at: Floats
    ordered_at: Floats
    left_at: Floats
    machine_at: Floats
    scanned_at: Floats

    @classmethod
    def draw(cls, chances: Chances, draws: Mapping[str, Floats], at: Floats) -> Outcome:
        """Turn chances (n, 1) into outcomes. All is over 46 hours after the message."""
        click = chances.click[:, 0]
        clicks = draws["click"] < click
        nonzero = np.maximum(click, 1e-12)
        rest = (chances.open[:, 0] - click) / (1 - click)
        clicked_at = at + 30 + _delay(draws["click delay"], 1.5, 10)
        return cls(
            clicks=clicks,
            opens=(clicks | (draws["open"] < rest)) & (chances.open[:, 0] > 0),
            orders=clicks & (draws["order"] < chances.order[:, 0] / nonzero),
            steps=clicks & (draws["step"] < chances.onboarding_step[:, 0] / nonzero),
            unsubscribes=draws["unsubscribe"] < chances.unsubscribe[:, 0],
            complains=draws["complaint"] < chances.complaint[:, 0],
            bounces=chances.bounce[:, 0] > 0.5,
            is_scanned=draws["scanner"] < _SCANNED,
            is_thorough=draws["scanner"] < _THOROUGH,
            clicked_at=clicked_at,
            ordered_at=clicked_at + 600 + _delay(draws["order delay"], 8, 35),
            left_at=at + 60 + _delay(draws["leave delay"], 1, 12),
            machine_at=at + 60 + 500 * draws["machine delay"],
            scanned_at=at + 1 + 7 * draws["machine delay"],
        )

    def engagements(
        self, channel: int, has_proxy: Bools, has_scanner: Bools
    ) -> Iterator[tuple[str, Bools, Floats, bool]]:
        """(kind, who, when, is_machine) of what the vendor notices, as its channel can.

        A tap on a push message is a click; nobody knows whether a text message was read. What a
        company's scanner follows before it lets mail through looks like a person's click, but
        for its timing.
        """
        yield "click", self.clicks, self.clicked_at, False
        yield "unsubscribe", self.unsubscribes, self.left_at, False
        if channel == 0:
            yield "open", self.opens, self.clicked_at - 20, False
            yield "complaint", self.complains, self.left_at + 30, False
            yield "bounce", self.bounces, self.machine_at, False
            yield "open", has_proxy & ~self.bounces, self.machine_at, True
            yield "click", has_proxy & self.is_scanned & ~self.bounces, self.machine_at, True
            yield "click", has_scanner & ~self.bounces, self.scanned_at, False
            for second in range(3):
                links = has_scanner & self.is_thorough & ~self.bounces
                yield "click", links, self.machine_at + second, False

    def consequences(self) -> Iterator[tuple[int, Bools, Floats]]:
        """(kind, who, when) of what raw tables will show."""
        yield VISIT, self.clicks, self.clicked_at + 5
        yield ORDER, self.orders, self.ordered_at
        yield STEP, self.steps, self.clicked_at + 300
        yield LEAVE, self.unsubscribes | self.complains, self.left_at + 60


def person_keys(seed: int, who: Ints, send: Ints) -> Keys:
    """A key (n,) for each person and message number of theirs."""
    salt = np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    return ((who.astype(np.uint64) << np.uint64(24)) + send.astype(np.uint64)) ^ salt


def _delay(u: Floats, mean: float, longest: float) -> Floats:
    """Seconds: exponential with a mean in hours, cut off at `longest` hours."""
    most = -np.expm1(-longest / mean)
    seconds: Floats = -mean * np.log1p(-u * most) * _HOUR
    return seconds


def _rounds(messages: Iterator[Message]) -> Iterator[Batch]:
    """Messages in time order, in batches that have at most one message per person."""
    nth: dict[int, int] = defaultdict(int)
    rounds: list[Batch] = []
    for message in sorted(messages, key=_turn):
        if nth[message.who] == len(rounds):
            rounds.append([])
        rounds[nth[message.who]].append(message)
        nth[message.who] += 1
    return iter(rounds)


def _iso(at: float) -> str:
    """ISO 8601, UTC without a zone, as all times of the raw tables."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat()


def _turn(message: Message) -> tuple[float | str, ...]:
    """By time; of one moment by what they say to whom, for the ids that vendors give are random."""
    view = message.view
    return (message.at, view.channel, view.creative, view.incentive, message.who)
