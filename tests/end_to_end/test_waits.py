"""A message that was decided to leave in two days, asked about again when it does."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from connectors.base import LATER
from decision_engine.batch import decide_all
from decision_engine.delivery import open_delivery
from decision_engine.epochs import FEATURES
from decision_engine.gate import Gate
from decision_engine.intents import message_of
from decision_engine.keys import group_of
from decision_engine.merged import Known, follow, readdressed
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight

SLOT = midnight(0).date().isoformat()
WAIT = timedelta(days=2)


@pytest.fixture
def waiting(project: Path) -> tuple[Workspace, list[dict[str, Any]]]:
    """The messages that an agent whose messages all wait has decided to send."""
    for path in (project / "agents").glob("*.yml"):
        text = path.read_text()
        path.write_text(text.replace("    send_hours:", "    wait_days: [2]\n    send_hours:"))
    settings = project / "nextmove.yml"
    settings.write_text(re.sub(r"(\.h\d\d)\b", r"\1.d2", settings.read_text()))
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    with open_delivery(workspace) as delivery:
        delivery.dispatch(SLOT, midnight(0))
        assert not list(delivery.journal.due(midnight(0) + timedelta(days=1, hours=10)))
        found = list(delivery.journal.due(midnight(0) + timedelta(days=4)))
    assert len(found) > 50
    assert all(i["action"].endswith(".d2") for i in found)
    return workspace, found


def at(intent: dict[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(intent[name])


def verdicts(
    workspace: Workspace, intents: list[dict[str, Any]], later: timedelta = timedelta()
) -> dict[str, str | None]:
    """What the send boundary says of each when it leaves, or later."""
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        ask = Gate(workspace, warehouse, journal, [i["customer_id"] for i in intents])
        return {i["customer_id"]: ask(i, at(i, "send_at") + later) for i in intents}


def changed(workspace: Workspace, customer_id: str, changes: str) -> None:
    with workspace.warehouse() as warehouse:
        table = workspace.model(FEATURES)
        warehouse.rows(f"update {table} set {changes} where customer_id = ?", [customer_id])


def test_what_happens_while_a_message_waits_is_heeded_when_it_leaves(
    waiting: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    workspace, intents = waiting
    with workspace.warehouse() as warehouse:
        table = workspace.model(FEATURES)
        # Each day has its build; none has happened here but in time.
        warehouse.rows(f"update {table} set as_of = as_of + interval 2 day")
    allowed = verdicts(workspace, intents)
    fine = [i for i in intents if allowed[i["customer_id"]] is None][:5]
    who = [i["customer_id"] for i in fine]
    for customer_id, i in zip(who, fine, strict=True):
        assert at(i, "expires_at") - at(i, "send_at") < WAIT, customer_id
    changed(workspace, who[0], f"consent_{fine[0]['channel']} = false")
    changed(workspace, who[1], "is_suppressed = true")
    changed(workspace, who[2], "sends_1d = sends_1d + 9, sends_7d = sends_7d + 9")
    changed(workspace, who[3], "messages_waiting = '1 email,2 push,3 sms'")
    expected = ["no_consent", "suppressed", "frequency_cap", None, None]
    assert list(verdicts(workspace, fine).values()) == expected
    assert set(verdicts(workspace, fine, timedelta(hours=7)).values()) == {"expired"}


def merge(workspace: Workspace, old: str, new: str) -> None:
    """As the next build would: one of two customers is left."""
    with workspace.warehouse() as warehouse:
        for table in (FEATURES, "dim_customers"):
            warehouse.rows(f"delete from {workspace.model(table)} where customer_id = ?", [old])
        merges = workspace.model("int_identity__merges")
        warehouse.rows(f"insert into {merges} values (?, ?, current_timestamp)", [old, new])


def followed(workspace: Workspace, now: datetime) -> dict[str, dict[str, Any]]:
    """What is due by then, addressed to who people are now, by decision."""
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        follow(workspace, warehouse, journal, now)
        return {intent["decision_id"]: intent for intent in journal.due(now)}


def alike(workspace: Workspace, intents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two messages of one action that may leave, the profiles being a day younger."""
    with workspace.warehouse() as warehouse:
        warehouse.rows(f"update {workspace.model(FEATURES)} set as_of = as_of + interval 1 day")
    allowed = verdicts(workspace, intents)
    fine = [i for i in intents if allowed[i["customer_id"]] is None]
    return [i for i in fine if i["action"] == fine[0]["action"]][:2]


