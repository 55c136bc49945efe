"""The promotion gate: what held-out decisions say of a new state, and what then happens."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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
from decision_engine.held_out import read_held_out
from decision_engine.promotion import FOLDS, HeldOut, Looked, Promotion, promotion
from decision_engine.replay import Records, chances
from decision_engine.scaffold import init
from decision_engine.tables import AGENT_OUTCOMES, DECISIONS, EPOCHS
from decision_engine.testing import sample_rewards
from decision_engine.training import _without, learn_all
from decision_engine.types import Bools, Floats, Ints
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


def judged(rows: HeldOut, chances) -> Promotion:  # type: ignore[no-untyped-def]
    return promotion(Looked(1, len(rows.log)), rows, chances)


def test_a_better_state_passes_and_the_gain_is_told() -> None:
    found = judged(held_out(2), always(0.1, 0.1, 0.8))
    assert found.reward is not None
    assert found.reward.low < 0.5 * (0.8 - 0.5) < found.reward.high
    assert not found.worse
    assert found.words.startswith("+0.1")


def test_a_worse_state_is_held_back() -> None:
    found = judged(held_out(1), always(0.8, 0.1, 0.1))
    assert found.worse
    assert found.words.startswith("held back: reward -0.")


def test_more_unsubscribes_hold_back_a_state_that_earns_more() -> None:
    harms = np.array([0.05, 0.05, 0.25])
    found = judged(held_out(1, harms), always(0.05, 0.05, 0.9))
    assert found.reward is not None
    assert found.reward.low > 0
    assert [w.split()[0] for w in found.worse] == ["unsubscribe"]
    fewer = judged(held_out(1, harms), always(0.45, 0.45, 0.1))
    assert [w.split()[0] for w in fewer.worse] == ["reward"]


def test_the_same_policy_is_hardly_ever_held_back() -> None:
    """At a level of 99 %: one of 200 candidates that are as good as what ran, whatever they do."""
    same = [judged(held_out(s), always(0.3, 0.2, 0.5)) for s in range(40)]
    assert not any(found.worse for found in same)
    # Other people get action 2, as many: half the customers are not known to be any different.
    even = np.full(K, 0.1)
    swapped = [judged(held_out(s, even), always(0.2, 0.3, 0.5)) for s in range(40)]
    assert sum(bool(found.worse) for found in swapped) <= 2


def test_each_part_is_judged_by_the_fit_without_it() -> None:
    rows = held_out(2)
    seen: dict[int, int] = {}

    def chances(fold: int, x: Floats, eligible: Bools) -> Floats:
        seen[fold] = len(x)
        np.testing.assert_array_equal(x, rows.x[rows.fold == fold])
        return np.tile([0.3, 0.2, 0.5], (len(x), 1))

    judged(rows, chances)
    assert seen == {f: int((rows.fold == f).sum()) for f in range(FOLDS)}


def test_the_fit_without_a_part_has_seen_no_closed_decision_of_it() -> None:
    rows = sample_rewards(np.random.default_rng(1), 400)
    for fold in range(FOLDS):
        mine = rows.bucket % FOLDS == fold
        left = _without(rows, fold)
        assert set(left.order) == set(rows.order[~mine | ~rows.is_closed])
        assert (mine & rows.is_closed).any()


def test_what_cannot_be_judged_passes_and_says_so() -> None:
    """The log has hardly any of what the candidate would do, or hardly anything at all."""
    rows = held_out(1)
    few = np.arange(250)
    part = HeldOut(rows.log.take(few), rows.x[few], rows.eligible[few], rows.fold[few], {})
    refused = judged(part, always(0.0, 1.0, 0.0))
    assert refused.reward is not None
    assert refused.reward.verdict == "refused"
    assert not refused.holds_back
    assert refused.words.startswith("not judged, on 250 of 1 epoch: effective sample")
    too_few = promotion(Looked(2, 120, 0, 40), None, always(1.0))
    assert not too_few.holds_back
    assert too_few.words == (
        "not judged: it takes 200 decisions that have closed since, there are 120 of 2 epochs,"
        " without 40 of other features"
    )


def test_what_cannot_be_judged_for_want_of_actions_is_held_back() -> None:
    lost = promotion(Looked(1, 120, 880), None, always(1.0))
    assert lost.holds_back
    assert lost.words == (
        "held back: too little is left to judge it by, 120 of 1 epoch, without 880 of actions"
        " taken off since"
    )
    # With all of them there would not have been enough either.
    assert not promotion(Looked(1, 120, 79), None, always(1.0)).holds_back
    # Of what the candidate would do, half as many would be enough.
    rows = held_out(1)
    half = np.arange(len(rows.log) // 8)
    part = HeldOut(rows.log.take(half), rows.x[half], rows.eligible[half], rows.fold[half], {})
    rare = always(0.0, 1.0, 0.0)
    assert promotion(Looked(1, len(half), 7 * len(half)), part, rare).holds_back
    assert not promotion(Looked(1, len(half), 10), part, rare).holds_back


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
    earned = (action == best) + rng.normal(0, 0.3, N)
    rewards = [closed(row, float(r)) for row, r in zip(rows, earned, strict=True)]
    left = [row["decision_id"] for i, row in enumerate(rows) if action[i] != best[i]]
    write(opened, rows, rewards, plan_of(opened, [agent]), left)
    return opened


def closed(row: dict[str, Any], reward: float) -> dict[str, Any]:
    return {
        "decision_id": row["decision_id"],
        "agent": AGENT,
        "starts_at": row["decided_at"],
        "credited_reward": reward,
        "closes_at": NOW - timedelta(days=2),
        "age_hours": 120.0,
        "is_closed": True,
        "delay_weight": 1.0,
        "is_learnable": True,
    }


def write(
    opened: Workspace,
    rows: list[dict[str, Any]],
    rewards: list[dict[str, Any]],
    plan: dict[str, Any],
    left: list[str],
) -> None:
    """Decisions of one epoch with their rewards; after those of `left`, somebody unsubscribed."""
    outcomes = [
        {"agent": AGENT, "event": event, "weight": weight, "per": "event", "window_hours": 72}
        for event, weight in (("order", 1.0), ("unsubscribe", -1.0))
    ]
    with opened.warehouse() as warehouse:
        engine = opened.engine
        epoch = {"epoch_id": "e1", "plan": json.dumps(plan), "status": "done"}
        for name, found, schema in (
            ("decisions", rows, DECISIONS),
            ("epochs", [epoch], EPOCHS),
            ("agent_outcomes", outcomes, AGENT_OUTCOMES),
        ):
            warehouse.append(engine(name), pa.Table.from_pylist(found, schema=schema))
        table = pa.Table.from_pylist(rewards)
        warehouse.ensure(opened.model("fct_decision_rewards"), table.schema)
        warehouse.append(opened.model("fct_decision_rewards"), table)
        said = [left, [AGENT] * len(left), ["unsubscribe"] * len(left)]
        events = pa.table(
            dict(
                zip(
                    ("decision_id", "agent", "event"),
                    (pa.array(c, pa.string()) for c in said),
                    strict=True,
                )
            )
        )
        warehouse.ensure(opened.model("fct_outcomes"), events.schema)
        warehouse.append(opened.model("fct_outcomes"), events)


def in_use(workspace: Workspace) -> bool:
    with workspace.warehouse() as warehouse:
        state = read_state(workspace, warehouse, AGENT)
    return state is not None and state.as_of > 0


def test_a_state_that_knows_less_than_what_ran_is_held_back(workspace: Workspace) -> None:
    note = learn_all(workspace, NOW)[AGENT]["note"]
    assert note.startswith("held back: reward -0.")
    assert ", unsubscribe +0." in note
    assert f"on {N:,} of 1 epoch, not seen before" in note
    assert not in_use(workspace)
    with pytest.raises(StepError, match="no agent is called winback"):
        learn_all(workspace, NOW, promote=["winback"])

    # A person may put it to use all the same.
    arguments = ["--project", str(workspace.root), "--as-of", NOW.isoformat(), "--json"]
    found = CliRunner().invoke(main, ["learn", *arguments, "--promote", AGENT])
    assert found.exit_code == 0, found.output
    assert in_use(workspace)


TAKEN_OFF = "email.adieu.none.now"


@pytest.fixture
def without_it(tmp_path: Path) -> tuple[Workspace, Floats, Floats, Ints]:
    """An action that the agent has lost since, and that many got, by their first feature.

    With what each customer earns by doing nothing and by two messages (N, 3), the chances of
    nothing, the lost one and the two (N, 4), and what was done (N,).
    """
    folder = tmp_path / "shop"
    init(folder, "shop", salt="promotion-salt-0123")
    opened = Workspace.open(folder)
    rng = np.random.default_rng(11)
    agent = in_epoch(opened, AGENT, None)
    keys, d = agent.plan.catalog.keys, len(feature_names(agent.config.context))
    plan = plan_of(opened, [agent])
    then = plan["agents"][AGENT]["actions"]
    then.insert(1, {**then[1], "key": TAKEN_OFF})
    k = len(then)
    x = rng.normal(size=(N, d))
    reasons = np.array([0] * 4 + [7] * (k - 4), dtype=np.uint8)
    mean, sd = np.zeros((N, k)), np.ones((N, k))
    mean[:, 1] = 2 * x[:, 0]
    mean[:, 3] = x[:, 1]
    records = Records(
        [f"{i:064x}" for i in range(N)], tuple(a["key"] for a in then), "linear_thompson", 0.01,
        mean, sd, np.tile(reasons, (N, 1)), np.ones(N),
    )  # fmt: skip
    p = chances(records)
    action = (p.cumsum(axis=1) > rng.random(N)[:, None]).argmax(axis=1)
    # Whoever would rather have got the lost action, the second message is wrong for.
    worth = np.stack([0 * x[:, 0], 0.2 + 0 * x[:, 0], -x[:, 0]], axis=1)
    earned = np.insert(worth, 1, 3.0, axis=1)[np.arange(N), action.clip(max=3)]
    rows = [
        {
            "decision_id": f"{i:064x}", "epoch_id": "e1", "agent": AGENT, "customer_id": f"c{i}",
            "group_name": "treatment", "decided_at": NOW - timedelta(days=5), "p_agent": 1.0,
            "policy": "linear_thompson", "action": then[action[i]]["key"],
            "p_action": p[i, action[i]], "reasons": reasons.tolist(), "x": x[i].tolist(),
            "mean": mean[i].tolist(), "sd": sd[i].tolist(),
        }
        for i in range(N)
    ]  # fmt: skip
    noisy = earned + rng.normal(0, 0.3, N)
    rewards = [closed(row, float(r)) for row, r in zip(rows, noisy, strict=True)]
    plan["agents"][AGENT]["policies"]["treatment"]["floor"] = 0.01
    write(opened, rows, rewards, plan, [])
    assert TAKEN_OFF not in keys
    return opened, worth, p[:, :4], action


def test_what_an_action_did_that_is_no_more_is_taken_out_without_bias(
    without_it: tuple[Workspace, Floats, Floats, Ints],
) -> None:
    workspace, worth, p, action = without_it
    with workspace.warehouse() as warehouse:
        looked, rows = read_held_out(workspace, warehouse, AGENT, datetime(1970, 1, 1), [])
    assert rows is not None
    assert looked.judged + looked.taken_off == N
    assert looked.taken_off > N / 4
    assert f"without {looked.taken_off:,} of actions taken off since" in looked.words

    def second(fold: int, x: Floats, eligible: Bools) -> Floats:
        assert (eligible.sum(axis=1) == 3).all()
        return np.tile(np.eye(eligible.shape[1])[2], (len(x), 1))

    found = promotion(looked, rows, second).reward
    assert found is not None
    assert found.verdict == "estimated"
    # Of customers, in the measure in which they got one of the three.
    share, among = p[:, [0, 2, 3]].sum(axis=1), p[:, [0, 2, 3]]
    was = (among * worth).sum(axis=1) / share
    truth = float((share * (worth[:, 2] - was)).sum() / share.sum())
    assert found.low < truth < found.high
    assert found.high - found.low < 0.3
    # By their chances among all four, the same rows do not even fit themselves.
    kept = np.flatnonzero(action != 1)
    naive = replace(rows.log, propensity=p[kept, action[kept]])
    refused = promotion(looked, replace(rows, log=naive), second).reward
    assert refused is not None
    assert refused.verdict == "refused"


def test_a_state_is_held_back_when_nearly_all_was_done_by_what_is_no_more(
    without_it: tuple[Workspace, Floats, Floats, Ints],
) -> None:
    workspace, _, _, action = without_it
    kept = [f"{i:064x}" for i in np.flatnonzero(action != 1)[150:].tolist()]
    with workspace.warehouse() as warehouse:
        rewards = workspace.model("fct_decision_rewards")
        warehouse.rows(f"delete from {rewards} where {warehouse.among('decision_id')}", [kept])
    note = learn_all(workspace, NOW)[AGENT]["note"]
    lost = int((action == 1).sum())
    assert note.startswith(
        f"held back: too little is left to judge it by, 150 of 1 epoch, without {lost:,} of"
        " actions taken off since"
    )
    assert not in_use(workspace)
    learn_all(workspace, NOW, promote=[AGENT])
    assert in_use(workspace)
