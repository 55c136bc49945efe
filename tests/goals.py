"""What a call costs and what a benchmark has to reach, said the same way by all that use it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import numpy as np

IN_A_ROW = 1_000


@dataclass(frozen=True)
class Goal:
    """A figure beside its bound: at most that, or at least."""

    what: str
    measured: float
    bound: float
    is_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is within its bound."""
        return self.measured >= self.bound if self.is_least else self.measured <= self.bound

    def __str__(self) -> str:
        bound = f"{'>=' if self.is_least else '<='} {self.bound:,.6g}"
        verdict = "met" if self.met else "MISSED"
        return f"{self.what:<52}{bound:>14}{_short(self.measured):>14}  {verdict}"


@dataclass(frozen=True)
class Cost:
    """CPU microseconds of a call: median, 99th percentile, and that of the calmest thousand.

    Of fewer calls than a thousand, they all are the calmest.
    """

    median: float
    p99: float
    calm_p99: float

    def __str__(self) -> str:
        return f"{self.median:>10.1f}{self.p99:>10.1f}{self.calm_p99:>10.1f}"


def measure(call: Callable[[int], object], calls: int) -> Cost:
    """What a call costs."""
    for i in range(calls // 10):
        call(i)
    clock, spent = time.thread_time_ns, np.empty(calls)
    for i in range(calls):
        start = clock()
        call(i)
        spent[i] = clock() - start
    spent = (spent - np.median([-(clock() - clock()) for _ in range(1_000)])) / 1_000
    row = min(calls, IN_A_ROW)
    rows = spent[: calls // row * row].reshape(-1, row)
    calm = np.percentile(rows, 99, axis=1).min()
    return Cost(float(np.median(spent)), float(np.percentile(spent, 99)), float(calm))


def judge(goals: Sequence[Goal], as_json: bool, **figures: Any) -> None:
    """Print goals beside what was measured, or all figures as JSON; exit 1 when one is missed."""
    if as_json:
        print(json.dumps({**figures, "goals": [asdict(g) | {"met": g.met} for g in goals]}))
    else:
        print(f"\n{'':<52}{'goal':>14}{'measured':>14}", *goals, sep="\n")
    missed = [g.what for g in goals if not g.met]
    if missed:
        sys.exit(f"missed: {'; '.join(missed)} (other work on the machine counts)")


def table_to(as_json: bool) -> TextIO:
    """Where tables go: beside the JSON, not into it."""
    return sys.stderr if as_json else sys.stdout


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
