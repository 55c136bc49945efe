"""Who gets what: people left out are told, and nobody is when all are treated alike."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from decision_engine.fairness import Share, Sums, What, fairness_of, shares
from decision_engine.scaffold import init
from decision_engine.tables import DECISIONS
from decision_engine.types import Floats, Ints
from decision_engine.workspace import Workspace


def sums_of(decisions: Ints, having: Ints) -> Sums:
    d, y = decisions.astype(int), having.astype(int)
    return Sums(len(d), *(int(v.sum()) for v in (d, y, d * d, d * y, y * y)))


def drawn(rng: np.random.Generator, rates: dict[str, float], n: int) -> dict[str, Sums]:
    """n customers a value with 1 to 8 decisions each, at rates that differ between people."""
    out = {}
    for value, rate in rates.items():
        d = rng.integers(1, 9, n)
        own: Floats = rng.beta(20 * rate, 20 * (1 - rate), n)
        out[value] = sums_of(d, rng.binomial(d, own))
    return out


SENT: tuple[str, What] = ("tier", "messages")


def test_people_who_are_left_out_are_told() -> None:
    rng = np.random.default_rng(5)
    lot = drawn(rng, {"gold": 0.4, "silver": 0.3, "bronze": 0.3}, 400)
    mine = drawn(rng, {"gold": 0.4, "silver": 0.3, "bronze": 0.15}, 4000)
    found = shares({SENT: mine}, {SENT: lot})
    assert [s.value for s in found if s.is_low] == ["bronze"]
    assert found[0].value == "bronze"
    assert found[0].low < 0.5 / np.mean([1.0, 1.0]) < found[0].high
    assert found[0].customers == 4000


def test_nobody_is_told_where_all_are_treated_as_the_lot_would() -> None:
    """The lot sends gold more: so may the policy. Ten values at once, 300 reports."""
    rng = np.random.default_rng(6)
    rates = {f"v{i}": 0.1 + 0.05 * i for i in range(10)}
    wrong = 0
    for _ in range(300):
        found = shares({SENT: drawn(rng, rates, 300)}, {SENT: drawn(rng, rates, 150)})
        assert len(found) == 10
        wrong += any(not s.low <= 1 <= s.high for s in found)
    assert wrong / 300 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_people_who_get_nothing_at_all_are_told() -> None:
    rng = np.random.default_rng(7)
    lot = drawn(rng, {"gold": 0.3, "bronze": 0.3}, 300)
    mine = drawn(rng, {"gold": 0.3}, 3000) | {"bronze": Sums(3000, 9000, 0, 40_000, 0, 0)}
    found = {s.value: s for s in shares({SENT: mine}, {SENT: lot})}
    assert found["bronze"].is_low
    assert not found["gold"].is_low


@pytest.mark.parametrize("few", ["mine", "lot"])
def test_too_few_people_are_not_judged(few: str) -> None:
    rng = np.random.default_rng(8)
    rates = {"gold": 0.3, "bronze": 0.01}
    mine = drawn(rng, rates, 99 if few == "mine" else 1000)
    lot = drawn(rng, rates, 99 if few == "lot" else 1000)
    assert shares({SENT: mine}, {SENT: lot}) == ()


def test_what_is_learned_of_whom_needs_no_lot() -> None:
    rng = np.random.default_rng(9)
    known: tuple[str, What] = ("country", "what was learned from")
    mine = drawn(rng, {"US": 0.3, "PL": 0.05}, 2000)
    found = {s.value: s for s in shares({known: mine}, {})}
    assert found["PL"].is_low
    assert found["US"].ratio > 1


def test_from_the_log(tmp_path: Path) -> None:
    """Bronze customers get a discount half as often as by lot; countries are not in the table."""
    init(tmp_path / "shop", "shop", salt="fairness-salt-0123")
    workspace = Workspace.open(tmp_path / "shop")
    rng = np.random.default_rng(10)
    decisions: list[dict[str, object]] = []
    rewards: list[dict[str, object]] = []
    profiles: list[dict[str, str | None]] = []
    for i in range(6000):
        bronze, treated = i % 2 == 0, i % 4 < 2
        sent = rng.random() < 0.5
        given = sent and rng.random() < (0.25 if bronze and treated else 0.5)
        row: dict[str, object] = {
            "decision_id": f"{i:064x}",
            "agent": "win_back",
            "customer_id": f"c{i}",
            "group_name": "treatment" if treated else "random",
            "decided_at": datetime(2026, 3, 1),
        }
        decisions.append(
            row
            | {"channel": "email" if sent else None, "incentive": "ten_percent" if given else ""}
        )
        rewards.append(row | {"is_learnable": sent})
        tier = "bronze" if bronze else None
        profiles.append({"customer_id": f"c{i}", "tier": tier})
    with workspace.warehouse() as warehouse:
        warehouse.append(
            workspace.engine("decisions"), pa.Table.from_pylist(decisions, schema=DECISIONS)
        )
        for name, rows in (("fct_decision_rewards", rewards), ("dim_customer_features", profiles)):
            table = pa.Table.from_pylist(rows)
            warehouse.ensure(workspace.model(name), table.schema)
            warehouse.append(workspace.model(name), table)
        found = fairness_of(workspace, warehouse, "win_back", "treatment", ["random"])
    low = [(s.column, s.value, s.what) for s in found if s.is_low]
    assert low == [("tier", "bronze", "incentives")]
    assert {(s.value, s.what) for s in found if s.what == "messages"} == {
        ("bronze", "messages"),
        ("unknown", "messages"),
    }
    assert all(isinstance(s, Share) for s in found)
