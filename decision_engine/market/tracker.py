"""The site and the app of the simulated company: they track what people do, as Segment's would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import pyarrow as pa
import requests

from decision_engine.errors import StepError

BATCH = 100
"""Events in a call."""
TIMEOUT = 60
PENDING = "nextmove_decisions_pending"


class Tracker:
    """Calls the service at `url` with the write key. Use as a context manager."""

    def __init__(self, url: str, write_key: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.auth = (write_key, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def send(self, events: pa.Table) -> None:
        """Track rows of `segment_events` in their order; StepError unless all are taken.

        The next call waits for the decisions that the last one called for: in simulated time
        making them takes none.
        """
        for items in batches(events):
            reply = self._session.post(
                f"{self._url}/v1/batch", json={"batch": items}, timeout=TIMEOUT
            )
            if reply.status_code != 200 or reply.json().get("refused"):
                raise StepError(f"the service did not take all events: {reply.text[:500]}")
            while self.metrics()[PENDING]:
                pass

    def metrics(self) -> dict[str, float]:
        """What the service has measured: sample name with its labels to value."""
        reply = self._session.get(f"{self._url}/metrics", timeout=TIMEOUT)
        reply.raise_for_status()
        lines = (line for line in reply.text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def batches(events: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Rows of `segment_events` as items of batch calls, in their order."""
    for chunk in events.to_batches(max_chunksize=BATCH):
        yield [item_of(row) for row in chunk.to_pylist()]


def item_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row as the item that a library would send.

    Without `sentAt`: by it the service corrects the clock of a device, and this one is simulated.
    """
    item: dict[str, Any] = {
        "messageId": row["message_id"],
        "type": row["type"],
        "userId": row["user_id"],
        "anonymousId": row["anonymous_id"],
        "timestamp": row["occurred_at"].isoformat() + "Z",
        "context": _context(row),
    }
    if row["type"] == "track":
        return {**item, "event": row["event"], "properties": {}}
    if row["type"] == "identify":
        return {**item, "traits": _given(email=row["email"], phone=row["phone"])}
    return {**item, "properties": _given(path=row["page_path"], page_class=row["page_class"])}


def _context(row: Mapping[str, Any]) -> dict[str, Any]:
    library = "analytics-ios" if row["platform"] == "app" else "analytics.js"
    return {"library": {"name": library}, **_given(sessionId=row["session_id"])}


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
