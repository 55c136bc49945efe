"""Retention against known truth: a nudge that causes it, and one that only goes together with it.

A team tours the customers it knows to be loyal and calls those about to leave. The tour does
nothing; the call keeps those about to leave and annoys the loyal. A plain comparison says tour.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from decision_engine.agent_in_epoch import in_epoch, plan_of
from decision_engine.build import write_agent_outcomes
from decision_engine.causes import _latest_rows
from decision_engine.cli import main
from decision_engine.tables import DECISIONS, EPOCHS
from decision_engine.training import outcomes_of
from decision_engine.types import Floats
from decision_engine.workspace import Workspace

FILES = {
    "nextmove.yml": """
project: keeping
salt: keeping-people-salt-01
warehouse: {kind: duckdb}
sources: [orders]
channels: {email: mail}
destinations:
  mail: {kind: iterable, url: 'http://127.0.0.1:8800/iterable', api_key_env: MAIL}
groups:
  - {name: treatment, share: 0.7}
  - {name: holdout, share: 0.1, policy: {kind: fixed}}
  - {name: random, share: 0.2, policy: {kind: uniform}}
""",
    "agents/stay.yml": """
agent: stay
goal: Nobody leaves without a word
audience: has_email
outcomes:
  - {event: order, weight: 1.0, window: 72h}
  - {event: retained, weight: 0, window: 14d}
context: [{column: email_click_rate}, {column: orders_count, transform: log1p}]
actions: [{creative: tour}, {creative: call}]
""",
    "creatives/all.yml": """
