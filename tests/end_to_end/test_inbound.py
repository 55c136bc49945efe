"""From the log into the warehouse: each record once, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors import failpoint, framed
from connectors.errors import LockedError
from connectors.framed import FramedLog
from decision_engine import inbound
from decision_engine.batch import decide_all
from decision_engine.errors import StepError
from decision_engine.inbound import load_log
from decision_engine.scaffold import init
from decision_engine.service.records import (
    Decision,
    Epoch,
    Event,
    Record,
    Webhook,
    frame,
)
from decision_engine.service.rotation import KEPT_DAYS
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight

AT = "2026-03-02T10:00:00"
EVENT = Event("m-0", "track", AT, "2026-03-02T10:00:00.250000", event="é", sentiment=0.5)
WEBHOOK = Webhook("e", "braze", "open", "u", None, "email", None, None, None, True, AT, AT)
NOTHING = {"epochs": 0, "decisions": 0, "inbound_events": 0, "tracked_events": 0, "overrides": 0}


@pytest.fixture
def empty(tmp_path: Path) -> Workspace:
    """A project without data."""
    init(tmp_path / "shop", "shop", salt="salt-of-the-log-0123456")
    return Workspace.open(tmp_path / "shop")


def write(workspace: Workspace, *calls: Sequence[Record]) -> None:
    with FramedLog(workspace.inbound_log) as log:
        log.append([frame(call) for call in calls])
        log.sync()


def table(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    with workspace.warehouse() as warehouse:
        batches = warehouse.query(f"select * from {workspace.engine(name)} order by 1")
        return [row for batch in batches for row in batch.to_pylist()]


def event(number: int, **values: Any) -> Event:
    return msgspec.structs.replace(EVENT, message_id=f"m-{number}", **values)


def test_every_kind_goes_to_its_table(empty: Workspace) -> None:
    epoch = {"epoch_id": "ep", "slot": "s", "as_of": AT, "kill_switch": False, "status": "open"}
    write(empty, [EVENT, WEBHOOK], [Epoch(epoch)])

    assert load_log(empty) == NOTHING | {"epochs": 1, "inbound_events": 1, "tracked_events": 1}
    (tracked,) = table(empty, "tracked_events")
    assert tracked["received_at"] == datetime(2026, 3, 2, 10, 0, 0, 250_000)
    assert (tracked["event"], tracked["sentiment"], tracked["user_id"]) == ("é", 0.5, None)
    (inbound_event,) = table(empty, "inbound_events")
    assert inbound_event["occurred_at"] == datetime(2026, 3, 2, 10)
    assert inbound_event["is_machine"] is True
    assert table(empty, "epochs")[0]["as_of"] == datetime(2026, 3, 2, 10)


def test_each_id_once_within_a_segment_and_across(empty: Workspace) -> None:
    write(empty, [event(1), event(1, event="later")], [event(2)], [event(1)])
    assert load_log(empty)["tracked_events"] == 2
    write(empty, [event(2), event(3)], [WEBHOOK], [replace_vendor("iterable")])
    assert load_log(empty) == NOTHING | {"inbound_events": 2, "tracked_events": 1}
    assert load_log(empty) == NOTHING
    assert [e["event"] for e in table(empty, "tracked_events")] == ["é"] * 3


def replace_vendor(name: str) -> Webhook:
    return msgspec.structs.replace(WEBHOOK, vendor=name)


def test_loaded_segments_go_when_the_hot_store_needs_them_no_more(empty: Workspace) -> None:
    for i in range(3):
        write(empty, [event(i)])
        load_log(empty)
    segments = framed.segments(empty.inbound_log)
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    for segment in (segments[0], segments[2], segments[-1]):
        os.utime(segment, (long_ago, long_ago))
    write(empty, [event(3)])  # a segment of long ago that is not loaded stays

    assert load_log(empty)["tracked_events"] == 1
    left = framed.segments(empty.inbound_log)
    assert segments[0] not in left
    assert segments[1] in left
    assert load_log(empty) == NOTHING
    write(empty, [event(4)])
    assert load_log(empty)["tracked_events"] == 1
    assert len(table(empty, "tracked_events")) == 5


def test_one_process_loads_at_a_time(empty: Workspace) -> None:
    with empty.alone("load"), pytest.raises(LockedError):
        load_log(empty)


def test_the_last_segment_stays(empty: Workspace) -> None:
    """Its number is what the next one follows."""
    write(empty, [event(1)])
    load_log(empty)
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    for segment in framed.segments(empty.inbound_log):
        os.utime(segment, (long_ago, long_ago))
    load_log(empty)
    write(empty, [event(2)])
    assert load_log(empty)["tracked_events"] == 1


def test_a_segment_in_many_pieces(empty: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "CHUNK_BYTES", 500)
    write(empty, *([event(i % 70)] for i in range(100)))
    assert load_log(empty)["tracked_events"] == 70


def test_times_with_an_offset(empty: Workspace) -> None:
    write(empty, [event(1, occurred_at="2026-03-02T10:00:00+02:00")], [event(2)])
    load_log(empty)
    times = [e["occurred_at"] for e in table(empty, "tracked_events")]
    assert times == [datetime(2026, 3, 2, 8), datetime(2026, 3, 2, 10)]


@pytest.mark.parametrize("line", [b'{"record":"comet"}', b"", b'{"record":"event"}', b"rubbish"])
def test_a_record_of_another_version_stops_it(empty: Workspace, line: bytes) -> None:
    with FramedLog(empty.inbound_log) as log:
        log.append([frame([EVENT]) + b"\n" + line])
        log.sync()
    with pytest.raises(StepError, match=r"00000001.log of the log has a record"):
        load_log(empty)
    assert table(empty, "tracked_events") == []


@pytest.mark.parametrize(
    "name", ["load.chunk.after_insert", "load.segment.before_commit", "load.segment.after_commit"]
)
def test_killed_while_it_loads(empty: Workspace, name: str) -> None:
    write(empty, *([event(i)] for i in range(5)), [WEBHOOK])
    child = os.fork()
    if child == 0:
        failpoint.arm(name)
        load_log(empty)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    missing = load_log(empty)
    assert missing["tracked_events"] == (0 if name.endswith("after_commit") else 5)
    assert len(table(empty, "tracked_events")) == 5
    assert len(table(empty, "inbound_events")) == 1
    assert len(table(empty, "loaded_segments")) == 1


class TestDecisions:
    """What the hot path leaves for later is as if it had been computed at once."""

    def test_propensities_from_the_record(self, project: Path) -> None:
        workspace = Workspace.open(project)
        decide_all(workspace, midnight(0))
        wanted = {row["decision_id"]: row for row in table(workspace, "decisions")}
        epochs = [Epoch(row) for row in table(workspace, "epochs")]
        late = [
            Decision({**row, "p_action": None, "propensity": None} if i % 5 else row)
            for i, row in enumerate(wanted.values())
        ]
        with workspace.warehouse() as warehouse:
            for name in ("decisions", "epochs"):
                warehouse.rows(f"delete from {workspace.engine(name)}")
        write(workspace, epochs, *([decision] for decision in late))

        assert load_log(workspace) == NOTHING | {"epochs": 1, "decisions": len(wanted)}
        policies = set()
        for row in table(workspace, "decisions"):
            expected = wanted[row["decision_id"]]
            for name in ("p_action", "propensity"):
                assert row.pop(name) == pytest.approx(expected.pop(name), abs=1e-12)
            assert str(row) == str(expected)  # NaN is not itself
            policies.add(row["policy"])
        assert len(policies) > 1

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"epoch_id": "gone"}, "an earlier segment is missing"),
            ({"action": "teapot"}, "does not fit the plan"),
            ({"agent": "nobody"}, "does not fit the plan"),
        ],
    )
    def test_a_decision_that_cannot_be_placed(
        self, project: Path, change: dict[str, str], problem: str
    ) -> None:
        workspace = Workspace.open(project)
        decide_all(workspace, midnight(0))
        row = table(workspace, "decisions")[0]
        write(workspace, [Decision({**row, **change, "decision_id": "0", "p_action": None})])
        with pytest.raises(StepError, match=problem):
            load_log(workspace)
