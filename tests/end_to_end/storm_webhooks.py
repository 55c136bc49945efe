"""make storm-webhooks: 200,000 webhook events, each delivered 1 to 50 times, in any order.

A day of the loop is lived and its messages are sent. Then one copy of the project is told what
became of them once, in order. Another one is told each event 1 to 50 times, all shuffled, while
its service is killed and started again and a loader works beside it. Afterwards both build and
learn: their outcomes must be the same rows, what they have learned the same bytes, and every event
that was acknowledged must be there once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from decision_engine.build import build
from decision_engine.delivery import open_delivery, project_receipts
from decision_engine.inbound import load_log
from decision_engine.loop import run
from decision_engine.training import learn_all
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import make_project, midnight, send_what_is_due
from tests.end_to_end.storm_hotpath import KEYS, LONG, Forks, forks, post
from tests.sandbox_process import (
    BRAZE_KEY,
    BRAZE_TOKEN,
    HUBSPOT_KEY,
    ITERABLE_KEY,
    ITERABLE_TOKEN,
    running_sandbox,
)

SENDERS = 4
MOST = 50
BATCH = 100
"""Events in a call of Braze; Iterable makes a call for each."""
ITERABLE_SHARE = 0.1
CUSTOMERS = 3_000
BRAZE_NAMES = {
    "email": ("users.messages.email.Open", "users.messages.email.Click"),
    "push": ("users.messages.pushnotification.Open", "users.messages.pushnotification.Bounce"),
    "sms": ("users.messages.sms.ShortLinkClick", "users.messages.sms.Delivery"),
}
ITERABLE_NAMES = ("emailOpen", "emailClick", "emailDelivered", "emailUnSubscribe")
OUTCOMES = ("fct_outcomes", "fct_decision_rewards")


@dataclass(frozen=True)
class Event:
    """One thing that happened to a message. `name` tells it from all others."""

    name: str
    vendor: str
    payload: dict[str, Any]


def events_of(messages: Sequence[dict[str, Any]], count: int, dice: random.Random) -> list[Event]:
    """So many events about these entries of the sandbox's ledger."""
    by_vendor = {v: [m for m in messages if m["vendor"] == v] for v in ("braze", "iterable")}
    found: dict[str, Event] = {}
    while len(found) < count:
        is_iterable = dice.random() < ITERABLE_SHARE or not by_vendor["braze"]
        message = dice.choice(by_vendor["iterable" if is_iterable else "braze"])
        at = midnight(0) + timedelta(seconds=dice.randrange(86_400, 2 * 86_400))
        event = _event(message, at.replace(tzinfo=UTC), len(found), dice)
        found.setdefault(event.name, event)
    return list(found.values())


def _event(message: dict[str, Any], at: datetime, number: int, dice: random.Random) -> Event:
    if message["vendor"] == "iterable":
        name = dice.choice(ITERABLE_NAMES)
        fields = {
            "messageId": message["message_id"],
            "campaignId": message["campaign_id"],
            "createdAt": f"{at:%Y-%m-%d %H:%M:%S} +00:00",
            "metadata": message["metadata"],
        }
        payload = {"eventName": name, "userId": message["external_id"], "dataFields": fields}
        return Event(f"{message['message_id']} {name} {at}", "iterable", payload)
    payload = {
        "event_type": dice.choice(BRAZE_NAMES[message["channel"]]),
        "id": f"e{number}",
        "time": int(at.timestamp()),
        "user": {"external_user_id": message["external_id"]},
        "properties": {
            "campaign_id": message["campaign_id"],
            "dispatch_id": message["dispatch_id"],
        },
    }
    return Event(f"e{number}", "braze", payload)


def times(dice: random.Random) -> int:
    """How often an event is delivered: mostly a few times, one in a hundred times 50 times."""
    if dice.random() < 0.01:
        return MOST
    n = 1
    while n < MOST and dice.random() < 0.6:
        n += 1
    return n


@dataclass
class Deliveries:
    """Calls to be made, each until it is acknowledged, by several senders."""

    calls: queue.SimpleQueue[list[Event]]
    url: str = ""
    delivered: int = 0
    repeats: int = 0
    acknowledged: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Deliveries:
        """In this order, in calls as the vendors make them."""
        made: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()
        batch: list[Event] = []
        for event in events:
            if event.vendor == "iterable":
                made.put([event])
                continue
            batch.append(event)
            if len(batch) == BATCH:
                made.put(batch)
                batch = []
        if batch:
            made.put(batch)
        return cls(made)

    def send(self) -> None:
        """Make calls until none is left."""
        connection: http.client.HTTPConnection | None = None
        while True:
            try:
                call = self.calls.get_nowait()
            except queue.Empty:
                break
            path, body, headers = request_of(call)
            is_heard = False
            while not is_heard:
                connection, is_heard = post(connection, self.url, path, body, headers)
                if not is_heard:
                    time.sleep(0.02)
                with self.lock:
                    self.repeats += not is_heard
            with self.lock:
                self.delivered += len(call)
                self.acknowledged.update(event.name for event in call)
        if connection:
            connection.close()


