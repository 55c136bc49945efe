"""A new creative begins with few customers and grows with its evidence."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, in_epoch, plan_of
from decision_engine.explain.case import Case
from decision_engine.explain.reasons import because
from decision_engine.ramp import FULL, ramped, reaches
from decision_engine.record import rows_of
from decision_engine.replay import completed
from decision_engine.state import PolicyState, Sums
from decision_engine.types import NO_ACTION, Action, Catalog, Reason
from tests.decision_engine.test_batch import EPOCH, Shop

CATALOG = Catalog(
    (
        Action(NO_ACTION),
        Action("old", "email", "old"),
        Action("new.9", "email", "new", send_hour=9, ramp=0.02),
        Action("new.19", "email", "new", send_hour=19, ramp=0.02),
    )
)
IDS = [f"c{i}" for i in range(20_000)]


def state(*counts: float) -> PolicyState:
    """One that has learned so many decisions of each action."""
    empty = PolicyState.initial("a", "linear_thompson", CATALOG.keys, ())
    zeros = Sums.zeros(len(CATALOG), 0)
    return replace(empty, closed=replace(zeros, count=np.array(counts)))


def open_to(*counts: float) -> set[str]:
    """The customers that the new creative is open to."""
    start = np.zeros((len(IDS), len(CATALOG)), dtype=np.uint8)
    found = ramped(start, reaches(CATALOG, state(*counts)), CATALOG, "salt", "a", IDS)
    assert not found[:, :2].any()
    np.testing.assert_array_equal(found[:, 2], found[:, 3])
    return {customer for customer, code in zip(IDS, found[:, 2], strict=True) if not code}


def test_reach_grows_with_what_is_learned_of_the_creative() -> None:
    shares = [len(open_to(500, 500, a, b)) / len(IDS) for a, b in ((0, 0), (30, 20), (100, 0))]
    assert shares == pytest.approx([0.02, 0.02 + 0.98 * 0.25, 0.02 + 0.98 * 0.5], abs=0.012)
    assert len(open_to(500, 500, FULL - 1, 1)) == len(IDS)


def test_who_was_let_in_stays_in() -> None:
    steps = [open_to(500, 500, n, 0) for n in range(0, 220, 20)]
    assert all(before <= after for before, after in itertools.pairwise(steps))


def test_without_a_ramp_nothing_is_asked() -> None:
    assert reaches(Catalog(CATALOG.actions[:2]), state(0, 0, 0, 0)) is None


def test_what_another_guardrail_ruled_out_keeps_its_reason() -> None:
    start = np.full((len(IDS), len(CATALOG)), Reason.NO_CONSENT, dtype=np.uint8)
    found = ramped(start, reaches(CATALOG, state(0, 0, 0, 0)), CATALOG, "salt", "a", IDS)
    np.testing.assert_array_equal(found, start)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("ramp") / "shop")


def with_ramp(shop: Shop) -> AgentInEpoch:
    """An agent of the shop that has a creative it knows nothing of yet."""
    folder = shop.workspace.root
    path: Path = folder / "agents" / "win_back.yml"
    old = "creative: what_is_new"
    path.write_text(path.read_text().replace(old, f"{old}\n    ramp: 0.3", 1))
    workspace = type(shop.workspace).open(folder)
    return in_epoch(workspace, "win_back", None)


def test_decisions_keep_to_it_and_say_so(shop: Shop) -> None:
    agent = with_ramp(shop)
    ((_, made),) = decide_batch(shop.contexts, [agent], EPOCH, shop.project)
    new = [i for i, a in enumerate(agent.plan.catalog.actions) if a.creative == "what_is_new"]
    possible = np.isin(made.reasons[:, new], (Reason.ELIGIBLE, Reason.RAMP))
    shut = made.reasons[:, new] == Reason.RAMP
    assert 0.5 < shut[possible].mean() < 0.9
    assert not (made.reasons[np.arange(len(made)), made.action] == Reason.RAMP).any()

    plan = json.loads(json.dumps(plan_of(shop.workspace, [agent])))
    rows = rows_of(made, agent, EPOCH)
    row = next(r for r in rows if Reason.RAMP in r["reasons"] and r["group_name"] == "treatment")
    record = completed({**row, "facts": json.loads(row["facts"])}, plan)
    case = Case(record, plan, shop.workspace.creatives, agent.state)
    said = because(case, Reason.RAMP)
    assert said == "it is new, and not open to all customers yet: to 30% so far"
