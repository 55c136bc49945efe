"""One small shop, by hand: raw rows in, every model out, all tests and unit tests passing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.dbt_project.conftest import Dbt
from tests.dbt_project.warehouse import AS_OF, create_warehouse, insert, rows_of


def _id(identifier: str) -> str:
    return "c_" + hashlib.md5(identifier.encode(), usedforsecurity=False).hexdigest()


ANN, ANN_BEFORE, BEN, CYD = (
    _id("anonymous_id:a1"),
    _id("contact_id:k1"),
    _id("email:ben@example.com"),
    _id("anonymous_id:a3"),
)


def _at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour)


def _page(n: int, anonymous_id: str, page_class: str, at: datetime) -> dict[str, Any]:
    return {
        "message_id": f"m{n}",
        "type": "page",
        "anonymous_id": anonymous_id,
        "page_class": page_class,
        "session_id": f"s{n}",
        "occurred_at": at,
        "received_at": at,
    }


def _decision(n: int, customer_id: str, at: datetime, **more: Any) -> dict[str, Any]:
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


def _event(n: int, kind: str, at: datetime, **more: Any) -> dict[str, Any]:
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


def _fill(path: Path) -> None:
    create_warehouse(path)
    identify = {"type": "identify", "user_id": "u1", "email": "Ann@example.com"}
    rows: dict[str, list[dict[str, Any]]] = {
        "raw.segment_events": [
            _page(1, "a1", "home", _at(1)),
            # A second copy of the same delivery.
            _page(1, "a1", "home", _at(1)),
            _page(2, "a1", "product", _at(30, 7)),
            _page(3, "a1", "price", _at(31, 5)),
            _page(4, "a3", "home", _at(20)),
            {**_page(5, "a1", "", _at(10)), **identify, "page_class": None},
            # After as_of: not known yet.
            _page(6, "a1", "cart", _at(31, 7)),
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
                "created_at": _at(5),
                "updated_at": _at(5),
            }
        ],
        "raw.crm_accounts": [{"account_id": "acme", "employees": 40, "created_at": _at(1)}],
        "raw.crm_deals": [
            {
                "deal_id": "x1",
                "contact_id": "k1",
                "account_id": "acme",
                "stage": "open",
                "created_at": _at(6),
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
                "ordered_at": _at(30, 18),
            },
            {
                "order_id": "o2",
                "shop_customer_id": "s2",
                "email": "ben@example.com",
                "amount_cents": 9900,
                "status": "refunded",
                "ordered_at": _at(15),
            },
        ],
        "raw.consents": [
            {
                "consent_id": "g1",
                "email": "ann@example.com",
                "channel": "email",
                "purpose": "marketing",
                "status": "granted",
                "occurred_at": _at(5),
            }
        ],
        "raw.suppressions": [
            {
                "suppression_id": "p1",
                "email": "BEN@example.com ",
                "kind": "erased",
                "occurred_at": _at(16),
            }
        ],
        "nextmove_engine.agent_outcomes": [
            {"agent": "growth", "event": e, "weight": w, "per": p, "window_hours": 72}
            for e, w, p in (("order", 0.01, "dollar"), ("click", 0.1, "event"))
        ],
        "nextmove_engine.decisions": [
            _decision(1, ANN_BEFORE, _at(6, 12), reasons=[0, 9], action="hello", channel="email"),
            _decision(2, ANN, _at(30, 6), action="no_action", channel="", reasons=[0, 3]),
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
                "at": _at(6, 13),
            }
        ],
        "nextmove_engine.inbound_events": [
            _event(1, "click", _at(7, 6)),
            _event(2, "click", _at(8, 12)),
            _event(3, "click", _at(7, 7), is_machine=True),
            _event(4, "click", _at(20)),
        ],
    }
    for table, entries in rows.items():
        insert(path, table, entries)


@pytest.fixture(scope="module")
def path(dbt: Dbt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Built twice: before Ann logged in for the first time, and after."""
    path = tmp_path_factory.mktemp("shop") / "warehouse.duckdb"
    _fill(path)
    dbt(path, "run", as_of=_at(6))
    dbt(path, "build")
    yield path


def _rows(path: Path, model: str, columns: str, key: str) -> dict[str, dict[str, Any]]:
    return {r[key]: r for r in rows_of(path, f"select {key}, {columns} from nextmove.{model}")}


def test_customers(path: Path) -> None:
    rows = _rows(path, "dim_customers", "external_id, email, rep_id, is_suppressed", "customer_id")
    assert rows == {
        ANN: {
            "customer_id": ANN,
            "external_id": "u1",
            "email": "ann@example.com",
            "rep_id": "r1",
            "is_suppressed": False,
        },
        BEN: {
            "customer_id": BEN,
            "external_id": BEN,
            "email": "ben@example.com",
            "rep_id": None,
            "is_suppressed": True,
        },
        CYD: {
            "customer_id": CYD,
            "external_id": CYD,
            "email": None,
            "rep_id": None,
            "is_suppressed": False,
        },
    }


