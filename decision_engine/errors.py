"""The errors of the pure core; each text names what is wrong and, where it can, the fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 12
"""How many known names an error lists."""


class StepError(Exception):
    """A step of the loop failed. The text says what did not happen, one line per cause."""


class RuleError(ValueError):
    """A rule cannot be used. `at` is the 0-based character it is about, None for all of it."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message if at is None else f"character {at + 1}: {message}")
        self.at = at


class MissingColumnError(LookupError):
    """A column that a decision depends on was not read. Never taken as permission."""

    def __init__(self, column: str) -> None:
        super().__init__(f"column '{column}' is needed for this decision but was not read")
        self.column = column


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`unknown incentive 'ten_off'; known: none, ten_percent; did you mean 'ten_percent'?`"""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    shown = names if len(names) <= SHOWN else [*names[:SHOWN], "..."]
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {what} '{name}'; known: {', '.join(shown) or 'none at all'}{hint}"
