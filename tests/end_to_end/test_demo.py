"""The demo, small: the whole loop with real dbt, real HTTP and real webhooks."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from decision_engine.audit import explain_decision
from decision_engine.demo import START
from decision_engine.explain.explanation import Replay
from decision_engine.identifiers import clean_email, clean_phone
from decision_engine.market import Market
from decision_engine.report import bound_ms
from decision_engine.workspace import Workspace

ROOT = Path(__file__).parents[2]


def nextmove(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "decision_engine.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def read(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of the demo's warehouse."""
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as warehouse:
        return warehouse.execute(query).fetchall()


@pytest.fixture(scope="module")
def lived(lived_twice: list[tuple[Path, dict[str, Any]]]) -> tuple[Path, dict[str, Any]]:
    """A demo of a few days, and its report."""
    return lived_twice[0]


@pytest.fixture(scope="module")
def lived_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[Path, dict[str, Any]]]:
    """The same demo in two folders, side by side."""
    folders = [tmp_path_factory.mktemp("demo") / "demo" for _ in range(2)]
    size = ("--customers", "800", "--days", "4", "--seed", "11", "--json")
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda folder: nextmove("demo", *size, "--dir", str(folder)), folders))
    assert [run.returncode for run in done] == [0, 0], done[0].stderr + done[1].stderr
    return [(f, json.loads(run.stdout)) for f, run in zip(folders, done, strict=True)]


def test_every_send_is_accounted_for(lived: tuple[Path, dict[str, Any]]) -> None:
    _, report = lived
    final = sum(sum(row.values()) for row in report["sends_by_channel"].values())

    assert set(report["sends_by_channel"]) == {"email", "push", "sms"}
    assert final > 200
    assert sum(row.get("rejected", 0) for row in report["sends_by_channel"].values()) == 0


def test_the_report_has_all_its_parts(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lived

    assert (folder / "report.png").stat().st_size > 10_000
    assert {"treatment", "holdout", "random"} <= set(report["reward_by_group"])
    assert len(report["gap_share_by_week"]) == 1
    assert "no_consent" in report["blocked"]
    assert 0 < report["clicks"]["found_out"] < report["clicks"]["all"] / 2
    assert "Why this one" in report["explained"]


def test_outcomes_came_back_and_were_learned(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = lived
    learned = nextmove("learn", "--project", str(folder), "--as-of", "2026-03-05", "--json")
    rows = json.loads(learned.stdout)

    assert learned.returncode == 0, learned.stderr
    # Few events call for a decision in so few days.
    assert all(row["decisions"] > 30 for name, row in rows.items() if name != "price_page")


def test_replay_in_a_new_process_after_later_learning(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = lived
    again = nextmove("replay", "--project", str(folder), "--sample", "2000", "--json")
    report = json.loads(again.stdout)

    assert again.returncode == 0, again.stderr
    assert report["decisions"] > 300
    assert report["different_action"] == 0
    assert report["different_propensity"] == 0
    assert report["different_posterior"] == 0
    assert report["largest_difference"] <= 1e-12


def test_explain_by_prefix(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lived
    told = nextmove("explain", report["decision_id"][:12], "--project", str(folder))

    assert told.returncode == 0, told.stderr
    assert " ".join(report["explained"].split()) == " ".join(told.stdout.split())


def test_a_decision_of_the_service_is_explained_too(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = lived
    ((decision_id,),) = read(
        folder,
        "select min(decision_id) from nextmove_engine.decisions"
        " where agent = 'price_page' and n_eligible > 1 and group_name = 'treatment'",
    )
    found = explain_decision(Workspace.open(folder), decision_id, "auditor")
    assert found.replay == Replay(True, 0.0)
    assert sum(a.chance for a in found.alternatives) == pytest.approx(1.0, abs=1e-9)
    assert found.difference is not None
    assert abs(sum(c.reward for c in found.contributions) - found.difference) <= 1e-9


def test_the_same_seed_gives_the_same_report(
    lived_twice: list[tuple[Path, dict[str, Any]]],
) -> None:
    one, other = (
        {name: part for name, part in report.items() if name not in ("seconds", "latency_ms")}
        for _, report in lived_twice
    )

    assert json.dumps(one) == json.dumps(other)


def test_events_called_for_decisions_that_were_sent(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lived
    rows = read(
        folder,
        "select d.agent, d.slot, t.page_class, d.decided_at >= t.occurred_at"
        " from nextmove_engine.decisions d join nextmove_engine.tracked_events t"
        " on d.slot = 'event:' || t.message_id",
    )

    assert {(agent, page, later) for agent, _, page, later in rows} == {
        ("price_page", "price", True)
    }
    assert len({slot for _, slot, _, _ in rows}) == len(rows) == report["hot_path"]["decisions"]
    assert 0 < report["hot_path"]["sends"] <= report["hot_path"]["decisions"]
    assert set(report["latency_ms"]) == {"p50", "p99"}


def test_the_bound_that_keeps_a_share_of_a_histogram() -> None:
    counts = {"0.01": 50.0, "0.1": 98.0, "+Inf": 100.0}
    measured = {f'seconds_bucket{{le="{le}"}}': n for le, n in counts.items()}

    assert bound_ms(measured, "seconds", 0.5) == 10
    assert bound_ms(measured, "seconds", 0.51) == 100
    assert bound_ms(measured, "seconds", 0.99) is None
    assert bound_ms({}, "seconds", 0.5) is None


def test_what_was_tracked_is_what_people_did(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lived
    market = Market(800, 11, START)
    market.reference()
    meant = pa.concat_tables([market.day(day)["segment_events"] for day in range(3)])
    columns = [name for name in meant.column_names if name != "received_at"]
    tracked = read(folder, f"select {', '.join(columns)} from nextmove_engine.tracked_events")
    # What messages caused comes on top; what people do of themselves is the same without any.
    found = {row[0]: dict(zip(columns, row, strict=True)) for row in tracked}

    assert len(found) == len(tracked) == report["hot_path"]["events"] > meant.num_rows > 1_000
    for row in meant.select(columns).to_pylist():
        row["email"] = clean_email(row["email"]) if row["email"] else None
        row["phone"] = clean_phone(row["phone"]) if row["phone"] else None
        assert found[row["message_id"]] == row
    assert {row["type"] for row in found.values()} == {"identify", "page", "screen", "track"}


def test_evaluate_reads_what_the_loop_wrote(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = lived
    done = nextmove("evaluate", "--project", str(folder), "--json")
    agents = json.loads(done.stdout)

    assert done.returncode == 0, done.stderr
    judged = {name: found for name, found in agents.items() if found is not None}
    assert judged
    held_out = read(
        folder, "select distinct agent from nextmove.fct_decisions where group_name = 'holdout'"
    )
    assert held_out
    assert {(name,) for name, found in judged.items() if found["contamination"]} == set(held_out)
    for found in judged.values():
        # The market sends nothing of its own, and our agents share one holdout.
        assert [c["messages"] for c in found["contamination"]] in ([], [0])
