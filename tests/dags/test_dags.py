"""The DAGs on a real project, task by task as a scheduler would run, retry and clear them."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.dags.conftest import SECRETS, Shop
from tests.dags.console import HEAVY, ROOT, Console
from tests.dags.pretended import CANARY, COUNTS
from tests.dags.shop import CUSTOMERS, four_days_pass, now

CHAIN = ("build_profiles", "learn", "decide", "deliver", "load_log")
MONDAY, LONG_AGO = "2026-11-16", "2026-10-12"

pytestmark = pytest.mark.timeout(600)


def rows(shop: Shop, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in the warehouse."""
    with shop.workspace.warehouse_to_read() as warehouse:
        return warehouse.rows(sql)


def asked(airflow: Console, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in Airflow's own database."""
    with closing(sqlite3.connect(airflow.output.parent / "airflow.db")) as database:
        return database.execute(sql).fetchall()


def messages(shop: Shop) -> Counter[str]:
    """How often each decision has reached a vendor since the first round."""
    return Counter(
        e["metadata"]["decision_id"] for e in shop.vendors.ledger() if e["kind"] == "message"
    )


def written(shop: Shop) -> dict[str, int]:
    """How many rows the engine's tables have."""
    tables = ("epochs", "decisions", "receipts", "policy_states", "runs")
    return {t: rows(shop, f"select count(*) from nextmove_engine.{t}")[0][0] for t in tables}


def returned(airflow: Console, dag: str) -> Any:
    """What the last run of a DAG's task has returned."""
    latest = f"select value from xcom where dag_id = '{dag}' order by timestamp desc limit 1"
    return json.loads(asked(airflow, latest)[0][0])


def only_numbers(totals: Any) -> bool:
    """Whether there is nothing but numbers in it, at any depth."""
    if isinstance(totals, dict):
        return all(only_numbers(v) for v in totals.values())
    return isinstance(totals, int | float)


# ---- the chain ----


class Pass(NamedTuple):
    """What a DAG has added to the engine's tables, and its task's XCom."""

    added: dict[str, int]
    totals: Any


def run_all(airflow: Console, shop: Shop) -> dict[str, Pass]:
    """Every DAG in order, with the same logical date: Airflow clears a run that is there."""
    passes, before = {}, written(shop)
    for dag in CHAIN:
        assert airflow("cli", "dags", "test", dag, MONDAY) == 0, dag
        after = written(shop)
        added = {t: n - before[t] for t, n in after.items() if n != before[t]}
        passes[dag] = Pass(added, returned(airflow, dag))
        before = after
    return passes


@pytest.fixture(scope="module")
def first(airflow: Console, shop: Shop) -> dict[str, Pass]:
    """Every DAG once."""
    return run_all(airflow, shop)


@pytest.fixture(scope="module")
def again(first: Any, airflow: Console, shop: Shop) -> dict[str, Pass]:
    """Every run cleared and done again, once what was decided has come to an end."""
    four_days_pass(shop.workspace)
    return run_all(airflow, shop)


def planned(shop: Shop) -> set[str]:
    """The decisions to send something."""
    sql = "select decision_id from nextmove_engine.decisions where action <> 'no_action'"
    return {row[0] for row in rows(shop, sql)}


def test_build_makes_profiles_of_the_present(first: dict[str, Pass], shop: Shop) -> None:
    assert first["build_profiles"].added == {}
    n, oldest = rows(shop, "select count(*), min(as_of) from nextmove.dim_customer_features")[0]
    assert n == CUSTOMERS
    assert now() - oldest < timedelta(hours=1)


def test_decide_decides_today(first: dict[str, Pass], shop: Shop) -> None:
    assert first["decide"].added["decisions"] == CUSTOMERS
    epochs = rows(shop, "select slot, status from nextmove_engine.epochs")
    assert epochs == [(now().date().isoformat(), "done")]


def test_deliver_sends_what_was_decided(first: dict[str, Pass], shop: Shop) -> None:
    assert planned(shop)
    assert messages(shop).keys() == planned(shop)
    assert first["deliver"].added["runs"] == 1
    receipts = "select decision_id, status from nextmove_engine.receipts where stream = 'messages'"
    assert dict(rows(shop, receipts)) == dict.fromkeys(planned(shop), "accepted")


def test_learn_learns_once_there_is_something(
    first: dict[str, Pass], again: dict[str, Pass], shop: Shop
) -> None:
    assert first["learn"].added == {"policy_states": 1}  # the prior
    assert again["learn"].added == {"policy_states": 1}
    state = "select n_decisions from nextmove_engine.policy_states where is_current"
    assert rows(shop, state) == [(again["learn"].totals["hello"]["decisions"],)]


def test_the_counts_are_xcoms(first: dict[str, Pass]) -> None:
    assert all(only_numbers(done.totals) for done in first.values())
    assert first["build_profiles"].totals["tests"] > 50
    assert first["decide"].totals["agents"]["hello"]["decisions"] == CUSTOMERS
    delivered = first["deliver"].totals
    assert delivered["streams"]["messages"]["accepted"] == delivered["intents"] > 0
    kinds = ("inbound_events", "tracked_events", "epochs", "decisions", "overrides")
    assert first["load_log"].totals == dict.fromkeys(kinds, 0)


def test_cleared_and_run_again_nothing_is_sent_twice(
    first: dict[str, Pass], again: dict[str, Pass], airflow: Console, shop: Shop
) -> None:
    assert airflow("cli", "dags", "test", "deliver", LONG_AGO) == 0

    assert again["decide"].added == {}
    assert again["decide"].totals == first["decide"].totals
    assert again["deliver"].totals["intents"] == 0
    assert messages(shop) == Counter(planned(shop))


def test_what_airflow_makes_of_exit_codes(pretending: dict[str, int], airflow: Console) -> None:
    assert pretending == {"exit0": 0, "exit1": 1, "exit2": 1, "exit3": 0}
    states = "select dag_id, state, try_number from task_instance where dag_id like 'exit%'"
    assert sorted(asked(airflow, states)) == [
        ("exit0", "success", 1),
        ("exit1", "failed", 2),
        ("exit2", "failed", 1),
        ("exit3", "success", 1),
    ]
    assert returned(airflow, "exit0") == returned(airflow, "exit3") == COUNTS
    text = airflow.output.read_text()
    assert "nextmove exit3 is done: {'records': 3" in text
    assert "some of the records were rejected, or their fate is unknown" in text


@pytest.fixture(scope="module")
def pretending(airflow: Console) -> dict[str, int]:
    """The DAGs of the pretended command line, with the exit codes of `airflow dags test`."""
    return {
        dag: airflow("cli", "dags", "test", dag) for dag in ("exit0", "exit1", "exit2", "exit3")
    }


def test_no_secret_is_kept(
    again: Any, pretending: dict[str, int], airflow: Console, shop: Shop
) -> None:
    fields = asked(airflow, "select dag_id, rendered_fields from rendered_task_instance_fields")
    for dag, text in fields:
        project = json.loads(text)["project"]
        assert project == (f"/srv/{dag}" if dag.startswith("exit") else None)
    assert "by mistake: ***" in airflow.output.read_text()
    assert holding(airflow.output.parent, [*SECRETS.values(), CANARY]) == []
    # The journal and the warehouse are no places for keys either.
    assert holding(shop.workspace.root, SECRETS.values()) == []


def holding(folder: Path, secrets: Iterable[str]) -> list[str]:
    """The files that have one of the secrets in them."""
    found = [p for p in folder.rglob("*") if p.is_file()]
    return [p.name for p in found if any(s.encode() in p.read_bytes() for s in secrets)]


def test_a_step_that_runs_already_is_tried_again(first: Any, airflow: Console, shop: Shop) -> None:
    with shop.workspace.journal():
        refused = airflow("execute", "deliver")
    assert refused["raised"] == "AirflowException"
    assert "another try goes on from there" in refused["text"]
    assert "is in use by another process" in airflow.output.read_text()

    assert airflow("execute", "deliver")["totals"]["intents"] == 0


# ---- the files ----


def test_dag_files_are_quick_to_parse(airflow: Console) -> None:
    found = airflow("parse", str(ROOT / "dags"))
    assert found["errors"] == {}
    assert found["heavy"] == [], HEAVY
    airflow_itself = found["seconds"].pop("airflow")
    assert found["seconds"].keys() == {f"{dag}.py" for dag in CHAIN}
    assert max(found["seconds"].values()) < 1.0, (found["seconds"], airflow_itself)


def test_every_task_is_safe_to_repeat(airflow: Console) -> None:
    dags = airflow("parse", str(ROOT / "dags"))["dags"]
    for name, dag in dags.items():
        assert (dag["catchup"], dag["max_active_runs"], dag["zone"]) == (False, 1, "UTC"), name
        for task in dag["tasks"].values():
            assert task["pool"] == "nextmove"
            assert task["retries"] >= 3
            assert task["backoff"]
            assert task["fields"] == ["project", "as_of"]
    outlets = {name: [t["outlets"] for t in dag["tasks"].values()] for name, dag in dags.items()}
    assert outlets == {
        "build_profiles": [["nextmove_profiles"]],
        "learn": [["nextmove_policies"]],
        "decide": [["nextmove_decisions"]],
        "deliver": [[]],
        "load_log": [["nextmove_inbound_events"]],
    }


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda p: p.name)
def test_dag_files_only_wire(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80
