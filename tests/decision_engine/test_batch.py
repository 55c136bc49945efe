"""n rows at a time or one at a time: the same functions, the same decisions, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine import epochs
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch, in_epoch
from decision_engine.arrow import contexts_of
from decision_engine.batch import decide_all, decided, needed
from decision_engine.budgets import TIE
from decision_engine.config import Trigger
from decision_engine.features import feature_names
from decision_engine.learn import learn
from decision_engine.overrides import Overrides
from decision_engine.policies import kind_of
from decision_engine.record import rows_of, table_of
from decision_engine.replay import Records, replay
from decision_engine.row import Layout
from decision_engine.scaffold import init
from decision_engine.testing import sample_rewards
from decision_engine.types import Contexts, Decisions, Epoch, Reason, seconds_of
from decision_engine.workspace import Workspace
from tests.end_to_end.bench_decide import AS_OF, PROFILES

CUSTOMERS = 300
EPOCH = Epoch("e", "2026-03-02", AS_OF, "bench", "digest")
NOT_HERE = {
    Reason.KILL_SWITCH, Reason.OTHER_CHANNEL, Reason.QUIET_HOURS, Reason.BLACKOUT,
    Reason.PROJECT_RULE, Reason.AGENT_RULE, Reason.EXCLUDED, Reason.PAUSED, Reason.FROZEN,
    Reason.SMALL_LIST, Reason.PINNED, Reason.BUDGET, Reason.BAD_DATA, Reason.RAMP,
}  # fmt: skip
GAPS = (
    "as_of = as_of - interval 3 day where hash(customer_id, 4) % 20 = 0",
    "time_zone = null where hash(customer_id, 5) % 20 = 0",
    "consent_email = null where hash(customer_id, 6) % 20 = 0",
    "sends_7d = null where hash(customer_id, 7) % 20 = 0",
    "avg_order_cents = null where hash(customer_id, 8) % 20 = 0",
    "is_suppressed = null where hash(customer_id, 9) % 20 = 1",
    "country = null where hash(customer_id, 11) % 20 = 0",
    "is_suppressed = true where hash(customer_id, 9) % 20 = 0",
    "has_email = false where hash(customer_id, 10) % 20 = 0",
    "turn = 0",
)


class Shop:
    """A project with built profiles, some of them with gaps, and agents that have learned."""

    def __init__(self, folder: Path) -> None:
        init(folder, "bench", salt="bench-salt-0123456789")
        self.workspace = Workspace.open(folder)
        self.project = self.workspace.project
        table = self.workspace.model(epochs.FEATURES)
        with self.workspace.warehouse() as warehouse:
            warehouse.rows("create schema nextmove")
            warehouse.rows(PROFILES.format(n=CUSTOMERS))
            for gap in GAPS:
                warehouse.rows(f"update {table} set {gap}")
            self.types = warehouse.columns(table) or {}
            self.profiles = pa.Table.from_batches(
                warehouse.query(f"select * from {table} order by customer_id")
            ).combine_chunks()
        self.agents = [self.agent(name) for name in epochs.daily_agents(self.workspace)]
        names = ["customer_id", *needed(self.project, self.agents)]
        self.contexts = contexts_of(self.profiles.select(names).to_batches()[0])

    def agent(self, name: str) -> AgentInEpoch:
        """An agent with a state learned of random rewards."""
        agent, actions = self.workspace.agents[name], self.workspace.catalog(name).keys
        features = feature_names(agent.context)
        rng = np.random.default_rng(len(name))
        rewards = replace(
            sample_rewards(rng, 600, len(actions)), x=rng.normal(size=(600, len(features)))
        )
        state = learn(
            None, [rewards], agent=name, policy=kind_of(agent.policy), actions=actions,
            features=features, as_of=10 * 86_400.0,
        )  # fmt: skip
        return in_epoch(self.workspace, name, state)

    def decide(self, contexts: Contexts, **options: Any) -> list[tuple[AgentInEpoch, Decisions]]:
        """Decisions of the agents that have any."""
        made = decide_batch(contexts, self.agents, EPOCH, self.project, **options)
        return [(agent, decisions) for agent, decisions in made if len(decisions)]

    def rows(self, contexts: Contexts, **options: Any) -> list[dict[str, Any]]:
        """The same as rows, by customer."""
        made = self.decide(contexts, **options)
        rows = [row for agent, decisions in made for row in rows_of(decisions, agent, EPOCH)]
        return sorted(rows, key=lambda row: str(row["customer_id"]))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("batch") / "shop")


def exact(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Rows as text that differs when a single bit does, and in which NaN equals itself."""
    return [repr(dict(row)) for row in rows]


def some_rows(shop: Shop, *places: int) -> Contexts:
    rows = [{name: shop.profiles[name][at].as_py() for name in shop.types} for at in places]
    return Layout(shop.types).contexts([row["customer_id"] for row in rows], rows)


