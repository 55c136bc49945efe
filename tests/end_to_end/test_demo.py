"""The demo, small: the whole loop with real dbt, real HTTP and real webhooks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def nextmove(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "decision_engine.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A demo of a few days, and its report."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    size = ("--customers", "800", "--days", "5", "--seed", "11")
    done = nextmove("demo", *size, "--dir", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_every_send_is_accounted_for(lived: tuple[Path, dict[str, Any]]) -> None:
    _, report = lived
    final = sum(sum(row.values()) for row in report["sends_by_channel"].values())

    assert set(report["sends_by_channel"]) == {"email", "push", "sms"}
    assert final > 300
    assert sum(row.get("rejected", 0) for row in report["sends_by_channel"].values()) == 0


def test_the_report_has_all_its_parts(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lived

    assert (folder / "report.png").stat().st_size > 10_000
    assert {"treatment", "holdout", "random"} <= set(report["reward_by_group"])
    assert len(report["gap_share_by_week"]) == 1
    assert "no_consent" in report["blocked"]
    assert "Why this one" in report["explained"]


def test_outcomes_came_back_and_were_learned(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = lived
    learned = nextmove("learn", "--project", str(folder), "--as-of", "2026-03-07", "--json")
    rows = json.loads(learned.stdout)

    assert learned.returncode == 0, learned.stderr
    assert all(row["decisions"] > 30 for row in rows.values())


def test_replay_in_a_new_process_after_later_learning(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = lived
    again = nextmove("replay", "--project", str(folder), "--sample", "2000", "--json")
    report = json.loads(again.stdout)

    assert again.returncode == 0, again.stderr
    assert report["decisions"] > 500
    assert report["different_action"] == 0
    assert report["different_propensity"] == 0
    assert report["different_posterior"] == 0
    assert report["largest_difference"] <= 1e-12


def test_explain_by_prefix(lived: tuple[Path, dict[str, Any]]) -> None:
    folder, report = lived
    told = nextmove("explain", report["decision_id"][:12], "--project", str(folder))

    assert told.returncode == 0, told.stderr
    assert " ".join(report["explained"].split()) == " ".join(told.stdout.split())
