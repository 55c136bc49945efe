"""Misbehaviour on request: the next n calls, or a fixed share of them, decided by a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

REQUEST_FAULTS = (
    "error_500",
    "rate_limit",
    "html_200",
    "reset_before_accept",
    "latency",
    "truncated",
    "reset_after_accept",
    "timeout_after_accept",
)
"""One draw per authenticated request. The last four take effect: the answer is late, half of it
is missing, the connection is reset, or no answer ever comes. The others have no effect at all."""

LATENCY_SECONDS = 0.3

REJECT = "reject"
"""One draw per record: it is refused in the vendor's own per-row style."""

DUPLICATE_WEBHOOKS = "duplicate_webhooks"
"""One draw per webhook event: it is posted twice."""

KINDS = (*REQUEST_FAULTS, REJECT, DUPLICATE_WEBHOOKS)


@dataclass
class _Fault:
    seed: str
    count: int
    share: float
    drawn: int = 0

    def hits(self) -> bool:
        self.drawn += 1
        if self.count > 0:
            self.count -= 1
            return True
        digest = hashlib.blake2b(f"{self.seed}:{self.drawn}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.share * 2**64


class Faults:
    """The faults now set, at most one of each kind per vendor.

    The same seed and the same calls give the same faults.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._faults: dict[tuple[str, str], _Fault] = {}

    def put(self, vendor: str, kind: str, count: int = 0, share: float = 0.0) -> None:
        """Set a fault, replacing one of the same kind; zero count and share remove it.

        Raises ValueError for an unknown kind or a share outside 0..1.
        """
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}")
        if count < 0 or not 0.0 <= share <= 1.0:
            raise ValueError("`count` must be 0 or more and `share` within 0 and 1")
        self._faults.pop((vendor, kind), None)
        if count or share:
            seed = f"{self._seed}:{vendor}:{kind}"
            self._faults[vendor, kind] = _Fault(seed, count, share)

    def hits(self, vendor: str, kind: str) -> bool:
        """Whether this call or record is struck by that kind."""
        fault = self._faults.get((vendor, kind))
        return fault is not None and fault.hits()

    def draw(self, vendor: str) -> str | None:
        """The request fault that strikes this call, if any; the first kind set wins."""
        if not self._faults:
            return None
        return next((kind for kind in REQUEST_FAULTS if self.hits(vendor, kind)), None)
