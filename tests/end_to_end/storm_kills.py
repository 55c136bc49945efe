"""The part of `make storm` with real SIGKILLs, over real sockets, for both lanes.

A fork server (`python -m tests.end_to_end.storm_kills`) lets a child do a round and die in it:
half of them between the vendor's answer and the note of it, the others at any failpoint or at any
moment. The next child goes on, and the books are compared with the ledger of the sandbox, which
is a process of its own.
"""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from connectors.calls import connected
from connectors.deliver import deliver_sends
from connectors.failpoint import FAILPOINTS
from connectors.journal import Journal
from connectors.sandbox.ledger import Entry
from decision_engine.workspace import Workspace
from tests.connectors import crash_worker, storm_sends
from tests.connectors.sends import NOW
from tests.end_to_end import storm_outbox
from tests.fork_server import fork_server
from tests.sandbox_inside import KEYS, base
from tests.sandbox_process import Sandbox, running_sandbox

OF_SENDS = [n for n in FAILPOINTS if n.startswith(("framed.append", "journal.", "deliver."))]
OF_OUTBOX = [
    "sync.call.before",
    "outbox.doubt.after_commit",
    "outbox.keep.before_commit",
    "outbox.keep.after_commit",
]


# --- in the children ---


def sends(job: dict[str, Any]) -> None:
    """Add the messages that are not there yet, and send what is due."""
    destination, stream = storm_sends.vendor_kind(job["kind"])
    now = NOW + timedelta(hours=job["hours"])
    with Journal.open(Path(job["directory"])) as journal:
        journal.add(storm_sends.sends(job["upto"], destination.name, stream, job["prefix"]))
        url, key = job["url"] + base(destination), KEYS[destination.name]
        with connected(destination, url, key) as target:
            targets = {destination.name: target}
            run = deliver_sends(
                journal, targets, lambda *_: None, lambda: now, in_flight=storm_sends.IN_FLIGHT
            )
        if run.stopped:
            raise RuntimeError(str(run.stopped))


@cache
def workspace_of(folder: str) -> Workspace:
    """The project; opened once, before any child is."""
    return Workspace.open(Path(folder))


def prepare(job: dict[str, Any]) -> None:
    """What all children need."""
    if job["work"] == "outbox":
        workspace_of(job["directory"])


def outbox(job: dict[str, Any]) -> None:
    """Make the outbox what it is to be, and bring it over."""
    workspace = workspace_of(job["directory"])
    name, stream = storm_outbox.KINDS[job["kind"]]
    destination = storm_outbox.destination_of(name, stream)
    rows = {key: (row[0], row[1]) for key, row in job["rows"].items()}
    with workspace.warehouse() as warehouse:
        storm_outbox.look_once(warehouse)
        model = workspace.model(f"outbox_{name}__{stream}")
        storm_outbox.set_outbox(warehouse, model, stream, rows, job["prefix"])
        with connected(destination, job["url"] + base(destination), KEYS[name]) as target:
            totals = storm_outbox.sync(workspace, warehouse, target, stream)
        if totals["extracted"] != totals["accepted"]:
            raise RuntimeError(str(totals))
        storm_outbox.audit(workspace, warehouse, name, stream)


# --- the storm ---


class Children:
    """Rounds in processes that may die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def live(self, **job: Any) -> bool:
        """Let a child do its round; whether it lived to the end. AssertionError if it failed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(msgspec.json.encode(job).decode() + "\n")
        self._process.stdin.flush()
        ended = self._process.stdout.readline().strip()
        assert ended in ("done", "killed"), ended or "the fork server is gone"
        return ended == "done"


@contextmanager
def children() -> Iterator[Children]:
    """The fork server."""
    with fork_server("tests.end_to_end.storm_kills") as process:
        yield Children(process)


def trouble(
    dice: random.Random, counts: Counter[str], answer: str, others: list[str], longest: float
) -> dict[str, Any]:
    """How the next child dies: at a place, or at a moment."""
    if 2 * counts["answer"] <= counts["kills"]:
        return {"failpoint": answer, "hit": dice.randint(1, 3)}
    if dice.random() < 0.5:
        return {"kill_after": dice.uniform(0, longest)}
    return {"failpoint": dice.choice(others), "hit": dice.randint(1, 2)}


def count(counts: Counter[str], how: dict[str, Any], answer: str) -> None:
    """One more kill."""
    counts["kills"] += 1
    counts["answer"] += how.get("failpoint") == answer


