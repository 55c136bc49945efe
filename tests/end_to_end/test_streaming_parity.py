"""A day replayed through the hot path: its features are the warehouse's, column by column."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.build import build
from decision_engine.outbox import plain
from decision_engine.service.commit import Place
from decision_engine.service.definitions import page_path, windowed_counts
from decision_engine.service.live import micros, micros_of
from decision_engine.service.profiles import HOUR
from decision_engine.service.projection import Projection
from decision_engine.service.records import Event, Record, Webhook
from decision_engine.service.store import HotStore
from decision_engine.tables import INBOUND_EVENTS, TRACKED_EVENTS
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight

START, END = midnight(0), midnight(1)
PARTS = 3
"""The service is started so often in the course of the day."""
COLUMNS = (
    *(count.name for count in windowed_counts()),
    page_path().name,
    "last_page_class",
    "engagement_velocity",
    "days_since_last_visit",
    "days_since_complaint",
    "complaint_sentiment",
)
PERMISSIONS = (
    "has_open_complaint",
    "has_push",
    "consent_email",
    "consent_push",
    "consent_sms",
)
KINDS = ("user_id", "anonymous_id", "email", "phone")


def rows_of(warehouse: Warehouse, sql: str, params: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    return [row for batch in warehouse.query(sql, params) for row in batch.to_pylist()]


def text(at: datetime) -> str:
    return at.isoformat()


def events(warehouse: Warehouse) -> Iterator[Event]:
    """The day's tracked events, as the tracking API would have taken them."""
    for row in rows_of(
        warehouse,
        "select * from raw.segment_events where occurred_at > ? and occurred_at <= ?",
        (START, END),
    ):
        times = {c: text(row[c]) for c in ("occurred_at", "received_at")}
        yield Event(**{c: row[c] for c in row if c in Event.__struct_fields__} | times)


def tickets(warehouse: Warehouse) -> Iterator[Event]:
    """The day's news of tickets, as a help desk would track them."""
    for row in rows_of(warehouse, "select * from raw.support_tickets"):
        for column, name in (("created_at", "Opened"), ("solved_at", "Solved")):
            at = row[column]
            if at is not None and START < at <= END:
                yield Event(
                    message_id=f"{row['ticket_id']}-{name}",
                    type="track",
                    event=f"Support Ticket {name}",
                    occurred_at=text(at),
                    received_at=text(at),
                    email=row["requester_email"],
                    ticket_id=row["ticket_id"],
                    ticket_kind=row["kind"] if name == "Opened" else None,
                    sentiment=row["sentiment"] if name == "Opened" else None,
                )


def turns(warehouse: Warehouse) -> Iterator[Event]:
    """Tickets that go back and forth, at times at one moment, and by whoever is at hand."""
    dice = random.Random(11)
    openers = rows_of(
        warehouse,
        "select email, external_id from nextmove.dim_customers where email is not null"
        " and customer_id <> external_id order by external_id limit 60",
    )
    desk = {"user_id": "the-help-desk"}
    for n, opener in enumerate(openers):
        names = ({"email": opener["email"]}, {"user_id": opener["external_id"]}, desk)
        at = START + timedelta(seconds=1 + dice.randrange(80_000))
        for turn in range(dice.randrange(1, 6)):
            is_opening = turn == 0 or dice.random() < 0.5
            at += timedelta(seconds=dice.choice((0, 0, 1, 600)))
            yield Event(
                message_id=f"turn-{n}-{turn}",
                type="track",
                event=f"Support Ticket {'Opened' if is_opening else 'Solved'}",
                occurred_at=text(at),
                received_at=text(at),
                ticket_id=f"turning-{n}",
                ticket_kind=dice.choice(("complaint", "question")) if is_opening else None,
                sentiment=dice.choice((-0.5, -0.25, None)) if is_opening else None,
                **(names[0] if turn == 0 else dice.choice(names)),
            )


def as_received(day: list[Record]) -> list[Record]:
    """In the order of arrival: some come late, some twice."""
    dice = random.Random(7)
    came = []
    for record in sorted(day, key=str):
        at = micros(record.occurred_at)  # type: ignore[union-attr]
        for again in range(2 if dice.random() < 0.1 else 1):
            late = dice.randrange(3 * HOUR) if again or dice.random() < 0.2 else 0
            came.append((at + late, str(record), record))
    return [record for _, _, record in sorted(came, key=lambda c: c[:2])]


