"""python -m tests.decision_engine.bench_store: sqlite3 against lmdb as the service's store.

Both hold the same rows and are used as the service would: single reads on one thread, without
and with a writer beside it; a thousand dirty rows and the log's position in one durable commit;
a process that is killed in the middle of its commits. One run measures both.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import lmdb

from decision_engine.service.store import CACHE_ROWS, HotStore

DIRTY_ROWS = 1_000
PUBLISHED_ROWS = 250
POSITION = b"position"


class Store(Protocol):
    def __init__(self, folder: Path) -> None: ...
    def get(self, key: bytes) -> bytes | None: ...
    def write(self, rows: dict[bytes, bytes]) -> None: ...
    def close(self) -> None: ...


class Sqlite:
    """WAL, synchronous=FULL: every commit is synced. One connection reads, one writes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = self._open(folder)
        self._writer.execute("create table if not exists t (key blob primary key, value blob)")
        self._reader = self._open(folder)

    @staticmethod
    def _open(folder: Path) -> sqlite3.Connection:
        db = sqlite3.connect(folder / "t.sqlite", isolation_level=None, check_same_thread=False)
        db.execute("pragma page_size = 8192")
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        db.execute("pragma wal_autocheckpoint = 4000")
        return db

    def get(self, key: bytes) -> bytes | None:
        found = self._reader.execute("select value from t where key = ?", (key,)).fetchall()
        return found[0][0] if found else None

    def write(self, rows: dict[bytes, bytes]) -> None:
        self._writer.execute("begin")
        self._writer.executemany("insert or replace into t values (?, ?)", rows.items())
        self._writer.execute("commit")

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Lmdb:
    """Its default: every commit is synced; readers see the last one without a lock."""

    def __init__(self, folder: Path) -> None:
        self._env = lmdb.open(str(folder), map_size=4 << 30)

    def get(self, key: bytes) -> bytes | None:
        with self._env.begin() as transaction:
            found: bytes | None = transaction.get(key)
            return found

    def write(self, rows: dict[bytes, bytes]) -> None:
        with self._env.begin(write=True) as transaction:
            for key, value in rows.items():
                transaction.put(key, value)

    def close(self) -> None:
        self._env.close()


STORES: dict[str, type[Store]] = {"sqlite3": Sqlite, "lmdb": Lmdb}


def key(i: int) -> bytes:
    return b"c_%032x" % (i * 0x9E3779B97F4A7C15 % (1 << 64))


def value(dice: random.Random, i: int) -> bytes:
    """1 to 4 KB."""
    return b"%d:" % i + dice.randbytes(dice.randint(1024, 4096))


def fill(store: Store, keys: int) -> None:
    dice = random.Random(1)
    for start in range(0, keys, DIRTY_ROWS):
        store.write({key(i): value(dice, i) for i in range(start, min(start + DIRTY_ROWS, keys))})


