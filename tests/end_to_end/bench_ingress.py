"""make bench-ingress: what a tracked event costs on its way into the warehouse.

CPU time, so that other work on the machine counts little. The log is filled through the same code
as the service's, without the network and without fsync.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from connectors.framed import FramedLog
from decision_engine.inbound import load_log
from decision_engine.news import Feed
from decision_engine.scaffold import init
from decision_engine.service.records import frame
from decision_engine.service.tracking import parse
from decision_engine.workspace import Workspace
from tests.end_to_end.load_generator import closed_loop, post
from tests.sandbox_process import running_server

BATCH = 20
START = datetime(2026, 3, 2)
AUTHORIZATION = f"Authorization: Basic {base64.b64encode(b'key:').decode()}\r\n"


def call(number: int, batch: int = BATCH) -> bytes:
    """One batch of a browser."""
    items = [
        {
            "type": "page",
            "messageId": f"ajs-next-{number:08}-{i:03}-5f3a9c1e2b7d",
            "anonymousId": f"{number % 50_000:08}-70c0-4b7e-a6ad-0c9e5c1ab1d1",
            "userId": f"user-{number % 50_000}",
            "timestamp": (START + timedelta(seconds=number)).isoformat() + "Z",
            "properties": {
                "path": f"/products/{i}",
                "referrer": "https://www.search.example/?q=shoes",
                "title": "Running shoes for every day and every weather",
                "url": f"https://shop.example/products/{i}?utm_source=newsletter",
            },
            "context": {
                "library": {"name": "analytics.js", "version": "next-1.70.0"},
                "page": {"path": f"/products/{i}", "url": "https://shop.example/products"},
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0",
                "locale": "en-US",
                "timezone": "Europe/Berlin",
            },
        }
        for i in range(batch)
    ]
    return json.dumps({"batch": items, "sentAt": (START + timedelta(days=1)).isoformat()}).encode()


def fill(workspace: Workspace, events: int) -> float:
    """Write one segment; CPU seconds of parsing and framing."""
    calls = [call(n) for n in range(events // BATCH)]
    with FramedLog(workspace.inbound_log) as log:
        before = time.process_time()
        for body in calls:
            taken = parse("batch", body).events(START + timedelta(days=1), {"product": ("/p",)})
            log.append([frame(taken.events)])
        seconds = time.process_time() - before
        log.rotate()
    return seconds


def peak_kib() -> int:
    """The most memory this program has held; `getrusage` would count its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(folder: Path) -> None:
    """Load, in a process of its own so that its memory is its own."""
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        before = time.process_time()
        Feed(workspace, warehouse, START).read()
        looked = time.process_time() - before
    base = peak_kib()
    before = time.process_time()
    loaded = load_log(workspace)["tracked_events"]
    seconds = time.process_time() - before
    peak = peak_kib()
    print(f"load: {loaded:,} events, {loaded / seconds:,.0f} a CPU second")
    print(f"memory: {base >> 10} MiB before, {peak >> 10} MiB at most")
    print(f"send boundary: {looked * 1000:.0f} ms CPU to look through them unloaded")


def served(folder: Path, batch: int) -> str:
    """Events through the running service, over sockets, fsynced: its CPU for each."""
    bodies = [call(number, batch) for number in range(1000)]
    calls = [post("/v1/batch", body, AUTHORIZATION) for body in bodies]
    arguments = ["--port", "0", "--log", str(folder / f"log{batch}")]
    env = {"NEXTMOVE_WRITE_KEY": "key"}
    with running_server("decision_engine.service", arguments, env) as (url, process):
        load = closed_loop(url, process.pid, lambda i: calls[i % len(calls)], 32, 5.0)
    return (
        f"service, {batch} events a call: {load.cpu_micros / batch:.0f} us CPU an event,"
        f" {load.rate * batch:,.0f} events/s, {load.failures} failures"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--load", type=Path, help="only load this project's log")
    arguments = parser.parse_args()
    if arguments.load:
        measured(arguments.load)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        init(folder, "bench", salt="salt-of-the-bench-0123")
        workspace = Workspace.open(folder)
        seconds = fill(workspace, arguments.events)
        print(f"parse: {arguments.events / seconds:,.0f} events a CPU second")
        size = sum(p.stat().st_size for p in workspace.inbound_log.glob("*.log"))
        print(f"log: {size >> 20} MiB, {size // arguments.events} bytes an event", flush=True)
        for batch in (1, BATCH):
            print(served(Path(name), batch), flush=True)
        command = [sys.executable, "-m", "tests.end_to_end.bench_ingress", "--load", str(folder)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
