"""Who may call: one key, in a header, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Mapping


def is_bearer(headers: Mapping[str, str], key: str) -> bool:
    """Whether `Authorization: Bearer <key>` is there."""
    given = headers.get("authorization") or ""
    return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {key}".encode())
