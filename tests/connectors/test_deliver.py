from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import pytest

from connectors import journal as journal_module
from connectors.base import LATER, Reply, Request, SendGate, Window
from connectors.calls import FAILURES_IN_A_ROW, Target
from connectors.deliver import ATTEMPTS, CALLS, IN_FLIGHT, SendRun, deliver_sends
from connectors.destinations.hubspot import HubSpot
from connectors.errors import (
    AddressError,
    ConfigurationError,
    CredentialsError,
    NotSentError,
    UnavailableError,
    UnknownOutcomeError,
)
from connectors.framed import segments
from connectors.journal import Journal
from connectors.limits import Limiter
from tests.connectors.sends import NOW, Plain, Vendor, intent


def open_gate(_: Mapping[str, Any], __: datetime) -> str | None:
    return None


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as journal:
        yield journal


def deliver(
    journal: Journal,
    vendor: Callable[[Request], Reply],
    gate: SendGate = open_gate,
    limiter: Limiter | None = None,
    destination: Plain | HubSpot | None = None,
    now: Callable[[], datetime] = lambda: NOW,
) -> SendRun:
    targets = {"plain": Target(destination or Plain(), vendor)}
    return deliver_sends(journal, targets, gate, now, limiter)


def statuses(journal: Journal) -> dict[str, int]:
    return {state: count for state, count in journal.counts().items() if count}


def test_every_due_intent_is_sent_once(journal: Journal) -> None:
    vendor = Vendor()
    journal.add(intent(i) for i in range(95))
    journal.add([intent(95, send_at=(NOW + timedelta(minutes=1)).isoformat())])
    run = deliver(journal, vendor)
    assert sorted(vendor.got) == sorted(f"u{i}" for i in range(95))
    assert sorted(vendor.sizes) == [5, *[10] * 9]
    assert (run.totals.extracted, run.totals.accepted, run.waiting) == (95, 95, 0)
    assert not run.stopped
    again = deliver(journal, vendor)
    assert (again.totals.extracted, vendor.calls) == (0, 10)
    refs = {row["vendor_ref"] for _, row in journal.receipts()}
    assert refs == {"ref"}


def test_messages_of_different_campaigns_and_channels_never_share_a_request(
    journal: Journal,
) -> None:
    seen: list[set[tuple[str, str]]] = []

    def vendor(request: Request) -> Reply:
        seen.append({(r.fields["campaign_id"], r.fields["channel"]) for r in request.records})
        return Reply(200, b"ok")

    journal.add(
        intent(i, campaign_id=str(i % 3), channel="sms" if i % 2 else "email") for i in range(60)
    )
    run = deliver(journal, vendor)
    assert run.totals.accepted == 60
    assert all(len(kinds) == 1 for kinds in seen)


def test_the_vendor_sees_the_message_and_how_to_address_it(journal: Journal) -> None:
    seen: list[Request] = []

    def vendor(request: Request) -> Reply:
        seen.append(request)
        return Reply(200, b"ok")

    journal.add([intent(1)])
    deliver(journal, vendor)
    (record,) = seen[0].records
    assert record.key == "key1"
    assert record.identity == {"external_id": "u1"}
    assert record.fields == {
        "creative": "welcome",
        "campaign_id": "7",
        "channel": "email",
        "decision_id": "d1",
    }


# ---- the gate ----


def test_what_the_gate_refuses_is_skipped_with_its_reason(journal: Journal) -> None:
    vendor = Vendor()
    journal.add(intent(i) for i in range(30))
    run = deliver(journal, vendor, lambda i, _: "no_consent" if i["customer_id"] > "c2" else None)
    assert run.totals.skipped == len([i for i in range(30) if f"c{i}" > "c2"])
    assert run.totals.accepted == 30 - run.totals.skipped
    reasons = Counter(row["reason"] for _, row in journal.receipts())
    assert reasons["no_consent"] == run.totals.skipped


