"""The whole chain under a real scheduler, whose tasks are killed on the way."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dags import pretended
from tests.dags.conftest import SECRETS, Shop, with_our_dags
from tests.dags.scheduler import Airflow, child_of, parent_of, running_airflow, until
from tests.dags.shop import CUSTOMERS, now
from tests.dags.test_dags import CHAIN, holding, messages, planned, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Airflow]:
    """It knows our DAGs and those of the pretended command line."""
    folder = tmp_path_factory.mktemp("scheduler")
    env = with_our_dags(folder, shop)
    with running_airflow(folder / "home", env) as running:
        until(lambda: len(running.call("GET", "dags")["dags"]) == 9, "all DAGs are read")
        yield running


def unpause(airflow: Airflow, *dags: str) -> None:
    for dag in dags:
        airflow.call("PATCH", f"dags/{dag}", is_paused=False)


def lost_sight_of(step: str, project: Path) -> int:
    """Kill the task that does a step, but not its child: Airflow takes it for a zombie."""
    child = appeared(step, project)
    os.kill(parent_of(child), signal.SIGKILL)
    return child


def appeared(step: str, project: Path) -> int:
    """The process that does a step, once it is there."""
    found: list[int] = []

    def look() -> bool:
        found.extend(filter(None, [child_of(step, project)]))
        return bool(found)

    until(look, f"{step} runs", pause=0.02)
    return found[0]


def ended(airflow: Airflow, dag: str, n: int = 1) -> bool:
    """Whether n runs of a DAG are over, well."""
    states = [s for (s,) in airflow.rows(f"select state from dag_run where dag_id = '{dag}'")]
    assert "failed" not in states, f"{dag} failed"
    return len(states) >= n and set(states) == {"success"}


def tries(airflow: Airflow, dag: str) -> int:
    """The most tries that a task of a DAG took."""
    sql = f"select max(try_number) from task_instance where dag_id = '{dag}'"
    return int(airflow.rows(sql)[0][0])


def receipts(shop: Shop) -> dict[str, str]:
    """The final state of each message."""
    sql = "select decision_id, status from nextmove_engine.receipts where stream = 'messages'"
    found = rows(shop, sql)
    assert len(dict(found)) == len(found), "a message has two final states"
    return dict(found)


def test_killed_on_the_way_the_chain_comes_to_its_end(airflow: Airflow, shop: Shop) -> None:
    project, today = shop.workspace.root, now().date().isoformat()
    # Unpaused months after its start date: one run, and not one per day.
    unpause(airflow, "learn", "build_profiles")
    lost_sight_of("build", project)
    until(lambda: ended(airflow, "learn"), "learn was triggered by the profiles")
    unpause(airflow, "load_log", "deliver")
    until(lambda: ended(airflow, "deliver"), "profiles are delivered")

    # The vendor takes a message and does not answer; the one who sent it dies waiting.
    fault = {"vendor": "iterable", "kind": "timeout_after_accept", "count": 1}
    shop.vendors.control("faults", **fault)
    unpause(airflow, "decide")
    airflow.call("POST", "dags/learn/dagRuns", logical_date=None)
    lost_sight_of("decide", project)
    until(lambda: bool(messages(shop)), "a message is taken", pause=0.02)
    os.kill(appeared("deliver", project), signal.SIGKILL)
    until(lambda: ended(airflow, "deliver", 2), "messages are delivered")
    for dag in CHAIN:
        airflow.call("PATCH", f"dags/{dag}", is_paused=True)
    until(lambda: all(ended(airflow, dag) for dag in CHAIN), "nothing runs")

    assert tries(airflow, "build_profiles") > 1
    assert tries(airflow, "decide") > 1
    assert tries(airflow, "deliver") > 1
    runs = Counter(d for (d,) in airflow.rows("select dag_id from dag_run"))
    assert runs["build_profiles"] == 1

    assert rows(shop, "select slot, status from nextmove_engine.epochs") == [(today, "done")]
    decided = Counter(c for (c,) in rows(shop, "select customer_id from nextmove_engine.decisions"))
    assert (len(decided), set(decided.values())) == (CUSTOMERS, {1})
    found = receipts(shop)
    assert found.keys() == planned(shop)
    assert set(found.values()) == {"accepted", "unknown"}
    sent = messages(shop)
    assert set(sent.values()) == {1}
    assert {d for d, s in found.items() if s == "accepted"} <= set(sent) <= planned(shop)
    caused = "select a.name, e.source_dag_id from asset_event e join asset a on a.id = e.asset_id"
    assert set(airflow.rows(caused)) == {
        ("nextmove_profiles", "build_profiles"),
        ("nextmove_policies", "learn"),
        ("nextmove_decisions", "decide"),
        ("nextmove_inbound_events", "load_log"),
    }


def test_no_secret_is_in_the_logs(airflow: Airflow) -> None:
    unpause(airflow, "exit0")
    airflow.call("POST", "dags/exit0/dagRuns", logical_date=None)
    until(lambda: ended(airflow, "exit0"), "exit0 has ended")

    assert "by mistake: ***" in airflow.logs()
    assert holding(airflow.home, [*SECRETS.values(), pretended.CANARY]) == []
