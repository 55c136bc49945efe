"""A few days of the real loop that can be killed anywhere and started again.

`python -m tests.end_to_end.scenario FOLDER` is a fork server: it imports everything and parses
the dbt project once, then forks a child for each line it reads. A line is empty, or names the
failpoint at which the child is to die. The child lives through the days from where the project
stands; the server answers with its pid, and with its exit status once it has ended.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

from connectors import failpoint
from decision_engine.build import prepare
from decision_engine.delivery import open_delivery
from decision_engine.loop import STEPS, finished_steps, run
from decision_engine.market import Market
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace

START = date(2026, 3, 2)
DAYS = 3
CUSTOMERS = 500


def make_project(folder: Path, sandbox: str, customers: int = CUSTOMERS) -> Workspace:
    """A project with the market's raw tables for all days, as loaders would have left them."""
    init(folder, "storm", salt="salt-of-the-storm-0123")
    config = folder / "nextmove.yml"
    config.write_text(config.read_text().replace("http://127.0.0.1:8800", sandbox))
    workspace = Workspace.open(folder)
    market = Market(customers, 7, START)
    with workspace.warehouse() as warehouse:
        for tables in (market.reference(), *(market.day(day) for day in range(DAYS))):
            for name, rows in tables.items():
                warehouse.ensure(f"raw.{name}", rows.schema)
                warehouse.append(f"raw.{name}", rows)
    return workspace


def midnight(day: int) -> datetime:
    """The start (UTC) of a day of the scenario."""
    return datetime(START.year, START.month, START.day) + timedelta(days=day)


def live(workspace: Workspace) -> None:
    """Every round that is not over, and every message when it is due."""
    for day in range(DAYS):
        slot = midnight(day).date().isoformat()
        following = midnight(day + 1).date().isoformat()
        if not finished_steps(workspace, following):
            if set(finished_steps(workspace, slot)) != set(STEPS):
                run(workspace, midnight(day), quick=True)
            send_what_is_due(workspace, midnight(day), midnight(day + 1))


def send_what_is_due(workspace: Workspace, start: datetime, end: datetime) -> None:
    """The deliver passes of one day."""
    with open_delivery(workspace) as delivery:
        while (due := delivery.next_due()) is not None and due < end:
            delivery.deliver(max(due, start), profiles=False)
        delivery.deliver(end, profiles=True)


def child(workspace: Workspace, name: str) -> None:
    """Live, or die at the failpoint."""
    if name:
        failpoint.arm(name)
    try:
        live(workspace)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def serve(folder: Path) -> None:
    """Fork a child for each line; say its pid, then how it ended."""
    workspace = Workspace.open(folder)
    prepare(workspace)
    print("ready", flush=True)
    for line in sys.stdin:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            child(workspace, line.strip())
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
