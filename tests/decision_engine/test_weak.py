"""Weak creatives: only the ones without which more is earned, and only where the agent asks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from decision_engine import overriding
from decision_engine.agent_in_epoch import in_epoch, plan_of
from decision_engine.cli import main
from decision_engine.evaluate import Log
from decision_engine.features import feature_names
from decision_engine.scaffold import init
from decision_engine.training import learn_all
from decision_engine.types import Floats
from decision_engine.weak import without_each
from decision_engine.workspace import Workspace
from tests.decision_engine.simulated_campaigns import flat, weak, withouts
from tests.decision_engine.test_promotion import AGENT, NOW, closed, write


def test_one_that_earns_less_is_found_and_no_other() -> None:
    looks = [withouts(seed, flat(0.02, 0.05, 0.05, 0.05, 0.01)) for seed in range(20)]
    assert sum("c4" in weak(found[-1]) for found in looks) >= 17
    assert not any(weak(found) - {"c4"} for run in looks for found in run)
    first = looks[0][-1]
    assert next(iter(first)) == "c4"
    assert first["c4"].margin == pytest.approx(0.05 * 0.036, rel=0.2)


@pytest.mark.parametrize("rate", [0.003, 0.05])
def test_of_equals_hardly_any_is_ever_called_weak(rate: float) -> None:
    """At every look, and where most have earned nothing yet: 5% of runs would be allowed."""
    runs = [withouts(seed, flat(rate, rate, rate, rate)) for seed in range(60)]
    assert sum(any(weak(found) for found in run) for run in runs) <= 2


def test_what_has_never_earned_anything_is_not_known_to_earn_nothing() -> None:
    """Of forty equals with 250 decisions each, about fifteen have earned nothing at all."""
    runs = [withouts(seed, flat(*[0.004] * 40), (10_000,))[0] for seed in range(6)]
    assert all(without.drawn > 150 for found in runs for without in found.values())
    assert not any(weak(found) for found in runs)


def test_who_is_best_for_a_few_is_not_weak() -> None:
    def rate(x: Floats) -> Floats:
        few = np.where(x[:, 1] > 1.0, 0.3, 0.02)
        return np.stack([0 * few, 0.1 + 0 * few, few], axis=1)

    runs = [withouts(seed, rate) for seed in range(20)]
    assert not any("c2" in weak(found) for run in runs for found in run)
    # As things are, it does cost.
    assert sum(run[-1]["c2"].gain.low > 0 for run in runs) > 10


def test_where_nothing_else_is_possible_it_is_not_missed() -> None:
    n = 1000
    rng = np.random.default_rng(1)
    log = Log(np.ones(n, dtype=np.int64), rng.normal(1, 1, n), np.ones(n))
    only = np.tile([False, True], (n, 1))
    found = without_each(
        log, only, np.ones((n, 2)), lambda e: e.astype(np.float64), {"c1": np.array([1])}
    )["c1"]
    assert (found.gain.value, found.loss.value, found.is_weak) == (0.0, 0.0, False)


N = 6000
BAD = "new_since_you_left"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One closed decision of the lot for each customer; one creative drives them away."""
    folder = tmp_path / "shop"
    init(folder, "shop", salt="pausing-salt-012345")
    opened = Workspace.open(folder)
    agent = in_epoch(opened, AGENT, None)
    actions, d = agent.plan.catalog.actions, len(feature_names(agent.config.context))
    rng = np.random.default_rng(5)
    rows = [
        {
            "decision_id": f"{i:064x}",
            "epoch_id": "e1",
            "agent": AGENT,
            "customer_id": f"c{i}",
            "group_name": "random",
            "decided_at": NOW - timedelta(days=5),
            "policy": "uniform",
            "action": action.key,
            "p_action": 1 / len(actions),
            "reasons": [0] * len(actions),
            "x": rng.normal(size=d).tolist(),
        }
        for i, action in enumerate(actions[j] for j in rng.integers(0, len(actions), N))
    ]
    bad = {a.key for a in actions if a.creative == BAD}
    rewards = [
        closed(row, reward)
        | {"reward": reward, "customer_id": row["customer_id"], "group_name": "random"}
        for row in rows
        for reward in [float(1 - (row["action"] in bad) + rng.normal(0, 0.3))]
    ]
    write(opened, rows, rewards, plan_of(opened, [agent]), [])
    with opened.warehouse() as warehouse:
        warehouse.rows(f"drop table {opened.model('fct_outcomes')}")
        warehouse.rows(
            f"create table {opened.model('rpt_holdout_contamination')} (agent text, vendor text,"
            " campaign text, is_ours boolean, held_out_customers bigint, reached_customers bigint,"
            " messages bigint, reached_share double)"
        )
    return folder


def allowed(folder: Path, text: str = "pause_weak: true\n") -> Workspace:
    agent = folder / "agents" / f"{AGENT}.yml"
    agent.write_text(agent.read_text() + text)
    return Workspace.open(folder)


def freezes(workspace: Workspace) -> list[dict[str, Any]]:
    return [o for o in overriding.listed(workspace, everything=True) if o["kind"] == "freeze"]


def test_it_is_frozen_where_the_agent_asks_for_it(folder: Path) -> None:
    runner, place = CliRunner(), ["--project", str(folder)]
    told = runner.invoke(main, ["evaluate", *place])
    assert told.exit_code == 0, told.output
    flat = " ".join(told.output.split())
    assert f"- {BAD} is weak: without it +0." in flat
    assert f"nextmove override freeze {AGENT} {BAD} --why" in flat
    # Not by itself, where nobody has asked for it.
    assert "paused" not in learn_all(Workspace.open(folder), NOW)[AGENT]["note"]

    workspace = allowed(folder)
    note = learn_all(workspace, NOW, dry_run=True)[AGENT]["note"]
    assert f"paused {BAD}: without it +0." in note
    assert freezes(workspace) == []
    assert learn_all(workspace, NOW)[AGENT]["note"] == note
    (freeze,) = freezes(workspace)
    assert (freeze["by"], freeze["agent"], freeze["action"]) == ("nextmove", AGENT, BAD)
    assert freeze["why"] in note
    # Once is enough, and what is frozen is not judged any more.
    assert "paused" not in learn_all(workspace, NOW)[AGENT]["note"]
    assert "is weak" not in runner.invoke(main, ["evaluate", *place]).output

    # A person's word is the last.
    overriding.release(workspace, freeze["override_id"][:6], "ada", "new text")
    assert "paused" not in learn_all(workspace, NOW)[AGENT]["note"]
    assert len(freezes(workspace)) == 1


@pytest.mark.parametrize("by", ["a small list", "business as usual"])
def test_what_people_have_chosen_is_left_alone(folder: Path, by: str) -> None:
    catalog = Workspace.open(folder).catalog(AGENT)
    key = next(a.key for a in catalog.actions if a.creative == BAD)
    text = "pause_weak: true\n"
    if by == "a small list":
        text += f"lists: [{{name: vip, members: \"tier = 'gold'\", actions: [{key}]}}]\n"
    else:
        project = folder / "nextmove.yml"
        project.write_text(project.read_text().replace("email.what_is_new.none.h09", key))
    assert "paused" not in learn_all(allowed(folder, text), NOW)[AGENT]["note"]
    assert freezes(Workspace.open(folder)) == []
