"""Kill it anywhere: every intent is accounted for, and nobody gets a message twice."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from connectors.failpoint import FAILPOINTS
from connectors.journal import Journal
from tests.connectors import storm_power
from tests.connectors.crash_worker import IN_FLIGHT
from tests.connectors.power import memory
from tests.connectors.storm_sends import OTHERS, storm
from tests.fork_server import fork_server

COUNT = 50

RECOVER = [name for name in FAILPOINTS if name.startswith("journal.recover")]
COMPACT = [name for name in FAILPOINTS if name.startswith("journal.compact")]
SYNC = [name for name in FAILPOINTS if name.startswith("sync.")]
SEND = [
    name
    for name in FAILPOINTS
    if name.startswith(("framed.", "journal.", "deliver.")) and name not in [*RECOVER, *COMPACT]
]


@dataclass
class Ledger:
    """What the vendor really did, by its own account."""

    url: str = ""
    people: Counter[str] = field(default_factory=Counter)
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    lose_answers: float = 0.0


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with running_ledger() as book:
        yield book


@contextmanager
def running_ledger() -> Iterator[Ledger]:
    """A vendor on a socket."""
    book, lock = Ledger(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                book.people.update(body["people"])
                is_lost = book.dice.random() < book.lose_answers
            if is_lost:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """The client was killed in the middle of a call."""

    with Server(("127.0.0.1", 0), Handler) as server:
        book.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield book
        server.shutdown()
        thread.join()


class Worker:
    """Runs jobs in processes that may die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, work: str, directory: Path, ledger: Ledger, **options: Any) -> str:
        job = {"work": work, "directory": str(directory), "url": ledger.url, "count": COUNT}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({**job, **options}) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with running_worker() as running:
        yield running


@contextmanager
def running_worker() -> Iterator[Worker]:
    """The fork server."""
    with fork_server("tests.connectors.crash_worker") as process:
        yield Worker(process)


def check_books(directory: Path, ledger: Ledger, crashes: int, count: int = COUNT) -> None:
    """Our states against the vendor's ledger."""
    with Journal.open(directory) as journal:
        states = {i: journal.state(f"key{i}") for i in range(count)}
        final = Counter(r["send_key"] for _, r in journal.receipts() if r["status"] != "not_sent")
    assert set(states.values()) <= {"accepted", "unknown"}, "everything came to an end"
    assert final == {f"key{i}": 1 for i in range(count)}, "one final receipt each"
    assert not [who for who, times in ledger.people.items() if times > 1], "nothing twice"
    accepted = {f"u{i}" for i, state in states.items() if state == "accepted"}
    assert accepted <= set(ledger.people), "accepted means the vendor has it"
    assert count - len(accepted) <= crashes * IN_FLIGHT, "few are in doubt"


@pytest.mark.parametrize("hit", [1, 2, 3])
@pytest.mark.parametrize("name", SEND)
def test_killed_while_sending(
    name: str, hit: int, tmp_path: Path, ledger: Ledger, worker: Worker
) -> None:
    ended = worker.run("deliver", tmp_path, ledger, failpoint=name, hit=hit)
    once_only = name.startswith("journal.intent")
    assert ended == ("done" if once_only and hit > 1 else "killed")
    assert worker.run("deliver", tmp_path, ledger) == "done"
    check_books(tmp_path, ledger, crashes=1)


@pytest.mark.parametrize("name", RECOVER)
def test_killed_while_recovering(name: str, tmp_path: Path, ledger: Ledger, worker: Worker) -> None:
    assert worker.run("deliver", tmp_path, ledger, failpoint="deliver.call.after") == "killed"
    assert worker.run("deliver", tmp_path, ledger, failpoint=name) == "killed"
    assert worker.run("deliver", tmp_path, ledger) == "done"
    check_books(tmp_path, ledger, crashes=1)


@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize("name", COMPACT)
def test_killed_while_compacting(
    name: str, hit: int, tmp_path: Path, ledger: Ledger, worker: Worker
) -> None:
    assert worker.run("deliver", tmp_path, ledger) == "done"
    ended = worker.run("compact", tmp_path, ledger, failpoint=name, hit=hit)
    assert ended == ("killed" if hit == 1 or "unlinks" in name else "done")
    for _ in range(2):
        assert worker.run("compact", tmp_path, ledger) == "done"
        assert worker.run("deliver", tmp_path, ledger, day=40) == "done"
    assert ledger.people == {f"u{i}": 1 for i in range(COUNT)}


@pytest.mark.parametrize("name", SYNC)
def test_killed_while_bringing_profiles(
    name: str, tmp_path: Path, ledger: Ledger, worker: Worker
) -> None:
    assert worker.run("sync", tmp_path, ledger, failpoint=name, hit=5) == "killed"
    assert worker.run("sync", tmp_path, ledger) == "done"
    assert set(ledger.people) == {f"u{i}" for i in range(COUNT)}


def life(seed: int, directory: Path, ledger: Ledger, worker: Worker, days: int = 25) -> int:
    """Killed in round after round, then the books are checked; how many kills there were."""
    dice = random.Random(seed)
    ledger.dice, ledger.lose_answers = random.Random(seed), 0.1
    crashes = 0
    for day in range(days):
        if dice.random() < 0.5:
            trouble: dict[str, Any] = {"kill_after": dice.uniform(0, 0.06)}
        else:
            trouble = {"failpoint": dice.choice([*SEND, *RECOVER]), "hit": dice.randint(1, 6)}
        ended = worker.run("deliver", directory, ledger, count=20 * (day + 1), **trouble)
        assert ended in ("killed", "done")
        crashes += ended == "killed"
    ledger.lose_answers = 0.0
    assert worker.run("deliver", directory, ledger, count=20 * days) == "done"
    check_books(directory, ledger, crashes=2 * days, count=20 * days)
    return crashes


def test_killed_at_random_again_and_again(tmp_path: Path, ledger: Ledger, worker: Worker) -> None:
    assert life(1, tmp_path, ledger, worker) > 5


def test_a_slice_of_the_storm_in_the_send_lane() -> None:
    """Of `make storm`; every kind of trouble and every kind of vendor."""
    with memory() as folder:
        counts = storm(120, 1, folder)
    assert all(counts[trouble] for trouble in ("answer", *OTHERS))
    assert counts["accepted, answer lost"] == counts["answer"] >= 60


def test_a_slice_of_the_storm_on_the_journals_disk() -> None:
    """Of `make storm`; each write, sync and opening that fails, a full disk, and power cuts."""
    with memory() as folder:
        counts = storm_power.storm(60, 1, folder)
    assert all(counts[trouble] for trouble in ("cut", "calls looked at", *storm_power.FAULTS))
