"""Events that the service received itself are events like all others."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.dbt_project.conftest import Dbt
from tests.dbt_project.warehouse import AS_OF, create_warehouse, insert, rows_of

WANTED = "+int_features__support +int_features__web"


def at(hours: float) -> datetime:
    return AS_OF - timedelta(hours=hours)


def page(message_id: str, page_class: str, hours: float, **who: str) -> dict[str, Any]:
    moment = {"occurred_at": at(hours), "received_at": at(hours)}
    return {"message_id": message_id, "type": "page", "page_class": page_class, **moment, **who}


def ticket(message_id: str, event: str, hours: float, **values: Any) -> dict[str, Any]:
    moment = {"occurred_at": at(hours), "received_at": at(hours)}
    return {"message_id": message_id, "type": "track", "event": event, **moment, **values}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    create_warehouse(path)
    return path


def test_both_ways_into_one_profile(dbt: Dbt, path: Path) -> None:
    both = page("m1", "home", 5, anonymous_id="a1", user_id="u1")
    insert(path, "raw.segment_events", [both, page("m2", "price", 4, anonymous_id="a1")])
    insert(
        path,
        "nextmove_engine.tracked_events",
        [
            both,
            page("m3", "cart", 3, anonymous_id=" a1\t"),
            ticket("m4", "Support Ticket Opened", 2, ticket_id="t1", ticket_kind="complaint",
                   sentiment=-1.0, anonymous_id="a1"),
            ticket("m5", "Support Ticket Opened", 9, ticket_id="t2", ticket_kind="complaint",
                   sentiment=0.0, email="Bo@Example.com"),
        ],
    )  # fmt: skip
    insert(
        path,
        "raw.support_tickets",
        [
            {
                "ticket_id": "t2",
                "requester_email": "bo@example.com",
                "kind": "complaint",
                "status": "solved",
                "created_at": at(10),
                "solved_at": at(1),
            }
        ],
    )
    dbt(path, "build", "--select", *WANTED.split(), "--exclude", "test_type:unit")

    customers = {
        row["identifier_value"]: row["customer_id"]
        for row in rows_of(path, "select * from nextmove.int_identity__map")
    }
    assert set(customers) == {"a1", "u1", "bo@example.com"}
    assert customers["a1"] == customers["u1"]
    (web,) = rows_of(path, "select * from nextmove.int_features__web where page_views_24h > 0")
    assert (web["page_views_24h"], web["pages_24h"]) == (3, "home>price>cart")
    support = {
        row["customer_id"]: (row["open_complaints"], row["complaint_sentiment"])
        for row in rows_of(path, "select * from nextmove.int_features__support")
    }
    assert support == {customers["a1"]: (1, -1.0), customers["bo@example.com"]: (0, 0.0)}


@pytest.mark.parametrize(
    ("absent", "sources"),
    [("nextmove_engine.tracked_events", ["segment_events"]), ("raw.segment_events", [])],
)
def test_either_may_be_absent(dbt: Dbt, path: Path, absent: str, sources: list[str]) -> None:
    for table in ("nextmove_engine.tracked_events", "raw.segment_events"):
        insert(path, table, [page("m", "home", 1, user_id="u")])
    with duckdb.connect(str(path)) as database:
        database.execute(f"drop table {absent}")
    dbt(path, "run", "--select", "stg_segment__events", "+stg_nextmove__tracked_events",
        nextmove_sources=sources)  # fmt: skip
    (event,) = rows_of(path, "select * from nextmove.stg_segment__events")
    assert (event["message_id"], event["user_id"], event["page_class"]) == ("m", "u", "home")