def webhooks(warehouse: Warehouse) -> Iterator[Webhook]:
    """What people did with messages that day; some of it twice, some by machines."""
    dice = random.Random(5)
    ids = [
        row["external_id"]
        for row in rows_of(
            warehouse, "select external_id from nextmove.dim_customers order by external_id"
        )
    ]
    for n in range(400):
        at = START + timedelta(seconds=1 + dice.randrange(86_399))
        kind = dice.choices(("open", "click", "unsubscribe"), (6, 3, 1))[0]
        hook = Webhook(
            event_id=f"e{n}", vendor="iterable", event_type=kind,
            external_id=dice.choice(ids), email=None,
            channel=dice.choice(("email", "push", "sms")), campaign_id=None, message_ref=None,
            decision_id=None, is_machine=dice.random() < 0.2, occurred_at=text(at),
            received_at=text(at + timedelta(seconds=2)),
        )  # fmt: skip
        yield hook
        if n % 10 == 0:
            yield hook


def load(
    workspace: Workspace, warehouse: Warehouse, table: str, schema: pa.Schema, told: list[Any]
) -> None:
    rows = []
    for record in dict.fromkeys(told):
        row = msgspec.structs.asdict(record)
        for column in ("occurred_at", "received_at"):
            row[column] = datetime.fromisoformat(row[column])
        rows.append(row)
    warehouse.append(workspace.engine(table), pa.Table.from_pylist(rows, schema=schema))


def publish(warehouse: Warehouse, store: HotStore) -> None:
    rows = rows_of(warehouse, "select * from nextmove.outbox_hot_store__profiles")
    told = [{c: plain(v) for c, v in row.items()} for row in rows]
    for start in range(0, len(told), 500):
        part = msgspec.json.decode(msgspec.json.encode(told[start : start + 500]))
        assert not any(store.publish_profiles(part))
    store.complete(micros_of(START))


def identifiers(warehouse: Warehouse) -> dict[str, list[str]]:
    """Customer to identifiers at the end of the day."""
    found: dict[str, list[str]] = {}
    for row in rows_of(warehouse, "select * from nextmove.int_identity__map"):
        if row["identifier_kind"] in KINDS:
            name = f"{row['identifier_kind']}:{row['identifier_value']}"
            found.setdefault(row["customer_id"], []).append(name)
    return found


def calls_for_nothing(*_: object) -> None:
    """No decision is made here."""


def test_the_features_of_a_replayed_day_are_the_warehouses(project: Path) -> None:
    workspace = Workspace.open(project)
    with workspace.warehouse() as warehouse:
        hooks = list(webhooks(warehouse))
        turned = list(turns(warehouse))
        day = as_received([*events(warehouse), *tickets(warehouse), *turned, *hooks])
        with HotStore(project / "hot") as store:
            publish(warehouse, store)
        load(workspace, warehouse, "inbound_events", INBOUND_EVENTS, hooks)
        load(workspace, warehouse, "tracked_events", TRACKED_EVENTS, turned)
    for part in range(PARTS):
        with HotStore(project / "hot") as store:
            known = Projection(store, workspace.inbound_log, calls_for_nothing)
            for n, record in enumerate(split(day, part)):
                known.applied([record], Place(part + 1, n, n + 1))
            asyncio.run(known.flush(micros_of(END)))

    build(workspace, END, command="run")
    with workspace.warehouse() as warehouse, HotStore(project / "hot") as store:
        names = identifiers(warehouse)
        people = Projection(store, workspace.inbound_log, calls_for_nothing).people
        different: list[Any] = []
        compared = active = new = 0
        for row in rows_of(warehouse, "select * from nextmove.dim_customer_features"):
            key = people.find(sorted(names.get(row["customer_id"], []), key=rank))
            if key is None:  # no event, and not in the warehouse before
                continue
            found = people.columns(key, micros_of(END))
            different += [
                (row["customer_id"], column, found.get(column), row[column])
                for column in (*COLUMNS, *PERMISSIONS)
                if found.get(column) != row[column]
                # What only the warehouse is told is not known here yet: nothing is permitted.
                and not (column in PERMISSIONS and found.get(column) is None)
            ]
            compared, active = compared + 1, active + bool(row["page_views_24h"])
            new += not people.is_customer(key)
    assert different == []
    assert compared > 500
    assert active > 50
    assert new > 5


def split(day: list[Record], part: int) -> list[Record]:
    size = len(day) // PARTS + 1
    return day[part * size : (part + 1) * size]


def rank(identifier: str) -> int:
    return KINDS.index(identifier.split(":")[0])