# --- one row and n rows ---


def test_there_is_something_to_compare(shop: Shop) -> None:
    rows = shop.rows(shop.contexts)
    assert len(rows) > 150
    assert len({row["action"] for row in rows}) > 15
    assert {row["agent"] for row in rows} == {a.name for a in shop.agents}
    assert {row["group_name"] for row in rows} == {g.name for g in shop.project.groups}
    assert len({row["p_agent"] for row in rows}) > 1
    codes = {code for row in rows for code in row["reasons"]}
    assert codes >= set(Reason) - NOT_HERE
    # Who is known to have objected is in no audience.
    objected, known = shop.contexts.columns["is_suppressed"]
    out = set(shop.contexts.customer_ids[objected.astype(bool) & known].tolist())
    assert out
    assert out.isdisjoint(row["customer_id"] for row in rows)


def test_luck_of_their_own_decides_among_people_of_whom_the_same_is_expected(shop: Shop) -> None:
    fresh = in_epoch(shop.workspace, shop.agents[0].name, None)
    costs = np.append(0.0, np.full(len(fresh.plan.catalog) - 1, TIE / 2))
    (found,) = decide_batch(shop.contexts, [replace(fresh, costs=costs)], EPOCH, shop.project)
    possible = found[1].reasons[:, 1:] == Reason.ELIGIBLE
    too_dear = found[1].reasons[:, 1:] == Reason.BUDGET
    assert not (possible.any(axis=1) & too_dear.any(axis=1)).any()
    assert 0.3 < too_dear.any(axis=1).sum() / (possible | too_dear).any(axis=1).sum() < 0.7


def test_one_at_a_time_is_the_batch_bit_for_bit(shop: Shop) -> None:
    whole = shop.rows(shop.contexts, with_propensity=False)
    alone = [
        row
        for i in range(len(shop.contexts))
        for row in shop.rows(shop.contexts.take(np.array([i])), with_propensity=False)
    ]
    assert exact(alone) == exact(whole)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, CUSTOMERS - 1), max_size=5), st.sampled_from([None, "email", "sms"]))
def test_any_split_is_the_batch_bit_for_bit(
    shop: Shop, cuts: list[int], channel: str | None
) -> None:
    whole = shop.rows(shop.contexts, channel=channel, with_propensity=False)
    parts = np.split(np.arange(CUSTOMERS), sorted(cuts))
    found = [
        row
        for part in parts
        for row in shop.rows(shop.contexts.take(part), channel=channel, with_propensity=False)
    ]
    assert exact(found) == exact(whole)


def test_a_row_of_values_decides_as_the_scan_does(shop: Shop) -> None:
    lazy = {"with_propensity": False}
    whole = {row["customer_id"]: row for row in shop.rows(shop.contexts, **lazy)}
    for at in range(0, CUSTOMERS, 9):
        row = some_rows(shop, at)
        expected = whole.get(row.customer_ids[0])
        assert exact(shop.rows(row, **lazy)) == exact([expected] if expected else [])


def test_who_has_nothing_to_send_leaves_the_turn_to_who_has(shop: Shop) -> None:
    """Before anything is learned, all agents expect the same of everybody."""
    one, other = (in_epoch(shop.workspace, a.name, None) for a in (shop.agents[0], shop.agents[2]))
    paused = replace(one, overrides=Overrides(is_known=False))
    project = msgspec.structs.replace(shop.project, arbiter_explore=0.0)
    ((_, alone),) = decide_batch(shop.contexts, [other], EPOCH, project)
    (_, (_, together)) = decide_batch(shop.contexts, [paused, other], EPOCH, project)
    free = (alone.reasons[:, 1:] == Reason.ELIGIBLE).any(axis=1)
    assert set(alone.customer_ids[free]) <= set(together.customer_ids)
    (_, (_, before)) = decide_batch(shop.contexts, [one, other], EPOCH, project)
    assert not set(alone.customer_ids[free]) <= set(before.customer_ids)


def test_nothing_is_learned_from_a_broken_column_that_makes_an_agent_hold(shop: Shop) -> None:
    """Doing nothing is learned from as well."""
    usual, column = shop.agents[0], "days_since_last_order"
    broken = in_epoch(shop.workspace, usual.name, usual.state, distrusted={column: "too old"})
    assert column in broken.held_by
    ((_, made),) = decide_batch(shop.contexts, [broken], EPOCH, shop.project)
    at = feature_names(broken.config.context).index(f"log1p({column})")
    assert (made.action == 0).all()
    assert (made.x[:, at] == usual.state.theta.feature_mean[at]).all()


# --- the record ---


def test_rows_are_those_of_the_table(shop: Shop) -> None:
    for lazy in (False, True):
        for agent, made in shop.decide(shop.contexts, with_propensity=not lazy):
            table = table_of(made, agent, EPOCH, "caller")
            assert exact(rows_of(made, agent, EPOCH, "caller")) == exact(table.to_pylist())
            assert table["propensity"].null_count == (len(made) if lazy else 0)
            assert set(table["carried_out_by"].to_pylist()) == {"caller"}
            assert all(math.isfinite(p) for p in table["p_agent"].to_pylist())


