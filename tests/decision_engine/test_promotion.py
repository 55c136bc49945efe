"""The promotion gate: what held-out decisions say of a new state, and what then happens."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from decision_engine.agent_in_epoch import in_epoch, plan_of
from decision_engine.cli import main
from decision_engine.epochs import read_state
from decision_engine.errors import StepError
from decision_engine.evaluate import Log
from decision_engine.features import feature_names
from decision_engine.promotion import FOLDS, HeldOut, promotion
from decision_engine.scaffold import init
from decision_engine.tables import AGENT_OUTCOMES, DECISIONS, EPOCHS
from decision_engine.testing import sample_rewards
from decision_engine.training import _without, learn_all
from decision_engine.types import Bools, Floats
from decision_engine.workspace import Workspace

AGENT, N, K = "win_back", 3000, 3
NOW = datetime(2026, 3, 8)


def held_out(seed: int, unwanted: Floats | None = None) -> HeldOut:
    """A world in which action 2 earns 0.5 more, and was done half of the time."""
    rng = np.random.default_rng(seed)
    p = np.array([0.3, 0.2, 0.5])
    action = rng.choice(K, N, p=p)
    x = rng.normal(size=(N, 2))
    reward = x[:, 0] + 0.5 * (action == 2) + rng.normal(0, 1, N)
    log = Log(action, reward, p[action], np.arange(N))
    every = np.ones((N, K), dtype=bool)
    harms = {}
    if unwanted is not None:
        harms["unsubscribe"] = (rng.random(N) < unwanted[action]).astype(np.float64)
    return HeldOut(log, x, every, rng.integers(0, FOLDS, N), harms)


def always(*p: float):  # type: ignore[no-untyped-def]
    def chances(fold: int, x: Floats, eligible: Bools) -> Floats:
        return np.tile(p, (len(x), 1))

    return chances


def test_a_better_state_passes_and_the_gain_is_told() -> None:
    found = promotion(held_out(2), always(0.1, 0.1, 0.8))
    assert found.reward is not None
    assert found.reward.low < 0.5 * (0.8 - 0.5) < found.reward.high
    assert not found.worse
    assert found.words.startswith("+0.1")


def test_a_worse_state_is_held_back() -> None:
    found = promotion(held_out(1), always(0.8, 0.1, 0.1))
    assert found.worse
    assert found.words.startswith("held back: reward -0.")


def test_more_unsubscribes_hold_back_a_state_that_earns_more() -> None:
    harms = np.array([0.05, 0.05, 0.25])
    found = promotion(held_out(1, harms), always(0.05, 0.05, 0.9))
    assert found.reward is not None
    assert found.reward.low > 0
    assert [w.split()[0] for w in found.worse] == ["unsubscribe"]
    fewer = promotion(held_out(1, harms), always(0.45, 0.45, 0.1))
    assert [w.split()[0] for w in fewer.worse] == ["reward"]


def test_the_same_policy_is_hardly_ever_held_back() -> None:
    """At a level of 99 %: one of 200 candidates that are as good as what ran, whatever they do."""
    same = [promotion(held_out(s), always(0.3, 0.2, 0.5)) for s in range(40)]
    assert not any(found.worse for found in same)
    # Other people get action 2, as many: half the customers are not known to be any different.
    even = np.full(K, 0.1)
    swapped = [promotion(held_out(s, even), always(0.2, 0.3, 0.5)) for s in range(40)]
    assert sum(bool(found.worse) for found in swapped) <= 2


def test_each_part_is_judged_by_the_fit_without_it() -> None:
    rows = held_out(2)
    seen: dict[int, int] = {}

    def chances(fold: int, x: Floats, eligible: Bools) -> Floats:
        seen[fold] = len(x)
        np.testing.assert_array_equal(x, rows.x[rows.fold == fold])
        return np.tile([0.3, 0.2, 0.5], (len(x), 1))

    promotion(rows, chances)
    assert seen == {f: int((rows.fold == f).sum()) for f in range(FOLDS)}


def test_the_fit_without_a_part_has_seen_no_closed_decision_of_it() -> None:
    rows = sample_rewards(np.random.default_rng(1), 400)
    for fold in range(FOLDS):
        mine = rows.bucket % FOLDS == fold
        left = _without(rows, fold)
        assert set(left.order) == set(rows.order[~mine | ~rows.is_closed])
        assert (mine & rows.is_closed).any()


def test_what_cannot_be_judged_passes_without_a_word() -> None:
    """The log has hardly any of what the candidate would do."""
    rows = held_out(1)
    few = np.arange(250)
    part = HeldOut(rows.log.take(few), rows.x[few], rows.eligible[few], rows.fold[few], {})
    refused = promotion(part, always(0.0, 1.0, 0.0))
    assert refused.reward is not None
    assert refused.reward.verdict == "refused"
    assert (refused.worse, refused.words) == ([], "")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """What was done knew something of the customers that the agent's features do not say.

    Who gets the wrong message unsubscribes.
    """
    folder = tmp_path / "shop"
    init(folder, "shop", salt="promotion-salt-0123")
    opened = Workspace.open(folder)
    rng = np.random.default_rng(7)
    agent = in_epoch(opened, AGENT, None)
    k, d = len(agent.plan.catalog), len(feature_names(agent.config.context))
    best = rng.integers(1, 3, N)  # the hidden trait: which of two messages is the right one
    p = np.full((N, k), 0.0)
    p[:, :3] = 0.1
    p[np.arange(N), best] = 0.8
    action = (p.cumsum(axis=1) > rng.random(N)[:, None]).argmax(axis=1)
    decided = [NOW - timedelta(days=5)] * N
    rows = [
        {
            "decision_id": f"{i:064x}",
            "epoch_id": "e1",
            "agent": AGENT,
            "customer_id": f"c{i}",
            "group_name": "treatment",
            "decided_at": decided[i],
            "policy": "linear_thompson",
            "action": agent.plan.catalog.keys[action[i]],
            "p_action": p[i, action[i]],
            "reasons": [0] * 3 + [7] * (k - 3),
            "x": rng.normal(size=d).tolist(),
        }
        for i in range(N)
    ]
    rewards = [
        {
            "decision_id": row["decision_id"],
            "agent": AGENT,
            "starts_at": row["decided_at"],
            "credited_reward": float(action[i] == best[i]) + rng.normal(0, 0.3),
            "closes_at": NOW - timedelta(days=2),
            "age_hours": 120.0,
            "is_closed": True,
            "delay_weight": 1.0,
            "is_learnable": True,
        }
        for i, row in enumerate(rows)
    ]
    outcomes = [
        {"agent": AGENT, "event": event, "weight": weight, "per": "event", "window_hours": 72}
        for event, weight in (("order", 1.0), ("unsubscribe", -1.0))
    ]
    with opened.warehouse() as warehouse:
        engine = opened.engine
        epoch = {"epoch_id": "e1", "plan": json.dumps(plan_of(opened, [agent])), "status": "done"}
        for name, found, schema in (
            ("decisions", rows, DECISIONS),
            ("epochs", [epoch], EPOCHS),
            ("agent_outcomes", outcomes, AGENT_OUTCOMES),
        ):
            warehouse.append(engine(name), pa.Table.from_pylist(found, schema=schema))
        table = pa.Table.from_pylist(rewards)
        warehouse.ensure(opened.model("fct_decision_rewards"), table.schema)
        warehouse.append(opened.model("fct_decision_rewards"), table)
        left = [row["decision_id"] for i, row in enumerate(rows) if action[i] != best[i]]
        events = pa.table({"decision_id": left, "agent": [AGENT] * len(left)})
        events = events.append_column("event", pa.array(["unsubscribe"] * len(left)))
        warehouse.ensure(opened.model("fct_outcomes"), events.schema)
        warehouse.append(opened.model("fct_outcomes"), events)
    return opened


def in_use(workspace: Workspace) -> bool:
    with workspace.warehouse() as warehouse:
        state = read_state(workspace, warehouse, AGENT)
    return state is not None and state.as_of > 0


def test_a_state_that_knows_less_than_what_ran_is_held_back(workspace: Workspace) -> None:
    note = learn_all(workspace, NOW)[AGENT]["note"]
    assert note.startswith("held back: reward -0.")
    assert ", unsubscribe +0." in note
    assert f"on {N:,} it had not seen" in note
    assert not in_use(workspace)
    with pytest.raises(StepError, match="no agent is called winback"):
        learn_all(workspace, NOW, promote=["winback"])

    # A person may put it to use all the same.
    arguments = ["--project", str(workspace.root), "--as-of", NOW.isoformat(), "--json"]
    found = CliRunner().invoke(main, ["learn", *arguments, "--promote", AGENT])
    assert found.exit_code == 0, found.output
    assert in_use(workspace)