- {creative: tour, channel: email, campaign_id: c1, subject: A tour}
- {creative: call, channel: email, campaign_id: c2, subject: May we call}
""",
}
TOUR, CALL = 1, 2
AS_OF = datetime(2026, 3, 20)


def retention(loyal: Floats) -> Floats:
    """The share retained (n, 3) after nothing, a tour and a call."""
    stay = 0.1 + 0.8 * loyal
    return np.stack([stay, stay, stay + 0.3 - 0.4 * loyal], axis=1)


def chances_of_the_team(loyal: Floats) -> Floats:
    """It prefers tours for the loyal and calls for the others."""
    tour = 0.9 / (1 + np.exp(6 * (0.5 - loyal)))
    call = 0.9 - tour
    return np.stack([1 - tour - call, tour, call], axis=1)


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[int], Workspace]:
    """A project with so many decisions whose outcome is known, and some that are too young."""

    def fill(n: int) -> Workspace:
        for name, text in FILES.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        workspace = Workspace.open(tmp_path)
        rng = np.random.default_rng(11)
        loyal = rng.random(n)
        group = rng.choice(["treatment", "holdout", "random"], n, p=[0.7, 0.1, 0.2])
        kind = [group == "random", group == "holdout"]
        even, nothing = np.full((n, 3), 1 / 3), np.tile([1.0, 0.0, 0.0], (n, 1))
        p = np.select([k[:, None] for k in kind], [even, nothing], chances_of_the_team(loyal))
        action = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
        kept = rng.random(n) < retention(loyal)[np.arange(n), action]
        agent = in_epoch(workspace, "stay", None)
        policies = {"treatment": "linear_thompson", "holdout": "fixed", "random": "uniform"}
        young = np.arange(n) % 10 == 0
        decisions: list[dict[str, Any]] = [
            {
                "decision_id": f"{i:064x}",
                "epoch_id": "e1",
                "agent": "stay",
                "customer_id": f"c{i}",
                "group_name": str(group[i]),
                "decided_at": AS_OF - timedelta(days=13 if young[i] else 14),
                "policy": policies[group[i]],
                "action": agent.plan.catalog.keys[action[i]],
                "p_action": float(p[i, action[i]]),
                "reasons": [0, 0, 0],
                "x": [float(loyal[i]), float(rng.normal())],
            }
            for i in range(n)
        ]
        rewards = [
            {key: d[key] for key in ("decision_id", "customer_id", "group_name", "decided_at")}
            | {"starts_at": d["decided_at"], "age_hours": 312.0 if young[i] else 336.0}
            | {"reward": 0.0, "is_closed": True}
            for i, d in enumerate(decisions)
        ]
        outcomes = [
            {"decision_id": f"{i:064x}", "agent": "stay", "event": event, "is_machine": False}
            for i in np.flatnonzero(kept)
            for event in ("retained", "order")
        ]
        epoch = {"epoch_id": "e1", "plan": json.dumps(plan_of(workspace, [agent]))}
        with workspace.warehouse() as warehouse:
            write_agent_outcomes(workspace, warehouse)
            for table, rows in (
                (workspace.engine("decisions"), pa.Table.from_pylist(decisions, schema=DECISIONS)),
                (workspace.engine("epochs"), pa.Table.from_pylist([epoch], schema=EPOCHS)),
                (workspace.model("fct_decision_rewards"), pa.Table.from_pylist(rewards)),
                (workspace.model("fct_outcomes"), pa.Table.from_pylist(outcomes)),
            ):
                warehouse.ensure(table, rows.schema)
                warehouse.append(table, rows)
            warehouse.rows(
                f"create table {workspace.model('rpt_holdout_contamination')} (agent text,"
                " vendor text, campaign text, is_ours boolean, held_out_customers bigint,"
                " reached_customers bigint, messages bigint, reached_share double)"
            )
        return workspace

    return fill


def evaluated(workspace: Workspace, *options: str) -> str:
    done = CliRunner().invoke(
        main, ["evaluate", "--project", str(workspace.root), *options], env={"COLUMNS": "100"}
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_causes_comes_first_and_what_goes_together_is_the_wrong_way_round(
    filled: Callable[[int], Workspace],
) -> None:
    workspace = filled(6000)
    found = json.loads(evaluated(workspace, "--json"))["stay"]["retention"]
    assert (found["window_hours"], found["decisions"]) == (336, 5400)  # the young ones wait
    tour, call = (workspace.catalog("stay").keys[a] for a in (TOUR, CALL))
    assert list(found["actions"]) == [call, tour]
    kept, toured = found["actions"][call], found["actions"][tour]
    assert toured["together"] > kept["together"] + 0.05
    for one, truth in ((kept, 0.1), (toured, 0.0)):
        estimate = one["effect"]["estimate"]
        assert estimate["low"] < truth < estimate["high"]
        assert estimate["high"] - estimate["low"] < 0.12
    assert kept["effect"]["certain"] > 0 > toured["effect"]["certain"]
    # The call helps below 0.75; a bound for each person leaves out those it helps but little.
    assert 0.3 < kept["helped"] < 0.75
    assert toured["helped"] < 0.02
    (loyalty,) = kept["differences"]
    assert loyalty["column"] == "email_click_rate"
    assert loyalty["below"]["low"] < 0.2 < loyalty["below"]["high"]
    assert loyalty["above"]["low"] < 0.0 < loyalty["above"]["high"]
    assert toured["differences"] == []
    told = " ".join(evaluated(workspace).split())
    assert "Who stays: active again 7 to 14 days later, in points over doing nothing" in told
    assert f"- {tour} looks better than it is" in told
    assert f"- {call}: " in told


def test_what_is_measured_only_is_nothing_to_learn_anew_for(
    filled: Callable[[int], Workspace],
) -> None:
    workspace = filled(1)
    with workspace.warehouse() as warehouse:
        counted = outcomes_of(workspace, warehouse, "stay")
    assert [event for event, *_ in counted] == ["order"]


def test_too_few_are_refused_with_the_reason(filled: Callable[[int], Workspace]) -> None:
    told = " ".join(evaluated(filled(300)).split())
    assert "What an action does to retention cannot be told yet: of email." in told
    assert "effective decisions where 200 are needed" in told


def test_young_decisions_wait(filled: Callable[[int], Workspace]) -> None:
    told = " ".join(evaluated(filled(1)).split())
    assert "active again 7 to 14 days later) cannot be told yet: no decision is old enough" in told


def test_customers_count_as_they_were_last_seen() -> None:
    customer = np.array([0, 1, 0, 2, 1, 0])
    found: Any = SimpleNamespace(log=SimpleNamespace(customer=customer))
    assert _latest_rows(found).tolist() == [5, 4, 3]
