"""A project whose agents learn combinations: decide, log, make again, explain."""

from __future__ import annotations

from pathlib import Path

from decision_engine.audit import explain_decision, replay_decisions
from decision_engine.batch import decide_all
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight


def test_logged_decisions_replay_and_explain(project: Path) -> None:
    for path in (project / "agents").glob("*.yml"):
        text = path.read_text()
        assert "policy:" not in text
        path.write_text(text + "\npolicy: {kind: factored_linear_thompson, floor: 0.01}\n")
    workspace = Workspace.open(project)
    decided = decide_all(workspace, midnight(0))
    assert sum(a["decisions"] for a in decided["agents"].values()) > 20
    report = replay_decisions(workspace, (), 500)
    assert report["decisions"] > 20
    assert (report["different_action"], report["different_propensity"]) == (0, 0)
    assert report["different_posterior"] == 0
    with workspace.warehouse_to_read() as warehouse:
        (found,) = warehouse.rows(
            f"select decision_id from {workspace.engine('decisions')}"
            " where group_name = 'treatment' order by decision_id limit 1"
        )
        shares = warehouse.rows(
            f"select list_sum(share) from {workspace.engine('decisions')}"
            " where group_name = 'treatment'"
        )
    assert {round(s, 9) for (s,) in shares} == {1.0}
    assert "factored linear thompson" in explain_decision(workspace, found[0]).text
