"""The documentation says what is there: links, names, reference pages, and the tutorial itself."""

from __future__ import annotations

import gzip
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from connectors.destinations import DESTINATIONS
from decision_engine.cli import main
from decision_engine.guardrails import (
    EXPIRED,
    GUARDRAILS,
    NOT_APPROVED,
    OTHER_GROUP,
    OVERRIDDEN,
    REASON_NAMES,
    UNKNOWN_AGENT,
    UNKNOWN_PERSON,
)
from decision_engine.policies import POLICIES
from decision_engine.types import Reason
from tests.docs import reference

ROOT = reference.ROOT
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("**/*.md")])
TUTORIAL = DOCS / "tutorial" / "first_project.md"
CDNOW = ROOT.parent / "shared" / "datasets" / "CDNOW_master.txt.gz"

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


# ---- links and names ----


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that headings get."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def written() -> str:
    """All pages that people wrote."""
    made = {DOCS / "reference" / name for name in reference.texts()}
    return "\n".join(page.read_text() for page in PAGES if page not in made)


def test_every_policy_destination_and_command_is_mentioned() -> None:
    text = written()
    learning = (DOCS / "concepts" / "learning.md").read_text()
    assert [p for p in POLICIES if f"`{p}`" not in learning] == []
    assert [d for d in DESTINATIONS if f"kind: {d}" not in text] == []
    assert [c for c in main.commands if f"nextmove {c}" not in text] == []


SETTLED = (Reason.BAD_DATA, Reason.BUDGET, Reason.RAMP, Reason.SMALL_LIST, Reason.PINNED)


def test_every_guardrail_is_in_the_table() -> None:
    page = (DOCS / "concepts" / "guardrails.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert rows == [(str(r.value), REASON_NAMES[r]) for r in (*GUARDRAILS, *SETTLED)]
    at_send = (EXPIRED, NOT_APPROVED, OTHER_GROUP, OVERRIDDEN, UNKNOWN_AGENT, UNKNOWN_PERSON)
    assert [r for r in at_send if f"`{r}`" not in page] == []


def test_paths_in_the_capabilities_exist() -> None:
    text = (DOCS / "capabilities.md").read_text()
    paths = re.findall(r"`((?:decision_engine|connectors|dags|dbt_project|tests)/[\w./]*)`", text)
    assert paths
    assert [p for p in paths if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("name", sorted(reference.texts()))
def test_reference_is_fresh(name: str) -> None:
    text = (reference.FOLDER / name).read_text()
    assert text == reference.texts()[name], "run: python -m tests.docs.reference"


# ---- the tutorial runs ----


class Reader:
    """Somebody who types the blocks of a page into a shell, one after the other."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.cwd, self.env = folder / ".cwd", folder / ".env"
        self.cwd.write_text(str(folder))
        self.env.write_text(f"export CDNOW={third_of_cdnow(folder)}")

    def type(self, text: str) -> str:
        """Run a shell block; what it printed. Folder and variables stay for the next."""
        after = f'\npwd > "{self.cwd}"\nexport -p > "{self.env}"\n'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.before + self.adapted(text) + after],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self.move_port()
        return done.stdout

    @contextmanager
    def left_running(self, text: str) -> Iterator[None]:
        """A block of a second terminal, from the line that says it is ready until the end."""
        process = subprocess.Popen(
            ["bash", "-euc", self.before + "exec " + self.adapted(text)],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout
            assert process.stdout.readline(), f"{text}: did not start"
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)
            if process.stdout:
                process.stdout.close()

    @property
    def before(self) -> str:
        return f'. "{self.env}"\ncd "$(cat "{self.cwd}")"\n'

    def adapted(self, text: str) -> str:
        """The block with a port that is free on this machine."""
        return text.replace("8800", str(self.port))

    def move_port(self) -> None:
        for config in self.folder.glob("*/nextmove.yml"):
            config.write_text(self.adapted(config.read_text()))


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "100"}


def third_of_cdnow(folder: Path) -> Path:
    """The orders of every third customer: the same steps in less time."""
    with gzip.open(CDNOW, "rt") as file:
        header, *orders = file.readlines()
    sample = [order for order in orders if int(order.split()[0]) % 3 == 0]
    path = folder / CDNOW.name
    with gzip.open(path, "wt") as file:
        file.writelines([header, *sample])
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(not CDNOW.exists(), reason=f"{CDNOW.name} is not beside the repository")
def test_the_tutorial_runs(tmp_path: Path) -> None:
    reader, printed = Reader(tmp_path, free_port()), []
    with ExitStack() as terminals:
        for kind, text in FENCE.findall(TUTORIAL.read_text()):
            if kind == "sh":
                printed.append(reader.type(text))
            elif kind == "python":
                printed.append(reader.type(f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK"))
            elif kind == "sh background":
                terminals.enter_context(reader.left_running(text))
    replayed = dict(re.findall(r"^ *([a-z ]+?) {2,}([\d.,]+) *$", "\n".join(printed), re.MULTILINE))
    assert replayed["decisions"] == "1,000"
    assert {replayed[n] for n in replayed if n.startswith("different ")} == {"0"}
    explained = printed[-1]
    assert explained.lower().startswith("win back chose"), explained
