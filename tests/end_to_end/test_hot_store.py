"""The hot store as a destination: what the warehouse says is what the service has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Reply, Request
from connectors.calls import Target, connected
from connectors.destinations import DESTINATIONS
from connectors.errors import UnavailableError
from connectors.limits import Limiter
from decision_engine.delivery import open_delivery
from decision_engine.errors import StepError
from decision_engine.outbox import OutboxSync
from decision_engine.service.definitions import page_path, windowed_counts
from decision_engine.service.live import Person, past_of
from decision_engine.service.people import Profile
from decision_engine.service.store import HotStore
from decision_engine.state import load
from decision_engine.training import learn_all, store
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import CUSTOMERS, midnight
from tests.hot_service import API_KEY, HotService, hot_service, with_hot_store

NOW = midnight(0)
PROFILES = "nextmove.outbox_hot_store__profiles"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HotService]:
    monkeypatch.setenv("NEXTMOVE_API_KEY", API_KEY)
    with hot_service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def workspace(project: Path, service: HotService) -> Workspace:
    """The built project with the service among its destinations; each agent has its prior."""
    with_hot_store(project, service.url)
    opened = Workspace.open(project)
    learn_all(opened, NOW)
    return opened


def sync(workspace: Workspace, post: Any = None) -> OutboxSync:
    """One run for the hot store alone."""
    url = workspace.project.destinations["hot_store"].url
    with (
        connected(DESTINATIONS["hot_store"], url, API_KEY) as target,
        workspace.warehouse() as warehouse,
    ):
        through = Target(target.destination, post(target.post)) if post else target
        limiter = Limiter(sleep=lambda _: None)
        run = OutboxSync(workspace, warehouse, "hot_store", through, NOW, limiter)
        run.run()
    return run


def change(workspace: Workspace, *statements: str) -> None:
    with workspace.warehouse() as warehouse:
        for statement in statements:
            warehouse.rows(statement)


def table(workspace: Workspace, name: str) -> dict[str, dict[str, Any]]:
    with workspace.warehouse() as warehouse:
        rows = [r for b in warehouse.query(f"select * from {name}") for r in b.to_pylist()]
    return {row.pop("key" if "key" in row else "customer_id"): row for row in rows}


def check_same(workspace: Workspace, store: HotStore) -> None:
    """Every row and column of the warehouse is in the store, and nothing else is."""
    rows = table(workspace, PROFILES)
    for key, row in rows.items():
        del row["customer_id"]
        found = dict(store.get_profile(key) or {})
        # A row that nothing else has changed in keeps the moment it was last sent as of.
        assert found["as_of"] <= row["as_of"]
        assert {**found, "as_of": row["as_of"]} == row
        for identifier in row["identifiers"].split("\n"):
            assert store.customer_of([identifier]) == key
    assert stored_keys(store) == set(rows)
    policies = table(workspace, "nextmove.outbox_hot_store__policies")
    assert set(store.policies()) == set(policies) == set(workspace.agents)
    states = {r["agent"]: r for r in table_rows(workspace) if r["is_current"]}
    for agent, policy in store.policies().items():
        assert policy.state == states[agent]["state"]
        assert load(policy.state).version == policy.version == states[agent]["version"]


def table_rows(workspace: Workspace) -> list[dict[str, Any]]:
    with workspace.warehouse() as warehouse:
        query = f"select * from {workspace.engine('policy_states')}"
        return [r for b in warehouse.query(query) for r in b.to_pylist()]


def stored_keys(store: HotStore) -> set[str]:
    return {key for (key,) in store._reader.execute("select key from profiles").fetchall()}


def test_a_delivery_fills_the_store_and_the_next_one_sends_what_changed(
    workspace: Workspace, service: HotService
) -> None:
    with open_delivery(workspace) as delivery:
        streams = delivery.deliver(NOW)["streams"]
        n = len(table(workspace, PROFILES))
        assert n >= CUSTOMERS
        assert (
            streams["hot_store profiles"]["accepted"]
            == streams["hot_store profiles"]["extracted"]
            == n
        )
        assert streams["hot_store policies"]["accepted"] == len(workspace.agents)
        check_same(workspace, service.store)
        assert service.store.as_of == int(NOW.replace(tzinfo=UTC).timestamp() * 1e6)
        again = delivery.deliver(NOW)["streams"]
        assert (
            again["hot_store profiles"]["extracted"],
            again["hot_store policies"]["extracted"],
        ) == (0, 0)
    ids = sorted(table(workspace, PROFILES))
    change(
        workspace,
        f"update {PROFILES} set as_of = as_of + 86400000000",
        f"update {PROFILES} set step = step + 1, external_id = 'new' where key = '{ids[0]}'",
        f"update {PROFILES} set lifecycle_stage = null, country = 'XX' where key = '{ids[1]}'",
        f"update {PROFILES} set tier = null, consent_email = null where key <= '{ids[9]}'",
        f"delete from {PROFILES} where key in ('{ids[20]}', '{ids[21]}')",
    )
    run = sync(workspace)
    changed = table(workspace, PROFILES)
    resent = {k for k in changed if (service.store.get_profile(k) or {})["as_of"] > ids_as_of()}
    assert {ids[0], ids[1]} <= resent <= set(ids[:10])
    assert run.totals["profiles"]["accepted"] == len(resent) + 2
    check_same(workspace, service.store)
    assert sync(workspace).totals["profiles"]["extracted"] == 0
    check_findings_come_with_the_states(workspace, service.store)


def check_findings_come_with_the_states(workspace: Workspace, store: HotStore) -> None:
    """What the last look at the profiles has found, and nothing of an earlier one."""
    for minute, found in enumerate(({"tier": "dbt test tiers", "step": "unknown: all"}, {})):
        rows = ", ".join(
            f"('b{minute}', timestamp '2026-03-02 00:0{minute}', '{c}', '{found.get(c, '')}')"
            for c in ("tier", "step", "country")
        )
        checks = workspace.engine("data_checks")
        columns = "profile_build, as_of, column_name, failed"
        change(workspace, f"insert into {checks} ({columns}) values {rows}")
        assert sync(workspace).totals["policies"]["accepted"] == len(workspace.agents)
        assert all(p.distrusted == found for p in store.policies().values())


def ids_as_of() -> int:
    return int(NOW.replace(tzinfo=UTC).timestamp() * 1e6)


def test_a_row_is_the_profile_it_was_made_of(workspace: Workspace, service: HotService) -> None:
    """As of the build, the columns made of a published row are those of dim_customer_features."""
    sync(workspace)
    profiles = table(workspace, "nextmove.dim_customer_features")
    seen = {"counts": 0, "pages": 0, "ages": 0}
    for key, profile in profiles.items():
        row = service.store.get_profile(key)
        assert row is not None
        as_of = int(profile.pop("as_of").replace(tzinfo=UTC).timestamp() * 1e6)
        assert row["as_of"] == as_of
        del profile["profile_build"]
        columns = Profile(row, past_of(row)).columns([Person()], None, as_of)
        assert columns.pop("as_of") * 1e6 == as_of
        assert columns == profile
        seen["counts"] += any(columns[c.name] for c in windowed_counts())
        seen["pages"] += columns[page_path().name] is not None
        seen["ages"] += columns["days_since_last_order"] is not None
    assert min(seen.values()) > 10


def test_a_store_that_was_lost_is_filled_again(
    workspace: Workspace, service: HotService, tmp_path: Path
) -> None:
    sync(workspace)
    port = int(service.url.rsplit(":", 1)[1])
    with stopped(service):
        shutil.rmtree(service.store.folder)
    with hot_service(tmp_path / "service", port=0) as again:
        config = workspace.root / "nextmove.yml"
        config.write_text(config.read_text().replace(f":{port}", f":{again.url.rsplit(':')[-1]}"))
        reopened = Workspace.open(workspace.root)
        assert sync(reopened).totals["profiles"]["extracted"] == len(table(reopened, PROFILES))
        check_same(reopened, again.store)


@contextmanager
def stopped(service: HotService) -> Iterator[None]:
    """Its store is closed, as when the process has ended."""
    service.store.close()
    service.receiver.log.close()
    yield


def test_a_store_made_anew_under_way_stops_the_run(
    workspace: Workspace, service: HotService
) -> None:
    def replacing(post: Any) -> Any:
        def call(request: Request) -> Reply:
            if request.path.endswith("/profiles"):
                service.store._meta["instance"] = "another"
            reply: Reply = post(request)
            return reply

        return call

    run = sync(workspace, replacing)
    assert isinstance(run.stopped, UnavailableError)
    assert "was made anew while it was filled" in str(run.stopped)
    assert run.totals["profiles"]["accepted"] == 0
    assert stored_keys(service.store) == set()
    assert service.store.as_of is None
    assert sync(workspace).stopped is None
    check_same(workspace, service.store)


def test_an_empty_outbox_removes_nobody(workspace: Workspace, service: HotService) -> None:
    sync(workspace)
    before = stored_keys(service.store)
    change(
        workspace,
        f"create table kept as select * from {PROFILES}",
        f"delete from {PROFILES}",
    )
    run = sync(workspace)
    assert run.totals["profiles"]["extracted"] == 0
    assert stored_keys(service.store) == before
    change(workspace, f"insert into {PROFILES} select * from kept limit 1")
    assert sync(workspace).totals["profiles"]["accepted"] == len(before) - 1
    check_same(workspace, service.store)


def test_a_refused_row_comes_again_and_whole(workspace: Workspace, service: HotService) -> None:
    sync(workspace)
    key = min(table(workspace, PROFILES))
    events = table(workspace, PROFILES)[key]["recent_events"]
    change(
        workspace,
        f"update {PROFILES} set recent_events = repeat('x', 300000), step = 7 where key = '{key}'",
    )
    totals = sync(workspace).totals["profiles"]
    assert (totals["rejected"], totals["accepted"]) == (1, 0)
    assert sync(workspace).totals["profiles"]["extracted"] == 0, "as it is, it waits"
    # Even a store that lost the row meanwhile gets all of it.
    service.store.publish_profiles([{"key": key, "deleted": True}])
    mended = "null" if events is None else f"'{events}'"
    change(workspace, f"update {PROFILES} set recent_events = {mended} where key = '{key}'")
    assert sync(workspace).totals["profiles"]["accepted"] == 1
    check_same(workspace, service.store)


def test_a_row_that_comes_back_is_sent_whole(workspace: Workspace, service: HotService) -> None:
    """Killed between the removal and its note, and the customer returns as they were."""
    sync(workspace)
    key = min(table(workspace, PROFILES))
    change(
        workspace,
        f"create table kept as select * from {PROFILES} where key = '{key}'",
        f"delete from {PROFILES} where key = '{key}'",
    )

    def dying(post: Any) -> Any:
        def call(request: Request) -> Reply:
            reply: Reply = post(request)
            if request.path.endswith("/profiles"):
                raise KeyboardInterrupt
            return reply

        return call

    with pytest.raises(KeyboardInterrupt):
        sync(workspace, dying)
    assert service.store.get_profile(key) is None
    change(workspace, f"insert into {PROFILES} select * from kept")
    assert sync(workspace).totals["profiles"]["accepted"] == 1
    check_same(workspace, service.store)


def test_a_service_that_is_down_does_not_hold_up_the_rest(
    workspace: Workspace, service: HotService, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workspace.root / "nextmove.yml"
    config.write_text(config.read_text().replace(service.url, "http://127.0.0.1:9"))
    with open_delivery(Workspace.open(workspace.root)) as delivery:
        delivery.limiter.sleep = lambda _: None
        with pytest.raises(StepError, match=r"nextmove serve"):
            delivery.deliver(NOW)
    assert sum(r["destination"] == "braze" for r in receipts(workspace)) > CUSTOMERS / 4
    assert not [r for r in receipts(workspace) if r["destination"] == "hot_store"]


def receipts(workspace: Workspace) -> list[dict[str, Any]]:
    with workspace.warehouse() as warehouse:
        query = f"select * from {workspace.engine('receipts')}"
        return [r for b in warehouse.query(query) for r in b.to_pylist()]


def test_what_is_learned_goes_out_and_an_agent_that_is_gone_is_removed(
    workspace: Workspace, service: HotService
) -> None:
    sync(workspace)
    (gone, changed, *_) = sorted(workspace.agents)
    state = load(service.store.policies()[changed].state)
    outcomes = workspace.engine("agent_outcomes")
    change(workspace, f"delete from {outcomes} where agent = '{gone}'")
    learned = replace(state, as_of=1.0)
    with workspace.warehouse() as warehouse:
        store(workspace, warehouse, learned, NOW, [])
    totals = sync(workspace).totals["policies"]
    assert (totals["accepted"], totals["rejected"]) == (2, 0)
    assert service.store.policies()[changed].version == learned.version
    assert gone not in service.store.policies()
