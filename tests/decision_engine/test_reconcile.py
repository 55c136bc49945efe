"""Unknown sends that a webhook settles, and a journal that stays small, in the loop itself."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors import journal as journal_module
from connectors.base import Receipt, Status
from connectors.journal import Journal
from decision_engine.delivery import Delivery
from decision_engine.reconcile import settle_unknowns
from decision_engine.scaffold import init
from decision_engine.tables import INBOUND_EVENTS
from decision_engine.workspace import Workspace
from tests.connectors.sends import NOW, intent

TEXT = pa.string()
IDS = ("customer_id", "external_id", "contact_id", "account_id", "rep_id")
CUSTOMERS = pa.schema(dict.fromkeys((*IDS, "time_zone"), TEXT))
MERGES = pa.schema({"old_customer_id": TEXT, "customer_id": TEXT})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    init(tmp_path / "p", "p", salt="salt-of-the-unknown-1")
    opened = Workspace.open(tmp_path / "p")
    with opened.warehouse() as warehouse:
        warehouse.ensure(opened.model("dim_customers"), CUSTOMERS)
        warehouse.ensure(opened.model("int_identity__merges"), MERGES)
    return opened


def sent(journal: Journal, number: int, at: datetime = NOW, **changes: Any) -> None:
    """One message whose answer was lost."""
    journal.add([intent(number, destination="braze", **changes)])
    journal.start([f"key{number}"], at)
    journal.finish([Receipt(f"key{number}", Status.UNKNOWN, "no answer in time")], at)


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "vendor": "braze",
        "event_type": "delivered",
        "external_id": f"u{number}",
        "email": None,
        "channel": "email",
        "campaign_id": "7",
        "message_ref": "dispatch",
        "decision_id": None,
        "is_machine": False,
        "occurred_at": NOW + timedelta(minutes=1),
        "received_at": NOW + timedelta(minutes=2),
        **changes,
    }


def settled(workspace: Workspace, journal: Journal, *events: dict[str, Any]) -> int:
    with workspace.warehouse() as warehouse:
        rows = pa.Table.from_pylist(list(events), schema=INBOUND_EVENTS)
        warehouse.append(workspace.engine("inbound_events"), rows)
        return settle_unknowns(workspace, warehouse, journal)


def test_an_event_that_names_the_decision_settles_its_send(workspace: Workspace) -> None:
    with workspace.journal() as journal:
        for number in range(3):
            sent(journal, number)
        assert settled(workspace, journal, event(9, decision_id="d1", campaign_id=None)) == 1
        assert [journal.state(f"key{n}") for n in range(3)] == ["unknown", "accepted", "unknown"]
        assert settled(workspace, journal) == 0, "once"
        last = [row for _, row in journal.receipts()][-1]
        assert (last["status"], last["at"], last["attempt"]) == ("accepted", NOW, 1)
        with pytest.raises(ValueError, match="is accepted"):
            journal.settle(["key1"], "again")
    with workspace.journal() as journal:
        assert journal.counts()["accepted"] == 1


@pytest.mark.parametrize(
    ("changes", "is_proof"),
    [
        ({}, True),
        ({"occurred_at": NOW - timedelta(hours=1)}, False),
        ({"occurred_at": NOW + timedelta(hours=73)}, False),
        ({"campaign_id": "8"}, False),
        ({"channel": "push"}, False),
        ({"vendor": "iterable"}, False),
        ({"external_id": "u2"}, False),
        ({"decision_id": "another"}, False),
    ],
)
def test_an_event_without_a_decision_proves_by_person_channel_and_campaign(
    changes: dict[str, Any], is_proof: bool, workspace: Workspace
) -> None:
    with workspace.journal() as journal:
        sent(journal, 1)
        assert settled(workspace, journal, event(1, **changes)) == is_proof


def test_an_event_that_may_be_about_another_message_proves_nothing(workspace: Workspace) -> None:
    with workspace.journal() as journal:
        sent(journal, 1, customer_id="c")
        sent(journal, 2, NOW + timedelta(hours=2), customer_id="c", external_id="u1")
        assert settled(workspace, journal, event(1)) == 0


def test_the_loop_keeps_its_journal_small_and_sends_nothing_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "WORTH_DROPPING", 50)
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 10_000)
    sizes, compactions = [], Counter[int]()
    whole = Journal.compact

    def counted(self: Journal, now: datetime, projected: int) -> int:
        dropped = whole(self, now, projected)
        compactions[dropped > 0] += 1
        return dropped

    monkeypatch.setattr(Journal, "compact", counted)
    days, a_day = 70, 20
    with workspace.journal() as journal, workspace.warehouse() as warehouse:
        delivery = Delivery(workspace, journal, {})
        for day in range(days):
            now = NOW + timedelta(days=day)
            new = [at_day(n, now) for n in range(day * a_day, (day + 1) * a_day)]
            assert journal.add(new) == a_day
            journal.start([i["send_key"] for i in new], now)
            done = [Receipt(i["send_key"], Status.ACCEPTED, "", 200, "ref") for i in new]
            journal.finish(done, now)
            delivery.deliver_from(warehouse, now, profiles=False)
            sizes.append(sum(p.stat().st_size for p in journal._log.directory.glob("*.log")))
        found = warehouse.rows(f"select send_key from {workspace.engine('receipts')}")
    assert Counter(found) == {(f"key{n}",): 1 for n in range(days * a_day)}, "each receipt once"
    assert compactions == {True: 1}, "rarely, and then with effect"
    assert sizes[-1] < max(sizes) * 0.75
    with workspace.journal() as journal:
        assert journal.state("key0") is None
        assert journal.state(f"key{days * a_day - 1}") == "accepted"


def at_day(number: int, now: datetime) -> dict[str, Any]:
    expires = (now + timedelta(hours=6)).isoformat()
    return intent(number, destination="braze", send_at=now.isoformat(), expires_at=expires)
