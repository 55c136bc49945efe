"""python -m tests.end_to_end.bench_publish: from the warehouse into a service's hot store.

Builds synthetic customers with dbt, starts `nextmove serve` and delivers: all of it, then
nothing new, then what a day has changed. Prints rows, bytes and the CPU of both sides, and
fails when publishing everything costs more than 0.6 ms a row.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from connectors.calls import connected
from connectors.destinations import DESTINATIONS
from connectors.limits import Limiter
from decision_engine.build import build
from decision_engine.outbox import OutboxSync
from decision_engine.scaffold import init
from decision_engine.service.store import HotStore
from decision_engine.training import learn_all
from decision_engine.workspace import Workspace
from tests.dbt_project.synthetic import fill
from tests.dbt_project.warehouse import AS_OF, create_warehouse
from tests.hot_service import with_hot_store
from tests.sandbox_process import running_server

LIMIT_US = 600.0
KEYS = {
    "NEXTMOVE_API_KEY": "the-key-of-the-bench",
    "NEXTMOVE_WRITE_KEY": "the-write-key",
    "BRAZE_WEBHOOK_KEY": "not-used",
    "ITERABLE_WEBHOOK_KEY": "not-used",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=100_000)
    customers = parser.parse_args().customers
    os.environ.update(KEYS)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = make_project(Path(scratch) / "project", customers)
        built(workspace, AS_OF)
        learn_all(workspace, AS_OF)
        arguments = ["--project", str(workspace.root), "--port", "0"]
        with running_server("decision_engine.cli", ["serve", *arguments]) as (url, process):
            each = published("everything", workspace, url, process.pid, AS_OF)
            published("nothing new", workspace, url, process.pid, AS_OF)
            following = AS_OF + timedelta(days=1)
            built(workspace, following)
            published("a day later", workspace, url, process.pid, following)
        with HotStore(workspace.hot_store) as store:
            sizes = store._reader.execute("select avg(length(row)) from profiles").fetchall()
        on_disk = (workspace.hot_store / "hot.sqlite").stat().st_size
        print(f"a profile has {sizes[0][0]:.0f} bytes; on disk {on_disk / 1e6:.0f} MB")
    return int(each > LIMIT_US)


def make_project(folder: Path, customers: int) -> Workspace:
    init(folder, "bench", salt="salt-of-the-bench-0123")
    with_hot_store(folder, "http://127.0.0.1:1")
    create_warehouse(folder / "warehouse.duckdb")
    fill(folder / "warehouse.duckdb", customers, 0)
    return Workspace.open(folder)


def built(workspace: Workspace, as_of: datetime) -> None:
    cpu = time.process_time()
    build(workspace, as_of, command="run")
    print(f"dbt run as of {as_of:%Y-%m-%d}: {time.process_time() - cpu:.1f} s CPU", flush=True)


def published(what: str, workspace: Workspace, url: str, pid: int, now: datetime) -> float:
    """One run; CPU of both sides in microseconds a row."""
    target = connected(DESTINATIONS["hot_store"], url, KEYS["NEXTMOVE_API_KEY"])
    with target as to, workspace.warehouse() as warehouse:
        start, ours, theirs = time.perf_counter(), time.process_time(), cpu_of(pid)
        run = OutboxSync(workspace, warehouse, "hot_store", to, now, Limiter())
        run.run()
        wall = time.perf_counter() - start
        ours, theirs = time.process_time() - ours, cpu_of(pid) - theirs
    if run.stopped:
        raise run.stopped
    rows = run.totals["profiles"]
    each = 1e6 * (ours + theirs) / (rows["accepted"] or 1)
    print(
        f"{what}: {rows['accepted']:,} of {rows['extracted']:,} rows in {wall:.1f} s; CPU deliver"
        f" {ours:.1f} s, service {theirs:.1f} s"
        + (f", together {each:.0f} us a row" if rows["accepted"] else ""),
        flush=True,
    )
    return each


def cpu_of(pid: int) -> float:
    """Seconds of processor time, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
