"""The raw tables: their columns and types, and how rows are put together as Arrow tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decision_engine.types import Bools, Floats, Ints

_KINDS = {"t": pa.string(), "i": pa.int32(), "l": pa.int64(), "f": pa.float64(),
          "b": pa.bool_(), "w": pa.timestamp("us")}  # fmt: skip


def _schema(columns: str) -> pa.Schema:
    """Columns as `name:kind`; a name alone is text."""
    pairs = [[*c.split(":"), "t"][:2] for c in columns.split()]
    return pa.schema([(name, _KINDS[kind]) for name, kind in pairs])


SCHEMAS: dict[str, pa.Schema] = {
    "segment_events": _schema(
        "message_id type event anonymous_id user_id email phone platform page_path page_class"
        " session_id occurred_at:w received_at:w"
    ),
    "esp_events": _schema(
        "event_id vendor event_type external_id email channel campaign_id message_ref decision_id"
        " is_machine:b occurred_at:w received_at:w"
    ),
    "crm_contacts": _schema(
        "contact_id email phone first_name last_name account_id owner_rep_id time_zone country"
        " region lifecycle_stage tier created_at:w updated_at:w"
    ),
    "crm_accounts": _schema("account_id name industry employees:i created_at:w"),
    "crm_deals": _schema(
        "deal_id account_id contact_id rep_id stage amount_cents:l created_at:w closed_at:w"
    ),
    "crm_reps": _schema("rep_id name email is_available:b capacity_per_day:i"),
    "support_tickets": _schema(
        "ticket_id requester_email subject kind sentiment:f status created_at:w solved_at:w"
    ),
    "orders": _schema(
        "order_id shop_customer_id email user_id currency amount_cents:l discount_cents:l status"
        " ordered_at:w"
    ),
    "order_items": _schema("order_id line:i product_id quantity:i price_cents:l"),
    "ad_clicks": _schema("click_id anonymous_id channel campaign cost_cents:l clicked_at:w"),
    "chats": _schema("chat_id email anonymous_id topic started_at:w ended_at:w"),
    "form_submissions": _schema("form_id form_name email phone anonymous_id submitted_at:w"),
    "consents": _schema(
        "consent_id email phone user_id channel purpose status source occurred_at:w expires_at:w"
    ),
    "suppressions": _schema("suppression_id email user_id kind occurred_at:w"),
    "products": _schema("product_id name category price_cents:l is_active:b updated_at:w"),
}
"""Every raw table, by name. Timestamps are UTC without a zone."""

_TIMES = {"segment_events": "occurred_at", "esp_events": "occurred_at",
          "support_tickets": "created_at", "orders": "ordered_at", "ad_clicks": "clicked_at",
          "chats": "started_at", "form_submissions": "submitted_at", "consents": "occurred_at",
          "suppressions": "occurred_at", "crm_contacts": "created_at"}  # fmt: skip


class Rows:
    """Collects rows table by table."""

    def __init__(self) -> None:
        self._parts: dict[str, list[pa.Table]] = defaultdict(list)

    def add(self, table: str, n: int, **columns: Any) -> None:
        """Add n rows. A column is an array, or one value for all rows; left out it is NULL."""
        schema = SCHEMAS[table]
        unknown = columns.keys() - set(schema.names)
        if unknown:
            raise KeyError(f"{table} has no column {min(unknown)}")
        arrays = [_column(columns.get(f.name), f.type, n) for f in schema]
        self._parts[table].append(pa.Table.from_arrays(arrays, schema=schema))

    def tables(self) -> dict[str, pa.Table]:
        """Every raw table that has rows, in time order."""
        return {name: _in_time(name, parts) for name, parts in sorted(self._parts.items())}


def _in_time(name: str, parts: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(parts)
    if name in _TIMES:
        order = np.argsort(table[_TIMES[name]].to_numpy(), kind="stable")
        table = table.take(pa.array(order))
    return table.combine_chunks()


def _column(values: Any, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    if isinstance(values, str | int | float | bool):
        return pa.repeat(pa.scalar(values, kind), n)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array if array.type == kind else array.cast(kind)


def times(seconds: Floats) -> pa.Array:
    """Unix seconds as timestamps; a time that is not finite is NULL."""
    known = np.isfinite(seconds)
    micros = np.round(np.where(known, seconds, 0.0) * 1e6).astype(np.int64)
    return pa.array(micros, mask=~known).cast(pa.timestamp("us"))


def ids(prefix: str, *parts: Any) -> pa.Array:
    """Text ids, row by row: `prefix` and the parts (integer or text arrays), dashes between."""
    texts = [p if isinstance(p, pa.Array) else pa.array(p) for p in parts]
    texts = [t if t.type == pa.string() else t.cast(pa.string()) for t in texts]
    return pc.binary_join_element_wise(pa.scalar(prefix), *texts, "-")


def pick(words: Sequence[str], index: Ints) -> pa.Array:
    """The word at each index."""
    return pa.array(list(words), pa.string()).take(pa.array(index))


def only(keep: Bools, texts: pa.Array) -> pa.Array:
    """The texts where `keep` is true, NULL elsewhere."""
    return pc.if_else(pa.array(keep), texts, pa.scalar(None, pa.string()))


def merged(*parts: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """Several sets of tables as one, in time order."""
    names = sorted({name for part in parts for name in part})
    return {name: _in_time(name, [p[name] for p in parts if name in p]) for name in names}