def test_the_merge_is_remembered(path: Path) -> None:
    assert rows_of(path, "select * from nextmove.int_identity__merges") == [
        {"old_customer_id": ANN_BEFORE, "customer_id": ANN, "merged_at": AS_OF}
    ]


def test_features(path: Path) -> None:
    (row,) = rows_of(
        path, f"select * from nextmove.dim_customer_features where customer_id = '{ANN}'"
    )
    expected = {
        "as_of": AS_OF,
        "profile_build": hashlib.md5(
            b"2026-01-31 06:00:00|nextmove", usedforsecurity=False
        ).hexdigest(),
        "orders_count": 1,
        "revenue_cents": 4500,
        "avg_order_cents": 4500.0,
        "days_since_last_order": 0.5,
        "pages_24h": "product>price",
        "last_page_class": "price",
        "page_views_24h": 2,
        "price_visits_7d": 1,
        "cart_visits_24h": 0,
        "clicks_2d": 0,
        "opens_14d": 0,
        "clicks_14d": 1,
        "engagement_velocity": -1 / 14,
        "preferred_channel": "email",
        "email_click_rate": 4 / 11,
        "push_click_rate": 0.1,
        "last_action": "no_action",
        "last_channel": None,
        "days_since_last_decision": 1.0,
        "step": 1,
        "sends_7d": 0,
        "sends_30d": 1,
        "email_sends_30d": 1,
        "sms_sends_30d": 0,
        "consent_email": True,
        "consent_push": None,
        "is_suppressed": False,
        "has_email": True,
        "has_phone": False,
        "has_push": False,
        "open_deals": 1,
        "account_deals_won": 0,
        "account_employees": 40,
        "cross_channel_intent": 0.0,
    }
    assert {k: row[k] for k in expected} == expected


def test_outcomes(path: Path) -> None:
    rows = rows_of(
        path,
        "select decision_id, event, event_id, customer_id, delay_hours, value, is_machine"
        " from nextmove.fct_outcomes order by decision_id, event_id",
    )
    names = (
        "decision_id",
        "event",
        "event_id",
        "customer_id",
        "delay_hours",
        "value",
        "is_machine",
    )
    assert rows == [
        dict(zip(names, values, strict=True))
        for values in (
            ("d1", "click", "braze:i1", ANN, 18.0, 1.0, False),
            ("d1", "click", "braze:i2", ANN, 48.0, 1.0, False),
            ("d1", "click", "braze:i3", ANN, 19.0, 1.0, True),
            ("d2", "order", "o1", ANN, 12.0, 45.0, False),
        )
    ]


def test_rewards(path: Path) -> None:
    columns = "customer_id, reward, is_closed, age_hours, delay_weight, is_learnable"
    rows = _rows(path, "fct_decision_rewards", columns, "decision_id")
    assert rows["d1"]["reward"] == pytest.approx(0.2)
    assert rows["d2"]["reward"] == pytest.approx(0.45)
    assert (rows["d1"]["is_closed"], rows["d1"]["delay_weight"]) == (True, 1.0)
    assert (rows["d2"]["is_closed"], rows["d2"]["delay_weight"]) == (False, 0.5)
    assert rows["d2"]["age_hours"] == 24.0
    assert all(r["is_learnable"] and r["customer_id"] == ANN for r in rows.values())


def test_outboxes(path: Path) -> None:
    assert rows_of(path, "select key, email, first_name from nextmove.outbox_braze__users") == [
        {"key": "u1", "email": "ann@example.com", "first_name": "Ann"}
    ]
    assert rows_of(path, "select key, orders_count from nextmove.outbox_iterable__users") == [
        {"key": "u1", "orders_count": 1}
    ]
    (contact,) = rows_of(path, "select * from nextmove.outbox_hubspot__contacts")
    assert contact == {
        "key": "ann@example.com",
        "email": "ann@example.com",
        "customer_id": ANN,
        "nextmove_action": "no_action",
        "nextmove_agent": "growth",
        "nextmove_reason": "This customer looked at prices in the last 7 days, and not writing"
        " was chosen for the goal growth.",
        "nextmove_next_step": "No message is planned.",
        "nextmove_decided_at": _at(30, 6),
    }


def test_reports(path: Path) -> None:
    assert rows_of(path, "select agent, channel, sends from nextmove.rpt_sends_by_channel") == [
        {"agent": "growth", "channel": "email", "sends": 1}
    ]
    blocks = _rows(path, "rpt_guardrail_blocks", "decisions, blocked_actions", "reason")
    assert set(blocks) == {"frequency_cap", "no_consent"}
    (group,) = rows_of(path, "select * from nextmove.rpt_reward_by_group")
    assert (group["decisions"], group["customers"], group["closed_decisions"]) == (2, 1, 1)
    assert group["reward_per_decision"] == pytest.approx(0.2)


def test_a_build_without_news_changes_no_history(dbt: Dbt, path: Path) -> None:
    before = rows_of(path, "select count(*) as n from nextmove.int_identity__history")
    dbt(path, "run", "--select", "tag:daily")
    assert rows_of(path, "select count(*) as n from nextmove.int_identity__history") == before
