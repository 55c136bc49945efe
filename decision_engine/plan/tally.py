"""Counts of what two sides do, while batches of customers stream by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from decision_engine.fairness import SEGMENTS
from decision_engine.guardrails import REASON_NAMES
from decision_engine.plan.journey import DAY
from decision_engine.plan.sides import CODES, Made, Moves, blockers
from decision_engine.types import Bools, Contexts, Ints

KINDS = ("same", "edited message", "other action", "other agent", "comes in", "falls out")
"""What can become of a customer's decision."""


class Change(NamedTuple):
    """A number before and after."""

    before: int
    after: int


class Segment(NamedTuple):
    """One value of a column: decisions of either side, those that differ, and the sends."""

    decisions: int
    different: int
    sends: Change


@dataclass
class Tally:
    """The counts. `learned` are decisions that differ by what was learned alone.

    The first day begins at `start` (Unix seconds); `daily` are the sends by the day they leave.
    """

    moves: Moves
    start: float
    customers: int = 0
    learned: int = 0
    regrouped: int = 0
    reach_gained: int = 0
    reach_lost: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    ruled: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter()])
    segments: Counter[tuple[str, str, bool, bool, bool]] = field(default_factory=Counter)
    daily: list[list[int]] = field(default_factory=list)

    def add(self, day: int, contexts: Contexts, before: Made, after: Made) -> None:
        """Count a batch of a day."""
        if day == 0:
            self.customers += len(contexts)
            self._reach(before, after)
        both, counts = np.unique(np.stack([before.move, after.move]), axis=1, return_counts=True)
        for pair, count in zip(both.T.tolist(), counts.tolist(), strict=True):
            self.pairs[pair[0], pair[1]] += count
        for i, made in enumerate((before, after)):
            self._ruled(i, made)
        self._segments(contexts, before, after)
        self._daily(before, after)

    def differ(self, before: Ints, after: Ints) -> Bools:
        """(n,): what is not the same decision with the same message."""
        different: Bools = (before != after) | self.moves.edited[after]
        return different

    def _reach(self, before: Made, after: Made) -> None:
        both = (before.move > 0) & (after.move > 0)
        self.regrouped += int((both & (before.group != after.group)).sum())
        self.reach_gained += int((both & ~before.reachable & after.reachable).sum())
        lost = both & before.reachable & ~after.reachable
        codes = blockers(before, after, self.moves, lost)
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            self.reach_lost[REASON_NAMES[int(code)]] += int(count)

    def _ruled(self, side: int, made: Made) -> None:
        for code, count in zip(CODES.tolist(), made.ruled.sum(axis=0).tolist(), strict=True):
            if count:
                self.ruled[side][REASON_NAMES[code]] += count

    def _segments(self, contexts: Contexts, before: Made, after: Made) -> None:
        seen = (before.move > 0) | (after.move > 0)
        different = self.differ(before.move, after.move)[seen].tolist()
        sent = [self.moves.is_send[made.move][seen].tolist() for made in (before, after)]
        for name in SEGMENTS:
            if name in contexts.columns:
                values, known = contexts.columns[name]
                texts = np.where(known, values.astype(str), "unknown")[seen].tolist()
                names = [name] * len(texts)
                self.segments.update(zip(names, texts, different, *sent, strict=True))

    def _daily(self, before: Made, after: Made) -> None:
        for i, made in enumerate((before, after)):
            leaves = made.send_at[self.moves.is_send[made.move]]
            for day, n in enumerate(np.bincount(((leaves - self.start) // DAY).astype(int))):
                while len(self.daily) <= day:
                    self.daily.append([0, 0])
                self.daily[day][i] += int(n)

    # --- what the counts say ---

    def kinds(self) -> dict[str, int]:
        """How many decisions of each of `KINDS`."""
        out = dict.fromkeys(KINDS, 0)
        for (a, b), count in self.pairs.items():
            if a or b:
                out[self._kind(a, b)] += count
        return out

    def _kind(self, a: int, b: int) -> str:
        if not a or not b:
            return "falls out" if a else "comes in"
        if a == b:
            return "edited message" if self.moves.edited[a] else "same"
        same_agent = self.moves.agents[a] == self.moves.agents[b]
        return "other action" if same_agent else "other agent"

    def touched(self) -> set[str]:
        """The agents that decide anything differently."""
        pairs = [(a, b) for a, b in self.pairs if a != b or self.moves.edited[a]]
        return {str(self.moves.agents[move]) for pair in pairs for move in pair} - {""}

    def by(self, names: Sequence[str], weights: Ints) -> dict[str, Change]:
        """Sums of the sides' `weights` (2, m) over the decisions, by name (m,); '' is left out."""
        totals: list[Counter[str]] = [Counter(), Counter()]
        for pair, count in self.pairs.items():
            for side, move in enumerate(pair):
                totals[side][names[move]] += count * int(weights[side, move])
        found = [name for name in sorted({*totals[0], *totals[1]}) if name]
        return {name: Change(totals[0][name], totals[1][name]) for name in found}

    def by_segment(self) -> dict[str, dict[str, Segment]]:
        """Column, then value; the most frequent value first."""
        out: dict[str, dict[str, Segment]] = {}
        totals: dict[tuple[str, str], list[int]] = {}
        for (name, value, different, *sent), count in self.segments.items():
            row = totals.setdefault((name, value), [0, 0, 0, 0])
            for i, holds in enumerate((True, different, *sent)):
                row[i] += count * holds
        for (name, value), row in sorted(totals.items(), key=lambda item: (-item[1][0], item[0])):
            out.setdefault(name, {})[value] = Segment(row[0], row[1], Change(row[2], row[3]))
        return {name: out[name] for name in SEGMENTS if name in out}

    def by_guardrail(self) -> dict[str, Change]:
        """Decisions in which each guardrail ruled out a message, in the guardrails' order."""
        names = [REASON_NAMES[code] for code in CODES.tolist()]
        both = [name for name in names if self.ruled[0][name] or self.ruled[1][name]]
        return {name: Change(self.ruled[0][name], self.ruled[1][name]) for name in both}
