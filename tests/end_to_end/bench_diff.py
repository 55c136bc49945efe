"""make bench-diff: what has changed among ten million rows, and bringing it over.

An outbox of ten million profiles against what Braze has confirmed of them; one in a hundred has
another tier. Timed: the look at keys, types and numbers; the difference in the warehouse; then a
whole sync, in which an imitation in memory takes every request.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from connectors.base import Reply, Request
from connectors.calls import Target
from connectors.destinations import DESTINATIONS
from connectors.limits import Limiter
from decision_engine.confirmed import Confirmed, Outbox
from decision_engine.delivery import utc_now
from decision_engine.outbox import OutboxSync
from decision_engine.outbox_checks import look
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace

SECONDS, GIBIBYTES = 60.0, 4.0
"""Seconds of CPU, for others may be at work on the machine."""
T = TypeVar("T")


def fill(workspace: Workspace, rows: int, share: float) -> None:
    """The outbox, and what was confirmed of it before some of its rows changed."""
    model, table = (
        workspace.model("outbox_braze__users"),
        workspace.engine("confirmed_braze__users"),
    )
    each = int(1 / share)
    columns = (
        "'u' || i as key, 'u' || i as external_id, 'p' || i || '@example.com' as email,"
        " 'c_' || md5(cast(i as varchar)) as customer_id, 'First' || (i % 5000) as first_name,"
        " 'Europe/London' as time_zone, 'GB' as country, 'customer' as lifecycle_stage,"
        " cast(i % 40 as integer) as orders_count, 'email' as preferred_channel"
    )
    with workspace.warehouse() as warehouse:
        warehouse.ensure(model, pa.schema({"key": pa.string()}))
        warehouse.rows(f"drop table {model}")
        source = f"from range({rows}) t(i)"
        warehouse.rows(f"create table {table} as select {columns}, 'gold' as tier {source}")
        tier = f"case when i % {each} = 0 then 'silver' else 'gold' end as tier"
        warehouse.rows(f"create table {model} as select {columns}, {tier} {source}")


def timed(what: str, work: Callable[[], T]) -> T:
    """Its result, and a line that says how long it took."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what}: {wall:.1f} s ({used:.1f} s of CPU), peak {peak():.2f} GiB", flush=True)
    return result


def peak() -> float:
    """The most memory this process ever had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def accept(request: Request) -> Reply:
    """Braze, when all is well."""
    count = len(request.records)
    return Reply(201, b'{"message":"success","attributes_processed":%d}' % count)


def main() -> None:
    """Run from the command line; exit code 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--share", type=float, default=0.01, help="of rows that have changed")
    arguments = parser.parse_args()
    os.environ.setdefault("BRAZE_API_KEY", "bench")
    with tempfile.TemporaryDirectory() as folder:
        init(Path(folder) / "p", "p")
        workspace = Workspace.open(Path(folder) / "p")
        timed("making the tables", lambda: fill(workspace, arguments.rows, arguments.share))
        with workspace.warehouse() as warehouse:
            confirmed = Confirmed.of(workspace, warehouse, "braze", Outbox("users"))
            confirmed.prepare()
            start, cpu = time.perf_counter(), time.process_time()
            found = timed("look", lambda: look(workspace, confirmed, "braze"))
            assert not found.problems, found.problems
            changed = timed(
                "difference", lambda: sum(b.num_rows for b in warehouse.query(confirmed.changes()))
            )
            wall, seconds = time.perf_counter() - start, time.process_time() - cpu
            limiter = Limiter(sleep=lambda _: None)
            limiter.acquire = lambda *_, **__: 0.0  # type: ignore[method-assign]
            target = Target(DESTINATIONS["braze"], accept)
            sync = OutboxSync(workspace, warehouse, "braze", target, utc_now(), limiter)
            timed("whole sync", sync.run)
            left = confirmed.waiting(utc_now())
    totals = sync.totals["profiles"]
    print(f"{arguments.rows:,} rows, {changed:,} changed, {totals['accepted']:,} brought over")
    assert (totals["accepted"], left) == (changed, 0)
    is_within = seconds <= SECONDS and peak() <= GIBIBYTES
    print(
        f"look and difference: {wall:.1f} s, {seconds:.1f} s of CPU (at most {SECONDS:.0f}),"
        f" peak {peak():.2f} GiB (at most {GIBIBYTES:.0f}): {'within' if is_within else 'BROKEN'}"
    )
    raise SystemExit(not is_within)


if __name__ == "__main__":
    main()
