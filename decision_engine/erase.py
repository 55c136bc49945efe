"""Erase a person: from what was learned, exactly, and from every table of the engine.

A policy state is sums over decisions, and `learned_rewards` says what each decision gave to
them; so what one person gave can be taken out again, with the settings theta as they are. That
nothing of it is left is proven before anything is written: the sums must be those of everybody
else's decisions, made anew.

Art. 17 GDPR. Raw tables and vendors are not ours to erase: the row in `suppressions` that the
company writes takes the person off both with the next build and delivery.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from connectors.base import Receipt, Status, Warehouse
from connectors.journal import Journal
from decision_engine import keys
from decision_engine.arrow import column_of_array, matrix_of
from decision_engine.delivery import project_receipts
from decision_engine.epochs import read_state
from decision_engine.errors import StepError
from decision_engine.learn import Rewards, buckets, fold, subtract
from decision_engine.state import PolicyState, Sums
from decision_engine.tables import ERASURES
from decision_engine.traces import Person, Trace, Version, learned_versions, leaving, traces
from decision_engine.training import make_current
from decision_engine.workspace import Workspace

ERASED = "erased"
"""Why a message that waited did not leave."""

PROVEN = 1e-9
"""Largest difference, relative to the largest sum of its kind, that rounding explains."""


def erase(workspace: Workspace, who: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Take a person out; `who` is a customer id, or an identifier such as `email:ann@example.com`.

    All of it happens in one transaction, or nothing does; only that their waiting messages do
    not leave is settled before, in the journal. Returns the decisions taken out of each
    agent's state and the rows deleted from each table. StepError when nobody is known by `who`,
    or when a state cannot be proven to be free of the person.
    """
    with ExitStack() as stack:
        for step in ("build", "learn", "decide"):
            stack.enter_context(workspace.alone(step))
        journal = None if dry_run else stack.enter_context(workspace.journal())
        warehouse = stack.enter_context(workspace.warehouse())
        person = _person(workspace, warehouse, who)
        proofs = [
            proof
            for agent in _agents(workspace, warehouse)
            if (proof := _unlearn(workspace, warehouse, agent, person.ids)) is not None
        ]
        found = traces(workspace, warehouse, person)
        learned = {proof.before.agent for proof in proofs}
        versions = learned_versions(workspace, warehouse, person, learned)
        if journal is None:
            deleted = _would_delete(warehouse, found)
        else:
            _end_what_waits(journal, person)
            project_receipts(workspace, warehouse, journal)
            with warehouse.transaction():
                deleted = {trace.title: trace.delete(warehouse) for trace in found}
                _write(workspace, warehouse, person, proofs, versions, deleted)
        left = {
            trace.title: trace.count(warehouse) for trace in leaving(workspace, warehouse, person)
        }
    return {
        "decisions": {p.before.agent: p.decisions for p in proofs},
        "deleted": deleted,
        "versions": len(versions),
        "leaving": {title: n for title, n in left.items() if n},
        "difference": max((p.difference for p in proofs), default=0.0),
    }


