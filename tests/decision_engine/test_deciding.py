"""Batch and hot path: one function, so one answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from connectors.base import Warehouse
from decision_engine import epochs
from decision_engine.agent_in_epoch import initial_state
from decision_engine.batch import decide_all
from decision_engine.outbox import plain
from decision_engine.replay import completed
from decision_engine.scaffold import init
from decision_engine.service.deciding import Decider
from decision_engine.state import PolicyState, Sums
from decision_engine.training import store
from decision_engine.workspace import Workspace
from tests.end_to_end.bench_decide import AS_OF, PROFILES

CUSTOMERS = 31_000
CONTEXTS = 10_000


def learned(state: PolicyState, seed: int) -> PolicyState:
    """A state that has seen some made-up rewards."""
    rng = np.random.default_rng(seed)
    k, d = len(state.actions), len(state.features)
    z = np.concatenate([np.ones((k, 60, 1)), rng.normal(1, 1, (k, 60, d))], axis=2)
    reward = rng.normal(0.1, 0.3, (k, 60)) + 0.05 * z[:, :, 1]
    sums = Sums(
        count=np.full(k, 60.0),
        square=(reward**2).sum(axis=1),
        gram=np.einsum("kni,knj->kij", z, z),
        moment=np.einsum("kn,kni->ki", reward, z),
    )
    return replace(state, closed=sums)


def make_shop(folder: Path) -> Workspace:
    """Customers and learned policies in the warehouse; decided by the batch."""
    init(folder, "parity", salt="parity-salt-0123456789")
    workspace = Workspace.open(folder)
    with workspace.warehouse() as warehouse:
        warehouse.rows("create schema nextmove")
        warehouse.rows(PROFILES.format(n=CUSTOMERS))
        for seed, name in enumerate(sorted(workspace.agents)):
            prior = initial_state(workspace.agents[name], workspace.catalog(name))
            store(workspace, warehouse, learned(prior, seed), AS_OF, [])
    decide_all(workspace, AS_OF)
    return workspace


def profiles_of(workspace: Workspace, warehouse: Warehouse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Profiles as they arrive in the hot store: through JSON."""
    for batch in warehouse.query(f"select * from {workspace.model('dim_customer_features')}"):
        for row in batch.to_pylist():
            told = msgspec.json.decode(msgspec.json.encode({c: plain(v) for c, v in row.items()}))
            yield row["customer_id"], told


def groups(n: int) -> Iterator[tuple[int, int]]:
    """Sizes from 1 to 64, with where each group starts."""
    sizes, start = itertools.cycle([1, 2, 1, 7, 1, 64, 3, 1, 33]), 0
    while start < n:
        yield (size := next(sizes)), start
        start += size


def test_the_hot_path_decides_as_the_batch_does(tmp_path: Path) -> None:
    workspace = make_shop(tmp_path / "shop")
    with workspace.warehouse() as warehouse:
        states = {name: epochs.read_state(workspace, warehouse, name) for name in workspace.agents}
        decided: dict[str, dict[str, Any]] = {
            row["customer_id"]: row
            for batch in warehouse.query(f"select * from {workspace.engine('decisions')}")
            for row in batch.to_pylist()
        }
        profiles = list(profiles_of(workspace, warehouse))
    decider = Decider(workspace, {n: s for n, s in states.items() if s}, is_stopped=False)
    agents = epochs.daily_agents(workspace)
    slot, compared = AS_OF.date().isoformat(), 0
    asked = [
        (slot, customer_id, profile)
        for i, (customer_id, profile) in enumerate(profiles)
        if customer_id in decided or i % 50 == 0
    ]
    made: dict[str, dict[str, Any]] = {}
    # Groups of one and of many, as they come.
    for size, start in groups(len(asked)):
        made |= decider.decide(asked[start : start + size], agents, AS_OF)
    for _, customer_id, _ in asked:
        row, batch_row = made.get(customer_id), decided.get(customer_id)
        assert (row is None) == (batch_row is None)
        if row is None or batch_row is None:
            continue
        again = completed(row, decider.plan)
        for column in ("decision_id", "agent", "group_name", "policy_version", "action", "send_at"):
            assert again[column] == batch_row[column], column
        assert abs(again["propensity"] - batch_row["propensity"]) <= 1e-9
        assert again["reasons"] == batch_row["reasons"]
        compared += 1
    assert compared >= CONTEXTS
