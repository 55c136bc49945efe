from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from connectors import journal as journal_module
from connectors.base import Receipt, Status
from connectors.errors import CorruptLogError, LockedError
from connectors.framed import closed_segments
from connectors.journal import Journal
from tests.connectors.sends import NOW, intent

EPOCH = datetime(1970, 1, 1)
FINAL = (Status.ACCEPTED, Status.REJECTED, Status.UNKNOWN, Status.SKIPPED)


def send(journal: Journal, number: int, status: Status = Status.ACCEPTED) -> None:
    if status is not Status.SKIPPED:
        journal.start([f"key{number}"], NOW)
    journal.finish([Receipt(f"key{number}", status, "why", 201, "ref")], NOW)


def test_an_intent_is_in_once_and_comes_back_whole(tmp_path: Path) -> None:
    first = intent(1, fields={"subject": "Grüße", "n": 1.5, "none": None})
    with Journal.open(tmp_path) as journal:
        assert journal.add([first, intent(2), first]) == 2
        assert journal.add([intent(1, channel="sms"), intent(3)]) == 1
    with Journal.open(tmp_path) as journal:
        assert journal.add([first]) == 0
        assert list(journal.due(NOW)) == [first, intent(2), intent(3)]


def test_due_is_in_send_at_order_and_leaves_out_the_future(tmp_path: Path) -> None:
    hours = random.Random(7).sample(range(-50, 50), 60)
    with Journal.open(tmp_path) as journal:
        times = [(NOW + timedelta(hours=h)).isoformat() for h in hours]
        journal.add(intent(i, send_at=at + "Z") for i, at in enumerate(times))
        due = [hours[int(i["send_key"][3:])] for i in journal.due(NOW)]
        assert due == sorted(h for h in hours if h <= 0)
        assert journal.count_due(NOW) == len(due)
        assert journal.next_due() == NOW + timedelta(hours=min(hours))


def test_equal_times_keep_the_order_of_arrival_and_changed_intents_drop_out(
    tmp_path: Path,
) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add(intent(i) for i in range(5))
        due = journal.due(NOW)
        assert next(due)["send_key"] == "key0"
        send(journal, 2)
        assert [i["send_key"] for i in due] == ["key1", "key3", "key4"]


def test_times_with_a_zone_are_the_same_moment(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1, send_at="2026-03-01T14:00:00+01:00")])
        assert journal.next_due() == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [("send_key", None), ("channel", 3), ("send_at", 17), ("expires_at", ""), ("stream", None)],
)
def test_a_bad_intent_is_refused_by_the_name_of_its_field(
    tmp_path: Path, field: str, value: object
) -> None:
    with Journal.open(tmp_path) as journal:
        bad = intent(1, **{field: value})
        with pytest.raises(ValueError, match=field if value != "" else "isoformat"):
            journal.add([bad])
        bad = intent(1)
        del bad["customer_id"]
        with pytest.raises(ValueError, match="customer_id"):
            journal.add([bad])
        assert journal.counts()["intent"] == 0


@pytest.mark.parametrize("status", FINAL)
def test_a_final_state_never_changes(tmp_path: Path, status: Status) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1)])
        send(journal, 1, status)
        with pytest.raises(ValueError, match=f"key1 is {status}"):
            journal.start(["key1"], NOW)
        for other in Status:
            with pytest.raises(ValueError, match=f"key1 is {status}"):
                journal.finish([Receipt("key1", other)], NOW)
    with Journal.open(tmp_path) as journal:
        assert journal.state("key1") == status.value
        assert list(journal.due(NOW)) == []


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.UNKNOWN, Status.NOT_SENT])
def test_what_was_not_started_has_no_such_verdict(tmp_path: Path, status: Status) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1)])
        with pytest.raises(ValueError, match="key1 is intent"):
            journal.finish([Receipt("key1", status)], NOW)
        with pytest.raises(ValueError, match="key9 is unknown"):
            journal.start(["key1", "key9"], NOW)
        assert journal.state("key1") == "intent"


