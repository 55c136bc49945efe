"""The same days on every warehouse: the same decisions, the same messages, the same learning."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from decision_engine.audit import explain_decision, replay_decisions
from decision_engine.build import build
from decision_engine.delivery import open_delivery
from decision_engine.demo import (
    START,
    WRITE_KEY,
    World,
    append_raw,
    connect_project,
    demo_environment,
    live_on,
    make_project,
    midnight,
    react,
)
from decision_engine.errors import StepError
from decision_engine.evaluation import evaluate_all
from decision_engine.intents import held, lapsed
from decision_engine.loop import QUICK, run
from decision_engine.market import Market
from decision_engine.market.tracker import Tracker
from decision_engine.plan.compare import plan
from decision_engine.workspace import Workspace
from tests.dbt_project.shop import customer_of
from tests.postgres_server import running_postgres
from tests.sandbox_process import running_sandbox, running_server
from tests.snowflake_emulator import NO_TIME, running_emulator, teach_dbt

CUSTOMERS, DAYS, SEED = 400, 2, 7
DUCKDB = "  kind: duckdb\n  path: warehouse.duckdb\n"

TIED_AT = midnight(0) - timedelta(hours=1)
TIED = pa.schema(
    {
        **dict.fromkeys(("type", "user_id", "message_id", "anonymous_id"), pa.string()),
        "page_class": pa.string(),
        **dict.fromkeys(("occurred_at", "received_at"), pa.timestamp("us")),
    }
)


@dataclass(frozen=True)
class Lived:
    """A project after its days, and what the rounds said."""

    workspace: Workspace
    rounds: list[dict[str, Any]]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """`{engine}` and `{model}` stand for the schemas."""
        schemas = {"engine": "nextmove_engine", "model": "nextmove"}
        with self.workspace.warehouse_to_read() as warehouse:
            return warehouse.rows(sql.format(**schemas))


@contextmanager
def lived(folder: Path, kind: str) -> Iterator[Lived]:
    """Days as the demo has them: events and webhooks in and messages out, all over HTTP.

    The servers run until the end of the block.
    """
    with ExitStack() as stack:
        make_project(folder, SEED)
        config = folder / "nextmove.yml"
        text = config.read_text().replace(DUCKDB, f"  kind: {kind}\n")
        config.write_text(text + "\nlimits: [{limit: texts, max: 10, channels: [sms]}]\n")
        if kind == "snowflake":
            teach_dbt(folder / "dbt")
        service = running_server("decision_engine.market.service", [str(folder)])
        receiver, _ = stack.enter_context(service)
        vendors = running_sandbox(folder / ".nextmove" / "sandbox", webhooks=receiver)
        sandbox = stack.enter_context(vendors).url
        workspace = connect_project(folder, sandbox, receiver)
        tracker = stack.enter_context(Tracker(receiver, os.environ[WRITE_KEY]))
        incentives = {i.incentive: i.cost_cents / 100 for i in workspace.project.incentives}
        market = Market(CUSTOMERS, SEED, START, effect=3.0, incentives=incentives)
        world = World(market, tracker, sandbox)
        append_raw(workspace, world.market.reference())
        add_ties(workspace)
        if kind != "snowflake":  # the emulator changes no types
            add_zone(workspace)
        rounds = []
        for day in range(DAYS):
            world.set_clock(midnight(day))
            rounds.append(run(workspace, midnight(day), quick=True))
            stop_one(workspace, day)
            send_four_times(workspace, world, day)
            react(world, midnight(day + 1))
            live_on(workspace, world, day)
        build(workspace, midnight(DAYS), command="run", select=QUICK)
        yield Lived(workspace, rounds)


def add_ties(workspace: Workspace) -> None:
    """A person with three browsers, all first seen at once: their order names the person."""
    event = {"type": "page", "user_id": "tied", "occurred_at": TIED_AT, "received_at": TIED_AT}
    names = ("a", "B", "_c")
    rows = [{**event, "message_id": n, "anonymous_id": n, "page_class": n} for n in names]
    append_raw(workspace, {"segment_events": pa.Table.from_pylist(rows, schema=TIED)})


def add_zone(workspace: Workspace) -> None:
    """Contacts whose time has a zone, as many loaders write it."""
    with workspace.warehouse() as warehouse:
        warehouse.rows(
            "alter table raw.crm_contacts alter column created_at"
            " set data type timestamptz using created_at at time zone 'UTC'"
        )


def stop_one(workspace: Workspace, day: int) -> None:
    """A person stops a text of the day: what is left of the limit is counted without it."""
    with workspace.warehouse() as warehouse:
        ((first,),) = warehouse.rows(
            f"select min(decision_id) from {workspace.engine('decisions')}"
            " where slot = ? and channel = 'sms'",
            [midnight(day).date().isoformat()],
        )
    if first is not None:
        workspace.override_log.add(kind="stop", by="ann", why="a call", decision_id=first)


def send_four_times(workspace: Workspace, world: World, day: int) -> None:
    """Passes as far apart as messages live."""
    with open_delivery(workspace) as delivery:
        for hour in (6, 12, 18, 24):
            moment = midnight(day) + timedelta(hours=hour)
            world.set_clock(moment)
            delivery.deliver(moment, profiles=False)


@pytest.fixture(scope="module")
def keys() -> Iterator[None]:
    with demo_environment():
        yield


@pytest.fixture(scope="module")
def on_duckdb(keys: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with lived(tmp_path_factory.mktemp("duckdb"), "duckdb") as project:
        yield project


@pytest.fixture(scope="module")
def on_postgres(keys: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment(server.new_database()).items():
            patch.setenv(name, value)
        with lived(tmp_path_factory.mktemp("postgres"), "postgres") as project:
            yield project


@pytest.fixture(scope="module")
def on_snowflake(keys: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with running_emulator() as emulator, pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.environment(emulator.new_database()).items():
            patch.setenv(name, value)
        with lived(tmp_path_factory.mktemp("snowflake"), "snowflake") as project:
            yield project


SLOW_SNOWFLAKE = pytest.param("snowflake", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["postgres", SLOW_SNOWFLAKE])
def elsewhere(request: pytest.FixtureRequest) -> Lived:
    """The same days on another warehouse than DuckDB."""
    project: Lived = request.getfixturevalue(f"on_{request.param}")
    return project


def decisions(lived: Lived) -> dict[str, tuple[Any, ...]]:
    columns = "decision_id, agent, customer_id, slot, group_name, action, n_eligible, send_at"
    found = lived.rows(f"select {columns} from {{engine}}.decisions")
    return {row[0]: (*row[:-1], None if row[-1] == NO_TIME else row[-1]) for row in found}


def numbers(lived: Lived, column: str) -> Any:
    """A numeric column of the decisions in the order of their ids; lists end to end."""
    sql = f"select decision_id, {column} as number from nextmove_engine.decisions"
    with lived.workspace.warehouse_to_read() as warehouse:
        found = [tuple(r.values()) for b in warehouse.query(sql) for r in b.to_pylist()]
    values = [value for _, value in sorted(found)]
    return np.concatenate([np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in values])


def test_the_days_were_eventful(on_duckdb: Lived) -> None:
    assert on_duckdb.workspace.overrides().stopped
    steps = [r["steps"] for r in on_duckdb.rounds]
    assert all(s["decisions"] > 50 and s["sends_planned"] > 10 for s in steps)
    (told,) = on_duckdb.rows("select count(*) from {engine}.inbound_events")
    assert told[0] > 30


def test_the_same_decisions(on_duckdb: Lived, elsewhere: Lived) -> None:
    assert decisions(elsewhere) == decisions(on_duckdb)
    for column in ("p_agent", "p_action", "propensity", "x", "mean", "sd"):
        ours, theirs = numbers(elsewhere, column), numbers(on_duckdb, column)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=column)
    assert (numbers(elsewhere, "reasons") == numbers(on_duckdb, "reasons")).all()


def test_the_same_rounds(on_duckdb: Lived, elsewhere: Lived) -> None:
    ours, theirs = ([{**r["steps"]} for r in lived.rounds] for lived in (elsewhere, on_duckdb))
    # Postgres drops views with the tables under them, so a quick build makes them anew.
    more = [a.pop("dbt_models") - b.pop("dbt_models") for a, b in zip(ours, theirs, strict=True)]
    has_all = elsewhere.workspace.warehouse_kind != "postgres"
    assert [n > 0 for n in more] == [not has_all and day > 0 for day in range(DAYS)]
    assert ours == theirs


SAME = {
    "customers": "customer_id, external_id, email, time_zone from {model}.dim_customers",
    "features": "customer_id, pages_24h, orders_count, email_sends_30d, consent_email, last_action"
    " from {model}.dim_customer_features",
    "outcomes": "decision_id, event, occurred_at, is_machine from {model}.fct_outcomes",
    "rewards": "decision_id, is_closed, is_learnable, reward from {model}.fct_decision_rewards",
    "blocks": "decided_date, agent, reason, blocked_actions from {model}.rpt_guardrail_blocks",
    "sends": "sent_date, agent, channel, status, sends from {model}.rpt_sends_by_channel",
    "receipts": "d.decision_id, r.status, r.reason from {engine}.receipts r"
    " join {engine}.decisions d using (decision_id)",
    "states": "agent, policy, n_decisions, is_current from {engine}.policy_states",
    "webhooks": "event_type, external_id, channel, decision_id, is_machine, occurred_at"
    " from {engine}.inbound_events",
    "runs": "slot, step from {engine}.runs",
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_tables(name: str, on_duckdb: Lived, elsewhere: Lived) -> None:
    sql = f"select {SAME[name]}"
    expected = rounded(on_duckdb.rows(sql))
    assert rounded(elsewhere.rows(sql)) == expected
    assert len(expected) > 2


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """In a fixed order; sums of doubles depend on the order of their parts in the last bits."""
    plain = [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows]
    return sorted(plain, key=repr)


def test_the_record_can_be_read(elsewhere: Lived) -> None:
    decision_id = min(decisions(elsewhere))
    assert decision_id in explain_decision(elsewhere.workspace, decision_id[:16]).text
    report = replay_decisions(elsewhere.workspace, [], 10_000)
    assert report["decisions"] == len(decisions(elsewhere))
    assert report["different_action"] == report["different_propensity"] == 0
    assert report["different_posterior"] == 0
    assert replay_decisions(elsewhere.workspace, [decision_id], 1)["decisions"] == 1


def test_the_same_plan(
    on_duckdb: Lived,
    elsewhere: Lived,
    tmp_path: Path,
    copied: Callable[[Workspace, Path], Workspace],
) -> None:
    """As a check of a pull request makes it: from another folder, which may only read."""
    plans = []
    for lived in (on_duckdb, elsewhere):
        folder = tmp_path / lived.workspace.warehouse_kind
        other = copied(lived.workspace, folder)
        if lived is on_duckdb:
            (folder / "warehouse.duckdb").symlink_to(lived.workspace.root / "warehouse.duckdb")
        text = (folder / "nextmove.yml").read_text()
        (folder / "nextmove.yml").write_text(text.replace("max: 1, days: 1}", "max: 0, days: 1}"))
        plans.append(plan(Workspace.open(other.root), days=2))
    for name in ("kinds", "sends", "guardrails", "lost", "segments", "daily", "edits", "warnings"):
        assert getattr(plans[1], name) == getattr(plans[0], name), name
    assert plans[0].different > 20
    assert sum(change.after for change in plans[0].sends.values()) == 0


def test_the_same_evaluation(on_duckdb: Lived, elsewhere: Lived) -> None:
    """As if the windows of all outcomes were over."""
    found = []
    for lived in (on_duckdb, elsewhere):
        with lived.workspace.warehouse() as warehouse, warehouse.transaction():
            rewards = lived.workspace.model("fct_decision_rewards")
            open_ones = warehouse.rows(f"select decision_id from {rewards} where not is_closed")
            warehouse.rows(f"update {rewards} set is_closed = true")
        found.append(json.loads(json.dumps(msgspec.to_builtins(evaluate_all(lived.workspace)))))
        with lived.workspace.warehouse() as warehouse:
            among = warehouse.among("decision_id")
            ids = [[i for (i,) in open_ones]]
            warehouse.rows(f"update {rewards} set is_closed = false where {among}", ids)
    same(*found)
    assert sum(of["decisions"] for of in found[0].values() if of) == len(decisions(on_duckdb))
    assert any(of and of["withouts"] for of in found[0].values())


def same(ours: Any, theirs: Any, at: str = "") -> None:
    """But for the last digits of numbers, which depend on the order of sums."""
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), at
        for name in ours:
            same(ours[name], theirs[name], f"{at}/{name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), at
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{at}/{i}")
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9, nan_ok=True), at
    else:
        assert ours == theirs, at


def test_what_waits_for_approval_and_what_waited_in_vain(elsewhere: Lived) -> None:
    """As if every agent asked for it, and there were no receipts of five messages."""
    workspace, receipts = elsewhere.workspace, elsewhere.workspace.engine("receipts")
    agents = {n: msgspec.structs.replace(a, approval="each") for n, a in workspace.agents.items()}
    rows = elsewhere.rows(
        f"select decision_id from {receipts} where stream = 'messages' order by decision_id"
    )
    ids = [decision_id for (decision_id,) in rows[:5]]
    strict = replace(workspace, agents=agents)
    with strict.warehouse() as warehouse:
        update = f"update {receipts} set decision_id = {{}} where {warehouse.among('decision_id')}"
        warehouse.rows(update.format("'no ' || decision_id"), [ids])
        waiting = [row["decision_id"] for row in held(strict, warehouse, midnight(0))]
        in_vain = [i["decision_id"] for i in lapsed(strict, warehouse, midnight(DAYS + 3))]
        told = [f"no {decision_id}" for decision_id in ids]
        warehouse.rows(update.format("substr(decision_id, 4)"), [told])
    assert sorted(waiting) == sorted(in_vain) == ids


def test_ties(elsewhere: Lived) -> None:
    found = "select customer_id from {model}.dim_customers where external_id = 'tied'"
    assert elsewhere.rows(found) == [(customer_of("anonymous_id:B"),)]


def test_every_dbt_test_and_unit_test_passes(elsewhere: Lived) -> None:
    totals = build(elsewhere.workspace, midnight(DAYS), command="test")
    assert totals.tests > 125
    assert totals.warnings == ()


def test_a_round_that_ended_is_not_repeated(elsewhere: Lived) -> None:
    before = decisions(elsewhere)
    again = run(elsewhere.workspace, midnight(DAYS - 1), quick=True)
    assert again["decide"] == elsewhere.rounds[-1]["decide"]
    assert decisions(elsewhere) == before


def test_another_folder_is_turned_away(
    elsewhere: Lived, tmp_path: Path, copied: Callable[[Workspace, Path], Workspace]
) -> None:
    other = copied(elsewhere.workspace, tmp_path / "other")
    with pytest.raises(StepError, match="belongs to another project folder"), other.warehouse():
        pass


@pytest.fixture
def copied() -> Callable[[Workspace, Path], Workspace]:
    """The files of a project that are under version control, checked out somewhere else."""

    def copy(workspace: Workspace, folder: Path) -> Workspace:
        for path in workspace.root.glob("**/*.yml"):
            if ".nextmove" not in path.parts:
                target = folder / path.relative_to(workspace.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(path.read_text())
        return Workspace.open(folder)

    return copy


def test_json_of_the_rounds_is_plain(elsewhere: Lived) -> None:
    assert json.loads(json.dumps(elsewhere.rounds)) == elsewhere.rounds
