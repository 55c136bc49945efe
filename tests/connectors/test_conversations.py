"""Work of several calls, quotas of a day, whose turn it is, and keys that may be repeated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.base import Record, Reply, Request, Status, Window
from connectors.calls import Line, Target
from connectors.deliver import SendRun, deliver_sends
from connectors.destinations import OURS
from connectors.errors import (
    CredentialsError,
    NotSentError,
    UnavailableError,
    UnknownOutcomeError,
)
from connectors.journal import Journal
from connectors.limits import Limiter
from connectors.sync import ProfileSync
from tests.connectors.sends import NOW, Plain, Vendor, intent
from tests.connectors.styles import record_of, vendor_of


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def quick() -> Limiter:
    limiter = Limiter(sleep=lambda _: None, jitter=lambda: 0.0)
    limiter.acquire = lambda *_, **__: 0.0  # type: ignore[method-assign]
    return limiter


def people(count: int) -> list[Record]:
    return [record_of("salesforce", "contacts", i) for i in range(count)]


class Salesforce:
    """One org; `lost` are the paths whose answer does not come, `used` what it says of its day."""

    def __init__(self, lost: str = "", used: str = "") -> None:
        self.vendor = vendor_of("salesforce", "contacts", [])
        self.calls: list[str] = []
        self._lost, self._used = lost, used

    def __call__(self, request: Request) -> Reply:
        self.calls.append(f"{request.method} {request.path.rpartition('/v62.0/')[2]}")
        reply = self.vendor.post(request)
        if self._lost and request.path.endswith(self._lost):
            raise UnknownOutcomeError("no answer in time")
        headers = {"sforce-limit-info": f"api-usage={self._used}/15000"} if self._used else {}
        return Reply(reply.status, reply.body, headers)


def sync(org: Salesforce, count: int, share: float = 1.0) -> tuple[ProfileSync, set[Status]]:
    target = Target(OURS["salesforce"], org, share)
    run = ProfileSync(target, "contacts", people(count), quick(), in_flight=1)
    return run, {receipt.status for receipt in run}


def test_two_thousand_go_by_collections_and_more_by_one_bulk_job() -> None:
    few, many = Salesforce(), Salesforce()
    assert sync(few, 2_000)[1] == sync(many, 2_001)[1] == {Status.ACCEPTED}
    assert few.calls == ["PATCH composite/sobjects/Contact/nextmove_id__c"] * 10
    verbs = [call.partition(" ")[0] for call in many.calls]
    assert verbs == ["POST", "PUT", "PATCH", "GET", "GET", "GET"], "state, written, failed"
    assert many.vendor.took.total() == 2_001


def test_a_job_whose_upload_got_no_answer_is_aborted() -> None:
    org = Salesforce(lost="/batches")
    _, statuses = sync(org, 2_001)
    assert statuses == {Status.UNKNOWN}
    uploads = [n for n, call in enumerate(org.calls) if call.startswith("PUT")]
    assert uploads
    assert all(org.calls[n + 1].startswith("PATCH jobs/ingest/J") for n in uploads)


@pytest.mark.parametrize(("share", "calls"), [(0.5, 1), (1.0, 10)])
def test_nothing_more_is_sent_when_its_share_of_the_day_is_used(share: float, calls: int) -> None:
    org = Salesforce(used="8000")
    run, _ = sync(org, 2_000, share)
    assert len(org.calls) == calls
    assert isinstance(run.stopped, UnavailableError) is (calls == 1)
    assert calls > 1 or "53% of the day's calls are used up" in str(run.stopped)
    run.totals.check()


def test_a_used_up_day_is_not_a_wrong_key() -> None:
    body = b'[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"TotalRequests Limit exceeded."}]'
    target = Target(OURS["salesforce"], lambda _: Reply(403, body))
    run = ProfileSync(target, "contacts", people(1), quick())
    assert {r.status for r in run} == {Status.SKIPPED}
    assert isinstance(run.stopped, UnavailableError)


# ---- the send lane ----


def send(
    journal: Journal, target: Target, limiter: Limiter | None = None, name: str = "plain"
) -> SendRun:
    return deliver_sends(journal, {name: target}, lambda *_: None, lambda: NOW, limiter or quick())


def test_a_key_that_slack_refuses_ends_the_run() -> None:
    target = Target(OURS["slack"], lambda _: Reply(200, b'{"ok":false,"error":"token_revoked"}'))
    line = Line("ops", target, quick())
    request, _ = line.build(line.stream("messages"), [record_of("slack", "messages", 0)])
    assert request is not None
    with pytest.raises(CredentialsError, match="token_revoked"):
        line.call(line.stream("messages"), request)
    with pytest.raises(NotSentError):
        line.call(line.stream("messages"), request)


class Keyed(Plain):
    """A vendor that acts once on a key."""

    def __init__(self) -> None:
        super().__init__(1)
        self.streams = {n: replace(s, repeat_s=82_800.0) for n, s in self.streams.items()}


@pytest.mark.parametrize(
    ("answers", "ends", "calls"),
    [
        (["lost", "ok"], "accepted", 2),
        (["lost", "lost", "ok"], "accepted", 3),
        (["lost", "lost", "lost", "ok"], "unknown", 3),
        (["500", "ok"], "accepted", 2),
        (["lost", "400"], "unknown", 3),
        (["lost", "refused"], "unknown", 3),
        (["400"], "rejected", 1),
    ],
)
def test_a_key_that_may_be_repeated_is_and_only_an_acceptance_is_believed(
    answers: list[str], ends: str, calls: int, journal: Journal
) -> None:
    made = 0

    def post(_: Request) -> Reply:
        nonlocal made
        answer = answers[min(made, len(answers) - 1)]
        made += 1
        if answer == "lost":
            raise UnknownOutcomeError("no answer in time")
        if answer == "refused":
            raise NotSentError("connection refused")
        return Reply(200, b"ok") if answer == "ok" else Reply(int(answer), b"")

    journal.add([intent(1)])
    send(journal, Target(Keyed(), post))
    assert (journal.state("key1"), made) == (ends, calls)


def test_who_somebody_waits_for_goes_first_and_has_a_reserve(journal: Journal) -> None:
    vendor = Vendor()
    journal.add(intent(i, is_promotional=True) for i in range(20))
    journal.add(intent(i, is_promotional=False) for i in range(20, 25))
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    limiter = Limiter(lambda: now[0], sleep, lambda: now[0], lambda: 0.0)
    windows = (Window(5, 1_000.0), Window(100, 2_000.0))
    destination = Plain(batch_size=5, windows=windows)
    run = send(journal, Target(destination, vendor), limiter)
    assert vendor.got[:5] == [f"u{i}" for i in range(20, 25)]
    assert vendor.calls == 4, "promotions leave the fifth call of the window free"
    assert (run.totals.accepted, run.waiting) == (20, 5)
