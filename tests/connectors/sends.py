"""Send intents and a destination that never fails by itself, for the tests of the send lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors.base import Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations._replies import identifier, without_verdicts

NOW = datetime(2026, 3, 1, 12)


def intent(number: int, **changes: Any) -> dict[str, Any]:
    """A send intent that is due at NOW and expires a day later."""
    return {
        "send_key": f"key{number}",
        "decision_id": f"d{number}",
        "customer_id": f"c{number}",
        "external_id": f"u{number}",
        "destination": "plain",
        "stream": "messages",
        "channel": "email",
        "campaign_id": "7",
        "fields": {"creative": "welcome"},
        "send_at": (NOW - timedelta(hours=1)).isoformat(),
        "expires_at": (NOW + timedelta(days=1)).isoformat(),
        **changes,
    }


class Plain:
    """Accepts what is listed under "accepted" in a 200."""

    name = "plain"

    def __init__(self, batch_size: int = 10, windows: tuple[Window, ...] = ()) -> None:
        self.streams: Mapping[str, Stream] = {
            name: Stream(name, lane, batch_size, "pool", windows, splits_on_400=True)
            for name, lane in (("messages", Lane.SEND), ("users", Lane.PROFILE))
        }

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"X-Key": api_key}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        people = [identifier(record, "external_id") for record in records]
        return Request("POST", f"/{stream}", {"people": people}, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        receipts = without_verdicts(request, reply, "refused")
        if receipts is not None:
            return receipts
        if reply.body != b"ok":
            return [Receipt(r.key, Status.UNKNOWN, "unreadable", 200) for r in request.records]
        return [Receipt(r.key, Status.ACCEPTED, "", 200, "ref") for r in request.records]


class Vendor:
    """A `post` that remembers who got something, and fails as `fault` says."""

    def __init__(self, fault: Callable[[Request, int], Reply | None] | None = None) -> None:
        self.calls = 0
        self.got: list[str] = []
        self.sizes: list[int] = []
        self._fault = fault or (lambda request, call: None)

    def __call__(self, request: Request) -> Reply:
        self.calls += 1
        self.sizes.append(len(request.records))
        reply = self._fault(request, self.calls)
        if reply is not None:
            return reply
        self.got += request.json["people"]
        return Reply(200, b"ok")
