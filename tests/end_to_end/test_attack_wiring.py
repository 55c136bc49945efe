"""The send boundary and the wiring, when the world does not wait for a round to end."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connectors.base import Receipt, Status
from connectors.errors import ConfigurationError
from connectors.framed import FramedLog
from connectors.journal import Journal
from decision_engine.audit import explain_decision
from decision_engine.batch import decide_all
from decision_engine.build import without_values
from decision_engine.cli import main
from decision_engine.delivery import clock_from, open_delivery, project_receipts, utc_now
from decision_engine.demo import clear
from decision_engine.errors import StepError
from decision_engine.gate import Gate
from decision_engine.inbound import load_log
from decision_engine.intents import approved, held, intents, lapsed
from decision_engine.loop import take_in
from decision_engine.overrides import digest_of
from decision_engine.overriding import load_overrides
from decision_engine.reconcile import settle_unknowns
from decision_engine.service.records import Webhook, frame
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight
from tests.sandbox_process import Sandbox

SLOT = midnight(0).date().isoformat()


def admitted(workspace: Workspace) -> tuple[dict[str, Any], str]:
    """An e-mail of today that may leave, and its address."""
    decide_all(workspace, midnight(0))
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        mails = [
            i for i in intents(workspace, warehouse, SLOT, midnight(0)) if i["channel"] == "email"
        ]
        gate = Gate(workspace, warehouse, journal, [i["customer_id"] for i in mails])
        intent = next(i for i in mails if gate(i, moment(i)) is None)
        rows = warehouse.rows(
            f"select email from {workspace.model('dim_customers')} where customer_id = ?",
            [intent["customer_id"]],
        )
    return intent, rows[0][0]


def moment(intent: dict[str, Any]) -> datetime:
    """When the message is meant to leave."""
    return datetime.fromisoformat(intent["send_at"])


def verdict(workspace: Workspace, intent: dict[str, Any]) -> str | None:
    """What the gate says at that moment."""
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        gate = Gate(workspace, warehouse, journal, [intent["customer_id"]])
        return gate(intent, moment(intent))


def test_an_override_holds_for_the_very_next_message(project: Path) -> None:
    """Also one whose rule asks for a column that the open gate has not read."""
    workspace = Workspace.open(project)
    intent, _ = admitted(workspace)
    log = workspace.override_log
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        gate = Gate(workspace, warehouse, journal, [intent["customer_id"]])
        for kind, given, expected in (
            ("pause", {"agent": intent["agent"]}, "paused"),
            ("freeze", {"agent": intent["agent"], "action": intent["action"]}, "frozen"),
            ("exclude", {"rule": "account_employees IS NULL OR chats_7d >= 0"}, "excluded"),
            ("stop", {"decision_id": intent["decision_id"]}, "overridden"),
        ):
            made = log.add(kind=kind, by="ann", why="a test", **given)
            assert gate(intent, moment(intent)) == expected
            log.add(kind="release", by="ann", why="over", releases=made.override_id)
            assert gate(intent, moment(intent)) is None


def asking_for_approval(project: Path) -> Workspace:
    """The project with agents whose messages somebody else than Ann has to approve."""
    for path in (project / "agents").glob("*.yml"):
        path.write_text(path.read_text() + "\napproval: each\nowner: Ann\n")
    return Workspace.open(project)


def test_a_message_that_needs_approval_is_held_until_somebody_gives_it(project: Path) -> None:
    workspace = asking_for_approval(project)
    decide_all(workspace, midnight(0))
    now = midnight(0)
    with workspace.warehouse() as warehouse:
        assert list(intents(workspace, warehouse, SLOT, now)) == []
        first, second, *_ = waiting = held(workspace, warehouse, now)
    told = explain_decision(workspace, first["decision_id"]).text
    assert "Delivery: none. It needs a person's approval to leave." in told
    override("approve", first["decision_id"][:20], project, by="bob")
    override("stop", second["decision_id"], project, by="ann")
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        assert len(held(workspace, warehouse, now)) == len(waiting) - 2
        (intent,) = approved(workspace, warehouse, now)
        assert intent["decision_id"] == first["decision_id"]
        assert list(approved(workspace, warehouse, first["expires_at"])) == []
        gate = Gate(workspace, warehouse, journal, [intent["customer_id"]])
        assert gate(intent, moment(intent)) is None
        other = {**intent, "decision_id": "another"}
        assert gate(other, moment(intent)) == "not_approved"
        # Of an agent that is gone, nobody knows whether it needs approval.
        assert gate({**other, "agent": "gone"}, moment(intent)) == "unknown_agent"


def test_what_nobody_approves_in_time_ends_with_a_receipt(project: Path, sandbox: Sandbox) -> None:
    workspace = asking_for_approval(project)
    decide_all(workspace, midnight(0))
    with workspace.warehouse() as warehouse:
        first, *_, last = waiting = held(workspace, warehouse, midnight(0))
    override("stop", first["decision_id"], project, by="ann")
    sent = len(sandbox.ledger())

    def delivered(at: datetime) -> dict[str, tuple[str, str]]:
        with open_delivery(workspace) as delivery:
            delivery.deliver(at, profiles=False)
        with workspace.warehouse_to_read() as warehouse:
            found = warehouse.rows(
                f"select decision_id, status, reason from {workspace.engine('receipts')}"
                " where stream = 'messages'"
            )
        assert len(found) == len({row[0] for row in found})
        return {decision_id: (status, reason) for decision_id, status, reason in found}

    assert delivered(last["expires_at"] - timedelta(seconds=1)).keys() == {
        row["decision_id"] for row in waiting if row["expires_at"] < last["expires_at"]
    }
    ended = {row["decision_id"]: ("skipped", "expired") for row in waiting}
    for later in (timedelta(0), timedelta(hours=1), timedelta(days=9)):
        assert delivered(last["expires_at"] + later) == ended
    assert len(sandbox.ledger()) == sent


def test_what_has_left_already_does_not_wait_for_approval(project: Path) -> None:
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    with open_delivery(workspace) as delivery:
        delivery.dispatch(SLOT, midnight(0))
        due = delivery.next_due()
        assert due is not None
        delivery.deliver(due, profiles=False)
    workspace = asking_for_approval(project)
    with workspace.warehouse() as warehouse:
        waiting = {row["decision_id"] for row in held(workspace, warehouse, due)}
        told = warehouse.rows(f"select distinct decision_id from {workspace.engine('receipts')}")
    assert waiting
    assert told
    assert not waiting & {decision_id for (decision_id,) in told}


def test_a_creative_that_is_gone_keeps_no_delivery_from_what_expired(project: Path) -> None:
    workspace = asking_for_approval(project)
    decide_all(workspace, midnight(0))
    later = midnight(5)
    with workspace.warehouse() as warehouse:
        every = {i["decision_id"]: i for i in lapsed(workspace, warehouse, later)}
        gone = next(iter(every.values()))["fields"]["creative"]
        left = {name: c for name, c in workspace.creatives.items() if name != gone}
        changed = replace(workspace, creatives=left)
        found = {i["decision_id"] for i in lapsed(changed, warehouse, later)}
    assert found == {k for k, i in every.items() if i["fields"]["creative"] != gone}


def test_an_owner_approves_nothing_and_what_changes_is_approved_anew(project: Path) -> None:
    for path in (project / "agents").glob("*.yml"):
        path.write_text(path.read_text() + "\nsignificant_effect: true\n")
    now = midnight(0)
    decide_all(Workspace.open(project), now)
    with Workspace.open(project).warehouse() as warehouse:
        first, *_ = waiting = held(Workspace.open(project), warehouse, now)
    one, agent = first["decision_id"], first["agent"]
    assert f"agent {agent} names no `owner`" in override("approve", one, project, code=2)
    path = project / "agents" / f"{agent}.yml"
    path.write_text(path.read_text() + "owner: Ann\n")
    assert f"ann owns {agent}" in override("approve", one, project, by=" ann", code=2)
    override("approve", one, project, by="bob")
    workspace = Workspace.open(project)
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        (intent,) = approved(workspace, warehouse, now)
        table = workspace.engine("overrides")
        said = f"select content from {table} where kind = 'approve'"
        assert load_overrides(workspace, warehouse) == 1
        assert warehouse.rows(said) == [(digest_of(intent),)]
        # As the table was before it said what was approved.
        warehouse.rows(f"alter table {table} drop column content")
        assert [load_overrides(workspace, warehouse) for _ in range(2)] == [1, 0]
        assert warehouse.rows(said) == [(digest_of(intent),)]
        gate = Gate(workspace, warehouse, journal, [intent["customer_id"]])
        assert gate(intent, moment(intent)) is None
        # Another text than the one that was approved, on its way already or not.
        other = {**intent, "fields": {**intent["fields"], "subject": "You owe us"}}
        assert gate(other, moment(intent)) == "not_approved"
        for path in (project / "creatives").glob("*.yml"):
            path.write_text(path.read_text().replace(first["subject"], "You owe us"))
        changed = Workspace.open(project)
        assert list(approved(changed, warehouse, now)) == []
        assert len(held(changed, warehouse, now)) == len(waiting)
        # An approval by hand that says nothing of what was approved, or is the owner's own.
        for by in ("bob", "ann"):
            workspace.override_log.add(kind="approve", by=by, why="ok", decision_id=one)
            assert list(approved(workspace, warehouse, now)) == []


def override(kind: str, decision: str, project: Path, by: str = "bob", code: int = 0) -> str:
    words = [kind, decision, "--by", by, "--why", "a test", "--project", str(project)]
    done = CliRunner().invoke(main, ["override", *words])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def test_the_last_of_a_stock_goes_once(project: Path) -> None:
    path = project / "nextmove.yml"
    path.write_text(path.read_text() + "\nlimits: [{limit: mails, max: 2, channels: [email]}]\n")
    workspace = Workspace.open(project)
    intent, _ = admitted(workspace)
    another, third = ({**intent, "send_key": key} for key in ("another", "third"))
    with workspace.warehouse() as warehouse, workspace.journal() as journal:
        gate = Gate(workspace, warehouse, journal, [intent["customer_id"]])
        assert [gate(i, moment(intent)) for i in (intent, another, intent)] == [None, None, None]
        assert gate(third, moment(intent)) == "budget"


def unsubscribe(workspace: Workspace, external_id: str | None, email: str | None) -> None:
    """As the receiver logs it, one hour into the day."""
    at = (midnight(0) + timedelta(hours=1)).isoformat()
    event = Webhook(
        event_id=f"unsubscribe {external_id}",
        vendor="iterable",
        event_type="unsubscribe",
        external_id=external_id,
        email=email,
        channel="email",
        campaign_id=None,
        message_ref=None,
        decision_id=None,
        is_machine=False,
        occurred_at=at,
        received_at=at,
    )
    with FramedLog(workspace.inbound_log) as log:
        log.append([frame([event])])
        log.sync()


def test_an_opt_out_counts_between_its_load_and_the_next_build(project: Path) -> None:
    workspace = Workspace.open(project)
    intent, _ = admitted(workspace)
    unsubscribe(workspace, intent["external_id"], None)
    assert verdict(workspace, intent) == "no_consent"
    assert load_log(workspace)["inbound_events"] == 1
    assert verdict(workspace, intent) == "no_consent"


def test_an_opt_out_by_address_counts_at_once(project: Path) -> None:
    workspace = Workspace.open(project)
    intent, email = admitted(workspace)
    unsubscribe(workspace, None, f" {email.upper()}")
    assert verdict(workspace, intent) == "no_consent"


def test_another_log_is_not_taken_for_the_loaded_one(project: Path) -> None:
    workspace = Workspace.open(project)
    for name in ("one", "two"):
        unsubscribe(workspace, name, None)
        assert load_log(workspace)["inbound_events"] == 1
    for path in workspace.inbound_log.glob("*.log"):
        path.unlink()
    unsubscribe(workspace, "three", None)
    with pytest.raises(StepError, match="not the log that was loaded before"):
        load_log(workspace)


def test_receipts_of_a_cut_delivery_are_there_for_the_next_build(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    with open_delivery(workspace) as delivery:
        delivery.dispatch(SLOT, midnight(0))
        monkeypatch.setattr("decision_engine.delivery.settle_unknowns", interrupted)
        with pytest.raises(KeyboardInterrupt):
            delivery.deliver(midnight(0) + timedelta(hours=1), profiles=False)
        ended = delivery.journal.counts()
    monkeypatch.undo()
    take_in(workspace)

    final = sum(ended[s] for s in ("accepted", "rejected", "unknown", "skipped"))
    assert final > 0
    with workspace.warehouse_to_read() as warehouse:
        copied = warehouse.rows(f"select count(*) from {workspace.engine('receipts')}")
    assert copied == [(final,)]


def test_a_webhook_settles_an_unknown_send_for_the_warehouse_too(project: Path) -> None:
    workspace = Workspace.open(project)
    intent, _ = admitted(workspace)
    key, at = intent["send_key"], moment(intent)
    with workspace.journal() as journal:
        journal.add([intent])
        journal.start([key], at)
        journal.finish([Receipt(key, Status.UNKNOWN, "no answer in time")], at)
        assert project_journal(workspace, journal, key) == (["unknown"], ["unknown"])

    told = at + timedelta(minutes=1)
    hook = Webhook(
        event_id="delivered",
        vendor="iterable",
        event_type="delivered",
        external_id=intent["external_id"],
        email=None,
        channel="email",
        campaign_id=None,
        message_ref="m",
        decision_id=intent["decision_id"],
        is_machine=False,
        occurred_at=told.isoformat(),
        received_at=told.isoformat(),
    )
    with FramedLog(workspace.inbound_log) as log:
        log.append([frame([hook])])
    load_log(workspace)
    with workspace.journal() as journal:
        with workspace.warehouse() as warehouse:
            assert settle_unknowns(workspace, warehouse, journal) == 1
        assert project_journal(workspace, journal, key) == (["accepted", "unknown"], ["accepted"])


def project_journal(workspace: Workspace, journal: Journal, key: str) -> tuple[list[str], ...]:
    """The statuses of one send: as they are copied, and as dbt reads them."""
    tables = workspace.engine("receipts"), workspace.model("stg_nextmove__receipts")
    with workspace.warehouse() as warehouse:
        project_receipts(workspace, warehouse, journal)
        return tuple(
            sorted(
                status
                for (status,) in warehouse.rows(
                    f"select status from {table} where send_key = ?", [key]
                )
            )
            for table in tables
        )


def interrupted(*_: object) -> int:
    """What a kill looks like from the inside."""
    raise KeyboardInterrupt


def test_a_lost_journal_is_noticed(project: Path) -> None:
    workspace = Workspace.open(project)
    with workspace.warehouse() as warehouse:
        table = workspace.engine("journal_position")
        warehouse.rows(f"insert into {table} values ({5 << 40})")
    with pytest.raises(StepError, match="older than its copy"):
        take_in(workspace)


def test_the_clock_of_a_real_pass_runs() -> None:
    long_ago = midnight(0)
    assert clock_from(long_ago)() == long_ago
    start = utc_now()
    assert clock_from(start - timedelta(minutes=1))() >= start


def test_a_decided_creative_that_is_gone(project: Path) -> None:
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    without = Workspace(project, workspace.project, workspace.agents, {})
    with open_delivery(without) as delivery, pytest.raises(StepError, match="put it back"):
        delivery.dispatch(SLOT, midnight(0))


def test_a_demo_never_replaces_a_project(project: Path) -> None:
    with pytest.raises(StepError, match="not an earlier demo"):
        clear(project)
    assert (project / "nextmove.yml").exists()


@pytest.mark.parametrize("command", [["explain", "ab"], ["replay"]])
def test_reading_before_the_first_decision(project: Path, command: list[str]) -> None:
    workspace = Workspace.open(project)
    with workspace.warehouse() as warehouse:
        warehouse.rows(f"drop table {workspace.engine('decisions')}")
    result = CliRunner().invoke(main, [*command, "--project", str(project)])
    assert result.exit_code == 1
    assert "nothing was decided yet" in result.stderr


@pytest.mark.parametrize("days", [-30, 3])
def test_profiles_of_another_time_are_no_ground_for_decisions(project: Path, days: int) -> None:
    with pytest.raises(StepError, match="no ground for decisions"):
        decide_all(Workspace.open(project), midnight(days))


def with_second_braze(project: Path, webhook_key_env: str) -> None:
    path = project / "nextmove.yml"
    text = path.read_text()
    block = text[text.index("  braze:\n    kind") : text.index("  iterable:\n    kind")]
    second = block.replace("  braze:", "  braze_eu:").replace("BRAZE_WEBHOOK_KEY", webhook_key_env)
    path.write_text(text.replace(block, block + second))


def test_each_destination_of_a_kind_is_kept_in_step_by_itself(project: Path) -> None:
    with_second_braze(project, "BRAZE_WEBHOOK_KEY")
    workspace = Workspace.open(project)
    with open_delivery(workspace) as delivery:
        first = delivery.deliver(midnight(0))["streams"]
        assert first["braze profiles"] == first["braze_eu profiles"]
        assert first["braze profiles"]["accepted"] > 100
        with workspace.warehouse() as warehouse:
            warehouse.rows("delete from nextmove_engine.confirmed_braze_eu__users")
        second = delivery.deliver(midnight(0))["streams"]
    assert second["braze profiles"]["extracted"] == 0
    assert second["braze_eu profiles"] == first["braze_eu profiles"]


def test_the_receiver_knows_one_token_of_a_vendor(project: Path) -> None:
    with_second_braze(project, "ANOTHER_KEY")
    with pytest.raises(ConfigurationError, match="all braze destinations must use BRAZE_WEBHOOK"):
        Workspace.open(project)


def test_no_value_of_a_customer_in_an_error() -> None:
    told = without_values('Conversion Error: invalid timestamp field format: "ann@x.example", in c')
    assert told == "Conversion Error: invalid timestamp field format: (a value), in c"
    assert without_values('Binder Error: no column "c"') == 'Binder Error: no column "c"'
