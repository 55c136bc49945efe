"""The errors a user of the product can cause, each with the field and the fix in its text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class ConfigurationError(Exception):
    """What is written in a project cannot be used. `problems` has one line per problem:

    `agents/win_back.yml:14: actions[2].incentives[0]: unknown incentive 'ten_off'; ...`
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StepError(Exception):
    """A step of the loop failed. The text says what did not happen, one line per cause."""


class RuleError(ValueError):
    """A rule cannot be used. `at` is the 0-based character it is about, None for all of it."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message if at is None else f"character {at + 1}: {message}")
        self.at = at


class MissingColumnError(LookupError):
    """A column that a decision depends on was not read. Never taken as permission."""

    def __init__(self, column: str, needed_by: str) -> None:
        super().__init__(f"column '{column}' is missing; {needed_by} needs it")
        self.column = column


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`unknown incentive 'ten_off'; known: none, ten_percent; did you mean 'ten_percent'?`"""
    names = sorted(known)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {what} '{name}'; known: {shown or 'none at all'}{hint}"
