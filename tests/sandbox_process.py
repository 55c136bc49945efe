"""The sandbox as a process of its own, for tests and demonstrations."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

BRAZE_KEY = "sandbox-braze-key"
ITERABLE_KEY = "sandbox-iterable-key"
HUBSPOT_KEY = "sandbox-hubspot-key"
BRAZE_TOKEN = "sandbox-braze-webhook-token"
ITERABLE_TOKEN = "sandbox-iterable-webhook-token"


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox: vendors at `url`/braze and so on; `directory` has ledger.jsonl.

    Entries up to number `seen` are not shown.
    """

    url: str
    directory: Path
    process: subprocess.Popen[str]
    session: requests.Session
    seen: int = 0

    def control(self, name: str, **payload: Any) -> Any:
        """POST to /_sandbox/`name`; the decoded answer, which must be a 200."""
        reply = self.session.post(f"{self.url}/_sandbox/{name}", json=payload, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def ledger(self, vendor: str = "") -> list[dict[str, Any]]:
        """Everything accepted after `seen`, in order."""
        query = {"vendor": vendor, "after": str(self.seen)}
        reply = self.session.get(f"{self.url}/_sandbox/ledger", params=query, timeout=60)
        entries: list[dict[str, Any]] = reply.json()["entries"]
        return entries


@contextlib.contextmanager
def running_sandbox(directory: Path, *args: str, webhooks: str | None = None) -> Iterator[Sandbox]:
    """A sandbox on a free port, ended by SIGTERM. `args` are added to its command line."""
    command = ["--port", "0", "--dir", str(directory), *args]
    command += ["--webhooks", webhooks] if webhooks else []
    server = running_server("connectors.sandbox", command)
    with server as (url, process), requests.Session() as session:
        yield Sandbox(url, directory, process, session)


@contextlib.contextmanager
def running_server(
    module: str, args: list[str], env: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`python -m module args`, once it has printed {"url": ...}; ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *args],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"{module} ended with code {process.wait()} before it listened"
        yield json.loads(line)["url"], process
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
