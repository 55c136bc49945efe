"""Who may call: one key, in a header, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping


def is_allowed(headers: Mapping[str, str], key: str) -> bool:
    """Whether the key is in the Authorization header: `Bearer <key>`, or as Basic's password."""
    scheme, _, value = (headers.get("authorization") or "").partition(" ")
    is_basic = scheme.lower() == "basic"
    given = _password(value) if is_basic else value.strip().encode("utf-8", "replace")
    return hmac.compare_digest(given, key.encode())


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
