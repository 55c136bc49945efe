"""`nextmove demo`: a simulated market lives through weeks of the real loop.

Everything between the two is real: raw tables, events tracked over HTTP, dbt, decisions by
the day and at once, HTTP deliveries to the vendor sandbox, webhooks back into the service.
The simulated people only ever see the messages that the sandbox delivered to them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import requests
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from decision_engine.build import build
from decision_engine.delivery import Delivery, open_delivery
from decision_engine.epochs import EVENTS
from decision_engine.errors import StepError
from decision_engine.inbound import load_log
from decision_engine.loop import run
from decision_engine.market import Market
from decision_engine.market.tracker import Tracker
from decision_engine.market.truth import Truth
from decision_engine.picture import save_picture
from decision_engine.report import DemoReport, collect, render
from decision_engine.scaffold import init
from decision_engine.training import learn_all
from decision_engine.workspace import Workspace

START = date(2026, 3, 2)
"""Both zone families change to summer time within the four weeks that follow."""

MARK = Path(".nextmove", "demo")
"""The file that tells a demo's folder from a project of somebody's own."""

KEYS = {
    "BRAZE_API_KEY": "SANDBOX_BRAZE_KEY",
    "ITERABLE_API_KEY": "SANDBOX_ITERABLE_KEY",
    "HUBSPOT_ACCESS_TOKEN": "SANDBOX_HUBSPOT_KEY",
    "BRAZE_WEBHOOK_KEY": "SANDBOX_BRAZE_WEBHOOK_TOKEN",
    "ITERABLE_WEBHOOK_KEY": "SANDBOX_ITERABLE_WEBHOOK_TOKEN",
}
WRITE_KEY, API_KEY = "NEXTMOVE_WRITE_KEY", "NEXTMOVE_API_KEY"

SANDBOX_URL, SERVICE_URL = "http://127.0.0.1:8800", "http://127.0.0.1:8801"
"""Where a new project looks for them; the demo's own run elsewhere."""

HOT_STORE = f"""
  hot_store:
    kind: hot_store
    url: {SERVICE_URL}
    api_key_env: {API_KEY}
"""


@dataclass
class World:
    """The market, who tracks it, the sandbox its people read, and what is still to happen."""

    market: Market
    tracker: Tracker
    sandbox: str
    ledger_position: int = 0
    pending: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time of a block to the account of `what`."""
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start

    def set_clock(self, now: datetime) -> None:
        """Tell the sandbox what time it is in the simulation."""
        self._post("clock", {"now": now.isoformat()})

    def read_messages(self) -> None:
        """People read what was delivered since last time and decide how to react."""
        reply = requests.get(
            f"{self.sandbox}/_sandbox/ledger", params={"after": self.ledger_position}, timeout=60
        ).json()
        self.ledger_position = reply["next"]
        messages = [e for e in reply["entries"] if e["kind"] == "message"]
        self.pending += self.market.receive(messages)

    def react_until(self, end: datetime) -> None:
        """Reactions due by `end` reach the vendor, which posts its webhooks."""
        due = [e for e in self.pending if datetime.fromisoformat(e["at"]) < end]
        self.pending = [e for e in self.pending if datetime.fromisoformat(e["at"]) >= end]
        if due:
            reply = self._post("engagements", {"events": due})
            if reply["failed"]:
                raise StepError(f"{reply['failed']} webhooks were not accepted by the receiver")

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        reply = requests.post(f"{self.sandbox}/_sandbox/{path}", json=body, timeout=120)
        reply.raise_for_status()
        answer: dict[str, Any] = reply.json()
        return answer


def run_demo(
    folder: Path, *, customers: int, days: int, seed: int, effect: float, as_json: bool
) -> DemoReport:
    """Make the demo project in `folder`, live through `days`, print and save the report."""
    console = Console(stderr=as_json)
    started = time.perf_counter()
    clear(folder)
    with ExitStack() as stack:
        stack.enter_context(demo_environment())
        make_project(folder, seed)
        receiver = stack.enter_context(service("decision_engine.market.service", folder))
        state = folder / ".nextmove" / "sandbox"
        vendors = ("--dir", state, "--webhooks", receiver)
        sandbox = stack.enter_context(service("connectors.sandbox", *vendors))
        workspace = connect_project(folder, sandbox, receiver)
        tracker = stack.enter_context(Tracker(receiver, os.environ[WRITE_KEY]))
        incentives = {i.incentive: i.cost_cents / 100 for i in workspace.project.incentives}
        market = Market(customers, seed, START, effect=effect, incentives=incentives)
        world = World(market, tracker, sandbox)
        truth = Truth(market, workspace)
        live(workspace, world, truth, days, console)
        total = time.perf_counter() - started
        report = collect(workspace, truth, tracker.metrics(), {**world.seconds, "total": total})
    # Unlike the standard library, msgspec writes NaN as null, which is JSON.
    told = msgspec.json.encode(report)
    (folder / "report.json").write_bytes(msgspec.json.format(told, indent=2))
    save_picture(report, folder / "report.png")
    if as_json:
        print(told.decode())
    else:
        console.print(render(report, folder))
    return report


def live(workspace: Workspace, world: World, truth: Truth, days: int, console: Console) -> None:
    """The days, one round each, and a last build so that the report is up to date."""
    with world.timed("market"):
        append_raw(workspace, world.market.reference())
    with progress_bar(console) as bar:
        task = bar.add_task("day 1: first build, with every dbt test", total=days)
        with open_delivery(workspace) as delivery:
            for day in range(days):
                totals = live_day(workspace, world, truth, delivery, day)
                bar.update(task, advance=1, description=f"day {day + 1}/{days} · {totals}")
        bar.update(task, description="last build with every dbt test")
        end = midnight(days)
        with world.timed("build"):
            load_log(workspace)
            build(workspace, end)
        with world.timed("learn"):
            learn_all(workspace, end)


def live_day(workspace: Workspace, world: World, truth: Truth, delivery: Delivery, day: int) -> str:
    """One day: a round at midnight UTC, sends through the day, then what people did.

    Some of that calls for a decision at once. People get those messages when the day's rows are
    written, so what comes of them is in the rows of the next day.
    """
    now, tomorrow = midnight(day), midnight(day + 1)
    world.set_clock(now)
    totals = run(workspace, now, quick=day > 0, delivery=delivery, seconds=world.seconds)
    with workspace.warehouse():
        with world.timed("market"):
            truth.observe(now)
        with world.timed("deliver"):
            sent = send_through_the_day(workspace, world, delivery, now, tomorrow)
        react(world, tomorrow)
        called_for = live_on(workspace, world, day)
        with world.timed("deliver"):
            delivery.dispatch(EVENTS, now)
            sent += send_through_the_day(workspace, world, delivery, now, tomorrow)
        react(world, tomorrow)
    decided = sum(a["decisions"] for a in totals["decide"]["agents"].values())
    return f"{decided + called_for:,} decisions, {sent:,} sends"


def react(world: World, end: datetime) -> None:
    """People read their messages; what they do with them by `end` comes back."""
    with world.timed("market"):
        world.read_messages()
    with world.timed("webhooks"):
        world.react_until(end)


def live_on(workspace: Workspace, world: World, day: int) -> int:
    """What the company's tools have of a day; how many decisions its events called for."""
    with world.timed("market"):
        tables = world.market.day(day)
        events = tables.pop("segment_events")
        append_raw(workspace, tables)
    with world.timed("events"):
        world.tracker.send(events)
        return load_log(workspace)["decisions"]


