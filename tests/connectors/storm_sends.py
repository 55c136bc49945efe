"""The send lane of `make storm`: crash, go on, and audit every message; again and again.

Half of the crashes come when the vendor has taken a call and nobody has heard its answer. The
others: before a call, at any step of the journal, at a write or sync of a disk that loses power,
is full or fails to sync. One answer in ten is lost besides. The vendor is the sandbox, in three
kinds: it ignores our key, acts once on it, or acts once on it within 24 hours, and the crashes are
up to two days apart.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from connectors import failpoint, framed
from connectors.base import Destination
from connectors.calls import Target
from connectors.deliver import deliver_sends
from connectors.destinations.braze import Braze
from connectors.destinations.webhook import Webhook
from connectors.errors import LogError
from connectors.journal import Journal
from connectors.limits import Limiter
from tests.connectors.power import Disk, PowerCutError
from tests.connectors.sends import NOW, intent
from tests.sandbox_inside import Inside, Line

KINDS = {
    "ignores our key": ("braze", "messages"),
    "acts once on a key": ("webhook", "messages"),
    "acts once on a key for 24 h": ("braze", "transactional_messages"),
}
OTHERS = ("before", "hit", "cut", "full", "fsync")
OPERATIONS = {"answer": 3, "before": 3, "hit": 14, "cut": 12, "full": 6, "fsync": 6}
"""About what a round has that the trouble can strike; past the last one it does not come."""
MESSAGES, A_ROUND = 30, 6
BATCH, IN_FLIGHT = 3, 6


def vendor_kind(kind: str) -> tuple[Destination, str]:
    """A destination with small batches, and its stream."""
    name, stream = KINDS[kind]
    destination: Destination = Braze() if name == "braze" else Webhook()
    found = destination.streams[stream]
    small = replace(found, batch_size=min(found.batch_size, BATCH))
    destination.streams = {stream: small}
    return destination, stream


def sends(upto: int, name: str, stream: str, prefix: str = "") -> Iterator[dict[str, Any]]:
    """Messages that stay due for months, so that one sent again would arrive."""
    for n in range(upto):
        yield intent(
            n,
            send_key=f"{prefix}key{n}",
            customer_id=f"{prefix}c{n}",
            external_id=f"{prefix}u{n}",
            destination=name,
            stream=stream,
            fields={"creative": f"welcome {n}"},
            expires_at=(NOW + timedelta(days=99)).isoformat(),
        )


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


@contextmanager
def dying_at_a_hit(at: int) -> Iterator[None]:
    """The process dies at the n-th failpoint it comes by, whichever that is."""
    left, usual = [at], failpoint.hit

    def hit(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise PowerCutError

    vars(failpoint)["hit"] = hit
    try:
        yield
    finally:
        vars(failpoint)["hit"] = usual


class Life:
    """A journal and its vendor."""

    def __init__(self, folder: Path, kind: str, dice: random.Random, counts: Counter[str]) -> None:
        self.folder, self.dice, self.counts = folder, dice, counts
        self.destination, self.stream = vendor_kind(kind)
        self.line = Line(Inside(folder / "sandbox"), self.destination, dice)
        self.now, self.upto, self.in_doubt = NOW, 0, 0

    def round(self, trouble: str) -> None:
        """More messages, trouble while they are sent, and then a run without any."""
        self.upto += A_ROUND
        self.now += timedelta(hours=self.dice.choice((0, 1, 22, 25, 48)))
        self.line.inside.state.set_clock(self.now)
        before, unheard = self.line.lost, self.line.accepted_unheard
        at = self.dice.randint(1, OPERATIONS[trouble])
        is_crash = self._troubled(trouble, at)
        self.counts[trouble] += is_crash
        self.counts["crashes"] += is_crash
        self.counts["accepted, answer lost"] += self.line.accepted_unheard - unheard
        self.line.calm()
        with disk("none", 0, self.dice):
            self._deliver()
        self._audit(IN_FLIGHT * is_crash + self.line.lost - before)

    def _troubled(self, trouble: str, at: int) -> bool:
        self.line.dies, self.line.at, self.line.calls = trouble, at, 0
        self.line.loses = 0.1
        on_disk = (trouble, at) if trouble in ("cut", "full", "fsync") else ("none", 0)
        with disk(*on_disk, self.dice) as bad, dying_at_a_hit(at if trouble == "hit" else 0):
            try:
                self._deliver()
            except PowerCutError:
                # The machine is off, or only this process dead: then what it wrote is there.
                bad.is_off = bad.is_off or self.dice.random() < 0.5
                return True
            except (OSError, LogError):
                return True
        return False

    def _deliver(self) -> None:
        journal = Journal.open(self.folder / "journal")
        clock = [0.0]
        limiter = Limiter(
            lambda: clock[0], lambda s: clock.__setitem__(0, clock[0] + s), jitter=lambda: 0.0
        )
        try:
            journal.add(sends(self.upto, self.destination.name, self.stream))
            targets = {self.destination.name: Target(self.destination, self.line.post)}
            run = deliver_sends(
                journal, targets, lambda *_: None, lambda: self.now, limiter, IN_FLIGHT
            )
            assert not run.stopped, run.stopped
        finally:
            journal._close_descriptors()

    def _audit(self, allowed: int) -> None:
        with Journal.open(self.folder / "journal") as journal:
            entries = self.line.inside.state.ledger.entries
            effects = [(e.message_id if e.vendor == "webhook" else e.external_id) for e in entries]
            doubtful = audit(journal, effects, self.upto)
        assert doubtful - self.in_doubt <= allowed, f"{doubtful - self.in_doubt} came in doubt"
        self.in_doubt = doubtful
        for entry in entries:
            data = entry.properties.get("data", entry.properties)
            who = (entry.message_id or "").removeprefix("key") or entry.external_id
            number = data["decision_id"].removeprefix("d")
            assert data["creative"] == f"welcome {number}", "another message than was meant"
            assert entry.vendor != "webhook" or who == number
            assert entry.vendor == "webhook" or entry.external_id == f"u{number}"


def audit(journal: Journal, effects: list[str], upto: int, prefix: str = "") -> int:
    """Our states against the vendor's ledger; how many are unknown.

    `effects` are the send keys, or the external ids, of what the vendor did, one for each time.
    """
    states = {n: journal.state(f"{prefix}key{n}") for n in range(upto)}
    receipts = [(r["send_key"], r["status"]) for _, r in journal.receipts()]
    final = Counter(key for key, status in receipts if status != "not_sent")
    done = Counter(int(who.rpartition("key")[2].rpartition("u")[2]) for who in effects)
    assert set(states.values()) <= {"accepted", "unknown"}, f"not at an end: {states}"
    assert final == {f"{prefix}key{n}": 1 for n in range(upto)}, "one final receipt each"
    assert not [n for n, times in done.items() if times > 1], "sent twice"
    accepted = {n for n, state in states.items() if state == "accepted"}
    assert accepted <= set(done), "accepted, and the vendor does not have it"
    unknown = {f"{prefix}key{n}" for n, state in states.items() if state == "unknown"}
    assert unknown == {i["send_key"] for i, _ in journal.unknown()}, "not all are listed"
    assert unknown == {key for key, status in receipts if status == "unknown"}
    return len(unknown)


def storm(points: int, seed: int, folder: Path) -> Counter[str]:
    """Lives until there were so many crashes; what they were."""
    counts: Counter[str] = Counter()
    life = 0
    while counts["crashes"] < points:
        kind = list(KINDS)[life % len(KINDS)]
        dice = random.Random(f"sends/{seed}/{life}")
        subject = Life(folder / f"sends{life}", kind, dice, counts)
        while subject.upto < MESSAGES:
            is_turn = 2 * counts["answer"] <= counts["crashes"]
            subject.round("answer" if is_turn else dice.choice(OTHERS))
        counts["messages"] += subject.upto
        counts["unknown"] += subject.in_doubt
        counts[f"lives of a vendor that {kind}"] += 1
        subject.line.inside.state.ledger.close()
        life += 1
    return counts
