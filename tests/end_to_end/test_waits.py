"""A message that was decided to leave in two days, asked about again when it does."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from decision_engine.batch import decide_all
from decision_engine.delivery import open_delivery
from decision_engine.epochs import FEATURES
from decision_engine.gate import Gate
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
