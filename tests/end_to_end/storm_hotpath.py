"""make storm-hotpath: kill the service under load, again and again, and count every event.

A load generator posts events and webhooks over several connections and repeats what was not
acknowledged with the same ids, as an SDK does. The service is killed at random moments or at its
failpoints, and started again; a loader runs beside it and is killed too. At the end each
acknowledged event is in the warehouse, and none is there twice.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connectors import failpoint, framed
from decision_engine.inbound import load_log
from decision_engine.scaffold import init
from decision_engine.service.project import serve_project
from decision_engine.workspace import Workspace
from tests.sandbox_process import BRAZE_TOKEN, ITERABLE_TOKEN

KEYS = {
    "NEXTMOVE_WRITE_KEY": "write-key",
    "NEXTMOVE_API_KEY": "api-key",
    "BRAZE_WEBHOOK_KEY": BRAZE_TOKEN,
    "ITERABLE_WEBHOOK_KEY": ITERABLE_TOKEN,
}
ROOT = Path(__file__).parents[2]
SENDERS = 6
OF_SERVICE = ("framed.append.torn", "framed.rotate.after_sync", "framed.rotate.after_create")
OF_LOADER = ("load.chunk.after_insert", "load.segment.before_commit", "load.segment.after_commit")
LONG = 60.0
"""Seconds in which anything has to happen, on a busy machine."""


# --- the child processes ---


def fork_server(folder: Path) -> None:
    """Import everything once, then fork a child for each line: `serve` or `load`, and a failpoint.

    Says the child's pid, then what the child says, then how it ended.
    """
    print("ready", flush=True)
    for line in sys.stdin:
        work, _, name = line.strip().partition(" ")
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            print(json.dumps({"pid": os.getpid()}), flush=True)
            child(folder, work, name)
        print(json.dumps({"status": os.waitpid(pid, 0)[1]}), flush=True)


def child(folder: Path, work: str, name: str) -> None:
    """Serve or load, to the end or to the failpoint."""
    if name:
        failpoint.arm(name.partition(":")[0], int(name.partition(":")[2] or 1))
    try:
        workspace = Workspace.open(folder)
        serve_project(workspace) if work == "serve" else load_log(workspace)
    except BaseException as error:
        print(f"{work}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


@dataclass
class Forks:
    """A fork server with at most one child at a time."""

    process: subprocess.Popen[str]
    pid: int = 0

    def start(self, work: str) -> None:
        """Have a child begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{work}\n")
        self.process.stdin.flush()
        self.pid = int(self.heard("pid")["pid"])

    def heard(self, *wanted: str) -> dict[str, Any]:
        """The next thing said that is one of these."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: dict[str, Any] = json.loads(line)
            if not wanted or set(wanted) & set(found):
                return found
        raise AssertionError("the fork server is gone")

    def kill(self) -> None:
        """SIGKILL for the child, if it lives."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def ended(self) -> int:
        """Wait for its end: the exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(int(self.heard("status")["status"]))


@contextmanager
def forks(folder: Path) -> Iterator[Forks]:
    """A fork server that ends with the block, and its child too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.storm_hotpath", "--forks", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **KEYS, "PYTHONWARNINGS": "ignore"},
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    started = Forks(process)
    try:
        assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        if started.pid:
            started.kill()
        process.stdin.close()
        process.wait(LONG)
        process.stdout.close()


# --- the load ---


@dataclass
class Load:
    """What was sent and what was acknowledged. Each event has a number of its own."""

    seed: int
    url: str = ""
    sent: int = 0
    repeats: int = 0
    acknowledged: set[str] = field(default_factory=set)
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def numbers(self, n: int) -> list[int]:
        """Unused numbers of events."""
        with self.lock:
            self.sent += n
            return list(range(self.sent - n, self.sent))

    def send(self, sender: int) -> None:
        """Post calls one after the other; each again until it is acknowledged."""
        chance = random.Random(self.seed * 1000 + sender)
        connection: http.client.HTTPConnection | None = None
        while not self.is_over:
            path, body, headers, names = make_call(self, chance)
            left = 1 + (chance.random() < 0.05)  # now and then once more, as if it were not heard
            while left:
                connection, is_heard = post(connection, self.url, path, body, headers)
                left -= is_heard
                self.repeats += not is_heard or left > 0
                if is_heard:
                    self.acknowledged.update(names)
                else:
                    time.sleep(0.02)
        if connection:
            connection.close()