def test_a_propensity_that_was_left_out_is_computed_from_the_record(shop: Shop) -> None:
    eager = {row["decision_id"]: row for row in shop.rows(shop.contexts)}
    for row in shop.rows(shop.contexts, with_propensity=False):
        (agent,) = (a for a in shop.agents if a.name == row["agent"])
        if row["group_name"] == "treatment":
            again = replay(
                Records(
                    [row["decision_id"]], agent.plan.catalog.keys, row["policy"], row["floor"],
                    np.array([row["mean"]]), np.array([row["sd"]]),
                    np.array([row["reasons"]], dtype=np.uint8), np.array([row["p_agent"]]),
                )
            )  # fmt: skip
            assert abs(again.propensity[0] - eager[row["decision_id"]]["propensity"]) <= 1e-12


def test_one_channel_was_asked_for(shop: Shop) -> None:
    rows = shop.rows(shop.contexts, channel="push")
    assert {row["channel"] for row in rows} == {"", "push"}
    assert {row["customer_id"] for row in rows} == {
        row["customer_id"] for row in shop.rows(shop.contexts)
    }
    assert any(Reason.OTHER_CHANNEL in row["reasons"] for row in rows)


# --- a few rows without a scan ---


@pytest.mark.parametrize("places", [(0,), (7, 150), (150, 3, 0, 7)])
def test_rows_hold_what_a_scan_would(shop: Shop, places: tuple[int, ...]) -> None:
    scanned = contexts_of(shop.profiles.to_batches()[0]).take(np.array(places))
    contexts = some_rows(shop, *places)
    assert contexts.customer_ids.tolist() == scanned.customer_ids.tolist()
    assert set(contexts.columns) == set(scanned.columns)
    for name, column in contexts.columns.items():
        expected = scanned.columns[name]
        assert column.valid.tolist() == expected.valid.tolist(), name
        known = expected.valid
        assert column.values[known].tolist() == expected.values[known].tolist(), name
        assert column.values.dtype == expected.values.dtype, name


def test_a_time_may_be_text_and_what_is_not_given_is_null() -> None:
    layout = Layout({"as_of": "TIMESTAMP", "tier": "VARCHAR", "visits": "BIGINT"})
    columns = layout.contexts(["c"], [{"as_of": "2026-03-02T06:00:00Z"}]).columns
    assert columns["as_of"].values[0] == seconds_of(AS_OF)
    assert not columns["tier"].valid[0]
    assert not columns["visits"].valid[0]


def test_each_row_may_have_its_own_slot(shop: Shop) -> None:
    slots = [f"request:{i % 7}" for i in range(len(shop.contexts))]
    mixed = {row["decision_id"]: row for row in shop.rows(shop.contexts, slots=slots)}
    apart: dict[str, dict[str, Any]] = {}
    for slot in dict.fromkeys(slots):
        mine = np.array([s == slot for s in slots])
        rows = shop.rows(shop.contexts.take(mine), slots=[slot] * int(mine.sum()))
        apart |= {row["decision_id"]: row for row in rows}
    assert len({row["slot"] for row in mixed.values()}) == 7
    assert exact(mixed[i] for i in sorted(mixed)) == exact(apart[i] for i in sorted(apart))


# --- agents with triggers ---


def with_triggers(workspace: Workspace, names: Iterable[str]) -> Workspace:
    """The same project, with triggers for some agents."""
    trigger = (Trigger("page_class = 'price'"),)
    changed = {n: msgspec.structs.replace(workspace.agents[n], triggers=trigger) for n in names}
    return replace(workspace, agents={**workspace.agents, **changed})


def test_agents_with_triggers_are_not_decided_daily(shop: Shop) -> None:
    names = epochs.daily_agents(shop.workspace)
    left = with_triggers(shop.workspace, names[:1])
    found = decide_all(left, AS_OF, dry_run=True)["agents"]
    assert list(found) == names[1:]
    assert all(row["decisions"] for row in found.values())


def test_a_project_of_triggers_only_decides_nothing_daily(shop: Shop) -> None:
    none = with_triggers(shop.workspace, shop.workspace.agents)
    assert epochs.daily_agents(none) == []
    tomorrow = AS_OF + timedelta(days=1)
    first = decide_all(none, tomorrow)
    assert first["agents"] == {}
    assert decide_all(none, tomorrow) == first
    with none.warehouse() as warehouse:
        assert warehouse.rows(f"select status from {none.engine('epochs')}") == [("done",)]
        assert warehouse.rows(f"select count(*) from {none.engine('decisions')}") == [(0,)]
        assert list(decided(none, warehouse, [], epochs.Begun(EPOCH, "new"), print)) == []
