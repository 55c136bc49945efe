"""One small shop, by hand: Ann logs in after a while, Ben is erased, Cyd only looks around."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.dbt_project.warehouse import create_warehouse, insert


def customer_of(identifier: str) -> str:
    return "c_" + hashlib.md5(identifier.encode(), usedforsecurity=False).hexdigest()


ANN, ANN_BEFORE, BEN, CYD = (
    customer_of("anonymous_id:a1"),
    customer_of("contact_id:k1"),
    customer_of("email:ben@example.com"),
    customer_of("anonymous_id:a3"),
)


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour)


def page(n: int, anonymous_id: str, page_class: str, at: datetime) -> dict[str, Any]:
    return {
        "message_id": f"m{n}",
        "type": "page",
        "anonymous_id": anonymous_id,
        "page_class": page_class,
        "session_id": f"s{n}",
        "occurred_at": at,
        "received_at": at,
    }


def decision(n: int, customer_id: str, at: datetime, **more: Any) -> dict[str, Any]:
    sent = {"action": "hello", "channel": "email", "creative": "hello", "send_at": at}
    return {
        "decision_id": f"d{n}",
        "customer_id": customer_id,
        "decided_at": at,
        "epoch_id": f"e{n}",
        "slot": str(at.date()),
        "agent": "growth",
        "policy": "uniform",
        "group_name": "treatment",
        "policy_version": "1",
        "incentive": "none",
        "is_promotional": True,
        "carried_out_by": "delivery",
        "expires_at": at,
        "p_agent": 1.0,
        "p_action": 0.5,
        "propensity": 0.5,
        "floor": 0.01,
        "n_actions": 2,
        "n_eligible": 2,
        "reasons": [0, 0],
        **(more or sent),
    }


def event(n: int, kind: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"i{n}",
        "vendor": "braze",
        "event_type": kind,
        "channel": "email",
        "external_id": ANN_BEFORE,
        "message_ref": "v1",
        "is_machine": False,
        "occurred_at": at,
        "received_at": at,
        **more,
    }


def fill(path: Path) -> None:
    create_warehouse(path)
    identify = {"type": "identify", "user_id": "u1", "email": "Ann@example.com"}
    rows: dict[str, list[dict[str, Any]]] = {
        "raw.segment_events": [
            page(1, "a1", "home", at(1)),
            # A second copy of the same delivery.
            page(1, "a1", "home", at(1)),
            page(2, "a1", "product", at(30, 7)),
            page(3, "a1", "price", at(31, 5)),
            page(4, "a3", "home", at(20)),
            {**page(5, "a1", "", at(10)), **identify, "page_class": None},
            # After as_of: not known yet.
            page(6, "a1", "cart", at(31, 7)),
        ],
        "raw.crm_contacts": [
            {
                "contact_id": "k1",
                "email": "ann@example.com",
                "first_name": "Ann",
                "account_id": "acme",
                "owner_rep_id": "r1",
                "time_zone": "Europe/Paris",
                "tier": "gold",
                "created_at": at(5),
                "updated_at": at(5),
            }
        ],
        "raw.crm_accounts": [{"account_id": "acme", "employees": 40, "created_at": at(1)}],
        "raw.crm_deals": [
            {
                "deal_id": "x1",
                "contact_id": "k1",
                "account_id": "acme",
                "stage": "open",
                "created_at": at(6),
            }
        ],
        "raw.orders": [
            {
                "order_id": "o1",
                "shop_customer_id": "s1",
                "email": "ann@example.com",
                "amount_cents": 5000,
                "discount_cents": 500,
                "status": "paid",
                "ordered_at": at(30, 18),
            },
            {
                "order_id": "o2",
                "shop_customer_id": "s2",
                "email": "ben@example.com",
                "amount_cents": 9900,
                "status": "refunded",
                "ordered_at": at(15),
            },
        ],
        "raw.consents": [
            {
                "consent_id": "g1",
                "email": "ann@example.com",
                "channel": "email",
                "purpose": "marketing",
                "status": "granted",
                "occurred_at": at(5),
            }
        ],
        "raw.suppressions": [
            {
                "suppression_id": "p1",
                "email": "BEN@example.com ",
                "kind": "erased",
                "occurred_at": at(16),
            }
        ],
        "nextmove_engine.agent_outcomes": [
            {"agent": "growth", "event": e, "weight": w, "per": p, "window_hours": 72}
            for e, w, p in (("order", 0.01, "dollar"), ("click", 0.1, "event"))
        ],
        "nextmove_engine.decisions": [
            decision(1, ANN_BEFORE, at(6, 12), reasons=[0, 10], action="hello", channel="email"),
            decision(2, ANN, at(30, 6), action="no_action", channel="", reasons=[0, 4]),
        ],
        "nextmove_engine.receipts": [
            {
                "send_key": "w1",
                "decision_id": "d1",
                "customer_id": ANN_BEFORE,
                "attempt": 1,
                "destination": "braze",
                "stream": "messages",
                "status": "accepted",
                "reason": "",
                "http_status": 201,
                "vendor_ref": "v1",
                "at": at(6, 13),
            }
        ],
        "nextmove_engine.inbound_events": [
            event(1, "click", at(7, 6)),
            event(2, "click", at(8, 12)),
            event(3, "click", at(7, 7), is_machine=True),
            event(4, "click", at(20)),
        ],
    }
    for table, entries in rows.items():
        insert(path, table, entries)