def test_a_message_follows_its_person_into_a_merge_and_is_asked_about_as_theirs(
    waiting: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    workspace, intents = waiting
    one, two = alike(workspace, intents)
    old, new = one["customer_id"], two["customer_id"]
    assert verdicts(workspace, [one])[old] is None
    merge(workspace, old, new)
    assert verdicts(workspace, [one])[old] == "unknown_person"
    now = max(at(one, "send_at"), at(two, "send_at"))
    mine = followed(workspace, now)[one["decision_id"]]
    assert mine == {
        **one,
        "customer_id": new,
        "external_id": two["external_id"],
        "decided_for": old,
    }
    assert followed(workspace, now)[one["decision_id"]] == mine
    assert verdicts(workspace, [mine]) == {new: None}

    # Dispatched only now it is the same send, so it is never two.
    with workspace.warehouse() as warehouse:
        again = message_of(workspace, warehouse, one["decision_id"])
    assert again is not None
    assert {**again, "time_zone": mine["time_zone"]} == mine

    # Both wait for one person by now: the caps decide.
    with open_delivery(workspace) as delivery:
        delivery.deliver(now, profiles=False)
        states = sorted(str(delivery.journal.state(i["send_key"])) for i in (one, two))
        sent = delivery.journal.recent_sends(new, midnight(0))
    assert (states, len(sent)) == (["accepted", "skipped"], 1)
    with workspace.warehouse() as warehouse:
        said = warehouse.rows(
            f"select customer_id, reason from {workspace.engine('receipts')}"
            f" where {warehouse.among('send_key')} order by status",
            [[one["send_key"], two["send_key"]]],
        )
    assert said == [(new, ""), (new, "frequency_cap")]


def test_a_message_does_not_follow_to_whom_it_could_not_have_been_for(
    waiting: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    workspace, intents = waiting
    one, two = alike(workspace, intents)
    with workspace.warehouse() as warehouse:
        everybody = warehouse.rows(f"select customer_id from {workspace.model(FEATURES)}")

    def told(to: str, **changes: Any) -> str | None:
        moved = {**readdressed(one, Known(to, f"u-{to}")), **changes}
        return verdicts(workspace, [moved])[to]

    new = two["customer_id"]
    assert told(new) is None
    shares = [g.share for g in workspace.project.groups]
    assert [g.name for g in workspace.project.groups][1] == "holdout"
    ids = [row[0] for row in everybody]
    held_out = ids[group_of(workspace.project.salt, ids, shares).tolist().index(1)]
    assert told(held_out) == "other_group"
    assert told(new, action="email.gone.none.now") == "not_eligible"
    rule = next(a for a in workspace.catalog(one["agent"]).actions if a.key == one["action"])
    with patch.object(Gate, "_action", return_value=replace(rule, eligible_if="as_of IS NULL")):
        assert told(new) == "not_eligible"
        assert verdicts(workspace, [two])[new] is None, "its own decision asked that"
    changed(workspace, new, f"consent_{one['channel']} = null")
    assert told(new) == "no_consent"


def test_what_becomes_due_during_a_pass_is_asked_about(
    waiting: tuple[Workspace, list[dict[str, Any]]],
) -> None:
    workspace, (intent, other, *_) = waiting
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        ask = Gate(workspace, warehouse, journal, [])
        assert ask(intent, at(intent, "send_at")) is None
        # Nobody has looked yet whether its person was merged: the next pass does.
        merge(workspace, other["customer_id"], intent["customer_id"])
        assert ask(other, at(other, "send_at")) == LATER
