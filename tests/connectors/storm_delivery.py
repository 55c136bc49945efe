"""make storm-delivery: 10,000 crash points of the send lane; nothing lost, nothing twice.

Cuts: the disk under the journal loses power, is full, or fails to sync, at a random write or sync
of a random round; then the next round begins on what is left of the files. Kills: a process dies
by SIGKILL at a random place of the loop. The vendor keeps its own ledger, loses one answer in ten,
and either ignores our keys or acts once on each.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from connectors import framed
from connectors.base import Reply, Request
from connectors.calls import Target
from connectors.deliver import deliver_sends
from connectors.errors import LogError, UnknownOutcomeError
from connectors.journal import Journal
from connectors.limits import Limiter
from tests.connectors.power import Disk, PowerCutError
from tests.connectors.sends import NOW, Plain, intent

TROUBLES = ("cut", "full", "fsync")
MESSAGES, A_ROUND = 24, 8
BATCH, IN_FLIGHT = 3, 2
IN_DOUBT = BATCH * IN_FLIGHT
OPERATIONS = {"cut": 16, "full": 8, "fsync": 8}
"""About what a round has that the trouble can strike; past the last one it does not come."""


class Ledger:
    """The vendor: who got what, by its own account."""

    def __init__(self, dice: random.Random, honours_keys: bool) -> None:
        self.people: Counter[str] = Counter()
        self.lost = 0
        self._dice = dice
        self._honours_keys = honours_keys

    def post(self, request: Request) -> Reply:
        """Take it, and perhaps lose the answer."""
        for person in request.json["people"]:
            if not (self._honours_keys and self.people[person]):
                self.people[person] += 1
        if self._dice.random() < 0.1:
            self.lost += 1
            raise UnknownOutcomeError("no answer in time")
        return Reply(200, b"ok")


@contextmanager
def disk(trouble: str, at: int, dice: random.Random) -> Iterator[Disk]:
    """The journal's files on a bad disk; afterwards all is closed, and as the trouble left it."""
    bad = Disk(trouble, at, dice)
    vars(framed)["os"] = bad
    try:
        yield bad
    finally:
        vars(framed)["os"] = os
        for descriptor in bad._paths:
            with suppress(OSError):
                os.close(descriptor)
        if bad.is_off:
            bad.after()


def deliver(directory: Path, ledger: Ledger, upto: int, honours_keys: bool) -> None:
    """One round: add the messages up to a number, and send what is due."""
    destination = Plain(BATCH)
    if honours_keys:
        streams = destination.streams.items()
        destination.streams = {n: replace(s, repeat_s=82_800.0) for n, s in streams}
    journal = Journal.open(directory)
    try:
        journal.add(intent(n) for n in range(upto))
        targets = {"plain": Target(destination, ledger.post)}
        limiter = Limiter(sleep=lambda _: None)
        deliver_sends(journal, targets, lambda *_: None, lambda: NOW, limiter, IN_FLIGHT)
    finally:
        journal._close_descriptors()


def one_life(directory: Path, trouble: str, seed: int) -> int:
    """A journal's life with a crash in every round; how many crashes there were."""
    dice = random.Random(f"{trouble}/{seed}")
    honours_keys = dice.random() < 0.5
    ledger, crashes, upto = Ledger(dice, honours_keys), 0, 0
    while upto < MESSAGES:
        upto += A_ROUND
        with disk(trouble, dice.randint(1, OPERATIONS[trouble]), dice):
            try:
                deliver(directory, ledger, upto, honours_keys)
            except (PowerCutError, OSError, LogError):
                crashes += 1
    with disk("none", 0, dice):
        deliver(directory, ledger, MESSAGES, honours_keys)
    check_books(directory, ledger, crashes)
    return crashes


def check_books(directory: Path, ledger: Ledger, crashes: int) -> None:
    """Our states against the vendor's ledger; AssertionError when a law is broken."""
    with Journal.open(directory) as journal:
        states = {n: journal.state(f"key{n}") for n in range(MESSAGES)}
        final = Counter(r["send_key"] for _, r in journal.receipts() if r["status"] != "not_sent")
    assert set(states.values()) <= {"accepted", "unknown"}, f"lost: {states}"
    assert final == {f"key{n}": 1 for n in range(MESSAGES)}, "one final receipt each"
    assert not [who for who, n in ledger.people.items() if n > 1], "sent twice"
    accepted = {f"u{n}" for n, state in states.items() if state == "accepted"}
    assert accepted <= set(ledger.people), "accepted, and the vendor does not have it"
    doubtful = len(states) - len(accepted)
    assert doubtful <= crashes * IN_DOUBT + ledger.lost * BATCH, "too many in doubt"


def storm(crashes: int, seed: int, folder: Path) -> Counter[str]:
    """Lives until there were so many crashes of each trouble; the crashes."""
    counted: Counter[str] = Counter()
    for trouble in TROUBLES:
        life = 0
        while counted[trouble] < crashes:
            life += 1
            directory = folder / f"{trouble}{life}"
            counted[trouble] += one_life(directory, trouble, seed * 1_000_000 + life)
            for path in directory.iterdir():
                path.unlink()
        counted["lives"] += life
    return counted


def timed(work: Callable[[], Counter[str]]) -> None:
    """Do it and say what it was."""
    start, cpu = time.perf_counter(), time.process_time()
    counted = work()
    words = ", ".join(f"{name} {n:,}" for name, n in sorted(counted.items()))
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    print(f"{words}: every message accounted for, nothing twice ({wall:.0f} s, {used:.0f} of CPU)")


def main() -> None:
    """Run from the command line."""
    from tests.connectors.test_crash import kills  # it needs its own server of processes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=2_700, help="of each trouble of the disk")
    parser.add_argument("--kills", type=int, default=2_000, help="by SIGKILL")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    # What a cut leaves is made by the imitation; a real disk would only make it slow.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        timed(lambda: storm(arguments.cuts, arguments.seed, Path(folder)))
        timed(lambda: kills(arguments.kills, arguments.seed, Path(folder)))


if __name__ == "__main__":
    main()
