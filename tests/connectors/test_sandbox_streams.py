"""Every stream of every vendor over real HTTP: what the destination says, against the ledger.

The sandbox was written from the vendors' documents and shares no code with the destinations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.base import Lane, Receipt, Record, Status
from connectors.calls import Line, connected
from connectors.destinations import OURS
from connectors.limits import Limiter
from connectors.sandbox.app import WEBHOOK_SECRET
from connectors.sync import ProfileSync
from tests.connectors.styles import record_of
from tests.sandbox_process import Sandbox, running_sandbox

STREAMS = [
    (name, stream)
    for name in sorted(OURS)
    for stream in OURS[name].streams
    if name not in ("hot_store",) and stream not in ("contacts_in_bulk", "tasks_in_bulk")
]
NEW_CONTACT = {"last_name": "O'Brien", "tier": 'gold, "best"\nof all'}
FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ("salesforce", "contacts"): NEW_CONTACT,
    ("hubspot", "notes"): {"hs_note_body": "b", "hs_timestamp": "2026-03-01T09:00:00Z"},
    ("hubspot", "tasks"): {"hs_task_subject": "s", "hs_timestamp": "2026-03-01T09:00:00Z"},
}
"""What a vendor asks for beyond the columns of `styles`."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), "--limit-divisor", "0.001") as running:
        yield running


def key_of(name: str) -> str:
    return WEBHOOK_SECRET if name == "webhook" else f"sandbox-{name}-key"


def send(sandbox: Sandbox, name: str, stream: str, records: list[Record]) -> list[Receipt]:
    limiter = Limiter(sleep=lambda _: None)
    limiter.acquire = lambda *_, **__: 0.0  # type: ignore[method-assign]
    path = "webhook/in" if name == "webhook" else name
    with connected(OURS[name], f"{sandbox.url}/{path}", key_of(name)) as target:
        if OURS[name].streams[stream].lane is Lane.PROFILE:
            return list(ProfileSync(target, stream, records, limiter, in_flight=1))
        line = Line(name, target, limiter)
        request, _ = line.build(line.stream(stream), records)
        assert request is not None
        return line.call(line.stream(stream), request)[1]


def records(name: str, stream: str, count: int) -> list[Record]:
    made = [record_of(name, stream, i) for i in range(count)]
    extra = FIELDS.get((name, stream), {})
    prefix = f"{stream}-" if name == "webhook" else ""  # a receiver takes each id once
    return [Record(prefix + r.key, r.identity, {**r.fields, **extra}) for r in made]


@pytest.mark.parametrize(("name", "stream"), STREAMS)
def test_what_is_accepted_is_there(name: str, stream: str, sandbox: Sandbox) -> None:
    if stream == "deletions":
        send(sandbox, name, "users", records(name, "users", 3))
    before = len(sandbox.ledger(name))
    given = records(name, stream, min(3, OURS[name].streams[stream].batch_size))
    receipts = send(sandbox, name, stream, given)
    assert {r.status for r in receipts} == {Status.ACCEPTED}, receipts
    effects = [e for e in sandbox.ledger(name)[before:] if e["kind"] != "association"]
    assert len(effects) == len(given)


@pytest.mark.parametrize(("name", "stream"), STREAMS)
def test_who_is_refused_is_not_there(name: str, stream: str, sandbox: Sandbox) -> None:
    if (name, stream) == ("braze", "deletions"):
        return  # there is nothing to refuse
    before = len(sandbox.ledger(name))
    sandbox.control("faults", vendor=name, kind="reject", share=1.0)
    try:
        receipts = send(sandbox, name, stream, records(name, stream, 1))
    finally:
        sandbox.control("faults", vendor=name, kind="reject")
    assert [r.status for r in receipts] == [Status.REJECTED]
    assert [e for e in sandbox.ledger(name)[before:] if e["kind"] != "association"] == []


def test_many_go_to_salesforce_by_a_bulk_job(sandbox: Sandbox) -> None:
    stream = "contacts"
    before = len(sandbox.ledger("salesforce"))
    given = records("salesforce", stream, 2_001)
    bad = Record("bad", {"external_id": "bad", "email": "no address"}, {"email": "no address"})
    receipts = send(sandbox, "salesforce", stream, [*given, bad])
    counted = {r.key: r.status for r in receipts}
    assert counted.pop("bad") is Status.REJECTED
    assert set(counted.values()) == {Status.ACCEPTED}
    effects = sandbox.ledger("salesforce")[before:]
    assert len({e["external_id"] for e in effects}) == len(effects) == 2_001
    assert effects[0]["properties"]["tier__c"] == NEW_CONTACT["tier"]


def test_a_transactional_message_is_sent_once_however_often_it_is_asked_for(
    sandbox: Sandbox,
) -> None:
    before = len(sandbox.ledger("braze"))
    record = [Record("once", {"external_id": "u0"}, {"campaign_id": "tx", "channel": "email"})]
    refs = {send(sandbox, "braze", "transactional_messages", record)[0].vendor_ref for _ in "123"}
    assert len(refs) == 1
    assert len(sandbox.ledger("braze")) == before + 1


def test_a_forged_webhook_is_refused(sandbox: Sandbox) -> None:
    body = b'{"type":"x","data":{}}'
    headers = {"webhook-id": "1", "webhook-timestamp": "1772355600", "webhook-signature": "v1,x"}
    url = f"{sandbox.url}/webhook/in"
    assert sandbox.session.post(url, data=body, headers=headers, timeout=10).status_code == 401