def send_through_the_day(
    workspace: Workspace, world: World, delivery: Delivery, now: datetime, tomorrow: datetime
) -> int:
    """A delivery pass whenever messages are due; how many were accepted."""
    sent = 0
    with workspace.warehouse() as warehouse:
        while (due := delivery.next_due()) is not None and due < tomorrow:
            moment = max(due, now)
            world.set_clock(moment)
            passed = delivery.deliver_from(warehouse, moment, profiles=False)
            sent += sum(row["accepted"] for row in passed["streams"].values())
    return sent


def midnight(day: int) -> datetime:
    """The start (UTC) of a simulated day."""
    return datetime(START.year, START.month, START.day) + timedelta(days=day)


def append_raw(workspace: Workspace, tables: Mapping[str, Any]) -> None:
    """What the company's own loaders would do: raw rows into raw tables."""
    schema = workspace.project.warehouse.raw_schema
    with workspace.warehouse() as warehouse:
        for name, rows in tables.items():
            warehouse.ensure(f"{schema}.{name}", rows.schema)
            warehouse.append(f"{schema}.{name}", rows)


def make_project(folder: Path, seed: int) -> None:
    """A project as `nextmove init` writes it, with the hot path turned on."""
    init(folder, "demo", salt=f"demo-salt-of-seed-{seed:08d}")
    config = folder / "nextmove.yml"
    text = config.read_text().replace("\ndestinations:\n", f"\ndestinations:{HOT_STORE}")
    config.write_text(text)


def connect_project(folder: Path, sandbox: str, receiver: str) -> Workspace:
    """Point the project at the running sandbox and at its own running service."""
    config = folder / "nextmove.yml"
    text = config.read_text().replace(SANDBOX_URL, sandbox).replace(SERVICE_URL, receiver)
    config.write_text(text)
    return Workspace.open(folder)


@contextmanager
def demo_environment() -> Iterator[None]:
    """Keys that only this run's sandbox and service know."""
    before = dict(os.environ)
    for name, at_sandbox in KEYS.items():
        os.environ[name] = os.environ[at_sandbox] = secrets.token_urlsafe(24)
    for name in (WRITE_KEY, API_KEY):
        os.environ[name] = secrets.token_urlsafe(24)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def service(module: str, *arguments: str | Path) -> Iterator[str]:
    """A server of ours in a process of its own; its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--port", "0", *map(str, arguments)], stdout=subprocess.PIPE
    )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise StepError(f"{module} did not start")
        yield str(json.loads(line)["url"])
    finally:
        process.terminate()
        process.wait(timeout=30)


def progress_bar(console: Console) -> Progress:
    """A bar with the day and what happened on it."""
    return Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def clear(folder: Path) -> None:
    """Remove an earlier demo, and nothing that is not one; the folder is then a demo's."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).exists():
            raise StepError(f"{folder}: not an earlier demo; choose another --dir")
        shutil.rmtree(folder)
    (folder / MARK).parent.mkdir(parents=True)
    (folder / MARK).touch()
