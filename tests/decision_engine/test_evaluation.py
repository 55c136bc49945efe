"""evaluate over a small warehouse with known truth: rows in, the right sentences out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.console import Console

from decision_engine.agent_in_epoch import in_epoch, plan_of
from decision_engine.cli import main
from decision_engine.evaluation import AgentEvaluation, content_of, evaluate_all
from decision_engine.evaluation_log import read_log
from decision_engine.evaluation_report import contamination_lines, render, soundness
from decision_engine.features import feature_names
from decision_engine.scaffold import init
from decision_engine.tables import DECISIONS, EPOCHS
from decision_engine.workspace import Workspace

AGENT = "win_back"
N = 8000
LIKED = 0.3  # the share of the last action in the treatment, beside its even share


def fill(workspace: Workspace, lost: float = 0.0) -> None:
    """One closed decision a customer: the last action earns 0.5 more than nothing."""
    rng = np.random.default_rng(3)
    agent = in_epoch(workspace, AGENT, None)
    k, d = len(agent.plan.catalog), len(feature_names(agent.config.context))
    groups = [g.name for g in agent.groups]
    group = rng.choice(len(groups), N, p=[g.share for g in agent.groups])
    keep = (np.array(groups)[group] != "treatment") | (rng.random(N) >= lost)
    random = np.array([name == "random" for name in groups])[group]
    treated = np.array([name == "treatment" for name in groups])[group]
    even = rng.integers(0, k, N)
    action = np.where(treated & (rng.random(N) < LIKED), k - 1, even) * (random | treated)
    leaning = np.where(treated, LIKED, 0.0)
    lot = (1 - leaning) / k + leaning * (action == k - 1)
    chance = np.where(random | treated, lot, 1.0)
    x = rng.normal(size=(N, d))
    reward = x[:, 0] + 0.5 * (action == k - 1) + rng.normal(0, 0.5, N)
    kinds = {"random": "uniform", "treatment": "linear_thompson"}
    decisions, rewards = [], []
    for i in np.flatnonzero(keep):
        name = groups[group[i]]
        row = {
            "decision_id": f"{i:064x}",
            "epoch_id": "e1",
            "agent": AGENT,
            "customer_id": f"c{i}",
            "group_name": name,
            "decided_at": datetime(2026, 3, 1 + int(i) % 20),
        }
        decisions.append(
            row
            | {
                "policy": kinds.get(name, "fixed"),
                "action": agent.plan.catalog.keys[action[i]],
                "p_action": chance[i],
                "reasons": [0] * k,
                "x": x[i].tolist(),
            }
        )
        rewards.append(row | {"reward": reward[i], "is_closed": bool(i % 50)})
    plan = json.dumps(plan_of(workspace, [agent]))
    with workspace.warehouse() as warehouse:
        warehouse.append(
            workspace.engine("decisions"), pa.Table.from_pylist(decisions, schema=DECISIONS)
        )
        epoch = [{"epoch_id": "e1", "plan": plan, "status": "done"}]
        warehouse.append(workspace.engine("epochs"), pa.Table.from_pylist(epoch, schema=EPOCHS))
        warehouse.ensure(
            workspace.model("fct_decision_rewards"), pa.Table.from_pylist(rewards).schema
        )
        warehouse.append(workspace.model("fct_decision_rewards"), pa.Table.from_pylist(rewards))
        warehouse.rows(
            f"create table {workspace.model('rpt_holdout_contamination')} as select * from (values"
            f" ('{AGENT}', 'all', 'all', null, 600, 30, 40, 0.05),"
            f" ('{AGENT}', 'braze', 'spring', false, 600, 30, 40, 0.05)) t(agent, vendor, campaign,"
            " is_ours, held_out_customers, reached_customers, messages, reached_share)"
        )


def project(folder: Path, lost: float = 0.0) -> Workspace:
    init(folder, "shop", salt="evaluation-salt-0123")
    workspace = Workspace.open(folder)
    fill(workspace, lost)
    return workspace


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return project(tmp_path_factory.mktemp("evaluation") / "shop")


def evaluated(workspace: Workspace) -> AgentEvaluation:
    found = evaluate_all(workspace)
    assert {name for name, e in found.items() if e is None} == set(workspace.agents) - {AGENT}
    of = found[AGENT]
    assert of is not None
    return of


def test_what_it_finds(sound: Workspace) -> None:
    found = evaluated(sound)
    assert found.decisions == N - N // 50  # open ones are not counted
    assert found.left_out == 0
    assert sum(g.n for g in found.groups.values()) == found.decisions
    assert found.sizes is not None
    assert found.sizes.verdict == "estimated"
    truth = 0.5 * (LIKED + (1 - LIKED) / len(sound.catalog(AGENT)))
    against = found.lifts["holdout"].always_valid
    assert against.low < truth < against.high
    # x predicts 0.8 of the variance of the reward, so plain means would need 2.2 times as much.
    assert against.high - against.low < 0.17
    assert found.waterfall is not None
    parts = found.waterfall.parts
    assert sum(p.value for p in parts.values()) == found.waterfall.total.value
    assert found.waterfall.total.low < truth < found.waterfall.total.high
    # 46 random decisions an action are too few to say what it causes; the treatment's suffice.
    assert set(found.effects) == set(sound.catalog(AGENT).keys[1:])
    assert next(iter(found.effects)) == sound.catalog(AGENT).keys[-1]
    (best, *others) = (e.estimate for e in found.effects.values())
    assert best.low < 0.5 < best.high
    assert best.high - best.low < 0.2
    assert all(e.low < 0.1 and e.high > -0.1 for e in others)
    assert found.retention is None
    assert not any(d.found for d in found.drifts.values())


LOST = "come_back_text"


def without(folder: Path, pattern: str) -> str:
    """Take what fits the pattern out of the agent's file; how it was."""
    file = folder / "agents" / f"{AGENT}.yml"
    text = file.read_text()
    file.write_text(re.sub(pattern, "", text, count=1))
    assert file.read_text() != text
    return text


