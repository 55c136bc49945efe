"""A DuckDB warehouse with the raw and engine tables, empty or filled by tests, and copies of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from connectors.base import Warehouse
from connectors.warehouses.duckdb import sql_type
from decision_engine.tables import ENGINE_TABLES

AS_OF = datetime(2026, 1, 31, 6)

RAW_TABLES = {
    "segment_events": "message_id text, type text, event text, anonymous_id text, user_id text,"
    " email text, phone text, platform text, page_path text, page_class text, session_id text,"
    " occurred_at timestamp, received_at timestamp",
    "esp_events": "event_id text, vendor text, event_type text, external_id text, email text,"
    " channel text, campaign_id text, message_ref text, decision_id text, is_machine boolean,"
    " occurred_at timestamp, received_at timestamp",
    "crm_contacts": "contact_id text, email text, phone text, first_name text, last_name text,"
    " account_id text, owner_rep_id text, time_zone text, country text, region text,"
    " lifecycle_stage text, tier text, created_at timestamp, updated_at timestamp",
    "crm_accounts": "account_id text, name text, industry text, employees int,"
    " created_at timestamp",
    "crm_deals": "deal_id text, account_id text, contact_id text, rep_id text, stage text,"
    " amount_cents bigint, created_at timestamp, closed_at timestamp",
    "crm_reps": "rep_id text, name text, email text, is_available boolean, capacity_per_day int",
    "support_tickets": "ticket_id text, requester_email text, subject text, kind text,"
    " sentiment double, status text, created_at timestamp, solved_at timestamp",
    "orders": "order_id text, shop_customer_id text, email text, user_id text, currency text,"
    " amount_cents bigint, discount_cents bigint, status text, ordered_at timestamp",
    "order_items": "order_id text, line int, product_id text, quantity int, price_cents bigint",
    "ad_clicks": "click_id text, anonymous_id text, channel text, campaign text,"
    " cost_cents bigint, clicked_at timestamp",
    "chats": "chat_id text, email text, anonymous_id text, topic text, started_at timestamp,"
    " ended_at timestamp",
    "form_submissions": "form_id text, form_name text, email text, phone text,"
    " anonymous_id text, submitted_at timestamp",
    "consents": "consent_id text, email text, phone text, user_id text, channel text,"
    " purpose text, status text, source text, occurred_at timestamp, expires_at timestamp",
    "suppressions": "suppression_id text, email text, user_id text, kind text,"
    " occurred_at timestamp",
    "products": "product_id text, name text, category text, price_cents bigint,"
    " is_active boolean, updated_at timestamp",
}

Rows = Iterable[Mapping[str, Any]]


def create_warehouse(path: Path, raw_schema: str = "raw") -> None:
    """All raw and engine tables, without rows."""
    with duckdb.connect(str(path)) as db:
        db.execute(f"create schema {raw_schema}")
        for table, columns in RAW_TABLES.items():
            db.execute(f"create table {raw_schema}.{table} ({columns})")
        db.execute("create schema nextmove_engine")
        for table, schema in ENGINE_TABLES.items():
            columns = ", ".join(f'"{f.name}" {sql_type(f.type)}' for f in schema)
            db.execute(f"create table nextmove_engine.{table} ({columns})")


def insert(path: Path, table: str, rows: Rows) -> None:
    """Append rows; columns that a row does not name are NULL."""
    with duckdb.connect(str(path)) as db:
        for row in rows:
            columns = ", ".join(f'"{c}"' for c in row)
            marks = ", ".join("?" for _ in row)
            db.execute(f"insert into {table} ({columns}) values ({marks})", list(row.values()))


@dataclass(frozen=True)
class Copy:
    """A copy in a warehouse of another kind; `environment` is what dbt's profile reads."""

    kind: str
    database: str
    open: Callable[[], Warehouse]
    environment: dict[str, str]

    def fill(self, path: Path) -> Copy:
        """All tables and rows of a DuckDB file; itself."""
        tables = "select table_schema || '.' || table_name from information_schema.tables"
        with duckdb.connect(str(path), read_only=True) as db, closing(self.open()) as warehouse:
            for (table,) in db.execute(tables).fetchall():
                data = db.sql(f"select * from {table}").to_arrow_table()
                warehouse.ensure(table, data.schema)
                warehouse.append(table, data)
        return self


Place = Path | Copy


def rows_of(place: Place, sql: str) -> list[dict[str, Any]]:
    """The rows of a query."""
    if isinstance(place, Copy):
        with closing(place.open()) as warehouse:
            return [row for batch in warehouse.query(sql) for row in batch.to_pylist()]
    with duckdb.connect(str(place), read_only=True) as db:
        result = db.execute(sql)
        names = [d[0] for d in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
