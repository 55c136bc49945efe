"""Names, numbers and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from math import floor, isfinite, log10

import numpy as np

from decision_engine.types import REP

SHOWN_NAMES = 4

_FIELD = re.compile(r"\{\{+\s*(.*?)\s*\}\}+")
_LOGIC = re.compile(r"\{%.*?%\}")
_NAME = re.compile(r"(?<![\w\"'.])[A-Za-z_][\w.]*")


def number(value: float) -> str:
    """Four digits that count, and never an exponent: 0.125, 75, 15,010."""
    if not isfinite(value):
        return "unknown"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return str(np.format_float_positional(value, precision=4, fractional=False, trim="-"))


def value_of(value: object) -> str:
    """A value of a column: yes and no for what is true and false."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(float(value)) if isinstance(value, int | float) else words(str(value)) or "none"


def reward(value: float, spread: float, sign: str = "") -> str:
    """A reward with as many decimals as its spread makes worth reading, at least three."""
    decimals = 3
    if spread > 0 and isfinite(spread):
        decimals = min(9, max(3, 1 - floor(log10(spread))))
    return f"{value:{sign}.{decimals}f}"


def percent(share: float) -> str:
    """`62 %`."""
    return f"{number(float(f'{100 * share:.3g}'))} %"


def moment(at: datetime) -> str:
    """`2026-03-08 13:00 UTC`."""
    return f"{utc(at):%Y-%m-%d %H:%M} UTC"


def utc(at: datetime) -> datetime:
    """The same moment with its zone; without one it is UTC already."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def by(channel: str) -> str:
    """How a message goes out: its channel, or `handing over to a rep`."""
    return "handing over to a rep" if channel == REP else channel


def words(name: str) -> str:
    """`days_since_last_order` as words."""
    return name.replace("_", " ")


def without_fields(text: str) -> str:
    """A subject with what the sender fills in named in brackets: `Hello [first name]`."""
    return " ".join(_FIELD.sub(_field, _LOGIC.sub("", text)).split())


def _field(found: re.Match[str]) -> str:
    """The last bare name, in Liquid (`${first_name} | default: "you"`) and in Handlebars."""
    names = _NAME.findall(found[1].partition("|")[0].replace("${", " ").replace("}", " "))
    if not names:
        return "[...]"
    last = names[-1].rpartition(".")[2]
    return f"[{words(re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', last)).lower()}]"


def listed(parts: Iterable[str]) -> str:
    """By comma."""
    return ", ".join(parts) or "nothing"


def few(names: Iterable[str]) -> str:
    """The first ones by comma, and how many more there are."""
    shown = list(names)
    more = len(shown) - SHOWN_NAMES
    return listed([*shown[:SHOWN_NAMES], *([f"{more} more"] if more > 0 else [])])
