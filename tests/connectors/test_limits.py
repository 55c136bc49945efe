from __future__ import annotations

import random
import threading

import pytest

from connectors.base import Reply, Window
from connectors.limits import LONGEST, SHORTEST, Limiter

WINDOWS = (Window(5, 1.0), Window(12, 10.0))


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def limiter(time: Time, wall: float = 1_000_000.0) -> Limiter:
    return Limiter(lambda: time.now, time.sleep, lambda: wall + time.now, lambda: 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_no_window_ever_holds_more_calls_than_it_allows(seed: int) -> None:
    time, dice, calls = Time(), random.Random(seed), []
    limits = limiter(time)
    for _ in range(200):
        time.now += dice.choice([0.0, 0.01, 0.3, 2.0])
        limits.acquire("p", WINDOWS)
        calls.append(time.now)
    for window in WINDOWS:
        for i, start in enumerate(calls):
            inside = [t for t in calls[i:] if t - start < window.seconds - 1e-9]
            assert len(inside) <= window.calls


def test_the_limit_is_used_in_full() -> None:
    time = Time()
    limits = limiter(time)
    for _ in range(120):
        limits.acquire("p", WINDOWS)
    assert 91 <= time.now <= 91 / 0.95


def test_pools_do_not_share_but_streams_of_a_pool_do() -> None:
    time = Time()
    limits = limiter(time)
    for _ in range(5):
        assert limits.acquire("a", WINDOWS) == 0
    assert limits.acquire("b", WINDOWS) == 0
    assert limits.acquire("a", WINDOWS) > 0


def test_without_patience_nothing_is_taken_and_nothing_slept() -> None:
    time = Time()
    limits = limiter(time)
    for _ in range(5):
        limits.acquire("p", WINDOWS)
    assert limits.acquire("p", WINDOWS, patience=0.5) == -1
    assert time.slept == []


def test_many_threads_together_keep_the_limit() -> None:
    time, lock, calls = Time(), threading.Lock(), []

    def sleep(seconds: float) -> None:
        with lock:
            time.now += seconds

    limits = Limiter(lambda: time.now, sleep)

    def work() -> None:
        for _ in range(10):
            limits.acquire("p", (Window(3, 1.0),))
            calls.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 60
    assert time.now >= 18.9


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7),
        ({"x-ratelimit-retry-after": "3.5"}, 3.5),
        ({"x-ratelimit-reset": "1000042"}, 42),
        ({"retry-after": "1e9"}, LONGEST),
        ({"retry-after": "-5"}, SHORTEST),
        ({"x-ratelimit-reset": "12"}, SHORTEST),
        ({"retry-after": "Mon, 12 Jan 1970 13:47:10 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, LONGEST),
        ({"retry-after": "Wed, 32 Oct 2026 07:28:00 GMT"}, 2),
        ({"retry-after": "soon"}, 2),
        ({"retry-after": "inf"}, 2),
        ({"retry-after": "nan"}, 2),
        ({"retry-after": ""}, 2),
        ({}, 2),
    ],
)
def test_a_429_shuts_the_pool_for_as_long_as_it_says_within_reason(
    headers: dict[str, str], wait: float
) -> None:
    time = Time()
    limits = limiter(time)
    limits.heed("p", WINDOWS, Reply(429, b"", headers))
    assert limits.acquire("p", WINDOWS) == pytest.approx(wait)
    assert limits.acquire("p", WINDOWS) == 0


def test_refusals_in_a_row_wait_longer_and_a_success_forgets_them() -> None:
    time = Time()
    limits = limiter(time)
    waits = []
    for status in (429, 429, 429, 200, 429):
        limits.heed("p", WINDOWS, Reply(status, b""))
        waits.append(round(limits.acquire("p", (Window(100, 0.1),) * 2)))
    assert waits == [2, 4, 8, 0, 2]


def test_an_empty_budget_shuts_the_pool_before_a_429_comes() -> None:
    time = Time()
    limits = limiter(time)
    empty = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000003"}
    limits.heed("p", WINDOWS, Reply(201, b"", {**empty, "x-ratelimit-remaining": "1"}))
    assert limits.acquire("p", WINDOWS) == 0
    limits.heed("p", WINDOWS, Reply(201, b"", empty))
    assert limits.acquire("p", WINDOWS) == pytest.approx(3)


def test_a_share_of_every_window_is_kept_free() -> None:
    time = Time()
    limits = limiter(time)
    assert [limits.acquire("p", WINDOWS, 0.0, share=0.8) for _ in range(5)] == [0, 0, 0, 0, -1]
    assert limits.acquire("p", WINDOWS, 0.0) == 0, "the fifth is there for who may have all"
    assert limits.acquire("p", WINDOWS, 0.0) == -1
    time.now += 1.05
    assert limits.acquire("p", WINDOWS, 0.0, share=0.8) == 0
    assert limits.acquire("p", (Window(1, 5.0),) * 2, 0.0, share=0.1) == -1


def test_a_small_share_still_has_one_call() -> None:
    assert limiter(Time()).acquire("p", (Window(1, 5.0),), 0.0, share=0.1) == 0
