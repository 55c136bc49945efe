"""The steps one by one, as a scheduler calls them: again, out of order, two at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from decision_engine.cli import main
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight
from tests.end_to_end.test_attack_wiring import unsubscribe
from tests.end_to_end.test_rest_of_a_date import decide_until
from tests.sandbox_process import Sandbox

SLOT = midnight(0).date().isoformat()
LOADED = {
    "epochs": 0, "decisions": 0, "inbound_events": 0, "tracked_events": 0, "overrides": 0
}  # fmt: skip
SOON = midnight(0) + timedelta(hours=1)


@pytest.fixture
def vendors(sandbox: Sandbox) -> Sandbox:
    """The sandbox without what earlier tests have sent to it."""
    return replace(sandbox, seen=max((e["n"] for e in sandbox.ledger()), default=0))


def step(project: Path, name: str, as_of: datetime | None = None, *options: str) -> Result:
    """`nextmove NAME --project ... --json`."""
    moment = ["--as-of", as_of.isoformat()] if as_of else []
    return CliRunner().invoke(main, [name, "--project", str(project), "--json", *moment, *options])


def totals(result: Result) -> dict[str, Any]:
    """What a step that went well has printed."""
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def rows(project: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with Workspace.open(project).warehouse() as warehouse:
        return warehouse.rows(sql)


def planned(project: Path) -> int:
    """How many messages were decided."""
    sql = "select count(*) from nextmove_engine.decisions where action <> 'no_action'"
    return int(rows(project, sql)[0][0])


def sent(vendors: Sandbox) -> Counter[str]:
    """How often each decision has reached the sandbox."""
    return Counter(
        (e["metadata"] or {}).get("decision_id") or e["properties"].get("decision_id")
        for e in vendors.ledger()
        if e["kind"] in ("message", "undeliverable")
    )


def test_deliver_takes_up_what_was_decided(project: Path, vendors: Sandbox) -> None:
    totals(step(project, "decide", midnight(0)))
    preview = totals(step(project, "deliver", SOON, "--dry-run"))["streams"]["messages"]
    assert preview["extracted"] > 0
    first = totals(step(project, "deliver", SOON))
    again = totals(step(project, "deliver", SOON))

    assert first["intents"] == planned(project)
    assert first["streams"]["messages"]["extracted"] == preview["extracted"]
    assert again["intents"] == 0
    assert rows(project, "select slot, step from nextmove_engine.runs") == [(SLOT, "dispatch")]
    assert rows(project, f"select count(*) > 0 from nextmove.fct_decisions where slot = '{SLOT}'")
    assert set(sent(vendors).values()) == {1}


def test_a_round_after_the_steps_sends_nothing_more(project: Path, vendors: Sandbox) -> None:
    totals(step(project, "decide", midnight(0)))
    totals(step(project, "deliver", SOON))
    before = sent(vendors)
    done = totals(step(project, "run", SOON, "--quick"))

    assert (
        done["steps"]["decisions"]
        == rows(project, "select count(*) from nextmove_engine.decisions")[0][0]
    )
    assert sent(vendors) == before


def test_decisions_of_a_date_that_was_cut_short_are_sent(
    project: Path, vendors: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decide_until(Workspace.open(project), monkeypatch, 4) is None
    first = totals(step(project, "deliver", SOON))["intents"]
    assert first == planned(project) > 0
    assert rows(project, "select * from nextmove_engine.runs") == []

    assert decide_until(Workspace.open(project), monkeypatch, 1000) is not None
    assert totals(step(project, "deliver", SOON))["intents"] == planned(project) - first > 0
    assert set(sent(vendors).values()) == {1}


def test_a_month_later_nothing_is_sent(project: Path, vendors: Sandbox) -> None:
    totals(step(project, "decide", midnight(0)))
    late = totals(step(project, "deliver", midnight(30)))

    assert late["intents"] == 0
    assert sent(vendors) == Counter()


def test_load_counts_each_event_once(project: Path) -> None:
    unsubscribe(Workspace.open(project), "one", None)

    assert totals(step(project, "load")) == LOADED | {"inbound_events": 1}
    assert totals(step(project, "load")) == LOADED


def test_progress_is_a_line_for_each_thing(project: Path) -> None:
    moment = ["--as-of", midnight(0).isoformat(), "--json"]
    result = CliRunner().invoke(main, ["--progress", "decide", "--project", str(project), *moment])

    assert totals(result)
    assert result.stderr.startswith("deciding: ")


# ---- somebody else is at it ----

HOLD = """
import sys, duckdb
with duckdb.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_warehouse_is_in_use(project: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(project / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        results = [step(project, name) for name in ("load", "build", "learn", "decide", "deliver")]
        process.communicate(b"")

    assert [r.exit_code for r in results] == [1] * 5
    wanted = "warehouse.duckdb is open in another process"
    assert all(wanted in r.stderr for r in results)


def held(workspace: Workspace, name: str) -> AbstractContextManager[object]:
    """What a process that a scheduler has lost sight of still holds."""
    return workspace.journal() if name == "journal" else workspace.alone(name)


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("build", "build"),
        ("build", "journal"),
        ("learn", "learn"),
        ("decide", "decide"),
        ("deliver", "journal"),
    ],
)
def test_the_same_step_is_running(project: Path, name: str, lock: str) -> None:
    with held(Workspace.open(project), lock):
        result = step(project, name, midnight(0))

    assert result.exit_code == 1, result.output
    assert "is in use by another process" in result.stderr
    assert planned(project) == 0