def test_what_the_gate_puts_off_waits_for_the_next_run(journal: Journal) -> None:
    vendor = Vendor()
    journal.add(intent(i) for i in range(3))
    run = deliver(journal, vendor, lambda i, _: LATER if i["send_key"] == "key1" else None)
    assert (run.totals.extracted, run.totals.accepted, run.waiting) == (2, 2, 1)
    assert journal.state("key1") == "intent"
    assert deliver(journal, vendor).totals.accepted == 1


def test_expired_intents_are_skipped_without_asking(journal: Journal) -> None:
    asked: list[str] = []
    journal.add([intent(1, expires_at=NOW.isoformat()), intent(2)])
    run = deliver(journal, Vendor(), lambda i, _: asked.append(i["send_key"]))
    assert (run.totals.skipped, run.totals.accepted, asked) == (1, 1, ["key2"])
    assert [r["reason"] for _, r in journal.receipts() if r["status"] == "skipped"] == ["expired"]


def test_a_cap_of_one_holds_within_a_single_run(journal: Journal) -> None:
    def cap(i: Mapping[str, Any], now: datetime) -> str | None:
        recent = journal.recent_sends(i["customer_id"], now - timedelta(days=1))
        return "frequency_cap" if recent else None

    vendor = Vendor()
    journal.add(intent(i, customer_id=f"c{i % 7}", external_id=f"u{i % 7}") for i in range(70))
    run = deliver(journal, vendor, cap)
    assert Counter(vendor.got) == {f"u{i}": 1 for i in range(7)}
    assert (run.totals.accepted, run.totals.skipped) == (7, 63)


def test_several_messages_for_one_customer_all_leave_in_order_of_time(journal: Journal) -> None:
    sent: list[str] = []

    def vendor(request: Request) -> Reply:
        sent.extend(record.key for record in request.records)
        return Reply(200, b"ok")

    times = [(NOW - timedelta(hours=9 - i)).isoformat() for i in range(8)]
    journal.add(intent(i, customer_id="c", send_at=at) for i, at in enumerate(times))
    run = deliver(journal, vendor)
    assert sent == [f"key{i}" for i in range(8)]
    assert run.totals.accepted == 8


def test_a_kill_switch_takes_hold_in_the_middle_of_a_run(journal: Journal) -> None:
    vendor = Vendor()
    journal.add(intent(i) for i in range(200))
    run = deliver(journal, vendor, lambda *_: "kill_switch" if vendor.calls else None)
    assert run.totals.accepted == IN_FLIGHT
    assert run.totals.skipped == 200 - IN_FLIGHT


def test_a_gate_that_fails_lets_nothing_through(journal: Journal) -> None:
    def gate(_: Mapping[str, Any], __: datetime) -> str | None:
        raise LookupError("store is down")

    vendor = Vendor()
    journal.add([intent(1)])
    with pytest.raises(LookupError):
        deliver(journal, vendor, gate)
    assert (vendor.calls, statuses(journal)) == (0, {"intent": 1})


def test_after_a_wait_for_the_rate_limit_the_gate_is_asked_again(journal: Journal) -> None:
    time = [0.0]

    def sleep(seconds: float) -> None:
        time[0] += seconds

    limiter = Limiter(clock=lambda: time[0], sleep=sleep)
    vendor = Vendor()
    journal.add(intent(i) for i in range(6))
    destination = Plain(1, (Window(2, 60),))
    run = deliver(
        journal, vendor, lambda *_: "too_late" if time[0] > 59 else None, limiter, destination
    )
    # One has its place at once; the others wait for theirs, and meanwhile sending has become wrong.
    assert vendor.calls == 1
    assert run.totals.skipped == 5


# ---- records that cannot be sent ----


def test_a_hostile_identifier_is_rejected_before_the_call(journal: Journal) -> None:
    vendor = Vendor()
    journal.add([intent(1, external_id="a\r\nBcc: b"), intent(2)])
    run = deliver(journal, vendor)
    assert (run.totals.rejected, run.totals.accepted, vendor.got) == (1, 1, ["u2"])