def request_of(call: list[Event]) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers."""
    if call[0].vendor == "iterable":
        body, headers = call[0].payload, {"Authorization": ITERABLE_TOKEN}
        return "/webhooks/iterable", json.dumps(body).encode(), headers
    body = {"events": [event.payload for event in call]}
    return "/webhooks/braze", json.dumps(body).encode(), {"Authorization": f"Bearer {BRAZE_TOKEN}"}


def tell(workspace: Workspace, events: Iterable[Event], kills: int, seed: int) -> Counter[str]:
    """Deliver the events while the service is killed so often, and load them all."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter()
    deliveries = Deliveries.of(events)
    wanted = deliveries.calls.qsize()
    with ExitStack() as stack:
        service = stack.enter_context(forks(workspace.root))
        loader = stack.enter_context(forks(workspace.root)) if kills > 1 else service
        deliveries.url = _served(service)
        senders = [threading.Thread(target=deliveries.send) for _ in range(SENDERS)]
        for thread in senders:
            thread.start()
        try:
            for n in range(1, kills + 1):
                # As many calls between two kills as between any others.
                while any(t.is_alive() for t in senders) and (
                    deliveries.calls.qsize() > wanted * (1 - n / (kills + 1))
                ):
                    time.sleep(0.01)
                time.sleep(dice.uniform(0, 0.05))
                service.kill()
                counts["service restarts"] += service.ended() < 0
                deliveries.url = _served(service)
                if n % 2 == 0:
                    loader.start("load")
                    counts["loads beside it"] += loader.ended() == 0
        finally:
            for thread in senders:
                thread.join()
    counts["rows loaded last"] = load_log(workspace)["inbound_events"]
    audit(workspace, deliveries)
    counts["events"] = len(deliveries.acknowledged)
    counts["deliveries"] = deliveries.delivered
    counts["calls made again"] = deliveries.repeats
    return counts


def _served(service: Forks) -> str:
    """Start the service; again while the loader holds the log to close a segment."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        service.start("serve ")
        said = service.heard("url", "status")
        if "url" in said:
            return str(said["url"])
    raise AssertionError("the service does not start")


def audit(workspace: Workspace, deliveries: Deliveries) -> None:
    """Each acknowledged event is there, once."""
    with workspace.warehouse() as warehouse:
        (row,) = warehouse.rows(
            "select count(*), count(distinct vendor || ' ' || event_id)"
            f" from {workspace.engine('inbound_events')}"
        )
    assert row == (len(deliveries.acknowledged),) * 2, f"{row} of {len(deliveries.acknowledged)}"


def inbound(workspace: Workspace) -> list[tuple[Any, ...]]:
    """All that was loaded, but for when it was received."""
    with workspace.warehouse() as warehouse:
        return warehouse.rows(
            f"select * exclude (received_at) from {workspace.engine('inbound_events')} order by all"
        )


def learned(workspace: Workspace) -> dict[str, list[tuple[Any, ...]]]:
    """Build and learn a day later: the outcomes, and the states to the last bit."""
    build(workspace, midnight(2), command="run")
    learn_all(workspace, midnight(2))
    with workspace.warehouse() as warehouse:
        states = warehouse.rows(
            f"select agent, version, n_decisions, state from {workspace.engine('policy_states')}"
            " order by all"
        )
        tables = {
            name: warehouse.rows(f"select * from {workspace.model(name)} order by all")
            for name in OUTCOMES
        }
    return {"policy_states": states, **tables}


def lived(folder: Path) -> tuple[Workspace, list[dict[str, Any]]]:
    """A project after one day, and the messages that its customers got."""
    os.environ.update(
        BRAZE_API_KEY=BRAZE_KEY, ITERABLE_API_KEY=ITERABLE_KEY, HUBSPOT_ACCESS_TOKEN=HUBSPOT_KEY
    )
    with running_sandbox(folder / "sandbox", "--limit-divisor", "0.01") as sandbox:
        workspace = make_project(folder / "project", sandbox.url, CUSTOMERS)
        run(workspace, midnight(0), quick=True)
        send_what_is_due(workspace, midnight(0), midnight(1))
        with open_delivery(workspace) as delivery, workspace.warehouse() as warehouse:
            project_receipts(workspace, warehouse, delivery.journal)
        return workspace, [e for e in sandbox.ledger() if e["kind"] == "message"]


def storm(folder: Path, count: int, kills: int, seed: int) -> None:
    """Both lives, compared. AssertionError when they differ."""
    dice = random.Random(seed)
    workspace, messages = lived(folder)
    events = events_of(messages, count, dice)
    print(f"{len(messages):,} messages were sent, {len(events):,} events are told", flush=True)
    shutil.copytree(workspace.root, folder / "calm")
    calm, stormy = Workspace.open(folder / "calm"), workspace
    print(f"once: {_words(tell(calm, events, 0, seed))}", flush=True)
    wanted = learned(calm)
    copies = [event for event in events for _ in range(times(dice))]
    dice.shuffle(copies)
    print(f"storm: {_words(tell(stormy, copies, kills, seed))}", flush=True)
    found = learned(stormy)
    assert inbound(stormy) == inbound(calm), "other events"
    for name, rows in wanted.items():
        assert rows, f"nothing in {name}"
        assert found[name] == rows, f"{name} differs"
    print(", ".join(f"{name} {len(rows):,} rows" for name, rows in sorted(wanted.items())))
    print("0 acknowledged events lost, outcomes the same rows, what was learned the same bytes")


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {n:,}" for what, n in sorted(counts.items()))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=40, help="of the service")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    os.environ.update(KEYS)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        storm(Path(folder), arguments.events, arguments.kills, arguments.seed)
    print(f"in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
