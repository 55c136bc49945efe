"""A vendor's reason without the data of those it speaks of: reasons are kept, shown and told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from connectors.base import Receipt, Record

SHORTEST = 3
"""Characters of a value that would tell anything."""

LONGEST = 200
"""Characters of a reason that are kept. It is cut last, so that no part of a value is left."""

_WORD = re.compile(r"\w+")
_OURS = frozenset({"campaign_id", "channel", "decision_id", "creative", "event_name", "catalog"})
"""Fields that say what is sent, not to whom."""


def without_values(records: Sequence[Record], receipts: Sequence[Receipt]) -> list[Receipt]:
    """The receipts without any value of any of the records.

    A reason may quote another record of its batch than its own.
    """
    reasons = {receipt.reason for receipt in receipts if receipt.reason}
    if not reasons:
        return list(receipts)
    known: dict[str, set[str]] = {}
    for record in records:
        for value in _values(record):
            if word := _WORD.search(value):
                known.setdefault(word[0].lower(), set()).add(value)
    scrubbed = {reason: _without(reason, known) for reason in reasons}
    return [replace(r, reason=scrubbed[r.reason]) if r.reason else r for r in receipts]


def _values(record: Record) -> Iterator[str]:
    """What is said of one person. A value that is also a column's name tells nothing."""
    names = {*record.fields, *record.identity}
    fields = (value for name, value in record.fields.items() if name not in _OURS)
    for value in _texts((*record.identity.values(), *fields, record.key)):
        if len(value) >= SHORTEST and value not in names:
            yield value


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping):
            yield from _texts(value.values())
        elif isinstance(value, list | tuple):
            yield from _texts(value)
        elif isinstance(value, str | date) or _is_long(value):
            yield str(value).strip()


def _is_long(value: object) -> bool:
    """A telephone number may be a number; a count is not told from a status of HTTP."""
    return isinstance(value, int) and abs(value) >= 1e6


def _without(reason: str, known: Mapping[str, Iterable[str]]) -> str:
    words = set(_WORD.findall(reason.lower()))
    found = [value for word in words for value in known.get(word, ())]
    for value in sorted(found, key=len, reverse=True):
        whole = rf"(?<!\w){re.escape(value)}(?!\w)"
        reason = re.sub(whole, "<value>", reason, flags=re.IGNORECASE)
    return reason[:LONGEST]