def test_a_batch_refused_as_a_whole_is_sent_one_by_one(journal: Journal) -> None:
    def fault(request: Request, _: int) -> Reply | None:
        return Reply(400, b"bad") if "u3" in request.json["people"] else None

    vendor = Vendor(fault)
    journal.add(intent(i) for i in range(20))
    run = deliver(journal, vendor)
    assert sorted(vendor.got) == sorted(f"u{i}" for i in range(20) if i != 3)
    assert (run.totals.accepted, run.totals.rejected) == (19, 1)
    assert journal.state("key3") == "rejected"


# ---- failures ----


def raising(error: Exception) -> Callable[[Request, int], Reply | None]:
    def fault(request: Request, call: int) -> Reply | None:
        raise error

    return fault


def test_a_lost_answer_is_unknown_and_never_sent_again(journal: Journal) -> None:
    def fault(request: Request, call: int) -> Reply | None:
        if call == 1:
            raise UnknownOutcomeError("no answer in time")
        return None

    vendor = Vendor(fault)
    journal.add(intent(i) for i in range(30))
    run = deliver(journal, vendor)
    assert (run.totals.unknown, run.totals.accepted) == (10, 20)
    deliver(journal, vendor)
    assert vendor.calls == 3


@pytest.mark.parametrize("second", [400, 403, 404, 429, 500, NotSentError("refused")])
def test_what_a_first_call_has_told_a_rep_is_not_unsaid_by_the_second(
    journal: Journal, second: int | NotSentError
) -> None:
    """The task is there: that it was not put on its contact is no reason to ask about it anew."""
    tasks: list[str] = []

    def vendor(request: Request) -> Reply:
        if "objects" in request.path:
            tasks.append(request.json["inputs"][0]["id"])
            body = {"results": [{"id": "7", "objectWriteTraceId": "0"}]}
            return Reply(200, msgspec.json.encode(body))
        if isinstance(second, NotSentError):
            raise second
        return Reply(second, b"{}")

    journal.add(
        [intent(1, channel="rep", known_as={"contact_id": "101"}, fields={"subject": "Call"})]
    )
    run = deliver(journal, vendor, limiter=Limiter(sleep=lambda _: None), destination=HubSpot())
    assert (run.totals.unknown, run.waiting) == (1, 0)
    assert set(tasks) == {"key1"}
    assert [row["status"] for _, row in journal.receipts()] == ["unknown"]


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_in_the_send_lane_is_unknown(journal: Journal, status: int) -> None:
    vendor = Vendor(lambda _, call: Reply(status, b"") if call == 1 else None)
    journal.add([intent(1)])
    assert deliver(journal, vendor).totals.unknown == 1
    assert deliver(journal, vendor).totals.extracted == 0


def test_a_dead_server_costs_one_clear_error_and_no_message(journal: Journal) -> None:
    vendor = Vendor(raising(NotSentError("connection refused")))
    journal.add(intent(i) for i in range(500))
    run = deliver(journal, vendor)
    assert statuses(journal) == {"intent": 500}
    assert run.waiting == 500
    assert run.totals.extracted == 0
    assert isinstance(run.stopped["plain"], UnavailableError)
    assert "connection refused" in str(run.stopped["plain"])
    assert vendor.calls <= FAILURES_IN_A_ROW + 4
    assert deliver(journal, Vendor()).totals.accepted == 500


def test_the_circuit_opens_after_failures_in_a_row_only(journal: Journal) -> None:
    def fault(_: Request, call: int) -> Reply | None:
        return Reply(500, b"") if call % 3 else None

    journal.add(intent(i) for i in range(300))
    run = deliver(journal, Vendor(fault))
    assert not run.stopped
    assert (run.totals.unknown, run.totals.accepted) == (200, 100)


def test_answers_without_evidence_open_the_circuit(journal: Journal) -> None:
    vendor = Vendor(lambda *_: Reply(200, b"<html>Please log in</html>"))
    journal.add(intent(i) for i in range(500))
    run = deliver(journal, vendor)
    assert isinstance(run.stopped["plain"], UnavailableError)
    assert run.totals.unknown == 10 * vendor.calls
    assert vendor.calls <= FAILURES_IN_A_ROW + 3


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, CredentialsError), (403, CredentialsError), (404, AddressError), (301, AddressError)],
)
def test_a_wrong_key_or_url_stops_at_once_and_leaves_the_intents(
    journal: Journal, status: int, error: type[Exception]
) -> None:
    vendor = Vendor(lambda *_: Reply(status, b'{"message":"Invalid API Key"}'))
    journal.add(intent(i) for i in range(500))
    run = deliver(journal, vendor)
    assert isinstance(run.stopped["plain"], error)
    assert vendor.calls <= 4
    assert statuses(journal) == {"intent": 500}


