"""A destination of a package that is not in this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from pathlib import Path

import pytest

from connectors.base import Record
from connectors.destinations import GROUP, found
from connectors.errors import ConfigurationError
from connectors.testing import check_destination

MODULE = """
from connectors.base import Lane, Receipt, Request, Status, Stream, Window
from connectors.destinations import _replies as replies


class Acme:
    name = "acme"
    streams = {
        "people": Stream("people", Lane.PROFILE, 5, "api", (Window(5, 1), Window(100, 60))),
        "messages": Stream("messages", Lane.SEND, 1, "api", (Window(5, 1), Window(100, 60))),
    }

    def headers(self, api_key):
        return {"X-Acme": api_key}

    def build(self, stream, records):
        replies.check_batch(self.streams[stream], records)
        people = [replies.identifier(record, "external_id") for record in records]
        return Request("POST", f"/{stream}", {"people": people}, tuple(records))

    def parse(self, request, reply):
        receipts = replies.without_verdicts(request, reply, "")
        done = replies.body_of(reply).get("done") == len(request.records)
        status = Status.ACCEPTED if done else Status.UNKNOWN
        return receipts or [replies.receipt(r, status, "", reply) for r in request.records]
"""
ENTRY = "[nextmove.destinations]\nacme = acme_nextmove:Acme\n"
METADATA = "Metadata-Version: 2.1\nName: acme-nextmove\nVersion: 1.0\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An installed package, as an installer leaves it."""
    (tmp_path / "acme_nextmove.py").write_text(MODULE)
    info = tmp_path / "acme_nextmove-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY)
    return tmp_path


def points(package: Path) -> EntryPoints:
    return Distribution.at(package / "acme_nextmove-1.0.dist-info").entry_points.select(group=GROUP)


def test_it_is_found_and_held_to_the_laws(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    acme = found(points(package))["acme"]
    for stream in acme.streams:
        check_destination(acme, stream, [Record("k", {"external_id": "u"}, {})])


def test_a_project_can_name_it(package: Path) -> None:
    project = package / "project"
    script = f"""
from pathlib import Path
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace
init(Path({str(project)!r}), "p")
config = Path({str(project)!r}) / "nextmove.yml"
config.write_text(config.read_text().replace("kind: iterable", "kind: acme"))
opened = Workspace.open(Path({str(project)!r}))
print(opened.project.destinations["iterable"].kind)
"""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # It posts no webhooks of a kind we read, and it sends messages.
    assert "acme posts no webhooks" in done.stderr
    assert "acme cannot send" not in done.stderr
    assert "no kind" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("braze", "acme_nextmove:Acme", "two destinations are called braze"),
        ("other", "no_such_module:Acme", "cannot be loaded"),
        ("other", "acme_nextmove:MISSING", "cannot be loaded"),
        ("other", "builtins:dict", "lacks name, streams, headers, build, parse"),
    ],
)
def test_one_that_does_not_fit_is_named(
    name: str, value: str, said: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(package))
    with pytest.raises(ConfigurationError, match=said):
        found([EntryPoint(name, value, GROUP)])