def test_not_sent_goes_back_with_the_next_attempt(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1)])
        send(journal, 1, Status.NOT_SENT)
        send(journal, 1, Status.NOT_SENT)
    with Journal.open(tmp_path) as journal:
        assert journal.state("key1") == "intent"
        assert journal.recent_sends("c1", NOW) == []
        send(journal, 1)
        attempts = [(row["attempt"], row["status"]) for _, row in journal.receipts()]
    assert attempts == [(1, "not_sent"), (2, "not_sent"), (3, "accepted")]


def test_a_call_cut_short_is_unknown_for_good(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1), intent(2)])
        journal.start(["key1"], NOW)
    for _ in range(2):
        with Journal.open(tmp_path) as journal:
            assert journal.counts() == {
                "intent": 1,
                "sending": 0,
                "accepted": 0,
                "rejected": 0,
                "unknown": 1,
                "skipped": 0,
            }
            ((_, row),) = journal.receipts()
    assert row == {
        "send_key": "key1",
        "decision_id": "d1",
        "destination": "plain",
        "stream": "messages",
        "customer_id": "c1",
        "attempt": 1,
        "status": "unknown",
        "reason": "process ended during the call",
        "http_status": None,
        "vendor_ref": "",
        "at": NOW,
    }


def test_receipts_go_on_from_any_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 700)
    with Journal.open(tmp_path) as journal:
        assert list(journal.receipts()) == []
        for number in range(12):
            journal.add([intent(number)])
            send(journal, number)
        everything = list(journal.receipts())
        assert [row["send_key"] for _, row in everything] == [f"key{i}" for i in range(12)]
        assert len(closed_segments(tmp_path)) > 3
        for i, (position, _) in enumerate(everything):
            assert list(journal.receipts(position)) == everything[i + 1 :]
        assert list(journal.receipts(journal.end)) == []


def test_recent_sends_are_what_may_have_reached_the_customer(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add(
            intent(i, customer_id="c", channel="email" if i % 2 else "sms") for i in range(6)
        )
        for number, status in enumerate(FINAL):
            send(journal, number, status)
        journal.start(["key4"], NOW + timedelta(days=2))
        expected = [("sms", NOW + timedelta(days=2)), ("sms", NOW), ("sms", NOW)]
        assert journal.recent_sends("c", NOW) == expected
        assert journal.recent_sends("c", NOW + timedelta(seconds=1)) == expected[:1]
        assert journal.recent_sends("stranger", NOW) == []
    with Journal.open(tmp_path) as journal:
        assert journal.recent_sends("c", NOW) == expected


def test_what_waits_may_go_to_another_customer(tmp_path: Path) -> None:
    """With all they sent and will send; whatever is read again, or moved."""
    own = [intent(i, customer_id="old" if i < 3 else "new") for i in range(6)]
    moved = [{**own[i], "customer_id": "new", "external_id": "u"} for i in (1, 4)]
    with Journal.open(tmp_path) as journal:
        journal.add(own)
        journal.readdress(moved)
        for i in (0, 1, 5):
            send(journal, i)
        with pytest.raises(ValueError, match="key1 is accepted"):
            journal.readdress(moved)
    for _ in range(2):
        with Journal.open(tmp_path) as journal:
            sends = {who: len(journal.recent_sends(who, EPOCH)) for who in ("old", "new")}
            assert sends == {"old": 1, "new": 2}
            due = {i["send_key"]: i["customer_id"] for i in journal.due(NOW)}
            assert due == {"key2": "old", "key3": "new", "key4": "new"}
            assert journal.add(own) == 0
            rows = [row["customer_id"] for _, row in journal.receipts()]
            assert rows == ["old", "new", "new"]
            journal.readdress(own[4:5])
            journal.readdress(moved[1:])
            journal.compact(NOW + timedelta(hours=1), journal.end)


def test_one_journal_one_process(tmp_path: Path) -> None:
    with Journal.open(tmp_path), pytest.raises(LockedError):
        Journal.open(tmp_path)


def test_damage_in_a_closed_segment_is_not_guessed_around(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1)])
        journal._log.rotate()
    (segment,) = closed_segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-1])
    with pytest.raises(CorruptLogError, match="byte 0"):
        Journal.open(tmp_path)
    with pytest.raises(CorruptLogError):
        Journal.open(tmp_path)


