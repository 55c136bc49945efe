"""The same days on every warehouse: the same decisions, the same messages, the same learning."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decision_engine.audit import explain_decision, replay_decisions
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
    send_through_the_day,
)
from decision_engine.errors import StepError
from decision_engine.loop import run
from decision_engine.market import Market
from decision_engine.market.tracker import Tracker
from decision_engine.workspace import Workspace
from tests.postgres_server import PostgresServer, running_postgres
from tests.sandbox_process import running_sandbox, running_server

CUSTOMERS, DAYS, SEED = 400, 2, 7
DUCKDB = "  kind: duckdb\n  path: warehouse.duckdb\n"


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
        config.write_text(config.read_text().replace(DUCKDB, f"  kind: {kind}\n"))
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
        rounds = []
        for day in range(DAYS):
            now, tomorrow = midnight(day), midnight(day + 1)
            world.set_clock(now)
            rounds.append(run(workspace, now, quick=True))
            with open_delivery(workspace) as delivery:
                send_through_the_day(workspace, world, delivery, now, tomorrow)
            react(world, tomorrow)
            live_on(workspace, world, day)
        yield Lived(workspace, rounds)


@pytest.fixture(scope="module")
def keys() -> Iterator[None]:
    with demo_environment():
        yield


@pytest.fixture(scope="module")
def on_duckdb(keys: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with lived(tmp_path_factory.mktemp("duckdb"), "duckdb") as project:
        yield project


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def on_postgres(
    keys: None, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lived]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in postgres.environment(postgres.new_database()).items():
            patch.setenv(name, value)
        with lived(tmp_path_factory.mktemp("postgres"), "postgres") as project:
            yield project


def decisions(lived: Lived) -> dict[str, tuple[Any, ...]]:
    columns = "decision_id, agent, customer_id, slot, group_name, action, send_at, n_eligible"
    return {row[0]: row for row in lived.rows(f"select {columns} from {{engine}}.decisions")}


def numbers(lived: Lived, column: str) -> Any:
    """A numeric column of the decisions in the order of their ids; lists end to end."""
    found = lived.rows(f"select decision_id, {column} from {{engine}}.decisions")
    values = [value for _, value in sorted(found)]
    return np.concatenate([np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in values])


def test_the_days_were_eventful(on_duckdb: Lived) -> None:
    steps = [r["steps"] for r in on_duckdb.rounds]
    assert all(s["decisions"] > 50 and s["sends_planned"] > 10 for s in steps)
    (told,) = on_duckdb.rows("select count(*) from {engine}.inbound_events")
    assert told[0] > 30


def test_the_same_decisions(on_duckdb: Lived, on_postgres: Lived) -> None:
    assert decisions(on_postgres) == decisions(on_duckdb)
    for column in ("p_agent", "p_action", "propensity", "x", "mean", "sd"):
        ours, theirs = numbers(on_postgres, column), numbers(on_duckdb, column)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=column)
    assert (numbers(on_postgres, "reasons") == numbers(on_duckdb, "reasons")).all()


def test_the_same_rounds(on_duckdb: Lived, on_postgres: Lived) -> None:
    assert [r["steps"] for r in on_postgres.rounds] == [r["steps"] for r in on_duckdb.rounds]


SAME = {
    "customers": "customer_id, external_id, email, time_zone from {model}.dim_customers",
    "features": "customer_id, pages_24h, orders_count, email_sends_30d, consent_email, last_action"
    " from {model}.dim_customer_features",
    "outcomes": "decision_id, event, occurred_at, is_machine from {model}.fct_outcomes",
    "rewards": "decision_id, is_closed, is_learnable, reward from {model}.fct_decision_rewards",
    "blocks": "decided_date, agent, reason, blocked_actions from {model}.rpt_guardrail_blocks",
    "receipts": "d.decision_id, r.status, r.reason from {engine}.receipts r"
    " join {engine}.decisions d using (decision_id)",
    "states": "agent, policy, n_decisions, is_current from {engine}.policy_states",
    "webhooks": "event_type, external_id, channel, decision_id, is_machine, occurred_at"
    " from {engine}.inbound_events",
    "runs": "slot, step from {engine}.runs",
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_tables(name: str, on_duckdb: Lived, on_postgres: Lived) -> None:
    sql = f"select {SAME[name]}"
    expected = rounded(on_duckdb.rows(sql))
    assert rounded(on_postgres.rows(sql)) == expected
    assert len(expected) > 2


def rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """In a fixed order; sums of doubles depend on the order of their parts in the last bits."""
    plain = [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows]
    return sorted(plain, key=repr)


def test_the_record_can_be_read(on_postgres: Lived) -> None:
    decision_id = min(decisions(on_postgres))
    assert decision_id in explain_decision(on_postgres.workspace, decision_id[:16]).text
    report = replay_decisions(on_postgres.workspace, [], 10_000)
    assert report["decisions"] == len(decisions(on_postgres))
    assert report["different_action"] == report["different_propensity"] == 0
    assert report["different_posterior"] == 0
    assert replay_decisions(on_postgres.workspace, [decision_id], 1)["decisions"] == 1


def test_a_round_that_ended_is_not_repeated(on_postgres: Lived) -> None:
    before = decisions(on_postgres)
    again = run(on_postgres.workspace, midnight(DAYS - 1), quick=True)
    assert again["decide"] == on_postgres.rounds[-1]["decide"]
    assert decisions(on_postgres) == before


def test_another_folder_is_turned_away(
    on_postgres: Lived, tmp_path: Path, copied: Callable[[Workspace, Path], Workspace]
) -> None:
    other = copied(on_postgres.workspace, tmp_path / "other")
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


def test_json_of_the_rounds_is_plain(on_postgres: Lived) -> None:
    assert json.loads(json.dumps(on_postgres.rounds)) == on_postgres.rounds
