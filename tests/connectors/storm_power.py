"""The disk's part of `make storm`: power cuts of the journal, and every write and sync that fails.

A life of a journal has all that it ever does: messages are added and sent, segments are closed,
old ones are dropped, it is opened again. In one life after another each single write, sync and
opening of a file fails once, or the disk is full from there on; then the power is cut at random
steps, a second time during the repair among them. Whatever happens,

- the run is complete or ends with an error of the disk, and the next one needs no repair by hand;
- before each call its intents and the note that they are being sent would outlast a cut;
- in the end every message is accepted, or unknown and listed, and nobody got one twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import repeat
from pathlib import Path

from connectors import framed, journal
from connectors.base import Reply, Request
from connectors.calls import Target
from connectors.deliver import deliver_sends
from connectors.errors import LogError
from connectors.journal import Journal
from connectors.journal_records import Intent, Kept, Sending, decode
from connectors.limits import Limiter
from tests.connectors.power import Disk, PowerCutError
from tests.connectors.sends import NOW, Plain, Vendor, intent
from tests.connectors.storm_sends import BATCH, IN_FLIGHT, disk, sends

FAULTS = ("write", "fsync", "full", "open")
ROUNDS, A_ROUND = 3, 4
SEGMENT = 2_500
"""Bytes: so that segments are closed and dropped all the time."""


class Life:
    """A journal on a disk, and a vendor that looks at the disk before it takes anything."""

    def __init__(self, folder: Path, dice: random.Random, counts: Counter[str]) -> None:
        self.folder, self.dice, self.counts = folder, dice, counts
        self.vendor = Vendor()
        self.disk = Disk("none", 0, dice)
        self.upto, self.now, self.position = 0, NOW, 0
        self.receipts: list[tuple[str, str]] = []

    def whole(self, trouble: str, at: Callable[[], int]) -> int:
        """All rounds, with the trouble at some step of each run; the most steps of a run."""
        steps = 0
        for _ in range(ROUNDS):
            self.upto += A_ROUND
            self.now += timedelta(days=self.dice.choice((0, 1, 25)))
            for _ in range(2):
                steps = max(steps, self._run(trouble, at()))
            self._run("none", 0)
            self._audit()
        return steps

    def _run(self, trouble: str, at: int) -> int:
        """Open the journal and do everything; the steps that the trouble could strike."""
        with disk(trouble, at, self.dice) as self.disk:
            try:
                self._deliver()
            except (PowerCutError, OSError, LogError):
                assert self.disk.has_struck, "an error without any trouble"
        self.counts[trouble] += self.disk.has_struck
        return self.disk.steps

    def _deliver(self) -> None:
        opened = Journal.open(self.folder)
        try:
            opened.add(self._old())
            opened.add(sends(self.upto, "plain", "messages"))
            target = Target(Plain(BATCH), self._post)
            limiter = Limiter(lambda: 0.0, lambda _: None, jitter=lambda: 0.0)
            deliver_sends(
                opened, {"plain": target}, lambda *_: None, lambda: self.now, limiter, IN_FLIGHT
            )
            for position, row in opened.receipts(self.position):
                self.position = position
                self.receipts.append((row["send_key"], row["status"]))
            opened.compact(self.now, self.position)
        finally:
            opened._close_descriptors()

    def _old(self) -> Iterator[dict[str, object]]:
        """Messages that have expired; they are dropped as soon as they are at their end."""
        past = (NOW - timedelta(days=1)).isoformat()
        return (
            intent(n, send_key=f"old{n}", external_id=f"o{n}", expires_at=past)
            for n in range(self.upto)
        )

    def _post(self, request: Request) -> Reply:
        intents, sending = on_disk(self.folder, self.disk)
        for record in request.records:
            assert record.key in intents, "a call without a durable intent"
            assert record.key in sending, "a call without a durable note of it"
        self.counts["calls looked at"] += 1
        return self.vendor(request)

    def _audit(self) -> None:
        keys = [f"key{n}" for n in range(self.upto)]
        with Journal.open(self.folder) as found:
            states = {key: found.state(key) for key in keys}
            listed = {unknown["send_key"] for unknown, _ in found.unknown()}
        got = Counter(who.replace("u", "key") for who in self.vendor.got)
        assert set(states.values()) <= {"accepted", "unknown"}, f"not at an end: {states}"
        assert set(got) <= set(keys), "sent after its end"
        assert set(got.values()) <= {1}, "sent twice"
        assert {k for k in keys if states[k] == "accepted"} <= set(got), "the vendor lacks it"
        assert {k for k in keys if states[k] == "unknown"} == listed, "not all are listed"
        final = [(key, status) for key, status in self.receipts if key in states]
        assert sorted(final) == sorted(states.items()), "one receipt each"


def on_disk(folder: Path, disk: Disk) -> tuple[set[str], set[str]]:
    """The keys of the intents, and of those noted as being sent, that would outlast a cut."""
    intents: set[str] = set()
    sending: set[str] = set()
    for path in framed.segments(folder):
        safe = disk.safe(path)
        for offset, payload in framed.frames(path):
            if framed.frame_end(offset, payload) > safe:
                break
            match decode(payload):
                case Intent(send_key=key):
                    intents.add(key)
                case Sending(send_key=key) | Kept(send_key=key):
                    sending.add(key)
    return intents, sending


@contextmanager
def small_segments() -> Iterator[None]:
    """Segments of the journal that are soon full."""
    usual = journal.SEGMENT_BYTES
    vars(journal)["SEGMENT_BYTES"] = SEGMENT
    try:
        yield
    finally:
        vars(journal)["SEGMENT_BYTES"] = usual


def storm(cuts: int, seed: int, folder: Path) -> Counter[str]:
    """Every fault at every place, then so many power cuts; how often each struck."""
    counts: Counter[str] = Counter()
    dice = random.Random(f"power/{seed}")

    def life(trouble: str, at: Callable[[], int]) -> int:
        counts["lives"] += 1
        name = f"power{counts['lives']}"
        return Life(folder / name, random.Random(f"{name}/{seed}"), counts).whole(trouble, at)

    with small_segments():
        for fault in FAULTS:
            at, before = 0, -1
            while counts[fault] > before:
                at, before = at + 1, counts[fault]
                life(fault, repeat(at).__next__)
        longest = life("cut", lambda: 10**9)
        while counts["cut"] < cuts:
            life("cut", lambda: dice.randint(1, longest))
    return counts
