"""A slice of `make storm-webhooks`, up to what is loaded."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from connectors.inbound import VENDORS, Call
from tests.end_to_end.storm_hotpath import make_project
from tests.end_to_end.storm_webhooks import (
    MOST,
    Event,
    events_of,
    inbound,
    request_of,
    tell,
    times,
)

MESSAGES = [
    {
        "vendor": vendor,
        "external_id": f"u{i}",
        "channel": "email",
        "campaign_id": "c",
        "dispatch_id": f"d{i}",
        "message_id": f"m{i}",
        "metadata": {"decision_id": f"x{i}"},
    }
    for i, vendor in enumerate(["braze", "iterable"] * 20)
]


def test_events_told_many_times_in_any_order_across_restarts_count_once(tmp_path: Path) -> None:
    dice = random.Random(1)
    events = events_of(MESSAGES, 200, dice)
    copies: list[Event] = [event for event in events for _ in range(times(dice))]
    dice.shuffle(copies)
    assert set(Counter(event.name for event in copies).values()) >= {1, 2, 3, MOST}
    workspace = make_project(tmp_path)

    counts = tell(workspace, copies, 1, 1)

    assert (counts["service restarts"], counts["events"]) == (1, 200)
    rows = [row for event in events for row in parsed(event)]
    assert sorted(inbound(workspace), key=str) == sorted(rows, key=str)


def parsed(event: Event) -> list[tuple[object, ...]]:
    """What one delivery of the event should leave."""
    _, body, headers = request_of([event])
    rows = VENDORS[event.vendor].parse(Call(body, headers, datetime.now(UTC)))
    return [tuple(v for name, v in row.items() if name != "received_at") for row in rows]
