"""The sandbox's vendors without a socket, behind a line on which calls and processes can die."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from connectors.base import Destination, Reply, Request, Signing
from connectors.errors import UnknownOutcomeError
from connectors.sandbox.app import WEBHOOK_SECRET
from connectors.sandbox.braze import Braze
from connectors.sandbox.iterable import Iterable
from connectors.sandbox.state import State
from connectors.sandbox.vendor import VendorApp
from connectors.sandbox.webhook import Webhook
from tests.connectors.power import PowerCutError
from tests.sandbox_process import BRAZE_KEY, ITERABLE_KEY

KEYS = {"braze": BRAZE_KEY, "iterable": ITERABLE_KEY, "webhook": WEBHOOK_SECRET}
BASES = {"webhook": "/webhook/in"}
"""Where a destination's paths begin, unless at its name."""
NO_LIMIT = 1e-6


class Inside:
    """Vendors in this process, with the sandbox's own ledger at `state.ledger`."""

    def __init__(self, directory: Path) -> None:
        self.state = State(directory)
        vendors = (
            kind(self.state, KEYS[kind.name], NO_LIMIT) for kind in (Braze, Iterable, Webhook)
        )
        self._apps = {vendor.name: VendorApp(vendor, self.state) for vendor in vendors}

    def post(self, destination: Destination, request: Request) -> Reply:
        """One call, answered at once: nothing in a vendor ever waits."""
        key = KEYS[destination.name]
        body = b"" if request.json is None else msgspec.json.encode(request.json)
        headers = {**destination.headers(key), **request.headers}
        if isinstance(destination, Signing):
            headers |= destination.sign(request, body, key, int(time.time()))
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        path = base(destination) + request.path
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
        try:
            self._apps[destination.name](scope, receive, send).send(None)
        except StopIteration:
            start, end = sent
            found = {k.decode(): v.decode() for k, v in start["headers"]}
            return Reply(start["status"], end["body"], found)
        raise AssertionError("the vendor waits")


def base(destination: Destination) -> str:
    """Where its paths begin in the sandbox."""
    return BASES.get(destination.name, f"/{destination.name}")


@dataclass
class Line:
    """The way to one vendor. `post` dies before or after its `at`-th call, as `dies` says.

    Of the answers that are not cut off so, a share is lost while the process lives; `lost` counts
    their records, `accepted_unheard` the calls that took effect when the process died.
    """

    inside: Inside
    destination: Destination
    dice: random.Random
    dies: str = ""
    at: int = 0
    loses: float = 0.0
    calls: int = 0
    lost: int = 0
    accepted_unheard: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, request: Request) -> Reply:
        """One call."""
        with self._lock:
            self.calls += 1
            is_last = self.calls == self.at
            if is_last and self.dies == "before":
                raise PowerCutError
            reply = self.inside.post(self.destination, request)
            if is_last and self.dies == "answer":
                assert reply.status < 300, reply.body
                self.accepted_unheard += 1
                raise PowerCutError
            if self.dice.random() < self.loses:
                self.lost += len(request.records)
                raise UnknownOutcomeError("no answer in time")
            return reply

    def calm(self) -> None:
        """From now on all is well."""
        self.dies, self.loses = "", 0.0
