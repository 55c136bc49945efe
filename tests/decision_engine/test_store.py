"""The hot store: what it holds after anything that may happen to it."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import LockedError
from decision_engine.service.store import HotStore
from decision_engine.service.store_file import StoreError
from decision_engine.state import PolicyState, save
from tests.decision_engine.store_worker import PEOPLE, profile


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HotStore]:
    with HotStore(tmp_path / "hot") as opened:
        yield opened


def reopened(store: HotStore) -> HotStore:
    store.close()
    return HotStore(store.folder)


def row(key: str = "c_1", **columns: Any) -> dict[str, Any]:
    return {"key": key, "as_of": 1, "external_id": "u1", "identifiers": "user_id:u1", **columns}


def policy(agent: str = "win_back", actions: tuple[str, ...] = ("no_action",)) -> dict[str, Any]:
    state = PolicyState.initial(agent, "uniform", actions, ())
    text = b64encode(save(state)).decode()
    return {"key": agent, "version": state.version, "policy": "uniform", "state": text}


# ---- from the log ----


def test_what_is_put_is_seen_at_once_and_after_it_is_written(store: HotStore) -> None:
    store.put_live("p", b"state", 1)
    store.put_decision("d", 1, "slot", "p", (3, 5))
    store.put_plan("e", b"plan", 1)
    store.put_identifier("anonymous_id:a", "c_1")

    def check(store: HotStore) -> None:
        assert store.get_live("p") == b"state"
        assert store.get_decision("d") == (3, 5)
        assert store.get_plan("e") == b"plan"
        assert store.find_decision("slot", "p") == "d"
        assert store.customer_of(["email:nobody", "anonymous_id:a"]) == "c_1"

    check(store)
    batch = store.take()
    check(store)
    store.write(batch, (3, 17))
    check(store)
    with reopened(store) as again:
        check(again)
        assert again.position == (3, 17)
        assert (again.get_live("q"), again.get_decision("x"), again.customer_of(["x:y"])) == (
            None,
            None,
            None,
        )


def test_what_was_not_written_comes_from_the_log_again(store: HotStore) -> None:
    store.put_live("p", b"old", 1)
    store.write(store.take(), (1, 1))
    store.put_live("p", b"new", 2)
    store.take()
    store.put_live("q", b"new", 2)
    with reopened(store) as again:
        assert (again.get_live("p"), again.get_live("q"), again.position) == (b"old", None, (1, 1))


def test_a_live_state_can_be_deleted(store: HotStore) -> None:
    store.put_live("p", b"state", 1)
    store.write(store.take(), (1, 1))
    assert store.get_live("p") == b"state"
    store.put_live("p", None, 2)
    assert store.get_live("p") is None
    store.write(store.take(), (1, 2))
    assert store.get_live("p") is None
    with reopened(store) as again:
        assert again.get_live("p") is None


def test_a_write_that_fails_loses_nothing(store: HotStore) -> None:
    store.put_live("p", b"one", 1)
    store.put_live("q", b"one", 1)
    store._writer.execute("pragma query_only = on")
    batch = store.take()
    store.put_live("q", b"two", 2)
    with pytest.raises(StoreError, match="look at the disk"):
        store.write(batch, (1, 1))
    assert (store.position, store.get_live("p"), store.get_live("q")) == (None, b"one", b"two")
    store._writer.execute("pragma query_only = off")
    store.write(store.take(), (1, 2))
    with reopened(store) as again:
        assert (again.position, again.get_live("p"), again.get_live("q")) == (
            (1, 2),
            b"one",
            b"two",
        )


def test_one_batch_is_under_way_at_a_time(store: HotStore) -> None:
    store.put_live("p", b"one", 1)
    store.take()
    with pytest.raises(RuntimeError, match="not written yet"):
        store.take()


def test_old_rows_are_pruned(store: HotStore) -> None:
    for at, name in ((1, "old"), (5, "new")):
        store.put_live(name, b"state", at)
        store.put_decision(name, at, name, "p", (1, at))
        store.put_plan(name, b"plan", at)
    store.write(store.take(), (1, 1))
    assert store.prune(5) == 3
    kept = {
        n: (store.get_live(n), store.get_decision(n), store.get_plan(n)) for n in ("old", "new")
    }
    assert kept == {"old": (None, None, None), "new": (b"state", (1, 5), b"plan")}


# ---- from the warehouse ----


def test_changed_columns_are_merged_and_a_null_overwrites(store: HotStore) -> None:
    assert store.publish_profiles([row(tier="gold", orders_count=1)]) == [None]
    assert store.get_profile("c_1") == {
        "as_of": 1,
        "external_id": "u1",
        "identifiers": "user_id:u1",
        "tier": "gold",
        "orders_count": 1,
    }
    changed = {"key": "c_1", "as_of": 2, "tier": None}
    assert store.publish_profiles([changed, {"key": "c_1", "step": 3}]) == [None, None]
    expected = {
        "as_of": 2,
        "external_id": "u1",
        "identifiers": "user_id:u1",
        "tier": None,
        "orders_count": 1,
        "step": 3,
    }
    assert store.get_profile("c_1") == expected
    with reopened(store) as again:
        assert again.get_profile("c_1") == expected


def test_identifiers_follow_their_customer(store: HotStore) -> None:
    both = "email:a@example.com\nuser_id:u1"
    store.publish_profiles([row(identifiers=both), row("c_2", identifiers="user_id:u2")])
    assert store.customer_of(["email:a@example.com"]) == "c_1"
    # The first is merged into the second; its removal must not take what moved on.
    moved = {"key": "c_2", "identifiers": "email:a@example.com\nuser_id:u2"}
    store.publish_profiles([moved, {"key": "c_1", "deleted": True}])
    assert store.get_profile("c_1") is None
    assert store.customer_of(["email:a@example.com"]) == "c_2"
    assert store.customer_of(["user_id:u1"]) is None
    store.publish_profiles([{"key": "c_2", "identifiers": None}])
    assert store.customer_of(["email:a@example.com", "user_id:u2"]) is None


def test_what_the_log_linked_stays_until_it_is_published_otherwise(store: HotStore) -> None:
    store.publish_profiles([row()])
    store.put_identifier("anonymous_id:a", "c_1")
    store.write(store.take(), (1, 1))
    store.publish_profiles([{"key": "c_1", "as_of": 2, "identifiers": "user_id:u1"}])
    assert store.customer_of(["anonymous_id:a"]) == "c_1"
    store.publish_profiles([row("c_2", identifiers="anonymous_id:a")])
    assert store.customer_of(["anonymous_id:a"]) == "c_2"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({}, "`key` must be 1 to 512 plain characters"),
        (row(""), "`key` must be"),
        (row("a\nb"), "`key` must be"),
        (row("x" * 513), "`key` must be"),
        ({"key": "c_9", "tier": "gold"}, "comes without as_of, external_id, identifiers"),
        (row(tags=["a"]), "`tags` must be a text, a number, true, false or null"),
        (row(recent_events="x" * 300_000), "has more than 262144 characters"),
        (row(identifiers=7), "`identifiers` must be a text"),
        (row(as_of="now"), "`as_of` must be a whole number"),
        (row(last_order_at="2026-03-01"), "`last_order_at` must be a whole number"),
    ],
)
def test_a_bad_row_is_refused_alone(store: HotStore, bad: dict[str, Any], reason: str) -> None:
    before, refused, after = store.publish_profiles([row("c_2"), bad, row("c_3")])
    assert (before, after) == (None, None)
    assert refused is not None
    assert reason in refused
    assert store.get_profile("c_3") is not None
    assert store.get_profile("c_1") is None


def test_policies(store: HotStore) -> None:
    assert store.policies() == {}
    first = policy()
    assert store.publish_policies([first], 7) == [None]
    known = store.policies()["win_back"]
    assert (known.version, known.published_at, known.row) == (
        first["version"],
        7,
        {"version": first["version"], "policy": "uniform"},
    )
    assert b64encode(known.state).decode() == first["state"]
    second = policy(actions=("no_action", "hello"))
    held = store.policies()
    assert store.publish_policies([second, policy("growth")], 8) == [None, None]
    assert held["win_back"].published_at == 7
    with reopened(store) as again:
        assert {a: p.version for a, p in again.policies().items()} == {
            "win_back": second["version"],
            "growth": policy("growth")["version"],
        }
        again.publish_policies([{"key": "growth", "deleted": True}], 9)
        assert list(again.policies()) == ["win_back"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "%%%"}, "`state` cannot be read"),
        ({"state": b64encode(b"no state").decode()}, "`state` cannot be read"),
        ({"version": "another"}, "of another agent or version"),
        ({"key": "growth"}, "of another agent or version"),
    ],
)
def test_a_damaged_policy_is_refused(store: HotStore, change: dict[str, Any], reason: str) -> None:
    (refused,) = store.publish_policies([{**policy(), **change}], 7)
    assert refused is not None
    assert reason in refused
    assert store.policies() == {}


def test_the_store_knows_as_of_when_it_is_complete(store: HotStore) -> None:
    assert store.as_of is None
    store.complete(5)
    with reopened(store) as again:
        assert again.as_of == 5


def test_memory_never_holds_what_was_replaced(tmp_path: Path) -> None:
    """Reads beside publishing see rows in the order they were published."""
    with HotStore(tmp_path / "hot", cache_rows=5) as store:
        keys = [f"c_{i}" for i in range(10)]
        last = 60

        def publish() -> None:
            for n in range(1, last + 1):
                store.publish_profiles([row(key, step=n) for key in keys])

        store.publish_profiles([row(key, step=0) for key in keys])
        thread = threading.Thread(target=publish)
        thread.start()
        seen = dict.fromkeys(keys, 0)
        while thread.is_alive():
            for key in keys:
                found = store.get_profile(key)
                assert found is not None
                assert found["step"] >= seen[key]
                seen[key] = found["step"]
        thread.join()
        assert {key: (store.get_profile(key) or {})["step"] for key in keys} == dict.fromkeys(
            keys, last
        )
        assert len(store._profiles) <= 5


# ---- the file ----


def test_a_store_has_one_service(store: HotStore) -> None:
    with pytest.raises(LockedError, match="in use by another process"):
        HotStore(store.folder)
    instance = store.instance
    with reopened(store) as again:
        assert again.instance == instance


def test_a_deleted_folder_is_a_new_store(store: HotStore) -> None:
    instance = store.instance
    store.publish_profiles([row()])
    store.close()
    shutil.rmtree(store.folder)
    with HotStore(store.folder) as again:
        assert again.instance != instance
        assert (again.get_profile("c_1"), again.position, again.as_of) == (None, None, None)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table t (a)")
    database.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (garbage, "is damaged"),
        (foreign, "holds another program's database"),
        (newer, "was written by a newer version of nextmove"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_to_do(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    folder = tmp_path / "hot"
    HotStore(folder).close()
    spoil(folder / "hot.sqlite")
    with pytest.raises(StoreError, match=f"{message}.*delete the folder and start again"):
        HotStore(folder)
    shutil.rmtree(folder)
    HotStore(folder).close()


def test_damage_is_found_when_it_is_met(store: HotStore) -> None:
    store.publish_profiles([row(f"c_{i}", tier="x" * 3000) for i in range(200)])
    store.close()
    path = store.folder / "hot.sqlite"
    data = bytearray(path.read_bytes())
    # The first page has the schema; all that follow are spoilt.
    data[8192:] = random.Random(1).randbytes(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"), HotStore(store.folder) as again:
        again.get_profile("c_1")


def test_the_files_are_private(store: HotStore) -> None:
    store.publish_profiles([row()])
    assert store.folder.stat().st_mode & 0o077 == 0
    for path in store.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_kill_leaves_whole_commits_and_all_that_was_acknowledged(tmp_path: Path) -> None:
    folder, dice = tmp_path / "hot", random.Random(5)
    for _ in range(4):
        acknowledged = killed_worker(folder, dice.uniform(0.02, 0.3))
        with HotStore(folder) as store:
            n = store.position[1] if store.position else 0
            assert n >= acknowledged["log"]
            assert {store.get_live(person) for person in PEOPLE} == {b"%d" % n}
            assert store.get_decision(f"d_{n}") == (1, n)
            assert store.find_decision(str(n), "c_1") == f"d_{n}"
            assert store.get_decision(f"d_{n + 1}") is None
            published = (store.get_profile(PEOPLE[0]) or {"orders_count": 0})["orders_count"]
            assert published >= acknowledged["warehouse"]
            for person in PEOPLE:
                wanted = profile(person, published)
                assert {**(store.get_profile(person) or {}), "key": person} == wanted
                assert store.customer_of([f"email:{person}.{published}@example.com"]) == person
                assert store.customer_of([f"email:{person}.{published - 1}@example.com"]) is None


def killed_worker(folder: Path, seconds: float) -> dict[str, int]:
    """Let a worker write for a while and kill it; the last commits it has told of."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.decision_engine.store_worker", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    assert worker.stdout.readline().startswith("log ")
    time.sleep(seconds)
    worker.send_signal(signal.SIGKILL)
    told = worker.stdout.read().split("\n")[:-1]
    worker.wait()
    worker.stdout.close()
    last = {"log": 0, "warehouse": 0}
    for line in told:
        source, n = line.split()
        last[source] = int(n)
    return last