def timed(call: Callable[[], Any], times: int) -> tuple[float, float, float]:
    """CPU of this thread, median and 99th percentile of one call, in microseconds."""
    spent = []
    cpu = time.thread_time()
    for _ in range(times):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    cpu = time.thread_time() - cpu
    spent.sort()
    return tuple(1e6 * t for t in (cpu / times, spent[times // 2], spent[times * 99 // 100]))  # type: ignore[return-value]


def reads(store: Store, keys: int, times: int) -> tuple[float, float, float]:
    dice = random.Random(2)
    return timed(lambda: store.get(key(dice.randrange(keys))), times)


def batches(keys: int) -> Iterator[dict[bytes, bytes]]:
    dice = random.Random(3)
    for n in range(1 << 30):
        rows = {key(i): value(dice, i) for i in dice.sample(range(keys), DIRTY_ROWS)}
        yield {**rows, POSITION: b"%d" % n}


def reads_beside_a_writer(store: Store, keys: int, times: int) -> tuple[float, float, float]:
    """A thread commits a thousand rows, waits as long as that took, and so on."""
    stop = threading.Event()

    def write() -> None:
        source = batches(keys)
        while not stop.is_set():
            rows = next(source)
            start = time.perf_counter()
            store.write(rows)
            stop.wait(time.perf_counter() - start)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return reads(store, keys, times)
    finally:
        stop.set()
        thread.join()


def writes(store: Store, keys: int, times: int) -> tuple[float, float, float]:
    prepared = [rows for rows, _ in zip(batches(keys), range(times), strict=False)]
    return timed(lambda: store.write(prepared.pop()), times)


def survives_kills(name: str, folder: Path, kills: int) -> int:
    """How many of the kills left a store whose rows all belong to its position."""
    good = 0
    dice = random.Random(4)
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "--child", name, str(folder)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(dice.uniform(0.01, 0.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = STORES[name](folder)
        position = store.get(POSITION)
        good += position is not None and all(store.get(key(i)) == position for i in range(500))
        store.close()
    return good


def child(name: str, folder: Path) -> None:
    """Commit for ever: 500 rows that all say the number of their commit."""
    store = STORES[name](folder)
    n = int(store.get(POSITION) or 0)
    print("ready", flush=True)
    while True:
        n += 1
        store.write({**{key(i): b"%d" % n for i in range(500)}, POSITION: b"%d" % n})


def size(folder: Path) -> float:
    return sum(f.stat().st_blocks * 512 for f in folder.iterdir()) / 1e6


def line(what: str, of: Callable[[str], str]) -> None:
    print(f"{what:44}" + "".join(f"{of(name):>26}" for name in STORES), flush=True)


def figures(found: tuple[float, float, float]) -> str:
    return "{:,.1f} / {:,.1f} / {:,.1f}".format(*found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=50_000)
    parser.add_argument("--writes", type=int, default=30)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--child", nargs=2)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]))
    root = Path(tempfile.mkdtemp(prefix="bench_store"))
    try:
        compare(root, args)
    finally:
        shutil.rmtree(root)


def compare(root: Path, args: argparse.Namespace) -> None:
    stores = {name: make(root / name) for name, make in STORES.items()}
    print(f"{args.keys:,} rows of 1 to 4 KB; microseconds: CPU / p50 / p99 of one call")
    line("", str)

    def seconds_to_fill(name: str) -> str:
        start = time.process_time()
        fill(stores[name], args.keys)
        return f"{time.process_time() - start:.1f} s CPU"

    line("fill", seconds_to_fill)
    line("on disk", lambda n: f"{size(root / n):,.0f} MB")
    line("read", lambda n: figures(reads(stores[n], args.keys, args.reads)))
    line(
        "read beside a writer",
        lambda n: figures(reads_beside_a_writer(stores[n], args.keys, args.reads)),
    )
    line(
        "durable commit of 1,000 rows and a position",
        lambda n: figures(writes(stores[n], args.keys, args.writes)),
    )
    line("on disk", lambda n: f"{size(root / n):,.0f} MB")
    kills = args.kills
    line("whole after SIGKILL", lambda n: f"{survives_kills(n, root / 'k' / n, kills)} of {kills}")
    the_product(root / "hot", args)


def the_product(folder: Path, args: argparse.Namespace) -> None:
    """The store as it is: rows are JSON, decoded, and some are in memory."""
    with HotStore(folder) as store:
        rows = [profile(i) for i in range(args.keys)]
        cpu = time.process_time()
        for start in range(0, args.keys, PUBLISHED_ROWS):
            store.publish_profiles(rows[start : start + PUBLISHED_ROWS])
        each = 1e6 * (time.process_time() - cpu) / args.keys
        print(f"\nHotStore, {PUBLISHED_ROWS} rows a call: {each:.0f} us CPU a published row")
        for what, n in (("nine in ten from the file", args.keys), ("in memory", CACHE_ROWS // 2)):
            keys = [row["key"] for row in rows[:n]]
            found = read_profiles(store, keys, args.reads)
            print(f"HotStore, a profile, {what}: {figures(found)}")


def read_profiles(store: HotStore, keys: list[str], times: int) -> tuple[float, float, float]:
    """Once memory holds what it can of these keys."""
    dice = random.Random(5)

    def read() -> Any:
        return store.get_profile(dice.choice(keys))

    timed(read, len(keys))
    return timed(read, times)


def profile(i: int) -> dict[str, Any]:
    """As wide as the real one: about 75 columns and 2 KB."""
    dice = random.Random(i)
    numbers = {f"a_feature_of_some_kind_{n}": dice.random() * 100 for n in range(65)}
    events = "\n".join(f"176983920000{n:04}\tweb\tm-{i}-{n}\tpage\t\tprice" for n in range(8))
    names = f"anonymous_id:a{i}\nemail:p{i}@example.com\nuser_id:u{i}"
    texts = {"external_id": f"u{i}", "identifiers": names, "recent_events": events}
    return {"key": f"c_{i:032x}", "as_of": 1, **numbers, **texts}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
