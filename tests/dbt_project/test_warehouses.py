"""Where databases differ by themselves, the models do not: sort order, zones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.dbt_project.conftest import Dbt
from tests.dbt_project.shop import customer_of
from tests.dbt_project.warehouse import Copy, Place, create_warehouse, insert, rows_of

SEEN = datetime(2026, 1, 2, 3)
WITH_ZONE = (
    "alter table raw.crm_contacts alter column created_at"
    " set data type timestamptz using created_at at time zone 'UTC'"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A person with three browsers, all first seen at the same moment, and a CRM contact."""
    path = tmp_path / "warehouse.duckdb"
    create_warehouse(path)
    event = {"type": "page", "user_id": "u1", "occurred_at": SEEN, "received_at": SEEN}
    names = ["a", "B", "_c"]
    events = [{**event, "message_id": n, "anonymous_id": n, "page_class": n} for n in names]
    insert(path, "raw.segment_events", events)
    insert(path, "raw.crm_contacts", [{"contact_id": "k", "email": "k@x.io", "created_at": SEEN}])
    return path


@pytest.fixture(params=["duckdb", "postgres"])
def place(request: pytest.FixtureRequest, file: Path) -> Place:
    if request.param == "duckdb":
        with duckdb.connect(str(file)) as db:
            db.execute("set timezone = 'UTC'")
            db.execute(WITH_ZONE)
        return file
    copied: Callable[[Path], Copy] = request.getfixturevalue(f"in_{request.param}")
    copy = copied(file)
    with closing(copy.open()) as warehouse:
        warehouse.rows(WITH_ZONE)
    return copy


def test_ties_and_zones(dbt: Dbt, place: Place) -> None:
    dbt(place, "run", "--select", "+dim_customer_features", as_of=SEEN + timedelta(hours=1))
    found = rows_of(
        place,
        "select customer_id, pages_24h, days_since_signup, first_seen_at"
        " from nextmove.dim_customer_features join nextmove.dim_customers using (customer_id)",
    )
    day = 1 / 24
    assert sorted(found, key=repr) == sorted(
        [
            {
                "customer_id": customer_of("anonymous_id:B"),
                "pages_24h": "B>_c>a",
                "days_since_signup": day,
                "first_seen_at": SEEN,
            },
            {
                "customer_id": customer_of("contact_id:k"),
                "pages_24h": None,
                "days_since_signup": day,
                "first_seen_at": SEEN,
            },
        ],
        key=repr,
    )
