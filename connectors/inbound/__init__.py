"""Who may call our webhooks, one module a vendor.

A module has `verify(headers, secret) -> bool` and `parse(body, received_at) -> list[Event]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from connectors.inbound import braze, iterable
from connectors.inbound._events import Event


@dataclass(frozen=True)
class Vendor:
    """How a vendor's webhook calls are checked and read."""

    verify: Callable[[Mapping[str, str], str], bool]
    parse: Callable[[bytes, datetime], list[Event]]


VENDORS = {
    "braze": Vendor(braze.verify, braze.parse),
    "iterable": Vendor(iterable.verify, iterable.parse),
}