def totals_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `erase` returns, for a table of two columns."""
    return {
        **{f"decisions taken out of {agent}": n for agent, n in result["decisions"].items()},
        **{f"rows of {table}": n for table, n in result["deleted"].items()},
        "states from before": result["versions"],
        **{f"rows of {t} that the next delivery takes": n for t, n in result["leaving"].items()},
        "difference from everybody else's sums": f"{result['difference']:.1e}",
    }


class _UndoError(Exception):
    """Ends a transaction of which nothing is to stay."""


def _would_delete(warehouse: Warehouse, found: Sequence[Trace]) -> dict[str, int]:
    """How many rows each would delete: one that is found by browser and by user counts once."""
    deleted: dict[str, int] = {}
    try:
        with warehouse.transaction():
            deleted = {trace.title: trace.delete(warehouse) for trace in found}
            raise _UndoError
    except _UndoError:
        return deleted


# ---- who ----


def _person(workspace: Workspace, warehouse: Warehouse, who: str) -> Person:
    identity = workspace.built(warehouse, "int_identity__map")
    kind, colon, value = who.partition(":")
    if colon:
        found = warehouse.rows(
            f"select customer_id from {identity}"
            " where identifier_kind = ? and identifier_value = ?",
            [kind, value],
        )
        ids = [str(row[0]) for row in found]
    else:
        ids = [who]
    merged = warehouse.rows(
        f"select old_customer_id from {workspace.built(warehouse, 'int_identity__merges')}"
        f" where {warehouse.among('customer_id')}",
        [ids],
    )
    ids = list(dict.fromkeys([*ids, *(str(row[0]) for row in merged)]))
    identifiers: dict[str, list[str]] = {}
    for kind, value in warehouse.rows(
        f"select identifier_kind, identifier_value from {identity}"
        f" where {warehouse.among('customer_id')} order by 1, 2",
        [ids],
    ):
        identifiers.setdefault(kind, []).append(value)
    person = Person(ids, identifiers)
    decided = (
        f"select 1 from {workspace.engine('decisions')} where {warehouse.among('customer_id')}"
    )
    if not identifiers and not warehouse.rows(f"{decided} limit 1", [ids]):
        raise StepError(
            "nobody is known by that; give a customer_id, or an identifier as kind:value"
            " (user_id, anonymous_id, email, phone), after `nextmove build`"
        )
    return person


def _end_what_waits(journal: Journal, person: Person) -> None:
    """No message of theirs leaves any more, and none comes to an end after their receipts went."""
    waiting = [i["send_key"] for i in journal.due(datetime.max) if i["customer_id"] in person.ids]
    at = datetime.now(UTC)
    journal.finish([Receipt(key, Status.SKIPPED, ERASED) for key in waiting], at)


# ---- what was learned ----


@dataclass(frozen=True)
class Proof:
    """A state before and after; `difference` is how far the sums are from made anew."""

    before: PolicyState
    after: PolicyState
    decisions: int
    difference: float


def _agents(workspace: Workspace, warehouse: Warehouse) -> list[str]:
    table = workspace.engine("policy_states")
    rows = warehouse.rows(f"select agent from {table} where is_current order by agent")
    return [str(row[0]) for row in rows]


def _unlearn(
    workspace: Workspace, warehouse: Warehouse, agent: str, ids: Sequence[str]
) -> Proof | None:
    """The agent's state without the person; None when it has learned nothing from them."""
    state = read_state(workspace, warehouse, agent)
    if state is None:
        return None
    mine, others = [], []
    for batch in warehouse.query(
        "select d.decision_id, d.customer_id, d.action, d.x, d.decided_at,"
        " l.reward, l.weight, l.is_closed"
        f" from {workspace.engine('learned_rewards')} l join {workspace.engine('decisions')} d"
        " using (decision_id) where l.agent = ? order by d.decision_id",
        [agent],
    ):
        rows = _rewards(batch, state.actions)
        is_mine = np.isin(batch["customer_id"].to_numpy(zero_copy_only=False), ids)
        mine.append(rows.take(is_mine))
        others.append(rows.take(~is_mine))
    if not sum(map(len, mine)):
        return None
    k, d = len(state.actions), len(state.features)
    after = state
    for rows in mine:
        after = subtract(after, rows, state.actions)
    theta = state.theta
    anew = fold(others, k, d, state.as_of, theta.half_life_days, theta.usual)
    # The one setting that is somebody's own reward, and that no later learn would forget.
    after = replace(after, theta=replace(theta, low=anew.lowest))
    difference = max(_apart(after.closed, anew.closed), _apart(after.open, anew.open))
    if not difference <= PROVEN:
        raise StepError(
            f"the state of {agent} is not the sum of the decisions that are in"
            f" {workspace.engine('learned_rewards')} (they are {difference:.1e} apart), so it"
            " cannot be proven that nothing of the person is left; delete the agent's rows of"
            f" {workspace.engine('policy_states')}, run `nextmove learn`, then erase again"
        )
    return Proof(state, after, sum(map(len, mine)), difference)


def _rewards(batch: pa.RecordBatch, actions: tuple[str, ...]) -> Rewards:
    index = {key: i for i, key in enumerate(actions)}
    return Rewards(
        x=matrix_of(batch["x"]),
        action=np.array([index[a] for a in batch["action"].to_pylist()], dtype=np.int64),
        reward=batch["reward"].to_numpy(zero_copy_only=False),
        weight=batch["weight"].to_numpy(zero_copy_only=False),
        is_closed=batch["is_closed"].to_numpy(zero_copy_only=False).astype(bool),
        bucket=buckets(batch["customer_id"].to_pylist()),
        order=keys.keys_of(batch["decision_id"].to_pylist()),
        decided_at=column_of_array(batch["decided_at"]).values,
    )


def _apart(one: Sums, other: Sums) -> float:
    """The largest difference, relative to the largest sum of its kind."""
    pairs = ((getattr(one, n), getattr(other, n)) for n in ("count", "square", "gram", "moment"))
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in pairs)


# ---- what is written ----


def _write(
    workspace: Workspace,
    warehouse: Warehouse,
    person: Person,
    proofs: Sequence[Proof],
    versions: Sequence[Version],
    deleted: Mapping[str, int],
) -> None:
    """New states instead of those that hold a share of the person, and the proof of it all."""
    states = workspace.engine("policy_states")
    for proof in proofs:
        as_of, summary = warehouse.rows(
            f"select as_of, summary from {states} where agent = ? and is_current",
            [proof.after.agent],
        )[0]
        outcomes = json.loads(summary).get("outcomes", [])
        make_current(workspace, warehouse, proof.after, as_of, outcomes)
    proven = {(proof.before.agent, proof.before.version): proof for proof in proofs}
    row = {
        "person": _digest(workspace, person),
        "erased_at": datetime.now(UTC).replace(tzinfo=None),
        "decisions": 0,
        "difference": 0.0,
        "deleted": json.dumps(deleted),
    }
    lines = []
    for agent, version in versions:
        warehouse.rows(f"delete from {states} where agent = ? and version = ?", [agent, version])
        line = {**row, "agent": agent, "version_before": version}
        if (agent, version) in proven:
            its = proven[agent, version]
            line["version_after"] = its.after.version
            line |= {"decisions": its.decisions, "difference": its.difference}
        lines.append(line)
    rows = pa.Table.from_pylist(lines or [row], schema=ERASURES)
    warehouse.append(workspace.engine("erasures"), rows)


def _digest(workspace: Workspace, person: Person) -> str:
    """Keyed, so that only who knows the salt and the id can tell whom the row is about."""
    salt = workspace.project.salt.encode()
    text = f"erased\x1f{person.ids[0]}".encode()
    return hmac.new(salt, text, hashlib.sha256).hexdigest()
