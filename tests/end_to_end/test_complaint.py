"""A complaint stops a promotion that was decided before it and has not left yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.journal import Journal
from decision_engine import gate
from decision_engine.batch import decide_all
from decision_engine.delivery import open_delivery
from decision_engine.gate import Gate
from decision_engine.inbound import load_log
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight
from tests.sandbox_process import Sandbox, running_server

SLOT = midnight(0).date().isoformat()
KEY = "write-key"
EVENING = midnight(0) + timedelta(hours=20)


@dataclass
class Shop:
    """A project with planned messages, and the running service that writes its log."""

    workspace: Workspace
    url: str
    promotions: list[dict[str, Any]]

    def track(self, event: str, ticket: str, **item: Any) -> None:
        """As a help desk tells; acknowledged."""
        properties = {"ticket_id": ticket} | item.pop("properties", {})
        body = {"event": event, "properties": properties, "writeKey": KEY, **item}
        reply = requests.post(f"{self.url}/v1/track", json=body, timeout=10)
        assert (reply.status_code, reply.json()) == (200, {"success": True})

    def complain(self, ticket: str, **item: Any) -> None:
        """A ticket that is a complaint."""
        extra = item.pop("properties", {})
        self.track(
            "Support Ticket Opened", ticket, properties={"kind": "complaint"} | extra, **item
        )


@pytest.fixture
def shop(project: Path) -> Iterator[Shop]:
    """The messages of the first day, waiting in the journal."""
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    with open_delivery(workspace) as delivery:
        delivery.dispatch(SLOT, midnight(0))
        waiting = [i for i in delivery.journal.due(EVENING) if i["is_promotional"]]
        allowed = admitted(workspace, delivery.journal, waiting)
    arguments = ["--port", "0", "--log", str(workspace.inbound_log)]
    env = {"NEXTMOVE_WRITE_KEY": KEY}
    with running_server("decision_engine.service", arguments, env) as (url, _):
        yield Shop(workspace, url, allowed)


def admitted(
    workspace: Workspace, journal: Journal, intents: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Those that nothing holds back."""
    with workspace.warehouse() as warehouse:
        ask = Gate(workspace, warehouse, journal, [i["customer_id"] for i in intents])
        return [i for i in intents if ask(i, EVENING) is None]


def verdicts(shop: Shop, *intents: dict[str, Any]) -> list[str | None]:
    """What the send boundary says of them now."""
    with shop.workspace.warehouse() as warehouse, shop.workspace.journal() as journal:
        ask = Gate(shop.workspace, warehouse, journal, [i["customer_id"] for i in intents])
        return [ask(intent, EVENING) for intent in intents]


def identifier(shop: Shop, intent: dict[str, Any], kind: str) -> str:
    """One of the person's identifiers."""
    with shop.workspace.warehouse() as warehouse:
        found = warehouse.rows(
            f"select identifier_value from {shop.workspace.model('int_identity__map')}"
            " where customer_id = ? and identifier_kind = ? order by 1",
            [intent["customer_id"], kind],
        )
    return str(found[0][0])


def test_from_the_call_to_the_ledger(shop: Shop, sandbox: Sandbox) -> None:
    ledger = replace(sandbox, seen=max((e["n"] for e in sandbox.ledger()), default=0))
    by_user, by_visitor, by_address, solved, *others = shop.promotions
    service = by_user | {
        "send_key": "service",
        "decision_id": "service",
        "is_promotional": False,
    }
    with open_delivery(shop.workspace) as delivery:
        assert delivery.journal.add([service]) == 1
    address = identifier(shop, by_address, "email").upper()
    shop.complain("t-1", userId=by_user["external_id"])
    shop.complain("t-2", anonymousId=identifier(shop, by_visitor, "anonymous_id"))
    shop.complain("t-3", userId="unknown to us", properties={"email": f" {address}"})
    shop.complain("t-4", userId=solved["external_id"])
    shop.track("Support Ticket Solved", "t-4", userId=solved["external_id"])

    with open_delivery(shop.workspace) as delivery:
        delivery.deliver(EVENING, profiles=True)

    table = shop.workspace.engine("receipts")
    with shop.workspace.warehouse() as warehouse:
        receipts = warehouse.rows(f"select decision_id, status, reason from {table}")
    status = {decision: (state, reason) for decision, state, reason in receipts if decision}
    for stopped in (by_user, by_visitor, by_address):
        assert status[stopped["decision_id"]] == ("skipped", "open_complaint")
    sent = {
        (e["metadata"] or {}).get("decision_id") or e["properties"].get("decision_id")
        for e in ledger.ledger()
        if e["kind"] == "message"
    }
    assert {"service", solved["decision_id"]} | {i["decision_id"] for i in others} <= sent
    assert not sent & {i["decision_id"] for i in (by_user, by_visitor, by_address)}
    assert len(others) > 20


def test_from_the_call_to_the_next_build(shop: Shop) -> None:
    intent, other = shop.promotions[:2]
    assert verdicts(shop, intent, other) == [None, None]
    shop.complain("t", userId=intent["external_id"])
    assert verdicts(shop, intent, other) == ["open_complaint", None]
    assert load_log(shop.workspace)["tracked_events"] == 1
    assert verdicts(shop, intent, other) == ["open_complaint", None]
    shop.track("Support Ticket Solved", "t", anonymousId="the help desk")
    assert verdicts(shop, intent, other) == [None, None]
    load_log(shop.workspace)
    assert verdicts(shop, intent, other) == [None, None]


def test_a_question_is_no_complaint(shop: Shop) -> None:
    intent = shop.promotions[0]
    user = intent["external_id"]
    shop.track("Support Ticket Opened", "t", userId=user, properties={"kind": "question"})
    assert verdicts(shop, intent) == [None]


def test_the_last_word_counts_whatever_the_order_of_arrival(shop: Shop) -> None:
    intent = shop.promotions[0]
    user = intent["external_id"]
    shop.complain("t", userId=user, timestamp="2026-03-02T10:00:00Z")
    shop.track("Support Ticket Solved", "t", userId=user, timestamp="2026-03-02T09:00:00Z")
    assert verdicts(shop, intent) == ["open_complaint"]
    shop.track("Support Ticket Solved", "t", userId=user, timestamp="2026-03-02T10:00:00Z")
    assert verdicts(shop, intent) == [None]


def test_a_help_desk_opens_a_complaint_again_in_its_own_name(shop: Shop) -> None:
    intent, other = shop.promotions[:2]
    for minute, user in (("01", intent["external_id"]), ("03", "the help desk")):
        shop.complain("t", userId=user, timestamp=f"2026-03-02T10:{minute}:00Z")
    shop.track("Support Ticket Solved", "t", userId="desk", timestamp="2026-03-02T10:02:00Z")
    assert verdicts(shop, intent, other) == ["open_complaint", None]


def test_during_a_long_pass(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    intent = shop.promotions[0]
    with shop.workspace.warehouse() as warehouse, shop.workspace.journal() as journal:
        ask = Gate(shop.workspace, warehouse, journal, [intent["customer_id"]])
        assert ask(intent, EVENING) is None
        shop.complain("t", userId=intent["external_id"])
        monkeypatch.setattr(gate, "LOOK_SECONDS", -1)
        assert ask(intent, EVENING) == "open_complaint"
