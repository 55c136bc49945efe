from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from connectors.base import Receipt, Record, Reply, Request, Status, Window
from connectors.calls import FAILURES_IN_A_ROW, Target
from connectors.errors import (
    ConfigurationError,
    CredentialsError,
    NotSentError,
    UnavailableError,
    UnknownOutcomeError,
)
from connectors.limits import Limiter
from connectors.sync import ATTEMPTS, ProfileSync
from tests.connectors.sends import Plain, Vendor


def rows(count: int) -> list[Record]:
    return [Record(f"k{i}", {"external_id": f"u{i}"}, {"tier": "gold"}) for i in range(count)]


def sync(
    vendor: Vendor, records: list[Record], size: int = 10
) -> tuple[ProfileSync, list[Receipt], list[float]]:
    pauses: list[float] = []
    limiter = Limiter(lambda: sum(pauses), pauses.append, jitter=lambda: 1.0)
    run = ProfileSync(Target(Plain(size), vendor), "users", iter(records), limiter, 4)
    return run, list(run), pauses


def test_every_record_gets_one_receipt_in_order() -> None:
    vendor = Vendor()
    run, receipts, _ = sync(vendor, rows(95))
    assert [r.key for r in receipts] == [f"k{i}" for i in range(95)]
    assert {r.status for r in receipts} == {Status.ACCEPTED}
    assert (run.totals.extracted, run.totals.accepted) == (95, 95)
    assert sorted(vendor.got) == sorted(f"u{i}" for i in range(95))


def test_limits_are_counted_under_the_name_that_the_project_gives() -> None:
    clock, ended = [0.0], list[float]()
    limiter = Limiter(lambda: clock[0], lambda s: clock.__setitem__(0, clock[0] + s))
    target = Target(Plain(10, (Window(1, 60.0),)), Vendor())
    for name in ("east", "west", "east"):
        assert len(list(ProfileSync(target, "users", rows(1), limiter, name=name))) == 1
        ended.append(clock[0])
    assert ended == [0.0, 0.0, pytest.approx(60.3)]


def test_nothing_to_do() -> None:
    run, receipts, _ = sync(Vendor(), [])
    assert (receipts, run.totals.extracted, run.stopped) == ([], 0, None)


def lost(error: Exception, calls: int) -> Callable[[Request, int], Reply | None]:
    def fault(request: Request, call: int) -> Reply | None:
        if call <= calls:
            raise error
        return None

    return fault


@pytest.mark.parametrize(
    "fault",
    [
        lost(NotSentError("connection refused"), 2),
        lost(UnknownOutcomeError("no answer in time"), 2),
        lambda _, call: Reply(500, b"") if call <= 2 else None,
        lambda _, call: Reply(429, b"") if call <= 2 else None,
        lambda _, call: Reply(423, b"") if call <= 2 else None,
    ],
)
def test_trouble_is_tried_again_after_a_pause(
    fault: Callable[[Request, int], Reply | None],
) -> None:
    run, receipts, pauses = sync(Vendor(fault), rows(10))
    assert {r.status for r in receipts} == {Status.ACCEPTED}
    assert pauses == [2.0, 4.0]
    assert run.stopped is None


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (NotSentError("connection refused"), Status.SKIPPED, "not sent: connection refused"),
        (UnknownOutcomeError("no answer in time"), Status.UNKNOWN, "no answer in time"),
    ],
)
def test_attempts_are_limited(error: Exception, status: Status, reason: str) -> None:
    vendor = Vendor(lost(error, 99))
    run, receipts, _ = sync(vendor, rows(3))
    assert vendor.calls == ATTEMPTS
    assert {(r.status, r.reason) for r in receipts} == {(status, reason)}
    assert run.totals.extracted == 3


def test_not_being_sent_again_does_not_undo_what_may_have_been_sent() -> None:
    def fault(_: Request, call: int) -> Reply | None:
        raise UnknownOutcomeError("reset") if call == 1 else NotSentError("connection refused")

    _, receipts, _ = sync(Vendor(fault), rows(3))
    assert {(r.status, r.reason) for r in receipts} == {(Status.UNKNOWN, "reset")}


def test_a_dead_server_stops_the_run_soon() -> None:
    vendor = Vendor(lost(NotSentError("connection refused"), 10**9))
    run, receipts, _ = sync(vendor, rows(10_000))
    assert isinstance(run.stopped, UnavailableError)
    assert "connection refused" in str(run.stopped)
    assert vendor.calls <= FAILURES_IN_A_ROW + 4
    assert {r.status for r in receipts} == {Status.SKIPPED}
    assert run.totals.extracted == run.totals.skipped == len(receipts) == 40


def test_a_wrong_key_stops_at_once() -> None:
    vendor = Vendor(lambda *_: Reply(401, b""))
    run, receipts, pauses = sync(vendor, rows(1_000))
    assert isinstance(run.stopped, CredentialsError)
    assert vendor.calls <= 4
    assert not pauses
    assert {r.status for r in receipts} == {Status.SKIPPED}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_batch_is_halved_until_each_row_has_its_verdict(status: int) -> None:
    bad = {f"u{i}" for i in random.Random(3).sample(range(200), 9)}

    def fault(request: Request, _: int) -> Reply | None:
        return Reply(status, b"") if bad & set(request.json["people"]) else None

    vendor = Vendor(fault)
    _, receipts, pauses = sync(vendor, rows(200), size=75)
    rejected = {"u" + r.key[1:] for r in receipts if r.status is Status.REJECTED}
    assert rejected == bad
    assert Counter(vendor.got) == {f"u{i}": 1 for i in range(200) if f"u{i}" not in bad}
    assert not pauses
    assert vendor.calls < 3 + 9 * 2 * 8


def test_unreadable_success_is_halved_but_not_for_ever() -> None:
    vendor = Vendor(lambda *_: Reply(200, b"<html>"))
    run, receipts, _ = sync(vendor, rows(75), size=75)
    assert {r.status for r in receipts} <= {Status.UNKNOWN, Status.SKIPPED}
    assert isinstance(run.stopped, UnavailableError)
    assert vendor.calls <= FAILURES_IN_A_ROW + 1


def test_one_unreadable_answer_costs_nothing() -> None:
    _, receipts, _ = sync(Vendor(lambda _, call: Reply(200, b"") if call == 1 else None), rows(9))
    assert {r.status for r in receipts} == {Status.ACCEPTED}


def test_a_hostile_row_does_not_hold_up_its_batch() -> None:
    records = rows(5)
    records[2] = Record("k2", {"external_id": "a\x00b"}, {})
    _, receipts, _ = sync(Vendor(), records)
    assert [r.status.value for r in receipts] == ["accepted"] * 2 + ["rejected"] + ["accepted"] * 2
    assert "a\x00b" not in receipts[2].reason


def test_an_unknown_stream_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no stream people.*messages, users"):
        ProfileSync(Target(Plain(), Vendor()), "people", [])


@pytest.mark.parametrize("seed", range(8))
def test_the_sum_holds_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)

    def fault(_: Request, __: int) -> Reply | None:
        chance = dice.random()
        if chance < 0.1:
            raise NotSentError("connection refused")
        if chance < 0.2:
            raise UnknownOutcomeError("no answer in time")
        return Reply(dice.choice([200, 400, 429, 500]), b"") if chance < 0.4 else None

    run, receipts, _ = sync(Vendor(fault), rows(300))
    assert [r.key for r in receipts] == [f"k{i}" for i in range(len(receipts))]
    assert run.totals.extracted == len(receipts)
    run.totals.check()
