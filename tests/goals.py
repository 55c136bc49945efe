"""What a benchmark has to reach, said the same way by all that use it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO


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


def judge(goals: Sequence[Goal], as_json: bool, **figures: Any) -> None:
    """Print goals beside what was measured, or all figures as JSON; exit with 1 if one is missed."""
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
