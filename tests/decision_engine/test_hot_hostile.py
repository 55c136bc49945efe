"""The hot path among floods, repetitions, people who turn out to be others, and a hard end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from connectors import framed
from decision_engine.service import live as live_module
from decision_engine.service import projection
from decision_engine.service.live import micros_of
from decision_engine.service.publish import Publishing
from decision_engine.service.records import Event
from decision_engine.workspace import Workspace
from tests.decision_engine.test_hot import (
    CUSTOMER,
    NOW,
    PROFILE,
    Hot,
    decisions,
    live,
    page,
    ticket,
)
from tests.decision_engine.test_hot import workspace as workspace


def test_an_event_that_comes_again_when_it_is_forgotten_is_decided_once(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "MAX_ITEMS", 20)

    async def scene(hot: Hot) -> None:
        early = [page(n, at=NOW - timedelta(minutes=50)) for n in range(3)]
        for event in early:
            await hot.send(event)
        await hot.settle()
        flood = (page(10 + n, at=NOW - timedelta(minutes=1)) for n in range(25))
        await hot.send(*flood)
        await hot.path.known.flush(micros_of(NOW))
        assert "m2" not in hot.path.known.people.get(CUSTOMER).items
        for event in early:
            await hot.send(event)
        await hot.settle()

    live(tmp_path, workspace, scene)
    slots = [row["slot"] for row in decisions(tmp_path)]
    assert slots.count("event:m2") == 1


def test_a_flood_of_asks_for_one_person_costs_others_nothing(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    asked = 60

    async def scene(hot: Hot) -> None:
        find = hot.path.known.decision_of

        def counting(slot: str, key: str) -> object:
            nonlocal looks
            looks += 1
            return find(slot, key)

        monkeypatch.setattr(hot.path.known, "decision_of", counting)
        flood = [
            asyncio.create_task(hot.path.decide(CUSTOMER, ["price_page"], f"request:{n}"))
            for n in range(asked)
        ]
        await asyncio.sleep(0)
        other = await hot.path.decide("c_" + "2" * 32, ["price_page"], "request:other")
        assert other is None  # in no audience, and answered
        done = sum(task.done() for task in flood)
        assert done <= 3
        await asyncio.gather(*flood)

    live(tmp_path, workspace, scene)
    assert len(decisions(tmp_path)) == asked
    assert looks <= 2 * asked + 2


def test_what_an_anonymous_visit_called_for_is_decided_for_who_it_was(
    tmp_path: Path, workspace: Workspace
) -> None:
    """A library sends the visit and who it was in one batch."""

    async def scene(hot: Hot) -> None:
        stranger = [page(n, anonymous_id="new") for n in range(3)]
        named = Event(
            "who", "identify", NOW.isoformat(), NOW.isoformat(), user_id="u1", anonymous_id="new"
        )
        await hot.send(*stranger, named)
        await hot.settle()

    live(tmp_path, workspace, scene)
    assert [(row["customer_id"], row["slot"]) for row in decisions(tmp_path)] == [
        (CUSTOMER, "event:m2")
    ]


def test_nobody_takes_a_pending_decision_away_with_the_id_of_its_event(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def scene(hot: Hot) -> None:
        theirs = [page(n, anonymous_id="a1") for n in range(3)]
        others = [page(n + 10, anonymous_id="other") for n in range(2)]
        await hot.send(*others, *theirs, page(2, anonymous_id="other"))
        await hot.settle()

    live(tmp_path, workspace, scene)
    assert (CUSTOMER, "event:m2") in [
        (row["customer_id"], row["slot"]) for row in decisions(tmp_path)
    ]


def test_who_waits_for_a_decision_when_it_ends_hears_of_it(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(hot: Hot) -> None:
        blocked = asyncio.Event()

        async def never(_: object) -> None:
            blocked.set()
            await asyncio.Future()

        monkeypatch.setattr(hot.path, "_commit", never)
        waiting = [
            asyncio.create_task(hot.path.decide(CUSTOMER, ["price_page"], f"request:{n}"))
            for n in range(3)
        ]
        await blocked.wait()
        await hot.path.stop()
        done, _ = await asyncio.wait(waiting, timeout=5)
        assert len(done) == len(waiting)

    live(tmp_path, workspace, scene)


def test_the_end_waits_for_a_write_to_the_store_that_is_under_way(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(hot: Hot) -> None:
        writing, go_on = threading.Event(), threading.Event()
        write = hot.store.write

        def slow(*args: object) -> None:
            writing.set()
            assert go_on.wait(10)
            write(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(hot.store, "write", slow)
        await hot.send(page(1))
        flushing = asyncio.create_task(hot.path.known.flush(micros_of(NOW)))
        await asyncio.to_thread(writing.wait, 10)
        await hot.send(page(2))
        flushing.cancel()
        threading.Timer(0.05, go_on.set).start()
        await hot.path.stop()
        assert hot.store.position == hot.path.known.position

    live(tmp_path, workspace, scene)


def test_what_comes_between_the_slices_of_a_flush_is_in_it(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "SLICE", 1)

    async def scene(hot: Hot) -> None:
        for n in range(10):
            await hot.send(page(n, anonymous_id=f"a{n}"))
        flushing = asyncio.create_task(hot.path.known.flush(micros_of(NOW)))
        for n in range(10, 15):
            await hot.send(page(n, anonymous_id=f"a{n % 2}"))
        assert not flushing.done()
        await flushing
        assert hot.store.position == hot.path.known.position

    async def after(hot: Hot) -> None:
        found = [hot.path.known.people.find([f"anonymous_id:a{n}"]) for n in range(10)]
        seen = [set(hot.path.known.people.get(key or "").items) for key in found]
        assert seen[:2] == [{"m0", "m10", "m12", "m14"}, {"m1", "m11", "m13"}]
        assert seen[2:] == [{f"m{n}"} for n in range(2, 10)]

    live(tmp_path, workspace, scene, is_started=False)
    for segment in framed.segments(tmp_path / "log"):  # the store alone has to know it all
        segment.write_bytes(b"\0" * segment.stat().st_size)
    with monkeypatch.context() as patch:
        patch.setattr(framed, "_cut_torn_tail", lambda _: 0)
        live(tmp_path, workspace, after, is_published=False, is_started=False)


def test_a_decision_is_forgotten_with_its_segment(tmp_path: Path, workspace: Workspace) -> None:
    async def scene(hot: Hot) -> None:
        made = await hot.path.decide(CUSTOMER, ["price_page"], "request:1")
        assert made
        hot.receiver.log.rotate()
        again = await hot.path.decide(CUSTOMER, ["price_page"], "request:1")
        assert again == made == hot.path.known.decision(made["decision_id"])
        framed.segments(tmp_path / "log")[0].unlink()
        assert hot.path.known.decision(made["decision_id"]) is None
        assert hot.path.known.decision_of("request:1", CUSTOMER) is None

    live(tmp_path, workspace, scene)


def test_who_comes_while_a_profile_is_published_is_its_customer(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(hot: Hot) -> None:
        publishing = Publishing(hot.receiver, hot.store, hot.path.known.people, "key")
        publish, loop = hot.store.publish_profiles, asyncio.get_running_loop()

        def slow(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
            asyncio.run_coroutine_threadsafe(hot.send(page(1, anonymous_id="new")), loop).result(9)
            return publish(rows)

        monkeypatch.setattr(hot.store, "publish_profiles", slow)
        row = {**PROFILE, "identifiers": "anonymous_id:new\nuser_id:u1"}
        assert await publishing._profiles([row]) == [None]
        await hot.path.known.flush(micros_of(NOW))
        assert hot.path.known.people.find(["anonymous_id:new"]) == CUSTOMER
        assert set(hot.path.known.people.get(CUSTOMER).items) == {"m1"}

    live(tmp_path, workspace, scene)


def test_a_flood_of_tickets_does_not_hide_an_open_complaint(
    tmp_path: Path, workspace: Workspace
) -> None:
    opened = "Support Ticket Opened"

    async def scene(hot: Hot) -> None:
        await hot.send(ticket(0, NOW - timedelta(hours=1), opened, "complaint"))
        await hot.send(*(ticket(n, NOW, opened, "question") for n in range(1, 300)))
        await hot.path.known.flush(micros_of(NOW))
        assert len(hot.path.known.people.get(CUSTOMER).tickets) == live_module.MAX_TICKETS
        assert hot.path.known.people.columns(CUSTOMER, micros_of(NOW))["has_open_complaint"]

    live(tmp_path, workspace, scene)


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_openings_at_one_moment_the_complaint_counts(
    tmp_path: Path, workspace: Workspace, turned: bool
) -> None:
    async def scene(hot: Hot) -> None:
        both = [ticket(1, NOW, "Support Ticket Opened", k) for k in ("question", "complaint")]
        both = [structs.replace(e, message_id=f"t{n}") for n, e in enumerate(both)]
        await hot.send(*(reversed(both) if turned else both))
        assert hot.path.known.people.columns(CUSTOMER, micros_of(NOW))["has_open_complaint"]

    live(tmp_path, workspace, scene)


def test_a_flood_of_events_is_bounded_before_it_is_written(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "MAX_ITEMS", 10)

    async def scene(hot: Hot) -> None:
        await hot.send(*(page(n, at=NOW - timedelta(seconds=100 - n)) for n in range(95)))
        items = hot.path.known.people.get(CUSTOMER).items
        assert len(items) <= 20
        assert {f"m{n}" for n in range(85, 95)} <= set(items)

    live(tmp_path, workspace, scene, is_started=False)
