"""A date whose decisions were cut short, and whose profiles or rules changed before the rest."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Warehouse
from connectors.warehouses import duckdb
from decision_engine import batch
from decision_engine.audit import explain_decision, replay_decisions
from decision_engine.batch import decide_all
from decision_engine.epochs import FEATURES
from decision_engine.errors import StepError
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight

SLOT = midnight(0).date().isoformat()


class CutShortError(Exception):
    """What a kill looks like from the inside."""


def decide_until(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, inserts: int
) -> dict[str, Any] | None:
    """Decide the date in small batches; dies at an insert, or gives the totals."""
    left = iter(range(inserts))
    insert = batch.insert

    def or_die(*arguments: Any, **named: Any) -> None:
        if next(left, None) is None:
            raise CutShortError
        insert(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "BATCH_ROWS", 50)
        patch.setattr(batch, "insert", or_die)
        try:
            return decide_all(workspace, midnight(0))
        except CutShortError:
            return None


def rows(workspace: Workspace, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with workspace.warehouse() as warehouse:
        return warehouse.rows(sql)


def build_again(warehouse: Warehouse, workspace: Workspace, name: str) -> None:
    """Other profiles of the same people: everybody has ordered once more."""
    warehouse.rows(
        f"update {workspace.model(FEATURES)}"
        f" set profile_build = '{name}', orders_count = orders_count + 1"
    )


def epochs(workspace: Workspace) -> list[tuple[Any, ...]]:
    """The epochs of the date, without their status."""
    columns = "epoch_id, as_of, profile_build, config_digest, kill_switch, plan"
    return rows(workspace, f"select {columns} from {workspace.engine('epochs')} order by rowid")


def decided(workspace: Workspace) -> Counter[str]:
    """How often each customer was decided for the date."""
    table = workspace.engine("decisions")
    found = rows(workspace, f"select customer_id from {table} where slot = '{SLOT}'")
    return Counter(row[0] for row in found)


def open_epochs(workspace: Workspace) -> list[tuple[Any, ...]]:
    """Those that are still to be gone on with."""
    return rows(
        workspace, f"select epoch_id from {workspace.engine('epochs')} where status = 'open'"
    )


@pytest.mark.parametrize("seed", range(2))
def test_each_customer_has_at_most_one_decision_a_date(
    project: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    workspace, chance = Workspace.open(project), random.Random(seed)
    wanted = set(decided_undisturbed(workspace))
    frozen: list[tuple[Any, ...]] = []
    totals, attempts = None, 0
    while totals is None:
        attempts += 1
        if frozen and chance.random() < 0.5:
            with workspace.warehouse() as warehouse:
                build_again(warehouse, workspace, f"build {attempts}")
        totals = decide_until(workspace, monkeypatch, chance.randrange(1, 8))
        after = epochs(workspace)
        assert after[: len(frozen)] == frozen, "an epoch has changed"
        assert len(open_epochs(workspace)) == (totals is None)
        frozen = after

    counts = decided(workspace)
    assert set(counts.values()) == {1}
    assert sum(a["decisions"] for a in totals["agents"].values()) == counts.total()
    assert attempts > 2
    if len(frozen) == 1:
        assert set(counts) == wanted
    assert decide_until(workspace, monkeypatch, 0) == totals
    assert decided(workspace) == counts
    read_again(workspace, counts.total())


def decided_undisturbed(workspace: Workspace) -> Counter[str]:
    """Whom a date would come to; the project is as before."""
    decide_all(workspace, midnight(0))
    counts = decided(workspace)
    with workspace.warehouse() as warehouse:
        for table in ("epochs", "decisions"):
            warehouse.rows(f"delete from {workspace.engine(table)}")
    return counts


def read_again(workspace: Workspace, n: int) -> None:
    """Every decision replays under its own epoch, and one of each explains itself."""
    report = replay_decisions(workspace, (), n)
    assert report["decisions"] == n
    assert [report[c] for c in report if c.startswith("different_")] == [0, 0, 0]
    table = workspace.engine("decisions")
    for epoch_id, decision_id in rows(
        workspace, f"select epoch_id, min(decision_id) from {table} group by epoch_id"
    ):
        assert f"epoch {epoch_id}" in explain_decision(workspace, decision_id).text


def test_other_rules_decide_the_rest(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.open(project)
    assert decide_until(workspace, monkeypatch, 3) is None
    before = decided(workspace)
    path = project / "agents" / "win_back.yml"
    path.write_text(path.read_text().replace("goal:", "goal: Otherwise. #", 1))
    workspace = Workspace.open(project)
    assert decide_until(workspace, monkeypatch, 1000) is not None

    first, second = epochs(workspace)
    assert first[0] != second[0]
    assert first[3] != second[3]
    assert before.total() > 0
    counts = decided(workspace)
    assert set(counts.values()) == {1}
    assert before.keys() < counts.keys()


def test_two_customers_who_became_one_are_not_decided_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(project)
    assert decide_until(workspace, monkeypatch, 3) is None
    gone = min(decided(workspace))
    with workspace.warehouse() as warehouse:
        build_again(warehouse, workspace, "after the merge")
        warehouse.rows(
            f"update {workspace.model(FEATURES)} set customer_id = 'merged'"
            f" where customer_id = '{gone}'"
        )
        warehouse.rows(
            f"create or replace table {workspace.model('fct_decisions')} as select * replace("
            f" if(customer_id = '{gone}', 'merged', customer_id) as customer_id)"
            f" from {workspace.engine('decisions')}"
        )
    assert decide_until(workspace, monkeypatch, 1000) is not None

    assert "merged" not in decided(workspace)


def test_the_rest_needs_recent_profiles_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.open(project)
    assert decide_until(workspace, monkeypatch, 1) is None
    with workspace.warehouse() as warehouse:
        build_again(warehouse, workspace, "of another month")
        warehouse.rows(f"update {workspace.model(FEATURES)} set as_of = as_of - interval 30 day")
    with pytest.raises(StepError, match="no ground for decisions"):
        decide_until(workspace, monkeypatch, 1000)
    assert len(open_epochs(workspace)) == 1
