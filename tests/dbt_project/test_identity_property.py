"""Identities of random graphs, over three builds, against union-find."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dbt_project.conftest import Dbt
from tests.dbt_project.warehouse import AS_OF, create_warehouse, insert, rows_of

Identifier = tuple[str, str]
FIRST = AS_OF - timedelta(days=60)


class UnionFind:
    def __init__(self) -> None:
        self.parent: dict[Identifier, Identifier] = {}

    def find(self, one: Identifier) -> Identifier:
        parent = self.parent.setdefault(one, one)
        if parent != one:
            self.parent[one] = parent = self.find(parent)
        return parent

    def join(self, group: list[Identifier]) -> None:
        for other in group:
            self.parent[self.find(other)] = self.find(group[0])


def submissions(rng: random.Random, first: int, count: int, people: int) -> list[dict[str, Any]]:
    """Forms with one to three identifiers; few ids, so that chains and late merges arise."""
    kinds = {"email": "p{}@example.com", "phone": "+1555{}", "anonymous_id": "a{}"}
    rows = []
    for n in range(first, first + count):
        chosen = rng.sample(sorted(kinds), rng.choice([1, 2, 2, 2, 3]))
        row: dict[str, Any] = {k: kinds[k].format(rng.randrange(people)) for k in chosen}
        rows.append({"form_id": str(n), **row, "submitted_at": FIRST + timedelta(hours=n)})
    return rows


def expected_map(rows: Iterable[dict[str, Any]]) -> dict[Identifier, str]:
    """Identifier to customer_id: the md5 of the component's earliest identifier."""
    sets, first_seen = UnionFind(), dict[Identifier, Any]()
    for row in rows:
        found = [(k, row[k]) for k in ("email", "phone", "anonymous_id") if k in row]
        sets.join(found)
        for one in found:
            first_seen.setdefault(one, row["submitted_at"])
    members = defaultdict(list)
    for one in first_seen:
        members[sets.find(one)].append(one)
    names = {r: min(m, key=lambda i: (first_seen[i], i)) for r, m in members.items()}
    return {i: customer_id(names[sets.find(i)]) for i in first_seen}


def customer_id(identifier: Identifier) -> str:
    return "c_" + hashlib.md5(":".join(identifier).encode(), usedforsecurity=False).hexdigest()


def map_of(path: Path, table: str) -> list[tuple[Identifier, str]]:
    rows = rows_of(path, f"select * from nextmove.{table}")
    return [((r["identifier_kind"], r["identifier_value"]), r["customer_id"]) for r in rows]


@pytest.mark.parametrize(("seed", "people"), [(1, 60), (2, 300)])
def test_three_builds_agree_with_union_find(
    dbt: Dbt, tmp_path: Path, seed: int, people: int
) -> None:
    path, rng = tmp_path / "warehouse.duckdb", random.Random(seed)
    create_warehouse(path)
    dbt(path, "run", "--select", "staging")
    rows: list[dict[str, Any]] = []
    history: set[tuple[Identifier, str]] = set()
    for build in range(3):
        new = submissions(rng, len(rows), people // 3, people)
        insert(path, "raw.form_submissions", new)
        rows += new
        dbt(path, "run", "--select", "intermediate.identity", as_of=AS_OF + timedelta(days=build))
        expected = expected_map(rows)
        history |= set(expected.items())
        assert dict(map_of(path, "int_identity__map")) == expected
        assert sorted(map_of(path, "int_identity__history")) == sorted(history)
        gone = {c for _, c in history} - set(expected.values())
        merges = rows_of(path, "select * from nextmove.int_identity__merges")
        assert {m["old_customer_id"] for m in merges} == gone
        for merge in merges:
            members = {expected[i] for i, c in history if c == merge["old_customer_id"]}
            assert members == {merge["customer_id"]}


def test_long_chain_needs_no_more_rounds_than_there_are(dbt: Dbt, tmp_path: Path) -> None:
    path, order = tmp_path / "warehouse.duckdb", list(range(400))
    random.Random(3).shuffle(order)
    create_warehouse(path)
    chain = [
        {"form_id": str(n), "email": f"p{(n + 1) // 2}@example.com", "anonymous_id": f"a{n // 2}"}
        for n in range(400)
    ]
    insert(
        path,
        "raw.form_submissions",
        [{**chain[n], "submitted_at": AS_OF - timedelta(hours=i + 1)} for i, n in enumerate(order)],
    )
    dbt(path, "run", "--select", "staging", "intermediate.identity")
    dbt(path, "test", "--select", "identity_has_converged")
    assert len({c for _, c in map_of(path, "int_identity__map")}) == 1
