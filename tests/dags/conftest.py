"""A shop, the vendors it sends to, and an Airflow that knows it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from decision_engine.workspace import Workspace
from tests.dags import pretended
from tests.dags.console import ROOT, Console, console, environment
from tests.dags.shop import make_shop, now
from tests.sandbox_process import Sandbox, running_server

SECRETS = {
    "BRAZE_API_KEY": "canary-of-braze-0123456789",
    "ITERABLE_API_KEY": "canary-of-iterable-0123456789",
    "HUBSPOT_ACCESS_TOKEN": "canary-of-hubspot-0123456789",
}
"""Keys of the sandbox that must not turn up anywhere else."""


class Shop(NamedTuple):
    """The project, and the vendors without what others have sent to them."""

    workspace: Workspace
    vendors: Sandbox


@pytest.fixture(scope="package")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with keys of its own."""
    folder = tmp_path_factory.mktemp("vendors")
    names = ("SANDBOX_BRAZE_KEY", "SANDBOX_ITERABLE_KEY", "SANDBOX_HUBSPOT_KEY")
    keys = dict(zip(names, SECRETS.values(), strict=True))
    server = running_server("connectors.sandbox", ["--port", "0", "--dir", str(folder)], keys)
    with server as (url, process), requests.Session() as session:
        yield Sandbox(url, folder, process, session)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, vendors: Sandbox) -> Shop:
    """A project that has never run."""
    away_from_midnight()
    workspace = make_shop(tmp_path_factory.mktemp("shop") / "project", vendors.url)
    seen = max((e["n"] for e in vendors.ledger()), default=0)
    return Shop(workspace, replace(vendors, seen=seen))


def away_from_midnight() -> None:
    """The slot is the date of the present: a test that sees two of them could prove nothing."""
    left = 86_400 - (now().hour * 3600 + now().minute * 60 + now().second)
    if left < 600:
        time.sleep(left)


def with_our_dags(folder: Path, shop: Shop) -> dict[str, str]:
    """The environment of an Airflow with our DAGs and those of the pretended command line."""
    shutil.copytree(ROOT / "dags", folder / "dags")
    (folder / "dags" / "steps.py").write_text(pretended.DAG)
    return environment(
        folder / "home",
        folder / "dags",
        nextmove_default={"project": str(shop.workspace.root), "secrets": SECRETS},
        pretended=pretended.pretended(folder),
    )


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Console]:
    """Airflow with our DAGs, those of the pretended command line, and a fresh database."""
    folder = tmp_path_factory.mktemp("airflow")
    env = with_our_dags(folder, shop)
    with console(folder / "home", env) as running:
        assert running("cli", "db", "migrate") == 0
        yield running