def entries_of(sandbox: Sandbox) -> list[Entry]:
    """What the sandbox took since this life began."""
    return [msgspec.convert(entry, Entry) for entry in sandbox.ledger()]


def kill_sends(kills: int, seed: int, folder: Path) -> Counter[str]:
    """Lives of the send lane until there were so many kills."""
    counts: Counter[str] = Counter()
    no_limit = ("--limit-divisor", "1e-6")
    with running_sandbox(folder / "sandbox", *no_limit) as running, children() as server:
        life = 0
        while counts["kills"] < kills:
            dice = random.Random(f"kills/{seed}/{life}")
            sandbox = replace(running, seen=_entries(running))
            one_life(server, sandbox, folder / f"life{life}", life, dice, counts)
            life += 1
    return counts


def _entries(sandbox: Sandbox) -> int:
    reply = sandbox.session.get(f"{sandbox.url}/_sandbox/health", timeout=60)
    return int(reply.json()["entries"])


def one_life(
    server: Children,
    sandbox: Sandbox,
    directory: Path,
    life: int,
    dice: random.Random,
    counts: Counter[str],
) -> None:
    """One journal: a kill in each round, then a round to its end, then the books."""
    kind = list(storm_sends.KINDS)[life % len(storm_sends.KINDS)]
    answer, hours, doubtful = "deliver.call.after", 0, 0
    prefix = f"l{life}x"
    for upto in range(storm_sends.A_ROUND, storm_sends.MESSAGES + 1, storm_sends.A_ROUND):
        hours += dice.choice((0, 1, 25))
        job = {
            "work": "sends", "kind": kind, "directory": str(directory), "url": sandbox.url,
            "upto": upto, "prefix": prefix, "hours": hours,
        }  # fmt: skip
        sandbox.control("clock", now=(NOW + timedelta(hours=hours)).isoformat())
        how = trouble(dice, counts, answer, OF_SENDS, 0.06)
        is_killed = not server.live(**job, **how)
        if is_killed:
            count(counts, how, answer)
        assert server.live(**job)
        entries = entries_of(sandbox)
        effects = [e.message_id if e.vendor == "webhook" else e.external_id for e in entries]
        with Journal.open(directory) as journal:
            unknown = storm_sends.audit(journal, effects, upto, prefix)
        assert unknown - doubtful <= is_killed * storm_sends.IN_FLIGHT, "too many in doubt"
        doubtful = unknown
    counts["unknown"] += doubtful
    counts["messages"] += storm_sends.MESSAGES


def kill_outboxes(kills: int, seed: int, folder: Path) -> Counter[str]:
    """Rounds of the profile lane until there were so many kills."""
    counts: Counter[str] = Counter()
    no_limit = ("--limit-divisor", "1e-6")
    dice = random.Random(f"outbox kills/{seed}")
    with running_sandbox(folder / "sandbox", *no_limit) as sandbox, children() as server:
        project = folder / "project"
        storm_outbox.make_project(project)
        rows: dict[str, storm_outbox.Rows] = {kind: {} for kind in storm_outbox.KINDS}
        answer = "sync.call.after"
        while counts["kills"] < kills:
            kind = dice.choice(list(rows))
            stream = storm_outbox.KINDS[kind][1]
            job = {
                "work": "outbox", "kind": kind, "directory": str(project), "url": sandbox.url,
                "prefix": stream,
            }  # fmt: skip
            rows[kind] = storm_outbox.changed(rows[kind], dice)
            how = trouble(dice, counts, answer, OF_OUTBOX, 0.4)
            if not server.live(**job, **how, rows=rows[kind]):
                count(counts, how, answer)
            if dice.random() < 0.5:
                rows[kind] = storm_outbox.changed(rows[kind], dice)
            assert server.live(**job, rows=rows[kind])
            found = [e for e in entries_of(sandbox) if _is_of(e, stream)]
            wrong = storm_outbox.differences(found, stream, rows[kind], stream)
            assert not wrong, f"{stream}: wrong final values: {wrong}"
            counts["rows compared"] += len(rows[kind])
    return counts


def _is_of(entry: Entry, stream: str) -> bool:
    kinds = {
        "users": ("profile",),
        "events": ("event",),
        "catalog_items": ("item", "item_deletion"),
    }
    return entry.kind in kinds[stream]


if __name__ == "__main__":
    import_module("pandas")  # DuckDB would import it in each child
    crash_worker.serve({"sends": sends, "outbox": outbox}, prepare)