Call = tuple[str, bytes, dict[str, str], list[str]]


def make_call(load: Load, chance: random.Random) -> Call:
    """A call of one of the kinds, with the names of its events."""
    kind = chance.choice(("batch", "batch", "track", "no_id", "braze", "iterable"))
    if kind == "braze":
        numbers = load.numbers(chance.randint(1, 3))
        payload: Any = {"events": [opened(n) for n in numbers]}
        headers = {"Authorization": f"Bearer {BRAZE_TOKEN}"}
        names = [f"braze {n}" for n in numbers]
        return "/webhooks/braze", json.dumps(payload).encode(), headers, names
    if kind == "iterable":
        (number,) = load.numbers(1)
        payload = {
            "eventName": "emailClick",
            "dataFields": {"messageId": f"{number}", "createdAt": "2026-03-02 09:00:00 +00:00"},
        }
        headers = {"Authorization": ITERABLE_TOKEN}
        names = [f"iterable {number}"]
        return "/webhooks/iterable", json.dumps(payload).encode(), headers, names
    key = base64.b64encode(b"write-key:").decode()
    headers = {"Authorization": f"Basic {key}"}
    numbers = load.numbers(chance.randint(1, 5) if kind == "batch" else 1)
    items = [tracked(n, has_id=kind != "no_id") for n in numbers]
    payload = {"batch": items} if kind == "batch" else items[0]
    body = json.dumps(payload).encode()
    if chance.random() < 0.3:
        body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
    path = "/v1/batch" if kind == "batch" else "/v1/track"
    return path, body, headers, [f"tracked {n}" for n in numbers]


def opened(number: int) -> dict[str, Any]:
    """An opened e-mail, as Braze tells."""
    return {
        "event_type": "users.messages.email.Open",
        "id": f"{number}",
        "time": 1772445605,
        "user": {"external_user_id": f"u-{number % 97}"},
        "properties": {"campaign_id": "c", "dispatch_id": "d"},
    }


def tracked(number: int, *, has_id: bool) -> dict[str, Any]:
    """A tracked event. Without an id its content has to tell it apart."""
    item = {
        "type": "track",
        "event": "Feature Used",
        "userId": f"u-{number % 97}",
        "properties": {"n": number, "filling": "x" * (number % 400)},
    }
    return {**item, "messageId": f"m-{number}"} if has_id else item


def post(
    connection: http.client.HTTPConnection | None,
    url: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
) -> tuple[http.client.HTTPConnection | None, bool]:
    """One call; the connection to go on with, and whether it was acknowledged."""
    try:
        connection = connection or http.client.HTTPConnection(urlsplit(url).netloc, timeout=LONG)
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        text = reply.read()
    except (OSError, http.client.HTTPException):
        if connection:
            connection.close()
        return None, False
    assert reply.status in (200, 503), (reply.status, text)
    return connection, reply.status == 200


# --- the storm ---