# ---- compaction ----


def test_compaction_drops_only_what_can_never_matter_again(tmp_path: Path) -> None:
    later = NOW + timedelta(days=40)
    with Journal.open(tmp_path) as journal:
        old = [intent(i) for i in range(6)]
        journal.add([*old, intent(6, expires_at=(later + timedelta(days=1)).isoformat())])
        for number, status in enumerate((*FINAL, Status.NOT_SENT)):
            send(journal, number, status)
        send(journal, 6)
        projected = journal.end
        assert journal.compact(NOW + timedelta(days=20), projected) == 2  # rejected, skipped
        assert journal.compact(NOW + timedelta(days=20), projected) == 0
        assert journal.compact(later, journal.end) == 2
        state = {i: journal.state(f"key{i}") for i in range(7)}
        assert state == {**dict.fromkeys(range(4)), 4: "intent", 5: "intent", 6: "accepted"}
        assert len(closed_segments(tmp_path)) <= 1
    with Journal.open(tmp_path) as journal:
        assert {i: journal.state(f"key{i}") for i in range(7)} == state
        assert [i["send_key"] for i in journal.due(NOW)] == ["key4", "key5"]
        send(journal, 4)
        assert [(r["attempt"], r["status"]) for _, r in journal.receipts()] == [(2, "accepted")]


def test_compaction_never_drops_a_receipt_that_was_not_read(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1)])
        send(journal, 1)
        assert journal.compact(NOW + timedelta(days=99), projected=0) == 0
        ((position, _),) = journal.receipts()
        assert journal.compact(NOW + timedelta(days=99), position) == 1


def test_a_dropped_intent_added_again_has_expired(tmp_path: Path) -> None:
    later = NOW + timedelta(days=99)
    with Journal.open(tmp_path) as journal:
        journal.add([intent(1)])
        send(journal, 1)
        journal.compact(later, journal.end)
        journal.add([intent(1)])
        (again,) = journal.due(later)
        assert again["expires_at"] < later.isoformat()


# ---- any history, reopened anywhere ----


@pytest.mark.parametrize("seed", range(15))
def test_any_history_survives_reopening(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 2_000)
    dice = random.Random(seed)
    model: dict[str, str] = {}
    receipts: list[tuple[str, str]] = []
    journal = Journal.open(tmp_path)
    for number in itertools.count():
        if number == 120:
            break
        waiting = [key for key, state in model.items() if state == "intent"]
        match dice.choice(["add", "add", "send", "send", "skip", "cut", "open", "compact"]):
            case "add":
                journal.add([intent(number)])
                model[f"key{number}"] = "intent"
            case "send" if waiting:
                key, status = dice.choice(waiting), dice.choice([*FINAL[:3], Status.NOT_SENT])
                journal.start([key], NOW)
                journal.finish([Receipt(key, status)], NOW)
                model[key] = "intent" if status is Status.NOT_SENT else status.value
                receipts.append((key, status.value))
            case "skip" if waiting:
                key = dice.choice(waiting)
                journal.finish([Receipt(key, Status.SKIPPED)], NOW)
                model[key] = "skipped"
                receipts.append((key, "skipped"))
            case "cut" if waiting:
                key = dice.choice(waiting)
                journal.start([key], NOW)
                model[key] = "unknown"
                receipts.append((key, "unknown"))
                journal.close()
                journal = Journal.open(tmp_path)
            case "open":
                journal.close()
                journal = Journal.open(tmp_path)
            case "compact":
                assert [(r["send_key"], r["status"]) for _, r in journal.receipts()] == receipts
                if dropped := journal.compact(NOW + timedelta(days=5), journal.end):
                    gone = [k for k, s in model.items() if s in ("skipped", "rejected")]
                    assert dropped <= len(gone)
                    model = {k: s for k, s in model.items() if journal.state(k) or k not in gone}
                    receipts = [(r["send_key"], r["status"]) for _, r in journal.receipts()]
        assert {key: journal.state(key) for key in model} == model
    counts = {state: n for state, n in journal.counts().items() if n}
    assert counts == Counter(model.values())
    journal.close()
