"""Limits that several processes keep together: one after another, for the journal is locked."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from connectors.base import Window
from connectors.call_book import KEPT_SECONDS, CallBook
from connectors.errors import LockedError
from connectors.journal import Journal
from connectors.limits import Limiter
from tests.connectors.simulated import most_in

WINDOWS = (Window(3, 1.0), Window(7, 60.0))
DELIVERY = """
import sys, time
from pathlib import Path
from connectors.base import Window
from connectors.call_book import CallBook
from connectors.journal import Journal
from connectors.limits import Limiter

folder = Path(sys.argv[1])
journal = Journal.open(folder / "journal")
limiter = Limiter(book=CallBook(folder / "calls", time.time()))
for _ in range(5):
    limiter.acquire("esp/users", (Window(5, 3600.0),))
print("called", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("seed", range(3))
def test_no_window_holds_too_many_calls_whatever_processes_made_them(
    tmp_path: Path, seed: int
) -> None:
    dice, now, made = random.Random(seed), [0.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    for _ in range(30):
        booted = dice.uniform(-1e6, 1e6)
        with CallBook(tmp_path / "calls", now[0] + 1e9) as book:
            clock = partial(lambda since: now[0] + since, booted)
            limiter = Limiter(clock, sleep, lambda: now[0] + 1e9, book=book)
            for _ in range(dice.randint(0, 9)):
                limiter.acquire("pool", WINDOWS)
                made.append(now[0])
                sleep(dice.choice((0.0, 0.1, 5.0)))
    for window in WINDOWS:
        assert most_in(made, window.seconds) == window.calls


def test_of_two_deliveries_one_works_and_the_next_counts_its_calls(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DELIVERY, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "called\n"
        with pytest.raises(LockedError, match="in use by another process"):
            Journal.open(tmp_path / "journal")
        first.send_signal(signal.SIGKILL)
    with (
        Journal.open(tmp_path / "journal"),
        CallBook(tmp_path / "calls", time.time()) as book,
    ):
        limiter = Limiter(book=book)
        hour = (Window(5, 3600.0),)
        assert limiter.acquire("esp/users", hour, patience=600.0) == -1
        assert limiter.acquire("esp/messages", hour, patience=0.0) == 0


def test_old_calls_and_torn_lines_are_left_out_and_a_clock_set_back_counts_all(
    tmp_path: Path,
) -> None:
    file = tmp_path / "calls"
    lines = [f"p\t{1e9 - KEPT_SECONDS - 1}", "p\t1000000000.5", "\t1", "p\tnan", "p\t10x", "p"]
    file.write_text("\n".join(lines))
    with CallBook(file, 1e9) as book:
        assert book.earlier("p") == [1e9 + 0.5]
        limiter = Limiter(lambda: 0.0, wall=lambda: 1e9 - 500.0, book=book)
        assert limiter.acquire("p", (Window(1, 100.0),), patience=10.0) == -1
    assert file.read_text() == "p\t1000000000.500\n"