@dataclass
class Storm:
    """One project with its service, its loader and its load."""

    workspace: Workspace
    service: Forks
    loader: Forks
    load: Load
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def serve(self, name: str = "") -> None:
        """Start the service; again while the loader holds the log to close a segment."""
        deadline = time.monotonic() + LONG
        while True:
            self.service.start(f"serve {name}")
            said = self.service.heard("url", "status")
            if "url" in said:
                self.load.url = said["url"]
                return
            if os.waitstatus_to_exitcode(said["status"]) == -signal.SIGKILL:
                self.counts["service_kills"] += 1
                name = ""
            assert time.monotonic() < deadline, "the service does not start"

    def blow(self) -> None:
        """Let it run for a moment under load, then kill it."""
        by_failpoint = self.chance.random() < 0.3
        name = self.chance.choice(OF_SERVICE) if by_failpoint else ""
        self.serve(f"{name}:{self.chance.randint(1, 30)}" if name.endswith("torn") else name)
        goal = len(self.load.acknowledged) + self.chance.randint(1, 60)
        patience = time.monotonic() + self.chance.uniform(0.02, 1.0)
        while len(self.load.acknowledged) < goal and time.monotonic() < patience:
            time.sleep(0.002)
        self.service.kill()
        self.counts["service_kills"] += self.service.ended() == -signal.SIGKILL

    def keep_loading(self) -> None:
        """Load until the storm is over; half of the loads are killed on the way."""
        chance = random.Random(self.load.seed)
        while not self.load.is_over:
            name = chance.choice(OF_LOADER) if chance.random() < 0.3 else ""
            self.loader.start(f"load {name}")
            timer = threading.Timer(chance.uniform(0, 1.0), self.loader.kill)
            if not name and chance.random() < 0.3:
                timer.start()
            code = self.loader.ended()
            timer.cancel()
            kind = {0: "loads", -signal.SIGKILL: "loader_kills"}.get(code, "loader_failures")
            self.counts[kind] += 1


def storm(folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill the service so often, then audit. AssertionError when a law is broken."""
    with ExitStack() as stack:
        workspace = make_project(folder / "project")
        subject = Storm(
            workspace,
            stack.enter_context(forks(workspace.root)),
            stack.enter_context(forks(workspace.root)),
            Load(seed),
            random.Random(seed),
        )
        subject.serve()
        loading = threading.Thread(target=subject.keep_loading)
        senders = [threading.Thread(target=subject.load.send, args=(i,)) for i in range(SENDERS)]
        for thread in (loading, *senders):
            thread.start()
        try:
            subject.service.kill()
            subject.service.ended()
            while subject.counts["service_kills"] < kills:
                subject.blow()
            subject.serve()
        finally:
            # Every sender ends with an acknowledgement: the service runs.
            subject.load.is_over = True
            for thread in (loading, *senders):
                thread.join(LONG)
        load_log(workspace)
        audit(subject)
    return subject.counts


def make_project(folder: Path) -> Workspace:
    """A new project; it has a service."""
    init(folder, "storm", salt="salt-of-the-storm-0123")
    return Workspace.open(folder)


def audit(subject: Storm) -> None:
    """Nothing that was acknowledged is lost, nothing is there twice."""
    engine, load = subject.workspace.engine, subject.load
    with subject.workspace.warehouse() as warehouse:
        tracked = warehouse.rows(f"select properties from {engine('tracked_events')}")
        webhooks = warehouse.rows(
            "select vendor, case when vendor = 'braze' then event_id else message_ref end"
            f" from {engine('inbound_events')}"
        )
        loaded = warehouse.rows(f"select segment from {engine('loaded_segments')}")
    found = Counter(f"tracked {json.loads(properties)['n']}" for (properties,) in tracked)
    found.update(f"{vendor} {name}" for vendor, name in webhooks)
    subject.counts["acknowledged"] = len(load.acknowledged)
    subject.counts["repeated_calls"] = load.repeats
    subject.counts["rows"] = sum(found.values())
    subject.counts["lost"] = len(load.acknowledged - set(found))
    subject.counts["twice"] = sum(n > 1 for n in found.values())
    subject.counts["segments"] = len(loaded)
    assert subject.counts["lost"] == 0, sorted(load.acknowledged - set(found))[:10]
    assert subject.counts["twice"] == 0, [name for name, n in found.items() if n > 1][:10]
    assert len(loaded) == len(set(loaded))
    closed = framed.closed_segments(subject.workspace.inbound_log)
    assert {number for (number,) in loaded} == {framed.number(path) for path in closed}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--forks", type=Path, help="be a fork server for this project")
    arguments = parser.parse_args()
    if arguments.forks:
        fork_server(arguments.forks)
        return
    print(f"seed {arguments.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = storm(Path(folder), arguments.kills, arguments.seed)
    print(", ".join(f"{name} {n:,}" for name, n in sorted(counts.items())))
    print(f"nothing lost, nothing twice, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
