"""Slack as documented: chat.postMessage, whose every answer is a 200."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Limit, Pool, Usage
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer, carries

NAME = "slack"
POST = Limit("chat.postMessage", 1, 1)  # "about one a second per channel"; here for all together
MAX_BODY = 1024 * 1024  # a guess


class Slack:
    """One workspace. Channels that begin with C exist."""

    name = NAME

    def __init__(self, state: State, key: str, limit_divisor: float = 1.0) -> None:
        self._state = state
        self._key = key
        pool = Pool([POST], limit_divisor)
        self.endpoints: Mapping[str, Endpoint] = {
            "/api/chat.postMessage": Endpoint(self._post, pool, MAX_BODY)
        }
        self.errors: Mapping[str, Answer] = {
            "unauthorized": _no("invalid_auth"),
            "not_found": _no("unknown_method"),
            "too_large": _no("msg_too_long"),
            "bad_json": _no("invalid_json"),
            "server_error": answer(500, {"ok": False, "error": "internal_error"}),
        }

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Bearer token."""
        return carries(headers, "authorization", f"Bearer {self._key}")

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """How long to wait, when it was too much."""
        full = [usage.resets_in for usage in usages if not usage.is_allowed]
        return {"retry-after": str(math.ceil(max(full)))} if full else {}

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """429 with Retry-After."""
        return answer(429, {"ok": False, "error": "ratelimited"})

    def _post(self, payload: Any) -> Answer:
        payload = payload if isinstance(payload, dict) else {}
        channel, text = payload.get("channel"), payload.get("text")
        if not isinstance(text, str) or not text:
            return _no("no_text")
        if not isinstance(channel, str) or not channel.startswith("C") or self._state.refuses(NAME):
            return _no("channel_not_found")
        entry = Entry(vendor=NAME, kind="message", external_id=channel, properties={"text": text})
        self._state.record(entry)
        stamp = f"{time.time():.6f}"
        return answer(200, {"ok": True, "channel": channel, "ts": stamp, "message": payload})


def _no(error: str) -> Answer:
    return answer(200, {"ok": False, "error": error})
