"""A webhook call as it came in, and what signatures have in common."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True)
class Call:
    """One POST. `url` is the address the vendor called; header names are lower case.

    `body` are the bytes as they came, before anything has read them. `at` is when they came.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    url: str = ""


FIVE_MINUTES = 300.0
"""How old, or how far ahead, the signed time of a call may be, where the vendor says so."""
A_DAY = 86_400.0
"""The same where the vendor repeats for hours and does not say whether it signs anew.

A repeated call changes nothing: each event counts once, by its id.
"""


def is_fresh(call: Call, signed_at: str, seconds: float, unit: float = 1.0) -> bool:
    """Whether the signed time, in units of so many seconds, is near that of the call."""
    if not (signed_at.isascii() and signed_at.isdecimal() and len(signed_at) < 16):
        return False
    return abs(call.at.timestamp() - int(signed_at) * unit) <= seconds


def hmac_sha256(secret: str, *parts: str | bytes) -> bytes:
    """The HMAC-SHA256 of the parts behind one another."""
    data = b"".join(p.encode() if isinstance(p, str) else p for p in parts)
    return hmac.digest(secret.encode(), data, hashlib.sha256)
