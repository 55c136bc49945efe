"""Laws, golden requests and replies, and random partial failures of every destination."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Destination, Lane, Record, Reply, Request, Status
from connectors.destinations import DESTINATIONS
from connectors.errors import RefusedRecordError
from connectors.testing import check_destination

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
    destination = DESTINATIONS[case.parts[-3]]
    records = [Record(**record) for record in load(case, "records")]
    request = destination.build(case.parts[-2], records)
    sent = {"method": request.method, "path": request.path, "json": request.json}
    assert sent == load(case, "request")
    reply = load(case, "reply")
    receipts = destination.parse(
        request, Reply(reply["status"], json.dumps(reply["body"]).encode())
    )
    expected = [{**r, "http_status": reply["status"]} for r in load(case, "receipts")]
    assert [vars(receipt) for receipt in receipts] == expected


def test_send_lane_batches_are_small() -> None:
    sizes = [
        stream.batch_size
        for destination in DESTINATIONS.values()
        for stream in destination.streams.values()
        if stream.lane is Lane.SEND
    ]
    assert max(sizes) <= 10


# ---- random partial failures: the verdicts equal the mask ----


def records_of(stream: str, count: int) -> list[Record]:
    fields = {
        "messages": {"campaign_id": "7", "channel": "email", "decision_id": "d"},
        "events": {"event_name": "moved"},
    }.get(stream, {"tier": "gold"})
    return [
        Record(f"k{i}", {"external_id": f"u{i}", "email": f"p{i}@example.com"}, fields)
        for i in range(count)
    ]


def vendor_answer(name: str, stream: str, request: Request, mask: list[bool]) -> bytes:
    """What the vendor documents to say when the rows with False are refused."""
    bad = [i for i, is_good in enumerate(mask) if not is_good]
    if name == "braze":
        array = "attributes" if stream == "users" else "recipients"
        errors = [{"type": "invalid", "input_array": array, "index": i} for i in bad]
        return json.dumps({"message": "success", "dispatch_id": "d", "errors": errors}).encode()
    if name == "iterable":
        failed = [f"u{i}" if i % 2 else f"p{i}@example.com" for i in bad]
        lists = {"invalidUserIds": failed[::2], "conflictEmails": failed[1::2]}
        count = len(mask) - len(bad)
        return json.dumps({"successCount": count, "failedUpdates": lists}).encode()
    if name == "hot_store":
        words = ["accepted" if is_good else "rejected" for is_good in mask]
        verdicts = [{"key": f"k{i}", "status": word} for i, word in enumerate(words)]
        return json.dumps({"instance": "i", "rows": verdicts}).encode()
    traces = [entry["objectWriteTraceId"] for entry in request.json["inputs"]]
    results = [
        {"id": f"9{i}", "properties": {"email": f"p{i}@example.com"}} for i in range(len(mask))
    ]
    body = {
        "results": [result for i, result in enumerate(results) if mask[i]],
        "errors": [
            {"category": "BAD", "context": {"objectWriteTraceId": [traces[i]]}} for i in bad
        ],
    }
    return json.dumps(body).encode()


BULK = [pair for pair in STREAMS if DESTINATIONS[pair[0]].streams[pair[1]].batch_size > 1]


@pytest.mark.parametrize(("name", "stream"), BULK)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_verdicts_equal_the_mask(name: str, stream: str, data: st.DataObject) -> None:
    destination = DESTINATIONS[name]
    largest = min(75, destination.streams[stream].batch_size)
    mask = data.draw(st.lists(st.booleans(), min_size=1, max_size=largest))
    request = destination.build(stream, records_of(stream, len(mask)))
    answer = vendor_answer(name, stream, request, mask)
    receipts = destination.parse(request, Reply(207 if name == "hubspot" else 200, answer))
    expected = [Status.ACCEPTED if good else Status.REJECTED for good in mask]
    assert [receipt.status for receipt in receipts] == expected

    cut = data.draw(st.integers(0, len(answer) - 1))
    for status in (200, 400, 500):
        for receipt in destination.parse(request, Reply(status, answer[:cut])):
            assert receipt.status is not Status.ACCEPTED


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
    request = destination.build(stream, records_of(stream, count))
    receipts = destination.parse(request, Reply(status, json.dumps(body).encode()))
    assert [r.key for r in receipts] == [r.key for r in request.records]
    if status == 400 or name == "braze":
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
        record = records_of(stream, 1)[0]
        record = Record(record.key, record.identity, {**record.fields, "first_name": hostile})
        request = DESTINATIONS[name].build(stream, [record])
        assert hostile not in request.path
        assert hostile in list(_leaves(request.json))


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
