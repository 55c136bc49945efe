"""Laws, golden requests and replies, and random partial failures of every destination."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Destination, Lane, Receipt, Record, Reply, Request, Status
from connectors.destinations import DESTINATIONS
from connectors.errors import RefusedRecordError
from connectors.testing import check_destination
from tests.connectors.storm_verdicts import storm
from tests.connectors.styles import record_of

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.with_suffix("").with_suffix("") for path in GOLDEN.glob("*/*/*.records.json"))
STREAMS = [(name, stream) for name, d in sorted(DESTINATIONS.items()) for stream in d.streams]


def load(case: Path, kind: str) -> Any:
    return json.loads(case.with_suffix(f".{kind}.json").read_text())


@pytest.mark.parametrize(("name", "stream"), STREAMS)
def test_laws(name: str, stream: str) -> None:
    success = next(c for c in CASES if c.parent == GOLDEN / name / stream and "success" in c.name)
    check_destination(DESTINATIONS[name], stream, [Record(**r) for r in load(success, "records")])


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.relative_to(GOLDEN)))
def test_golden(case: Path) -> None:
    destination, stream = DESTINATIONS[case.parts[-3]], case.parts[-2]
    records = [Record(**record) for record in load(case, "records")]
    replies = load(case, "reply")
    replies = replies if isinstance(replies, list) else [replies]
    sent, receipts = converse(destination, stream, records, list(map(reply_of, replies)))
    wanted = load(case, "request")
    assert sent == (wanted if isinstance(wanted, list) else [wanted])
    expected = [{"http_status": replies[-1]["status"], **r} for r in load(case, "receipts")]
    assert [vars(receipt) for receipt in receipts] == expected


def reply_of(reply: Any) -> Reply:
    """A body that is text is sent as it is, anything else as JSON."""
    body = reply["body"]
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(reply["status"], text.encode(), reply.get("headers", {}))


def converse(
    destination: Destination, stream: str, records: Sequence[Record], replies: Sequence[Reply]
) -> tuple[list[dict[str, Any]], list[Receipt]]:
    """What is sent, call by call, as the replies come in; and the verdicts in the end."""
    follow = destination.streams[stream].follow
    request: Request | None = destination.build(stream, records)
    sent = []
    for n, reply in enumerate(replies, start=1):
        assert request is not None, f"no call after reply {n - 1}"
        sent.append(call_of(request))
        last, request = request, follow(request, reply) if follow else None
    assert request is None, "one more call is to be made"
    return sent, destination.parse(last, replies[-1])


def call_of(request: Request) -> dict[str, Any]:
    """A request as golden files have it."""
    call = {"method": request.method, "path": request.path, "json": request.json}
    extra = {
        "headers": dict(request.headers),
        "body": request.body.decode() if request.body is not None else "",
        "wait_s": request.wait_s,
    }
    return call | {name: value for name, value in extra.items() if value}


def test_send_lane_batches_are_small() -> None:
    sizes = [
        stream.batch_size
        for destination in DESTINATIONS.values()
        for stream in destination.streams.values()
        if stream.lane is Lane.SEND
    ]
    assert max(sizes) <= 10


# ---- random partial failures: the verdicts equal the mask ----


@pytest.mark.parametrize(("name", "stream"), STREAMS)
def test_verdicts_are_the_vendors(name: str, stream: str) -> None:
    """A thin slice of `make storm-verdicts`."""
    counted = storm(masks=40, seed=7, pairs=[(name, stream)])[f"{name} {stream}"]
    assert counted[Status.ACCEPTED]
    assert counted[Status.REJECTED]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 80) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "errors",
                    "index",
                    "input_array",
                    "type",
                    "results",
                    "id",
                    "objectWriteTraceId",
                    "context",
                    "properties",
                    "email",
                    "successCount",
                    "failedUpdates",
                    "invalidEmails",
                    "params",
                    "code",
                    "success",
                    "ok",
                    "status",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@pytest.mark.parametrize(("name", "stream"), STREAMS)
@settings(max_examples=60, deadline=None)
@given(
    body=st.dictionaries(st.text(max_size=4), JSON, max_size=2) | JSON,
    status=st.sampled_from([200, 207, 400]),
)
def test_any_json_gets_one_receipt_per_record(
    name: str, stream: str, body: Any, status: int
) -> None:
    destination = DESTINATIONS[name]
    count = min(3, destination.streams[stream].batch_size)
    records = [record_of(name, stream, i) for i in range(count)]
    request = destination.build(stream, records)
    receipts = destination.parse(request, Reply(status, json.dumps(body).encode()))
    assert [r.key for r in receipts] == [r.key for r in request.records]
    if status == 400 or (name == "braze" and stream != "transactional_messages"):
        assert all(r.status is not Status.ACCEPTED for r in receipts)


# ---- values ----


def attributes(fields: dict[str, Any]) -> dict[str, Any]:
    record = Record("k", {"external_id": "u"}, fields)
    entry: dict[str, Any] = DESTINATIONS["braze"].build("users", [record]).json["attributes"][0]
    return entry


def test_values_become_json() -> None:
    fields = {
        "at": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        "naive": datetime(2026, 3, 1, 9, 30),
        "day": date(2026, 3, 1),
        "amount": Decimal("1.50"),
        "nothing": None,
        "nan": float("nan"),
        "external_id": "somebody else",
    }
    assert attributes(fields) == {
        "at": "2026-03-01T09:30:00Z",
        "naive": "2026-03-01T09:30:00Z",
        "day": "2026-03-01",
        "amount": 1.5,
        "external_id": "u",
    }


@pytest.mark.parametrize(
    "hostile", ["{{unsubscribe_url}}", "%%x%%", "*|FNAME|*", "a\r\nb", "\u202e"]
)
def test_template_delimiters_travel_as_data_only(hostile: str) -> None:
    for name, stream in STREAMS:
        record = record_of(name, stream, 0)
        record = Record(record.key, record.identity, {**record.fields, "first_name": hostile})
        request = DESTINATIONS[name].build(stream, [record])
        assert hostile not in request.path
        assert (hostile in list(_leaves(request.json))) == ((name, stream) in CARRIERS)


CARRIERS = {
    *(("braze", s) for s in ("users", "catalog_items")),
    *(("braze", s) for s in ("messages", "canvas_messages", "transactional_messages")),
    *(("iterable", s) for s in ("users", "events", "catalog_items", "messages")),
    *(("hubspot", s) for s in ("contacts", "notes", "tasks")),
    *(("hot_store", s) for s in ("store", "profiles", "policies")),
    *(("salesforce", s) for s in ("contacts", "tasks")),
    *(("webhook", s) for s in ("events", "messages")),
}
"""Streams whose JSON has columns of any name; Salesforce's bulk jobs have them in a table."""