def of_creative(name: str) -> str:
    return rf"  - creative: {name}\n(    .*\n)+"


def said(of: AgentEvaluation) -> tuple[Any, ...]:
    """What is said of the groups."""
    return of.decisions, of.groups, of.sizes, {g: x.always_valid for g, x in of.lifts.items()}


def test_an_action_that_is_new_takes_nothing_away(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    init(folder, "shop", salt="evaluation-salt-0123")
    text = without(folder, of_creative("new_since_you_left"))
    fill(Workspace.open(folder))
    before = evaluated(Workspace.open(folder))
    (folder / "agents" / f"{AGENT}.yml").write_text(text)
    after = evaluated(Workspace.open(folder))
    assert (said(after), after.left_out) == (said(before), 0)
    news = set(after.effects) - set(before.effects)
    assert {key.split(".")[1] for key in news} == {"new_since_you_left"}
    for name, effect in before.effects.items():
        assert after.effects[name].estimate.value == pytest.approx(effect.estimate.value, abs=0.02)
    assert after.waterfall is not None
    assert before.waterfall is not None
    assert after.waterfall.total == before.waterfall.total


def test_of_an_action_that_is_gone_the_lot_and_the_lift_remain(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    before = evaluated(project(folder))
    opened = Workspace.open(folder)
    gone = {a.key for a in opened.catalog(AGENT).actions if a.creative == LOST}
    best = opened.catalog(AGENT).keys[-1]
    assert best not in gone
    without(folder, of_creative(LOST))
    after = evaluated(Workspace.open(folder))
    assert said(after) == said(before)
    assert after.waterfall is None
    # Of the lot's decisions those among today's actions, whose chances are now among these.
    with opened.warehouse_to_read() as warehouse:
        ((drawn,),) = warehouse.rows(
            f"select count(*) from {opened.engine('decisions')} d"
            f" join {opened.model('fct_decision_rewards')} r using (decision_id)"
            " where d.group_name = 'random' and r.is_closed"
            f" and {warehouse.among('d.action')}",
            [sorted(set(opened.catalog(AGENT).keys) - gone)],
        )
        found = read_log(Workspace.open(folder), warehouse, AGENT)
    assert after.left_out == after.decisions - drawn
    assert found is not None
    assert set(found.log.propensity) == {1 / (len(opened.catalog(AGENT)) - len(gone))}
    assert set(after.effects) == set(before.effects) - gone
    text = " ".join(console_text({AGENT: after}).split())
    assert f"{after.left_out:,}, with other features or actions, count for the lift only" in text


def test_other_features_leave_the_lift_with_those_in_common(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    before = evaluated(project(folder))
    without(folder, r"  - \{column: seen_midday\}\n")
    after = evaluated(Workspace.open(folder))
    assert said(after) == said(before)
    assert (after.left_out, after.effects) == (after.decisions, {})
    # A second epoch knows less of its customers: what both know still narrows the interval.
    opened = Workspace.open(folder)
    plan = json.dumps(plan_of(opened, [in_epoch(opened, AGENT, None)]))
    with opened.warehouse() as warehouse:
        warehouse.append(
            opened.engine("epochs"),
            pa.Table.from_pylist([{"epoch_id": "e2", "plan": plan}], schema=EPOCHS),
        )
        features = feature_names(Workspace.open(folder).agents[AGENT].context)
        warehouse.rows(
            f"update {opened.engine('decisions')} set epoch_id = 'e2', x = x[:{len(features)}]"
            " where decided_at > timestamp '2026-03-10'"
        )
    both = evaluated(Workspace.open(folder))
    assert {g: m.n for g, m in both.groups.items()} == {g: m.n for g, m in before.groups.items()}
    wide, narrow = (e.lifts["holdout"].always_valid for e in (both, before))
    assert wide.high - wide.low < 1.1 * (narrow.high - narrow.low)


def console_text(found: dict[str, AgentEvaluation | None]) -> str:
    console = Console(width=100, file=StringIO(), record=True)
    console.print(render(found))
    return console.export_text()


def test_how_it_is_told(sound: Workspace) -> None:
    text = console_text(evaluate_all(sound))
    assert "40 messages reached 30 of 600 held-out customers (5.0%)" in text
    assert "braze · spring: 40 to 30" in text
    assert "No closed decisions yet" in text
    assert "Group sizes fit their shares" in text
    assert "What each action causes over doing nothing, per decision" in text
    assert max(map(len, text.splitlines())) <= 100
    done = CliRunner().invoke(main, ["evaluate", "--project", str(sound.root), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[AGENT]["lifts"]["holdout"]["verdict"] == "estimated"


def test_lost_customers_are_told(tmp_path: Path) -> None:
    found = evaluated(project(tmp_path / "shop", lost=0.25))
    assert any("Beware: group sizes" in line for line in soundness(found))


def test_who_changed_groups_is_told(sound: Workspace, tmp_path: Path) -> None:
    assert evaluated(sound).moved == 0
    mixed = project(tmp_path / "shop")
    with mixed.warehouse() as warehouse:
        table = mixed.model("fct_decision_rewards")
        warehouse.rows(
            f"update {table} set customer_id = 'c' || cast(substr(customer_id, 2) as integer) // 2"
        )
        (twice,) = warehouse.rows(
            f"select count(*) from (select customer_id from {table} where is_closed"
            " group by 1 having count(distinct group_name) > 1)"
        )[0]
    found = evaluated(mixed)
    assert found.moved == twice > 1000
    assert any(f"Beware: {twice:,} of " in line for line in soundness(found))


def test_nothing_reached_the_holdout(sound: Workspace) -> None:
    whole = replace(evaluated(sound).contamination[0], messages=0, reached_customers=0)
    assert contamination_lines((whole,)) == ["- No message reached the 600 held-out customers."]
    one = replace(whole, messages=1, reached_customers=1)
    assert contamination_lines((one,))[0].startswith("- Beware: 1 message reached 1 of 600")
    assert contamination_lines(()) == []


def test_hours_of_one_message_share_their_content(sound: Workspace) -> None:
    codes, actions = content_of(sound, AGENT), sound.catalog(AGENT).actions
    for i, a in enumerate(actions):
        for j, b in enumerate(actions):
            same = (a.channel, a.creative, a.incentive) == (b.channel, b.creative, b.incentive)
            assert (codes[i] == codes[j]) == same


def test_before_the_first_build(tmp_path: Path) -> None:
    init(tmp_path / "shop", "shop", salt="evaluation-salt-0123")
    workspace = Workspace.open(tmp_path / "shop")
    with workspace.warehouse():
        pass
    done = CliRunner().invoke(main, ["evaluate", "--project", str(workspace.root)])
    assert done.exit_code == 1
    assert "nextmove build" in done.output
