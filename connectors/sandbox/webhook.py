"""A receiver of webhooks as Standard Webhooks describes it: signed, fresh, each id once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.sandbox.ledger import Entry
from connectors.sandbox.limits import Pool, Usage
from connectors.sandbox.state import State
from connectors.sandbox.vendor import Answer, Endpoint, answer

NAME = "webhook"
TOLERANCE_SECONDS = 300
MAX_BODY = 1024 * 1024


class Webhook:
    """Takes everything that is signed with the secret, at /in. A repeat has no effect."""

    name = NAME

    def __init__(self, state: State, key: str, limit_divisor: float = 1.0) -> None:
        self._state = state
        self._key = base64.b64decode(key.removeprefix("whsec_"))
        self._id = ""
        unlimited = Pool([])
        self.endpoints: Mapping[str, Endpoint] = {"/in": Endpoint(self._take, unlimited, MAX_BODY)}
        self.errors: Mapping[str, Answer] = {
            "unauthorized": answer(401, {"error": "signature"}),
            "not_found": answer(404, {}),
            "too_large": answer(413, {}),
            "bad_json": answer(400, {}),
            "server_error": answer(500, {}),
        }

    def is_authentic(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Signed over id, time and body, not more than five minutes ago."""
        at = headers.get("webhook-timestamp", "")
        if not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE_SECONDS:
            return False
        self._id = headers.get("webhook-id", "")
        signed = b".".join((self._id.encode(), at.encode(), body))
        right = base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
        given = headers.get("webhook-signature", "").split(" ")
        return any(hmac.compare_digest(one, f"v1,{right}") for one in given)

    def rate_headers(self, usages: Sequence[Usage]) -> Mapping[str, str]:
        """None."""
        return {}

    def limited(self, path: str, usages: Sequence[Usage]) -> Answer:
        """Never asked: there is no limit."""
        return answer(429, {})

    def _take(self, payload: Any) -> Answer:
        if self._state.refuses(NAME):
            return answer(410, {})
        if self._id not in self._state.accounts[NAME].events:
            properties = payload if isinstance(payload, dict) else {"body": payload}
            entry = Entry(vendor=NAME, kind="event", message_id=self._id, properties=properties)
            self._state.record(entry)
        return Answer(204, b"", {})