def _leaves(value: Any) -> Any:
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            yield from _leaves(child)
    else:
        yield value


def refusal(destination: Destination, stream: str, fields: dict[str, Any]) -> str:
    record = Record("k", {"external_id": "u"}, fields)
    with pytest.raises(RefusedRecordError) as caught:
        destination.build(stream, [record])
    return caught.value.reason


def test_messages_that_cannot_be_addressed_are_refused() -> None:
    iterable, braze = DESTINATIONS["iterable"], DESTINATIONS["braze"]
    fields = {"campaign_id": "7", "channel": "email"}
    assert "channel" in refusal(iterable, "messages", {**fields, "channel": "../users/delete"})
    assert "campaign_id" in refusal(iterable, "messages", {**fields, "campaign_id": "7; --"})
    assert "campaign_id" in refusal(braze, "messages", {"channel": "email"})
    assert "event_name" in refusal(iterable, "events", {})
    direct = {"campaign_id": "app", "subject": "s", "body": "b"}
    assert "e-mail and push" in refusal(braze, "direct_messages", {**direct, "channel": "sms"})
    assert "no body" in refusal(
        braze, "direct_messages", {**direct, "channel": "email", "body": ""}
    )


def test_braze_refuses_two_campaigns_in_one_request() -> None:
    records = [Record(c, {"external_id": c}, {"campaign_id": c}) for c in ("a", "b")]
    with pytest.raises(ValueError, match="same campaign_id"):
        DESTINATIONS["braze"].build("messages", records)


def test_iterable_event_id_is_the_key_and_time_is_epoch() -> None:
    at = datetime(2026, 3, 1, 9)
    fields = {"event_name": "moved", "created_at": at, "tier": "gold"}
    record = Record("k" * 512, {"email": "p@example.com"}, fields)
    event = DESTINATIONS["iterable"].build("events", [record]).json["events"][0]
    assert event == {
        "email": "p@example.com",
        "eventName": "moved",
        "id": "k" * 512,
        "createdAt": 1772355600,
        "dataFields": {"tier": "gold"},
    }
    with pytest.raises(RefusedRecordError, match="512"):
        DESTINATIONS["iterable"].build("events", [Record("k" * 513, record.identity, fields)])


def test_hubspot_properties_are_text() -> None:
    fields = {"a": True, "b": 3, "c": 1.5, "email": "other@example.com"}
    record = Record("k", {"email": "p@example.com"}, fields)
    entry = DESTINATIONS["hubspot"].build("contacts", [record]).json["inputs"][0]
    assert entry["properties"] == {"a": "true", "b": "3", "c": "1.5"}
