"""People who are easily found again: whatever a vendor echoes, nothing of them is in what we keep.

Vendors quote what they were sent in all kinds of answers, another row of the batch included.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from connectors.base import Receipt, Record, Reply, Request, Status
from connectors.calls import Line, Target
from connectors.destinations import OURS
from connectors.errors import ConnectorError
from connectors.limits import Limiter
from connectors.reasons import LONGEST, without_values
from tests.connectors.styles import record_of

STREAMS = [
    (name, stream)
    for name in sorted(OURS)
    for stream in OURS[name].streams
    if name != "hot_store"  # our own service, which has the data by right
]
ECHOES = 28
MARKS = ("canary", "910771", "4915770")


def canary(name: str, stream: str, i: int) -> Record:
    """A record of somebody with a mark in everything that is theirs."""
    plain = record_of(name, stream, i)
    theirs = {
        "external_id": f"canary-user-{i}",
        "email": f"canary.mail{i}@example.com",
        "contact_id": f"910771{i}",
        "slack_channel": "C00000001",
    }
    about = {
        "first_name": f"Canaryfirst{i}",
        "last_name": f"van der Canary {i}",
        "phone": f"+4915770{i:05}",
        "mobile": 4915770000000 + i,
        "tags": [f"canarytag{i}"],
    }
    if plain.fields.get("text"):
        about["text"] = f"Canaryfirst{i} said hello"
    identity = {kind: theirs[kind] for kind in plain.identity}
    return Record(f"canary-key-{i}", identity, {**plain.fields, **about})


def echoes(request: Request) -> Iterator[Reply]:
    """The answers of vendors that quote."""
    sent = json.dumps(request.json) if request.body is None else request.body.decode()
    people = "; ".join(str(dict(r.identity)) + str(dict(r.fields)) + r.key for r in request.records)
    said = f"cannot take {people} of {sent}"
    errors = [
        {"message": said, "type": said, "index": i, "category": said, "code": said}
        | {"statusCode": "BAD", "errorCode": said, "reason": said, "id": i}
        | {"context": {"objectWriteTraceId": [str(i)]}}
        for i in range(len(request.records))
    ]
    whole = {"message": said, "msg": said, "error": said, "code": said, "category": said}
    results = [{"success": False, "errors": errors[:1]} for _ in request.records]
    bodies = (whole, {**whole, "errors": errors}, errors, results, said, f"<html>{said}</html>")
    for status in (200, 207, 400, 422):
        yield from (Reply(status, json.dumps(body).encode()) for body in bodies)
    for status in (401, 404, 429, 500):
        yield Reply(status, json.dumps(whole).encode())


def told(name: str, stream: str, post: Callable[[Request], Reply]) -> str:
    """Everything that is kept or said of a call for two people, or for one."""
    clock, destination = [0.0], OURS[name]
    limiter = Limiter(lambda: clock[0], lambda s: clock.__setitem__(0, clock[0] + s))
    line = Line(name, Target(destination, post), limiter)
    size = min(2, destination.streams[stream].batch_size)
    records = [canary(name, stream, i) for i in range(1, size + 1)]
    request, refused = line.build(line.stream(stream), records)
    assert request is not None
    assert not refused
    said = ""
    try:
        _, receipts = line.call(line.stream(stream), request)
        said = str([(receipt.reason, receipt.vendor_ref) for receipt in receipts])
    except ConnectorError as error:
        said = repr(error)
    return f"{said} {line.error} {line.error!r}"


@pytest.mark.parametrize(("name", "stream"), STREAMS)
def test_nothing_of_anybody_is_kept_of_what_a_vendor_quotes(
    name: str, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return next(islice(echoes(request), len(said), None))

    said: list[str] = []
    while len(said) < ECHOES:
        said.append(told(name, stream, answer))
    found = " ".join(said) + caplog.text
    assert len(asked) >= ECHOES
    assert "cannot take" in found or name == "webhook" or "bulk" in stream
    assert not [mark for mark in MARKS if mark in found.lower()]


def test_a_reason_loses_values_and_no_other_words() -> None:
    fields: dict[str, Any] = {"first_name": "Ann", "tier": "tier", "orders": 400, "n": None}
    records = [
        Record("u1", {"external_id": "u1"}, fields),
        Record("u22", {"external_id": "u22", "email": "a.b@example.com"}, {"city": "Sankt Ann"}),
    ]
    said = "HTTP 400: ANN of sankt ann (U22, u223) has a bad tier; Annex"
    long = "x" * (LONGEST - 2) + " u22 and more"
    reasons = (said, "", long)
    first, second, third = without_values(
        records, [Receipt("u1", Status.REJECTED, reason) for reason in reasons]
    )
    assert first.reason == "HTTP 400: <value> of <value> (<value>, u223) has a bad tier; Annex"
    assert second.reason == ""
    assert third.reason == "x" * (LONGEST - 2) + " <", "no part of a value is left at the end"
