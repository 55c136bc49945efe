"""The hot path over its real log and store: what it decides, remembers and makes up for."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import framed
from connectors.framed import FramedLog
from decision_engine.agent_in_epoch import initial_state
from decision_engine.record import CarriedOutBy
from decision_engine.scaffold import init
from decision_engine.service.app import Receiver
from decision_engine.service.hot import HotPath, NotReadyError
from decision_engine.service.live import micros, micros_of
from decision_engine.service.people import key_of
from decision_engine.service.records import Decision, Event, Record, Webhook, records
from decision_engine.service.store import HotStore
from decision_engine.state import save
from decision_engine.types import Reason
from decision_engine.workspace import Workspace

NOW = datetime(2026, 3, 4, 15)
CUSTOMER = "c_" + "1" * 32

PROFILE: dict[str, Any] = {
    "key": CUSTOMER,
    "customer_id": CUSTOMER,
    "as_of": micros("2026-03-04T00:00:00"),
    "turn_offset": 0,
    "external_id": "u1",
    "identifiers": "anonymous_id:a1\nemail:ann@example.com\nuser_id:u1",
    "recent_events": None,
    "time_zone": "Europe/London",
    "lifecycle_stage": "customer",
    "tier": "gold",
    "orders_count": 1,
    "last_order_at": micros("2026-02-22T00:00:00"),
    "avg_order_cents": 4000.0,
    "has_email": True,
    "has_phone": False,
    "has_push": False,
    "has_open_complaint": False,
    "is_suppressed": False,
    "consent_email": True,
    "consent_push": None,
    "consent_sms": None,
    "messages_waiting": "",
    **{f"{c}sends_{d}d": 0 for c in ("", "email_", "push_", "sms_") for d in (1, 7, 30)},
}


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Hot:
    """A running hot path and what it stands on."""

    path: HotPath
    receiver: Receiver
    store: HotStore
    clock: Clock

    async def send(self, *sent: Record) -> None:
        await self.receiver.commit(sent)

    async def settle(self) -> None:
        """Until no decision is pending."""
        for _ in range(1000):
            if not self.path.known.pending:
                return
            await asyncio.sleep(0.002)
        raise AssertionError("a decision stays pending")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("shop") / "shop"
    init(folder, "hot", salt="hot-salt-0123456789")
    return Workspace.open(folder)


def publish(store: HotStore, workspace: Workspace, **changes: Any) -> None:
    assert store.publish_profiles([{**PROFILE, **changes}]) == [None]
    rows = []
    for name, agent in workspace.agents.items():
        state = initial_state(agent, workspace.catalog(name))
        text = b64encode(save(state)).decode()
        rows.append({"key": name, "version": state.version, "state": text})
    assert store.publish_policies(rows, 0) == [None] * len(rows)


def live(
    folder: Path,
    workspace: Workspace,
    scene: Callable[[Hot], Awaitable[None]],
    *,
    is_published: bool = True,
    is_started: bool = True,
    **changes: Any,
) -> None:
    """Start on what the folder has, play the scene, stop.

    One that is not started makes no decisions by itself, and dies without a last flush.
    """

    async def play() -> None:
        async with AsyncExitStack() as stack:
            log = stack.enter_context(FramedLog(folder / "log"))
            store = stack.enter_context(HotStore(folder / "hot"))
            if is_published:
                publish(store, workspace, **changes)
            receiver, clock = Receiver(log), Clock()
            path = HotPath(workspace, store, log.directory, receiver.commit, clock)
            path.known.work_in()
            receiver.listen(path.known.applied)
            hot = Hot(path, receiver, store, clock)
            if not is_started:
                await scene(hot)
                return
            await path.start()
            try:
                await scene(hot)
            finally:
                await path.stop()

    asyncio.run(play())


def page(
    n: int,
    *,
    at: datetime = NOW,
    page_class: str = "price",
    user_id: str | None = None,
    anonymous_id: str = "a1",
) -> Event:
    return Event(
        message_id=f"m{n}",
        type="page",
        occurred_at=at.isoformat(),
        received_at=at.isoformat(),
        page_class=page_class,
        user_id=user_id,
        anonymous_id=anonymous_id,
    )


def ticket(n: int, at: datetime, name: str, kind: str | None = None, user_id: str = "u1") -> Event:
    return Event(
        message_id=f"t{n}-{name}-{at}",
        type="track",
        event=name,
        occurred_at=at.isoformat(),
        received_at=at.isoformat(),
        user_id=user_id,
        ticket_id=f"ticket{n}",
        ticket_kind=kind,
        sentiment=-0.8 if kind else None,
    )


def decisions(folder: Path) -> list[dict[str, Any]]:
    return [
        record.row
        for segment in framed.segments(folder / "log")
        for _, payload in framed.frames(segment)
        for record in records(payload, Decision)
        if isinstance(record, Decision)
    ]


def test_the_third_visit_to_a_price_page_triggers_one_decision(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def scene(hot: Hot) -> None:
        for n in range(5):
            await hot.send(page(n))
            await hot.settle()
            assert len(decisions(tmp_path)) == (1 if n >= 2 else 0)
        await hot.send(page(2))  # a retry of the library
        await hot.settle()

    live(tmp_path, workspace, scene)
    (row,) = decisions(tmp_path)
    assert (row["customer_id"], row["agent"]) == (CUSTOMER, "price_page")
    assert (row["slot"], row["carried_out_by"]) == ("event:m2", "delivery")
    assert row["decided_at"] == NOW.isoformat()


def test_a_decision_called_for_before_a_crash_is_made_after_it(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def crash(hot: Hot) -> None:
        for n in range(3):
            await hot.send(page(n))
        assert list(hot.path.known.pending) == ["event:m2"]

    live(tmp_path, workspace, crash, is_started=False)
    assert decisions(tmp_path) == []

    live(tmp_path, workspace, Hot.settle, is_published=False)
    assert [row["slot"] for row in decisions(tmp_path)] == ["event:m2"]
    live(tmp_path, workspace, Hot.settle, is_published=False)
    assert len(decisions(tmp_path)) == 1


def test_events_call_for_decisions_as_soon_as_policies_are_published(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def scene(hot: Hot) -> None:
        assert hot.store.publish_profiles([PROFILE]) == [None]
        for n in range(2):
            await hot.send(page(n))
        publish(hot.store, workspace)
        await hot.send(page(2))
        await hot.settle()

    live(tmp_path, workspace, scene, is_published=False)
    assert [row["slot"] for row in decisions(tmp_path)] == ["event:m2"]


def test_a_pending_decision_outlives_a_flush(tmp_path: Path, workspace: Workspace) -> None:
    async def crash(hot: Hot) -> None:
        for n in range(3):
            await hot.send(page(n))
        await hot.path.known.flush(micros_of(NOW))

    live(tmp_path, workspace, crash, is_started=False)
    live(tmp_path, workspace, Hot.settle, is_published=False)
    assert [row["slot"] for row in decisions(tmp_path)] == ["event:m2"]


def test_a_pending_decision_that_is_too_late_is_dropped(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def crash(hot: Hot) -> None:
        for n in range(3):
            await hot.send(page(n, at=NOW - timedelta(hours=3)))

    live(tmp_path, workspace, crash, is_started=False)
    live(tmp_path, workspace, Hot.settle, is_published=False)
    assert decisions(tmp_path) == []


def test_one_decision_a_slot_however_often_and_at_once_it_is_asked_for(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def scene(hot: Hot) -> None:
        asked = [hot.path.decide(CUSTOMER, ["price_page"], "request:r1") for _ in range(20)]
        rows = await asyncio.gather(*asked)
        assert len({row["decision_id"] for row in rows if row}) == 1
        again = await hot.path.decide(CUSTOMER, ["price_page"], "request:r1")
        assert again == rows[0]

    live(tmp_path, workspace, scene)
    assert len(decisions(tmp_path)) == 1

    async def after_a_restart(hot: Hot) -> None:
        row = await hot.path.decide(CUSTOMER, ["price_page"], "request:r1")
        assert row == decisions(tmp_path)[0]
        other = await hot.path.decide(CUSTOMER, ["price_page"], "request:r2")
        assert other
        assert other["decision_id"] != row["decision_id"]

    live(tmp_path, workspace, after_a_restart)


def test_nothing_is_decided_before_policies_are_published(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def scene(hot: Hot) -> None:
        assert not hot.path.is_ready
        with pytest.raises(NotReadyError):
            await hot.path.decide(CUSTOMER, ["price_page"], "request:r1")

    live(tmp_path, workspace, scene, is_published=False)


def test_a_complaint_and_an_opt_out_count_at_once(tmp_path: Path, workspace: Workspace) -> None:
    async def scene(hot: Hot) -> None:
        async def eligible(n: int) -> set[str]:
            row = await hot.path.decide(CUSTOMER, ["price_page"], f"request:{n}")
            assert row
            keys = workspace.catalog("price_page").keys
            return {k for k, code in zip(keys, row["reasons"], strict=True) if code == 0}

        assert len(await eligible(1)) > 1
        await hot.send(ticket(1, NOW, "Support Ticket Opened", "complaint"))
        assert await eligible(2) == {"no_action"}
        await hot.send(ticket(1, NOW, "Support Ticket Solved"))
        assert len(await eligible(3)) > 1
        await hot.send(
            Webhook(
                "e1",
                "iterable",
                "unsubscribe",
                "u1",
                None,
                "email",
                None,
                None,
                None,
                False,
                NOW.isoformat(),
                NOW.isoformat(),
            )
        )
        assert await eligible(4) == {"no_action"}

    live(tmp_path, workspace, scene)


def test_a_ticket_is_as_its_last_turn_left_it(tmp_path: Path, workspace: Workspace) -> None:
    """By whomever it was told, in whatever order, and after a restart."""
    minutes = [NOW - timedelta(minutes=m) for m in range(60, 0, -10)]
    opened, solved = "Support Ticket Opened", "Support Ticket Solved"

    async def scene(hot: Hot) -> None:
        def is_open() -> bool:
            return bool(
                hot.path.known.people.columns(CUSTOMER, micros_of(NOW))["has_open_complaint"]
            )

        await hot.send(ticket(1, minutes[0], opened, "complaint"))
        assert is_open()
        await hot.send(ticket(1, minutes[1], solved, user_id="the help desk"))
        assert not is_open()
        await hot.send(ticket(1, minutes[3], opened, "complaint"))
        await hot.send(ticket(1, minutes[2], solved))  # comes late, and is of before
        assert is_open()
        await hot.send(ticket(1, minutes[4], solved, user_id="the help desk"))
        assert not is_open()
        await hot.send(ticket(2, minutes[2], solved, user_id="the help desk"))
        await hot.send(ticket(2, minutes[1], opened, "complaint"))
        assert not is_open()
        await hot.send(ticket(3, minutes[1], opened, "question"))
        assert not is_open()
        await hot.send(ticket(3, minutes[5], opened, "complaint"))
        assert is_open()
        await hot.path.known.flush(micros_of(NOW))

    async def after(hot: Hot) -> None:
        columns = hot.path.known.people.columns(CUSTOMER, micros_of(NOW))
        assert columns["has_open_complaint"]
        await hot.send(ticket(3, NOW, solved, user_id="the help desk"))
        assert not hot.path.known.people.columns(CUSTOMER, micros_of(NOW))["has_open_complaint"]

    live(tmp_path, workspace, scene)
    live(tmp_path, workspace, after, is_published=False)


def test_the_kill_switch_counts_at_once(tmp_path: Path) -> None:
    init(tmp_path / "shop", "hot", salt="hot-salt-0123456789")
    workspace = Workspace.open(tmp_path / "shop")

    async def scene(hot: Hot) -> None:
        before = await hot.path.decide(CUSTOMER, ["price_page"], "request:1")
        (workspace.root / "STOP").touch()
        after = await hot.path.decide(CUSTOMER, ["price_page"], "request:2")
        assert before
        assert after
        assert before["n_eligible"] > 1
        assert after["n_eligible"] == 1
        assert before["epoch_id"] != after["epoch_id"]
        assert hot.path.known.plan_of(after["epoch_id"])

    live(tmp_path, workspace, scene)


def test_prices_of_the_batch_and_approval_bind_the_service(tmp_path: Path) -> None:
    init(tmp_path / "shop", "hot", salt="hot-salt-0123456789")
    project = tmp_path / "shop" / "nextmove.yml"
    project.write_text(
        project.read_text() + "\nlimits: [{limit: mails, max: 9, channels: [email]}]\n"
    )
    workspace = Workspace.open(tmp_path / "shop")

    async def scene(hot: Hot) -> None:
        before = await hot.path.decide(CUSTOMER, ["price_page"], "request:1")
        workspace.prices.write({"mails": 1e9})
        during = await hot.path.decide(CUSTOMER, ["price_page"], "request:2")
        assert before
        assert during
        assert Reason.BUDGET not in before["reasons"]
        assert Reason.BUDGET in during["reasons"]
        assert before["epoch_id"] != during["epoch_id"]

    live(tmp_path, workspace, scene)


def test_what_needs_approval_is_not_for_a_caller(tmp_path: Path) -> None:
    init(tmp_path / "shop", "hot", salt="hot-salt-0123456789")
    path = tmp_path / "shop" / "agents" / "price_page.yml"
    path.write_text(path.read_text() + "\nsignificant_effect: true\n")
    workspace = Workspace.open(tmp_path / "shop")

    async def scene(hot: Hot) -> None:
        assert await hot.path.decide(CUSTOMER, ["price_page"], "request:1") is None
        held = await hot.path.decide(
            CUSTOMER, ["price_page"], "request:2", carried_out_by="delivery"
        )
        assert held

    live(tmp_path, workspace, scene)


def test_a_message_that_waits_counts_in_the_next_decision(tmp_path: Path) -> None:
    init(tmp_path / "shop", "hot", salt="hot-salt-0123456789")
    path = tmp_path / "shop" / "agents" / "price_page.yml"
    text = path.read_text() + "\npolicy: {kind: fixed, actions: [email.what_it_includes.none.d3]}\n"
    path.write_text(text.replace("[none, ten_percent]", "[none]\n    wait_days: [0, 3]"))
    workspace = Workspace.open(tmp_path / "shop")
    keys = workspace.catalog("price_page").keys

    async def scene(hot: Hot) -> None:
        async def decided(n: int, by: CarriedOutBy) -> tuple[dict[str, Any], set[str]]:
            row = await hot.path.decide(CUSTOMER, ["price_page"], f"request:{n}", carried_out_by=by)
            assert row
            capped = zip(keys, row["reasons"], strict=True)
            return row, {key for key, code in capped if code == Reason.FREQUENCY_CAP}

        by_caller, _ = await decided(1, "caller")
        assert by_caller["send_at"] == (NOW + timedelta(days=3)).isoformat()
        first, capped = await decided(2, "delivery")
        assert not capped
        _, capped = await decided(3, "delivery")
        # One message a day: what leaves at once is three days apart from the one that waits.
        assert capped == {"email.what_it_includes.none.d3"}
        waiting = hot.path.known.people.columns(CUSTOMER, micros(NOW.isoformat()))
        entry = f"{micros(first['send_at'])} email {first['decision_id']}"
        assert waiting["messages_waiting"] == entry
        stop = {"kind": "stop", "by": "ann", "why": "a call", "decision_id": first["decision_id"]}
        word = workspace.override_log.add(agent="another", **stop)
        stopped, capped = await decided(4, "caller")
        assert not capped
        assert json.loads(stopped["facts"])["messages_waiting"] == ""
        workspace.override_log.add(kind="release", by="ann", why="no", releases=word.override_id)
        assert (await decided(5, "caller"))[1] == {"email.what_it_includes.none.d3"}
        publish(hot.store, workspace, as_of=micros(NOW.isoformat()) + 1)
        hot.path.known.people.published(CUSTOMER)
        known = hot.path.known.people.columns(CUSTOMER, micros(NOW.isoformat()) + 2)
        assert known["messages_waiting"] == ""

    live(tmp_path, workspace, scene)


def test_an_override_counts_at_once(tmp_path: Path) -> None:
    init(tmp_path / "shop", "hot", salt="hot-salt-0123456789")
    workspace = Workspace.open(tmp_path / "shop")

    async def scene(hot: Hot) -> None:
        before = await hot.path.decide(CUSTOMER, ["price_page"], "request:1")
        made = workspace.override_log.add(
            kind="exclude", by="ann", why="an outage", rule="orders_count >= 0 OR region = 'TX'"
        )
        during = await hot.path.decide(CUSTOMER, ["price_page"], "request:2")
        workspace.override_log.add(kind="release", by="ann", why="over", releases=made.override_id)
        after = await hot.path.decide(CUSTOMER, ["price_page"], "request:3")
        assert before
        assert during
        assert after
        assert (before["n_eligible"] > 1, during["n_eligible"]) == (True, 1)
        assert Reason.EXCLUDED in during["reasons"]
        assert during["epoch_id"] not in (before["epoch_id"], after["epoch_id"])
        assert after["reasons"] == before["reasons"]
        plan = hot.path.known.plan_of(during["epoch_id"])
        assert plan
        assert plan["overrides"][0]["why"] == "an outage"

    live(tmp_path, workspace, scene)


def test_a_stale_profile_is_no_ground_for_a_message(tmp_path: Path, workspace: Workspace) -> None:
    async def scene(hot: Hot) -> None:
        row = await hot.path.decide(CUSTOMER, ["price_page"], "request:1")
        assert row
        assert row["n_eligible"] == 1

    live(tmp_path, workspace, scene, as_of=micros("2026-03-02T00:00:00"))


def test_whose_event_it_is(tmp_path: Path, workspace: Workspace) -> None:
    async def scene(hot: Hot) -> None:
        people = hot.path.known.people
        await hot.send(page(1, anonymous_id="new"))
        stranger = people.find(["anonymous_id:new"])
        assert stranger == key_of("anonymous_id:new")
        assert not people.is_customer(stranger)
        # Seen together with a customer, the stranger was the customer.
        await hot.send(page(2, user_id="u1", anonymous_id="new"))
        assert people.find(["anonymous_id:new"]) == CUSTOMER
        assert set(people.get(CUSTOMER).items) == {"m1", "m2"}
        assert people.get(stranger).items == {}

    live(tmp_path, workspace, scene)

    async def after_a_restart(hot: Hot) -> None:
        assert hot.path.known.people.find(["anonymous_id:new"]) == CUSTOMER
        assert set(hot.path.known.people.get(CUSTOMER).items) == {"m1", "m2"}

    live(tmp_path, workspace, after_a_restart)


def test_two_customers_are_not_joined_here(tmp_path: Path, workspace: Workspace) -> None:
    async def scene(hot: Hot) -> None:
        other = {
            **PROFILE,
            "key": "c_" + "2" * 32,
            "external_id": "u2",
            "identifiers": "user_id:u2",
        }
        assert hot.store.publish_profiles([other]) == [None]
        await hot.send(page(1, user_id="u2"))
        assert hot.path.known.people.find(["anonymous_id:a1"]) == CUSTOMER
        assert hot.path.known.people.get(CUSTOMER).items == {}
        assert set(hot.path.known.people.get(other["key"]).items) == {"m1"}

    live(tmp_path, workspace, scene)


def test_what_was_seen_of_a_stranger_is_the_customers_once_published(
    tmp_path: Path, workspace: Workspace
) -> None:
    async def scene(hot: Hot) -> None:
        await hot.send(page(1, anonymous_id="new"))
        row = {**PROFILE, "identifiers": "anonymous_id:new\nuser_id:u1"}
        hot.path.known.people.publishing(CUSTOMER, row["identifiers"].split("\n"))
        assert hot.store.publish_profiles([row]) == [None]
        hot.path.known.people.published(CUSTOMER)
        assert hot.path.known.people.find(["anonymous_id:new"]) == CUSTOMER
        assert set(hot.path.known.people.get(CUSTOMER).items) == {"m1"}

    live(tmp_path, workspace, scene)
