"""make storm-verdicts: is the verdict on every row the vendor's, whatever it answers?

For each stream of each destination, random batches in which the vendor refuses random rows. In
half of them calls also go wrong on the way: errors, broken and foreign answers, lost ones. Then

- the verdict on each row equals the mask, where nothing went wrong;
- a row is never called a success that the vendor does not have, nor refused one that it took;
- extracted = accepted + rejected + skipped + unknown, one receipt a record.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

from connectors.base import Lane, Receipt, Record, Reply, Request, Status
from connectors.calls import Line, Target
from connectors.destinations import DESTINATIONS, OURS
from connectors.errors import ConnectorError, NotSentError, UnknownOutcomeError
from connectors.limits import Limiter
from connectors.sync import ProfileSync
from tests.connectors.styles import Vendor, record_of, vendor_of

STREAMS = [(name, stream) for name in sorted(OURS) for stream in OURS[name].streams]
LARGEST = 75
PAGE = b"<!DOCTYPE html><p>Welcome"

Post = Callable[[Request], Reply]


def troubled(vendor: Vendor, dice: random.Random, share: float) -> Post:
    """The vendor behind a bad line. What is lost on the way back has had its effect."""

    def post(request: Request) -> Reply:
        if dice.random() >= share:
            return vendor.post(request)
        if dice.random() < 0.5:
            return _without_effect(dice.randrange(5))
        answer = vendor.post(request)
        return _lost(answer, dice)

    return post


def _without_effect(case: int) -> Reply:
    if case == 0:
        raise NotSentError("refused")
    return (
        Reply(429, b""),
        Reply(503, b""),
        Reply(200, PAGE, {"content-type": "text/html"}),
        Reply(302, b""),
    )[case - 1]


def _lost(answer: Reply, dice: random.Random) -> Reply:
    """What is left of an answer on its way back."""
    case = dice.randrange(4)
    if case == 0:
        raise UnknownOutcomeError("reset")
    cut = dice.randrange(len(answer.body) or 1)
    return (
        Reply(500, b""),
        Reply(500, answer.body),
        Reply(answer.status, answer.body[:cut]),
    )[case - 1]


def receipts_of(name: str, stream: str, post: Post, records: list[Record]) -> list[Receipt]:
    """By the loop of the stream's lane; the send lane's without its journal."""
    target = Target(DESTINATIONS[name], post)
    limiter = Limiter(sleep=lambda _: None, jitter=lambda: 0.0)
    limiter.acquire = lambda *_, **__: 0.0  # type: ignore[method-assign]
    if DESTINATIONS[name].streams[stream].lane is Lane.PROFILE:
        sync = ProfileSync(target, stream, records, limiter, in_flight=1)
        receipts = list(sync)
        sync.totals.check()
        seen = {receipt.key for receipt in receipts}
        assert sync.totals.extracted == len(receipts) == len(seen)
        return receipts
    line = Line(name, target, limiter)
    found = line.stream(stream)
    request, refused = line.build(found, records)
    assert request is not None
    try:
        receipts = refused + line.call(found, request)[1]
    except UnknownOutcomeError as error:
        receipts = [Receipt(r.key, Status.UNKNOWN, str(error)) for r in records]
    except ConnectorError as error:
        receipts = [Receipt(r.key, Status.NOT_SENT, str(error)) for r in records]
    assert [receipt.key for receipt in receipts] == [record.key for record in records]
    return receipts


def check(name: str, stream: str, dice: random.Random, *, is_troubled: bool) -> Counter[str]:
    """One mask; AssertionError when a law is broken."""
    found = DESTINATIONS[name].streams[stream]
    size = dice.randint(1, min(LARGEST, found.batch_size))
    records = [record_of(name, stream, i) for i in range(size)]
    share = dice.choice((0.0, 0.1, 0.5, 1.0))
    bad = [record.key for record in records if dice.random() < share]
    vendor = vendor_of(name, stream, bad)
    post = troubled(vendor, dice, dice.choice((0.1, 0.5))) if is_troubled else vendor.post
    verdicts = {r.key: r.status for r in receipts_of(name, stream, post, records)}
    for key, status in verdicts.items():
        _check_row(key, status, vendor, is_troubled)
        if not is_troubled and not _is_refused_with_its_batch(name, stream, status, bad, size):
            wanted = Status.REJECTED if key in bad else Status.ACCEPTED
            assert status is wanted, f"{name} {stream}: {key} is {status}, not {wanted}"
    return Counter(verdicts.values())


def _is_refused_with_its_batch(
    name: str, stream: str, status: Status, bad: list[str], size: int
) -> bool:
    """In the send lane nothing is split within a call: the others of a refused batch wait."""
    is_send = DESTINATIONS[name].streams[stream].lane is Lane.SEND
    return is_send and status is Status.NOT_SENT and bool(bad) and size > 1


def _check_row(key: str, status: Status, vendor: Vendor, is_troubled: bool) -> None:
    if status is Status.ACCEPTED:
        assert vendor.took[key], f"{key} is called a success, and the vendor does not have it"
        assert key not in vendor.bad
    if status is Status.REJECTED:
        assert key in vendor.bad, f"{key} is called refused, and the vendor would take it"
    assert is_troubled or vendor.took[key] <= 1


def storm(masks: int, seed: int, pairs: list[tuple[str, str]]) -> dict[str, Counter[str]]:
    """So many masks a stream; the verdicts by stream."""
    counts: dict[str, Counter[str]] = {}
    for name, stream in pairs:
        dice = random.Random(f"{seed}/{name}/{stream}")
        counted: Counter[str] = Counter()
        for n in range(masks):
            counted += check(name, stream, dice, is_troubled=n % 2 == 1)
        counts[f"{name} {stream}"] = counted
    return counts


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=int, default=10_000, help="a stream")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.process_time()
    for pair in STREAMS:
        for title, counted in storm(arguments.masks, arguments.seed, [pair]).items():
            words = ", ".join(f"{status} {n:,}" for status, n in sorted(counted.items()))
            print(f"{title}: {arguments.masks:,} masks: {words}", flush=True)
    print(
        f"{len(STREAMS)} streams, every verdict the vendor's ({time.process_time() - start:.0f} s)"
    )


if __name__ == "__main__":
    main()
