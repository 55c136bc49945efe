"""What explain says made the difference adds up, and what it says would change the choice does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, plan_of
from decision_engine.basis import usual
from decision_engine.batch import decide_all
from decision_engine.cli import main
from decision_engine.counterfactual import counterfactuals
from decision_engine.explain.case import Case
from decision_engine.explain.explanation import Counterfactual
from decision_engine.policies import POLICIES
from decision_engine.record import rows_of
from decision_engine.replay import completed
from decision_engine.types import TREATMENT, Column, Contexts, Reason
from tests.decision_engine.test_batch import EPOCH, Shop
from tests.end_to_end.bench_decide import AS_OF

EACH = 15
"""Decisions of each agent, of those with most to choose from."""
FEW = 4
"""And of those with least."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("counterfactual") / "shop")


@pytest.fixture(scope="module")
def cases(shop: Shop) -> list[tuple[Case, AgentInEpoch, list[Counterfactual]]]:
    """Decisions of agents that decide alone, and what would have changed them."""
    return list(_cases(shop))


def _cases(shop: Shop) -> Iterator[tuple[Case, AgentInEpoch, list[Counterfactual]]]:
    plan = json.loads(json.dumps(plan_of(shop.workspace, shop.agents)))
    for agent in shop.agents:
        ((_, made),) = decide_batch(shop.contexts, [agent], EPOCH, shop.project)
        rows = [r for r in rows_of(made, agent, EPOCH) if r["group_name"] == TREATMENT]
        by_choice = sorted(rows, key=lambda r: -r["n_eligible"])
        for row in [*by_choice[:EACH], *by_choice[-FEW:]]:
            record = completed({**row, "facts": json.loads(row["facts"])}, plan)
            case = Case(record, plan, shop.workspace.creatives, agent.state)
            yield case, agent, counterfactuals(case, agent, EPOCH, shop.project, shop.types)


def test_contributions_sum_to_the_difference(cases: Any) -> None:
    told = 0
    for case, _, _ in cases:
        if case.next_best is not None:
            mean = case.record["mean"]
            gap = mean[case.chosen] - mean[case.next_best]
            assert abs(sum(case.parts.values()) - gap) <= 1e-9
            assert {c for c, _ in case.notable()} <= set(case.values)
            told += len(case.notable()) > 1
    assert told > EACH


def test_contributions_sum_to_the_difference_where_effects_are_in_proportion(cases: Any) -> None:
    """To what is usual for a customer, which is not the same for all."""
    times = set()
    for case, agent, _ in cases:
        if case.next_best is None:
            continue
        x = np.array([case.record["x"]], dtype=float)
        weights = np.concatenate([[1.0], np.full(x.shape[1], 0.05)])
        state = replace(agent.state, theta=replace(agent.state.theta, usual=weights))
        mean = POLICIES[case.record["policy"]].posterior(state, case.keys, x)[0][0].tolist()
        told = Case({**case.record, "mean": mean}, case.plan, case.creatives, state)
        assert told.next_best is not None
        gap = mean[told.chosen] - mean[told.next_best]
        assert abs(sum(told.parts.values()) - gap) <= 1e-9
        times.add(float(usual(x, weights)[0]))
    assert len(times) > 3


def test_the_profile_with_the_change_is_decided_so(shop: Shop, cases: Any) -> None:
    """From the profile itself, not from the record: what was told is what happens."""
    found = [(case, agent, other) for case, agent, others in cases for other in others]
    by_guardrail = 0
    for case, agent, other in found:
        changed = with_change(shop.contexts, case.record["customer_id"], other)
        ((_, made),) = decide_batch(changed, [agent], EPOCH, shop.project)
        assert case.keys[int(made.action[0])] == other.action != case.record["action"]
        assert made.decision_ids[0] == case.record["decision_id"]
        possible = made.reasons[0] == Reason.ELIGIBLE
        assert possible[case.chosen]
        if case.learns:
            best = int(np.where(possible, made.mean[0], -np.inf).argmax())
            assert case.keys[best] == other.action
            best_before = max(case.possible, key=lambda i: case.record["mean"][i])
            if best_before == case.chosen:
                assert best != best_before
        by_guardrail += other.column not in case.values
    assert len(found) - by_guardrail >= EACH
    assert by_guardrail


def test_they_are_the_nearest_of_what_is_tried(cases: Any) -> None:
    for _, _, others in cases:
        assert [o.distance for o in others] == sorted(o.distance for o in others)
        assert len({o.column for o in others}) == len(others)


def with_change(contexts: Contexts, customer_id: str, other: Counterfactual) -> Contexts:
    """The one customer with the other value."""
    one = contexts.take(contexts.customer_ids == customer_id)
    values, _ = one.columns[other.column]
    value = np.array([other.value], dtype=values.dtype)
    changed = {**one.columns, other.column: Column(value, np.array([True]))}
    return Contexts(one.customer_ids, changed)


def test_a_decision_that_cannot_be_made_again_has_none(shop: Shop, cases: Any) -> None:
    case, agent, _ = next(c for c in cases if c[2])
    changed = Case({**case.record, "x": [v + 1 for v in case.record["x"]]}, case.plan, {}, None)
    assert counterfactuals(changed, agent, EPOCH, shop.project, shop.types) == []
    moved = Case({**case.record, "decision_id": "0" * 64}, case.plan, {}, agent.state)
    assert counterfactuals(moved, agent, EPOCH, shop.project, shop.types) == []


def test_on_the_command_line_for_each_reader(shop: Shop) -> None:
    decide_all(shop.workspace, AS_OF)
    with shop.workspace.warehouse() as warehouse:
        ((decision_id,),) = warehouse.rows(
            "select min(decision_id) from nextmove_engine.decisions where n_eligible > 3"
        )
    folder = str(shop.workspace.root)
    for reader in ("customer", "auditor"):
        call = ["explain", decision_id[:12], "--for", reader, "--project", folder, "--json"]
        done = CliRunner().invoke(main, call)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["replay"] == {"same_action": True, "propensity_difference": 0.0}
        assert abs(sum(a["chance"] for a in found["alternatives"]) - 1) < 0.06
    assert "decided again from this record: the same action" in found["text"]
