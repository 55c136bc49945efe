"""make storm-loop: kill the loop at random moments, start it again, audit every row.

Each project lives through the scenario while SIGKILL hits it again and again. Afterwards its
decisions must be the ones of a run that nobody disturbed, every planned send must have one final
state, and the sandbox's own ledger must not show a message twice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import make_project
from tests.sandbox_process import BRAZE_KEY, HUBSPOT_KEY, ITERABLE_KEY, Sandbox, running_sandbox

KEYS = {
    "BRAZE_API_KEY": BRAZE_KEY,
    "ITERABLE_API_KEY": ITERABLE_KEY,
    "HUBSPOT_ACCESS_TOKEN": HUBSPOT_KEY,
}
ROOT = Path(__file__).parents[2]
LONGEST = 12.0
"""Seconds: about what the whole scenario takes."""
FINAL = {"accepted", "rejected", "skipped", "unknown"}


@dataclass
class Life:
    """One project with its sandbox and its fork server."""

    workspace: Workspace
    sandbox: Sandbox
    server: subprocess.Popen[str]
    kills: int = 0

    def once(self, failpoint: str = "", kill_after: float | None = None) -> bool:
        """Let a child live, to its end or to its death; whether it came to the end."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(f"{failpoint}\n")
        self.server.stdin.flush()
        pid = int(self.server.stdout.readline())
        timer = None
        if kill_after is not None:
            timer = threading.Timer(kill_after, _kill, [pid])
            timer.start()
        status = int(self.server.stdout.readline())
        if timer:
            timer.cancel()
            timer.join()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.kills += 1
            return False
        if os.waitstatus_to_exitcode(status):
            raise AssertionError(f"the loop failed with {os.waitstatus_to_exitcode(status)}")
        return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def life(folder: Path) -> Iterator[Life]:
    """A fresh project, ready to be lived."""
    with ExitStack() as stack:
        sandbox = stack.enter_context(running_sandbox(folder / "sandbox"))
        workspace = make_project(folder / "project", sandbox.url)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.scenario", str(workspace.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Locks of a killed child are the kernel's to clean up, not news.
            env={**os.environ, **KEYS, "PYTHONWARNINGS": "ignore:resource_tracker"},
            cwd=ROOT,
        )
        stack.callback(server.wait, 30)
        assert server.stdin is not None
        assert server.stdout is not None
        stack.callback(server.stdout.close)
        stack.callback(server.stdin.close)
        assert server.stdout.readline() == "ready\n"
        yield Life(workspace, sandbox, server)


def decisions(workspace: Workspace) -> list[tuple[Any, ...]]:
    """What was decided, for comparison."""
    with workspace.warehouse_to_read() as warehouse:
        return warehouse.rows(
            "select decision_id, agent, customer_id, group_name, policy_version, action,"
            f" propensity, send_at from {workspace.engine('decisions')} order by decision_id"
        )


def audit(subject: Life, undisturbed: list[tuple[Any, ...]]) -> Counter[str]:
    """Final states of the sends; AssertionError when a law is broken."""
    assert decisions(subject.workspace) == undisturbed, "other decisions than undisturbed"
    with subject.workspace.warehouse_to_read() as warehouse:
        planned = {
            row[0]
            for row in warehouse.rows(
                f"select decision_id from {subject.workspace.engine('decisions')}"
                " where action <> 'no_action'"
            )
        }
        receipts = warehouse.rows(
            f"select decision_id, status from {subject.workspace.engine('receipts')}"
            " where decision_id is not null and status <> 'not_sent'"
        )
    state = dict(receipts)
    assert len(state) == len(receipts), "a send has two final states"
    assert set(state) == planned, "a planned send has no final state"
    assert set(state.values()) <= FINAL
    messages = Counter(
        (e["metadata"] or {}).get("decision_id") or e["properties"].get("decision_id")
        for e in subject.sandbox.ledger()
        if e["kind"] in ("message", "undeliverable")
    )
    assert not [m for m, n in messages.items() if n > 1], "a message was sent twice"
    reached = {d for d, s in state.items() if s in ("accepted", "unknown")}
    assert set(messages) <= reached, "a message without a receipt that admits it"
    assert {d for d, s in state.items() if s == "accepted"} <= set(messages)
    return Counter(state.values())


def undisturbed(folder: Path) -> list[tuple[Any, ...]]:
    """The decisions of a project that nobody disturbs."""
    with life(folder) as calm:
        assert calm.once()
        made = decisions(calm.workspace)
        audit(calm, made)
    return made


def storm(folder: Path, kills: int, seed: int, wanted: list[tuple[Any, ...]]) -> Counter[str]:
    """Kill until it is enough; the sum of all audits."""
    chance = random.Random(seed)
    result: Counter[str] = Counter()
    number = 0
    while result["kills"] < kills:
        number += 1
        with life(folder / f"life{number}") as subject:
            while not subject.once(kill_after=_moment(chance)):
                if result["kills"] + subject.kills >= kills:
                    assert subject.once()
                    break
            result += audit(subject, wanted)
            result["kills"] += subject.kills
            result["projects"] += 1
        print(f"{result['kills']} kills, {number} projects audited", flush=True)
    return result


def _moment(chance: random.Random) -> float:
    """Mostly soon, so that one project is hit many times; now and then late."""
    return chance.uniform(0, 1.5 if chance.random() < 0.7 else LONGEST)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wanted = undisturbed(Path(folder) / "undisturbed")
        result = storm(Path(folder), arguments.kills, arguments.seed, wanted)
    print(", ".join(f"{name} {n}" for name, n in sorted(result.items())))
    print("same decisions, every row accounted for, nothing sent twice")


if __name__ == "__main__":
    main()
