"""A small real project for Airflow to work on: sixty customers, one agent, the present clock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from decision_engine.scaffold import init
from decision_engine.workspace import Workspace

CUSTOMERS = 60
AGENT = """
agent: hello
goal: Write to whom a message helps.
audience: has_email
outcomes:
  - {event: order, weight: 1.0, window: 24h}
actions:
  - creative: welcome_tour
  - creative: what_is_new
policy: {kind: weighted_thompson}
"""
GROUPS = """groups:
  - {name: treatment, share: 0.5}
  - {name: random, share: 0.5, policy: {kind: uniform}}
"""
TABLES = {
    "crm_contacts": (
        "'p' || i as contact_id, 'p' || i || '@example.com' as email, 'P' as first_name,"
        " 'Europe/London' as time_zone, long_ago as created_at"
    ),
    "consents": (
        "'c' || i as consent_id, 'p' || i || '@example.com' as email, 'email' as channel,"
        " 'granted' as status, long_ago as occurred_at"
    ),
    "orders": (
        "'o' || i as order_id, 's' || i as shop_customer_id, 'p' || i || '@example.com' as email,"
        " 'USD' as currency, 2500 as amount_cents, 0 as discount_cents, 'paid' as status,"
        " if(i % 3 = 0, lately, long_ago) as ordered_at"
    ),
}


def now() -> datetime:
    """The present, naive UTC, in whole seconds."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def make_shop(folder: Path, sandbox: str) -> Workspace:
    """Messages leave at once at any hour; a third of the customers has ordered 3.5 days ago."""
    init(folder, "airflow_shop", salt="salt-of-the-shop-0123", sources=sorted(TABLES))
    for path in (folder / "agents").iterdir():
        path.unlink()
    (folder / "agents" / "hello.yml").write_text(AGENT)
    config = folder / "nextmove.yml"
    text = config.read_text().replace("http://127.0.0.1:8800", sandbox)
    text = text.replace("{start: 8, end: 21}", "{start: 0, end: 24}")
    start, end = text.index("groups:\n"), text.index("\n# What may be given away")
    config.write_text(text[:start] + GROUPS + text[end:])
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        warehouse.rows("create schema raw")
        for name, columns in TABLES.items():
            warehouse.rows(
                f"create table raw.{name} as with times as (select timestamp '{now()}' as now)"
                f" select {columns} from (select i, now - interval 40 day as long_ago,"
                " now - interval 84 hour as lately"
                f" from range({CUSTOMERS}) t(i), times)"
            )
    return workspace


def four_days_pass(workspace: Workspace) -> None:
    """As if all decisions had been made four days ago: their outcomes have closed since."""
    with workspace.warehouse() as warehouse:
        warehouse.rows(
            f"update {workspace.engine('decisions')} set decided_at = decided_at - interval 4 day,"
            " send_at = send_at - interval 4 day"
        )
