"""The profile lane of `make storm`: crash, go on, and compare every row with the vendor's.

An outbox changes all the time: rows come, go, change and change back. Half of the crashes come
when the vendor has taken a call and nobody has heard its answer. The others: before a call, and
at any step before, between and after the transactions that note what is confirmed. The rows may
change once more before the next run. After it each row of the vendor is the outbox's, and nothing
is in doubt.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from connectors.base import Destination, Warehouse
from connectors.calls import Target
from connectors.destinations.braze import Braze
from connectors.destinations.iterable import Iterable
from connectors.limits import Limiter
from connectors.sandbox.ledger import Entry
from decision_engine.confirmed import DOUBT, Confirmed, outboxes_of
from decision_engine.fence import Fence
from decision_engine.outbox import OutboxSync
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace
from tests.connectors.power import PowerCutError
from tests.connectors.storm_sends import dying_at_a_hit
from tests.sandbox_inside import Inside, Line

NOW = datetime(2026, 3, 1, 12)
KINDS = {
    "takes profiles and no key": ("braze", "users"),
    "keeps an event a key": ("iterable", "events"),
    "takes items away again": ("braze", "catalog_items"),
}
OTHERS = ("before", "hit")
OPERATIONS = {"answer": 4, "before": 4, "hit": 12}
KEYS = [f"r{i}" for i in range(12)]
ROUNDS, BATCH = 60, 3
COLUMNS = ("key", "external_id", "event_name", "catalog", "tier", "city")
DESTINATIONS = """destinations:
  braze: {kind: braze, url: 'URL/braze', api_key_env: BRAZE_API_KEY}
  iterable: {kind: iterable, url: 'URL/iterable', api_key_env: ITERABLE_API_KEY}
