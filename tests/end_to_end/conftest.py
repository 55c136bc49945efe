"""A built project that tests may copy, and the sandbox it delivers to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from decision_engine.build import build
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import make_project, midnight
from tests.end_to_end.storm import KEYS
from tests.hot_service import with_hot_store
from tests.sandbox_process import Sandbox, running_sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The vendors."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    """A project whose profiles are built as of the first midnight; not to be changed.

    The hot store's outboxes too, although it is not among the destinations.
    """
    folder = tmp_path_factory.mktemp("built") / "project"
    make_project(folder, sandbox.url)
    path = folder / "nextmove.yml"
    text = path.read_text()
    with_hot_store(folder, "http://127.0.0.1:1")
    build(Workspace.open(folder), midnight(0), command="run")
    path.write_text(text)
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built project, with the keys of the sandbox in the environment."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    assert "NEXTMOVE_FAILPOINT" not in os.environ
    shutil.copytree(built, tmp_path / "project")
    return tmp_path / "project"
