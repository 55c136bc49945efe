"""A customer is handed over to a rep: decided, told once, as often as reps can, explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from decision_engine import delivery as delivering
from decision_engine.audit import explain_decision
from decision_engine.batch import decide_all
from decision_engine.delivery import open_delivery
from decision_engine.epochs import FEATURES
from decision_engine.intents import intents, message_of
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight
from tests.end_to_end.test_waits import followed, merge, verdicts
from tests.sandbox_process import Sandbox

AGENT = """
agent: renewals
goal: Keep the customers whose contract ends soon.
audience: orders_count >= 0
outcomes: [{event: order, weight: 1.0}]
actions: [{creative: a_note, send_hours: [9]}, {creative: call_back}]
groups: [{name: treatment, share: 1.0}]
"""
CREATIVES = """
- {creative: a_note, channel: email, campaign_id: note, subject: A note}
- {creative: call_back, channel: rep, campaign_id: calls, subject: Call them back,
   body: Their contract ends soon.}
"""
CAPACITY, LEFT_OVER = 8, 5


def prepared(project: Path) -> Workspace:
    """An agent with an email, a rep and nothing; the built profiles, with people who agreed."""
    for path in (project / "agents").iterdir():
        path.unlink()
    (project / "agents" / "renewals.yml").write_text(AGENT)
    (project / "creatives" / "renewals.yml").write_text(CREATIVES)
    path = project / "nextmove.yml"
    text = path.read_text().replace("sms: braze", "sms: braze\n  rep: hubspot")
    text = text[: text.index("groups:")] + "groups: [{name: treatment, share: 1.0}]\n"
    path.write_text(f"{text}limits: [{{limit: calls, max: rep_capacity, channels: [rep]}}]\n")
    workspace = Workspace.open(project)
    with workspace.warehouse() as warehouse:
        agreed = "consent_rep = true, service_consent_rep = true"
        warehouse.rows(f"update {workspace.model(FEATURES)} set {agreed} where has_rep")
        # HubSpot's ids are numbers.
        digits = "contact_id = regexp_extract(contact_id, '[0-9]+'), rep_id = '77'"
        warehouse.rows(f"update {workspace.model('dim_customers')} set {digits}")
    capacity(workspace, CAPACITY)
    return workspace


def capacity(workspace: Workspace, calls: int) -> None:
    """What the reps can do in a day."""
    with workspace.warehouse() as warehouse:
        warehouse.rows("update raw.crm_reps set capacity_per_day = 0, is_available = true")
        warehouse.rows(
            "update raw.crm_reps set capacity_per_day = ? where rep_id ="
            " (select min(rep_id) from raw.crm_reps)",
            [calls],
        )


def test_after_a_merge_a_rep_is_told_of_the_contact_who_is_left(project: Path) -> None:
    prepared(project)
    path = project / "agents" / "renewals.yml"
    waits = "{creative: call_back, wait_days: [2]}"
    path.write_text(AGENT.replace("{creative: call_back}", waits))
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    with open_delivery(workspace) as delivery:
        delivery.dispatch(midnight(0).date().isoformat(), midnight(0))
        later = midnight(0) + timedelta(days=4)
        one, two, other = [i for i in delivery.journal.due(later) if i["channel"] == "rep"][:3]
    with workspace.warehouse() as warehouse:
        ((stranger,),) = warehouse.rows(
            f"select min(customer_id) from {workspace.model(FEATURES)} where has_rep is not true"
        )
        customers = workspace.model("dim_customers")
        warehouse.rows(
            f"update {customers} set account_id = 'a78', rep_id = '78' where customer_id = ?",
            [two["customer_id"]],
        )
    merge(workspace, one["customer_id"], two["customer_id"])
    merge(workspace, other["customer_id"], stranger)
    now = followed(workspace, later)
    moved = now[one["decision_id"]]
    assert moved["known_as"] == two["known_as"] != one["known_as"]
    about = two["fields"]["text"].replace(two["decision_id"][:12], one["decision_id"][:12])
    theirs = {"account_id": "a78", "rep_id": "78", "text": about.replace(" of 77,", " of 78,")}
    assert moved["fields"] == {**one["fields"], **theirs}
    # Dispatched only now it says the same.
    with workspace.warehouse() as warehouse:
        again = message_of(workspace, warehouse, one["decision_id"])
        table = workspace.model(FEATURES)
        warehouse.rows(f"update {table} set as_of = as_of + interval 2 day, consent_rep = true")
    assert again is not None
    assert {**again, "time_zone": moved["time_zone"]} == moved
    assert verdicts(workspace, [now[other["decision_id"]]]) == {stranger: "unreachable"}


def test_a_rep_is_told_once_and_no_more_often_than_reps_have_time(
    project: Path, sandbox: Sandbox
) -> None:
    workspace = prepared(project)
    ledger = replace(sandbox, seen=max((e["n"] for e in sandbox.ledger()), default=0))
    night = midnight(0)
    decide_all(workspace, night)
    with workspace.warehouse_to_read() as warehouse:
        decided = dict(
            warehouse.rows(
                "select decision_id, customer_id from nextmove_engine.decisions"
                " where channel = 'rep' order by decision_id"
            )
        )
        others = warehouse.rows(
            "select distinct action from nextmove_engine.decisions order by action"
        )
        (owned,) = warehouse.rows(
            f"select count(*) from {workspace.model(FEATURES)} where has_rep is not true"
            f" and {warehouse.among('customer_id')}",
            [list(decided.values())],
        )[0]
    assert {a for (a,) in others} == {
        "no_action", "email.a_note.none.h09", "rep.call_back.none.now",
    }  # fmt: skip
    assert LEFT_OVER < len(decided) <= CAPACITY
    assert owned == 0

    # At night, for no hour is wrong to tell a colleague; meanwhile a rep has fallen ill.
    capacity(workspace, LEFT_OVER)
    slot = night.date().isoformat()
    with open_delivery(workspace) as delivery:
        with workspace.warehouse() as warehouse:
            mine = [i for i in intents(workspace, warehouse, slot, night) if i["channel"] == "rep"]
        delivery.journal.add(mine[:2])
        # What a delivery that was cut short has sent counts for the limit, too.
        cut = patch.object(delivering, "settle_unknowns", side_effect=OSError("cut short"))
        with cut, pytest.raises(OSError, match="cut short"):
            delivery.deliver(night + timedelta(minutes=1), profiles=False)
        delivery.dispatch(slot, night)
        for minutes in (2, 3):
            delivery.deliver(night + timedelta(minutes=minutes), profiles=False)
    told = [entry for entry in ledger.ledger("hubspot") if entry["kind"] == "task"]
    assert len(told) == LEFT_OVER
    with workspace.warehouse_to_read() as warehouse:
        receipts = warehouse.rows(
            "select r.decision_id, r.send_key, r.status, r.reason, r.vendor_ref, r.destination"
            " from nextmove_engine.receipts r order by r.status, r.decision_id"
        )
    assert {r[0] for r in receipts} == decided.keys()
    assert len(receipts) == len(decided)
    accepted = [r for r in receipts if r[2] == "accepted"]
    assert {r[1] for r in accepted} == {entry["message_id"] for entry in told}
    assert all(r[4] and r[5] == "hubspot" for r in accepted)
    assert {r[2:4] for r in receipts if r not in accepted} == {("skipped", "budget")}

    (task, *_) = told
    assert task["properties"]["hs_task_subject"] == "Call them back"
    assert task["properties"]["hubspot_owner_id"] == "77"
    body = task["properties"]["hs_task_body"]
    assert "Their contract ends soon." in body
    assert "{{" not in body
    ends = [e for e in ledger.ledger("hubspot") if e["kind"] == "association"]
    assert len(ends) == LEFT_OVER
    assert all(e["properties"]["to"].isdecimal() for e in ends)

    (decision_id, *_), *_ = accepted
    for reader in ("marketer", "rep"):
        text = explain_decision(workspace, decision_id, reader).text
        assert 'handing over to a rep "Call them back"' in text