"""
Rows = dict[str, tuple[str, str]]
"""Key to tier and city."""


def make_project(folder: Path, url: str = "http://127.0.0.1:1", more: str = "") -> Workspace:
    """A project with Braze and Iterable at a sandbox, and `more` lines of configuration."""
    os.environ.setdefault("BRAZE_API_KEY", "sandbox-braze-key")
    os.environ.setdefault("ITERABLE_API_KEY", "sandbox-iterable-key")
    init(folder, "storm", salt="salt-of-the-storm-0123")
    config = folder / "nextmove.yml"
    head, _, tail = config.read_text().partition("destinations:")
    kept = tail[tail.index("\ngroups:") :]
    config.write_text(head + DESTINATIONS.replace("URL", url) + more + kept)
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        for name, stream in (*KINDS.values(), ("iterable", "users")):
            schema = pa.schema(dict.fromkeys(columns_of(stream), pa.string()))
            warehouse.ensure(workspace.model(f"outbox_{name}__{stream}"), schema)
    return workspace


def columns_of(stream: str) -> tuple[str, ...]:
    """Of the outbox of a stream."""
    leave = {"users": ("event_name", "catalog"), "events": ("catalog",)}
    return tuple(c for c in COLUMNS if c not in leave.get(stream, ("event_name", "external_id")))


def set_outbox(warehouse: Warehouse, model: str, stream: str, rows: Rows, prefix: str) -> None:
    """These rows and no others."""
    columns = columns_of(stream)
    found = [
        {
            "key": f"{prefix}{key}",
            "external_id": f"{prefix}u{key}",
            "event_name": "seen",
            "catalog": "shoes",
            "tier": tier,
            "city": city,
        }
        for key, (tier, city) in rows.items()
    ]
    table = pa.Table.from_pylist(found, schema=pa.schema(dict.fromkeys(columns, pa.string())))
    with warehouse.transaction():
        warehouse.rows(f"delete from {model}")
        warehouse.append(model, table)


def changed(rows: Rows, dice: random.Random) -> Rows:
    """Some come, some go, some change, many of them back to what they were."""
    there = {key: row for key, row in rows.items() if dice.random() < 0.9}
    new = {
        key: (dice.choice(("gold", "silver")), dice.choice(("Bath", "York")))
        for key in KEYS
        if dice.random() < 0.3
    }
    return {**there, **new} or {KEYS[0]: ("gold", "Bath")}


def has(entries: list[Entry], stream: str, prefix: str = "") -> Rows:
    """What the vendor has by its own ledger, rows that were taken away left out."""
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        if entry.kind == "item_deletion":
            found.pop(entry.properties["id"].removeprefix(prefix), None)
        elif entry.kind in ("item", "event"):
            key = entry.properties["id"] if entry.kind == "item" else entry.message_id
            found[key.removeprefix(prefix)] = entry.properties
        elif entry.kind == "profile":
            key = entry.external_id.removeprefix(f"{prefix}u")
            found[key] = {**found.get(key, {}), **entry.properties}
    return {key: (row["tier"], row["city"]) for key, row in found.items()}


def destination_of(name: str, stream: str) -> Destination:
    """A destination that brings few rows of the stream at a time."""
    destination: Destination = Braze() if name == "braze" else Iterable()
    small = replace(destination.streams[stream], batch_size=BATCH)
    destination.streams = {**destination.streams, stream: small}
    return destination


class Life:
    """One outbox with its vendor."""

    def __init__(
        self, folder: Path, workspace: Workspace, kind: str, number: int, counts: Counter[str]
    ) -> None:
        self.workspace, self.counts, self.prefix = workspace, counts, f"l{number}x"
        self.name, self.stream = KINDS[kind]
        self.dice = random.Random(f"{folder.name}/{number}")
        self.destination = destination_of(self.name, self.stream)
        self.line = Line(Inside(folder / f"sandbox{number}"), self.destination, self.dice)
        self.model = workspace.model(f"outbox_{self.name}__{self.stream}")
        self.rows: Rows = {}

    def round(self, warehouse: Warehouse, trouble: str) -> None:
        """New rows, trouble while they are sent, perhaps newer rows, a run without any trouble."""
        self._change(warehouse)
        line = self.line
        at = self.dice.randint(1, OPERATIONS[trouble])
        unheard = line.accepted_unheard
        line.dies, line.at, line.calls, line.loses = trouble, at, 0, self.dice.choice((0.1, 0.6))
        is_crash = False
        with dying_at_a_hit(at if trouble == "hit" else 0):
            try:
                unknown = self._sync(warehouse)["unknown"]
                assert unknown <= line.lost, "too many in doubt"
                self.counts["unknown"] += unknown
            except PowerCutError:
                is_crash = True
        self.counts[trouble] += is_crash
        self.counts["crashes"] += is_crash
        self.counts["accepted, answer lost"] += line.accepted_unheard - unheard
        line.calm()
        if self.dice.random() < 0.5:
            self._change(warehouse)
        totals = self._sync(warehouse)
        assert totals["extracted"] == totals["accepted"], totals
        self._audit(warehouse)

    def _change(self, warehouse: Warehouse) -> None:
        self.rows = changed(self.rows, self.dice)
        set_outbox(warehouse, self.model, self.stream, self.rows, self.prefix)

    def _sync(self, warehouse: Warehouse) -> Mapping[str, int]:
        return sync(
            self.workspace, warehouse, Target(self.destination, self.line.post), self.stream
        )

    def _audit(self, warehouse: Warehouse) -> None:
        audit(self.workspace, warehouse, self.name, self.stream)
        wrong = differences(
            self.line.inside.state.ledger.entries, self.stream, self.rows, self.prefix
        )
        assert not wrong, f"{self.stream}: wrong final values: {wrong}"
        self.counts["rows compared"] += len(self.rows)


def differences(
    entries: list[Entry], stream: str, rows: Rows, prefix: str
) -> dict[str, tuple[object, object]]:
    """Rows that are not what they should be: what the vendor has, and what the outbox."""
    there = has(entries, stream, prefix)
    keys = {*there, *rows} if stream == "catalog_items" else set(rows)
    return {k: (there.get(k), rows.get(k)) for k in keys if there.get(k) != rows.get(k)}


def sync(
    workspace: Workspace, warehouse: Warehouse, target: Target, stream: str
) -> Mapping[str, int]:
    """Bring one outbox over; its totals."""
    clock = [0.0]
    limiter = Limiter(
        lambda: clock[0], lambda s: clock.__setitem__(0, clock[0] + s), jitter=lambda: 0.0
    )
    name = target.destination.name
    fence = Fence.draw(warehouse, workspace.engine("fences"))
    run = OutboxSync(workspace, warehouse, name, target, NOW, limiter, fence, stream, at_once=True)
    run.run()
    (totals,) = run.totals.values()
    return totals


def audit(workspace: Workspace, warehouse: Warehouse, name: str, stream: str) -> None:
    """After a run that nothing disturbed, nothing waits and nothing is in doubt."""
    (outbox,) = [o for o in outboxes_of(workspace, warehouse, name) if o.stream == stream]
    confirmed = Confirmed.of(workspace, warehouse, name, outbox)
    assert confirmed.waiting(datetime.max) == 0
    doubtful = f"select count(*) from {confirmed.table} c join {confirmed.model} o using (key)"
    assert warehouse.rows(f"{doubtful} where c.{DOUBT} is not null") == [(0,)]
    if outbox.removes:
        counts = [
            warehouse.rows(f"select count(*) from {t}") for t in (confirmed.table, confirmed.model)
        ]
        assert counts[0] == counts[1], "confirmed and gone from the outbox"


def look_once(warehouse: Warehouse) -> None:
    """Ask for the columns of an outbox once: they stay the same, and asking takes the most time."""
    ask, known = warehouse.columns, dict[str, dict[str, str] | None]()

    def columns(table: str) -> dict[str, str] | None:
        if ".outbox_" not in table:
            return ask(table)
        if table not in known:
            known[table] = ask(table)
        return known[table]

    vars(warehouse)["columns"] = columns


def storm(points: int, seed: int, folder: Path, rounds: int = ROUNDS) -> Counter[str]:
    """Lives until there were so many crashes; what they were."""
    counts: Counter[str] = Counter()
    workspace = make_project(folder / f"p{seed}")
    life = 0
    while counts["crashes"] < points:
        kind = list(KINDS)[life % len(KINDS)]
        subject = Life(folder / f"p{seed}", workspace, kind, life, counts)
        with workspace.warehouse() as warehouse:
            look_once(warehouse)
            for _ in range(rounds):
                is_turn = 2 * counts["answer"] <= counts["crashes"]
                subject.round(warehouse, "answer" if is_turn else subject.dice.choice(OTHERS))
        counts[f"lives of a vendor that {kind}"] += 1
        subject.line.inside.state.ledger.close()
        life += 1
    return counts