def test_too_many_requests_wait_as_told_and_go_again(journal: Journal) -> None:
    waits: list[float] = []
    time = [0.0]

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time[0] += seconds

    limiter = Limiter(clock=lambda: time[0], sleep=sleep)
    vendor = Vendor(lambda _, call: Reply(429, b"", {"retry-after": "7"}) if call == 1 else None)
    journal.add(intent(i) for i in range(10))
    run = deliver(journal, vendor, limiter=limiter)
    assert (run.totals.accepted, waits) == (10, [7.0])


def test_a_rate_limit_that_stays_shut_ends_the_run(journal: Journal) -> None:
    vendor = Vendor(lambda *_: Reply(429, b"", {"retry-after": "86400"}))
    journal.add(intent(i) for i in range(100))
    run = deliver(journal, vendor)
    assert isinstance(run.stopped["plain"], UnavailableError)
    assert statuses(journal) == {"intent": 100}
    assert vendor.calls <= CALLS


def test_at_most_three_attempts_in_a_run(journal: Journal) -> None:
    limiter = Limiter(sleep=lambda _: None, clock=iter(range(0, 10**9, 1000)).__next__)
    vendor = Vendor(lambda *_: Reply(429, b""))
    journal.add([intent(1)])
    run = deliver(journal, vendor, limiter=limiter)
    assert (vendor.calls, run.waiting) == (ATTEMPTS, 1)


def test_one_destination_in_trouble_does_not_hold_up_another(journal: Journal) -> None:
    good, bad = Vendor(), Vendor(lambda *_: Reply(401, b""))
    journal.add(intent(i, destination="good" if i % 2 else "bad") for i in range(100))
    targets = {"good": Target(Plain(), good), "bad": Target(Plain(), bad)}
    run = deliver_sends(journal, targets, open_gate, lambda: NOW)
    assert (run.totals.accepted, run.waiting, list(run.stopped)) == (50, 50, ["bad"])


@pytest.mark.parametrize(
    ("changes", "names"), [({"destination": "brase"}, "plain"), ({"stream": "mails"}, "messages")]
)
def test_an_intent_for_nowhere_waits_and_says_what_there_is(
    journal: Journal, changes: dict[str, str], names: str
) -> None:
    journal.add([intent(1, **changes), intent(2)])
    run = deliver(journal, Vendor())
    (error,) = run.stopped.values()
    assert isinstance(error, ConfigurationError)
    assert names in str(error)
    assert (run.totals.accepted, run.waiting) == (1, 1)


def test_what_a_power_cut_would_leave_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only synced bytes count: before each call they say `sending`, at the end everything."""
    synced: dict[int, int] = {}
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        real(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 4_000)
    copies = count()

    def after_a_power_cut() -> Journal:
        copy = tmp_path / f"copy{next(copies)}"
        copy.mkdir()
        for segment in segments(tmp_path / "journal"):
            safe = synced.get(segment.stat().st_ino, 0)
            (copy / segment.name).write_bytes(segment.read_bytes()[:safe])
        return Journal.open(copy)

    def vendor(request: Request) -> Reply:
        with lock, after_a_power_cut() as journal:
            assert {journal.state(record.key) for record in request.records} == {"unknown"}
        return Reply(200, b"ok")

    lock = Lock()
    with Journal.open(tmp_path / "journal") as journal:
        journal.add(intent(i) for i in range(60))
        deliver(journal, vendor)
        with after_a_power_cut() as left:
            assert left.counts()["accepted"] == 60


def test_a_target_never_shows_its_key() -> None:
    class Post:
        def __repr__(self) -> str:
            return "secret"

        def __call__(self, request: Request) -> Reply:
            raise AssertionError

    assert "secret" not in repr(Target(Plain(), Post()))
