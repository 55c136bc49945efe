"""The operator, the hook and the provider, with a command line that does as it is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.airflow.provider import get_provider_info
from tests.dags.console import Console, console, environment
from tests.dags.pretended import CANARY, COUNTS, pretended


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Airflow without a database; its command line is the pretended one."""
    folder = tmp_path_factory.mktemp("operator")
    wrong = {"project": "/srv", "secrets": {"PORT": 1}}
    env = environment(
        folder / "home", folder / "dags", nextmove_default=pretended(folder), wrong=wrong
    )
    with console(folder / "home", env) as running:
        yield running


@pytest.mark.parametrize(
    ("code", "raised", "says"),
    [
        (1, "AirflowException", "another try goes on from there"),
        (2, "AirflowFailException", "wrong usage or configuration, nothing was changed"),
        (77, "AirflowException", "exit code 77"),
    ],
)
def test_exit_codes_that_fail(airflow: Console, code: int, raised: str, says: str) -> None:
    answer = airflow("execute", f"exit{code}")
    assert answer["raised"] == raised
    assert says in answer["text"]


@pytest.mark.parametrize("code", [0, 3])
def test_exit_codes_of_success(airflow: Console, code: int) -> None:
    answer = airflow("execute", f"exit{code}")
    assert answer == {"totals": COUNTS}


def test_the_project_may_be_given(airflow: Console) -> None:
    airflow("execute", "exit0", "/elsewhere")
    assert "--progress exit0 --project /elsewhere --json" in airflow.output.read_text()


def test_a_connection_that_is_wrong_is_not_tried_again(airflow: Console) -> None:
    answer = airflow("execute", "exit0", None, "wrong")
    assert answer["raised"] == "AirflowFailException"
    assert "`secrets` must map names of environment variables to texts" in answer["text"]


def test_no_connection_and_no_project(airflow: Console) -> None:
    answer = airflow("execute", "exit0", None, "absent")
    assert answer["raised"] == "AirflowFailException"
    assert "NEXTMOVE_PROJECT" in answer["text"]


@pytest.mark.parametrize("step", ["sleep", "sleep-deaf"])
def test_a_killed_task_leaves_no_child(airflow: Console, step: str) -> None:
    marker = airflow.output.parents[1] / "marker"
    marker.unlink(missing_ok=True)
    answer = airflow("killed", step, str(marker))

    assert answer["raised"].startswith("AirflowException")
    assert answer["child"] == (-15 if step == "sleep" else -9)
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


def test_secrets_stay_inside(airflow: Console) -> None:
    airflow("execute", "exit0")
    text = airflow.output.read_text()

    assert "by mistake: ***" in text
    assert "inherited: []" in text
    assert CANARY not in text


def test_airflow_knows_the_provider(airflow: Console) -> None:
    known = airflow("provider")
    info: dict[str, Any] = get_provider_info()

    assert {name: known["info"][name] for name in info} == info
    assert known["hook"] == ["connectors.airflow.hook.NextmoveHook", "nextmove", "nextmove_conn_id"]
    assert known["fields"] == ["project"]
    assert known["hidden"] == info["connection-types"][0]["ui-field-behaviour"]["hidden-fields"]
