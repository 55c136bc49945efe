"""Erasing a person: as if they had never been learned from, and gone from every table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from connectors.framed import FramedLog
from decision_engine.audit import replay_decisions
from decision_engine.batch import decide_all
from decision_engine.cli import main
from decision_engine.confirmed import Confirmed, Outbox
from decision_engine.delivery import open_delivery, project_receipts
from decision_engine.epochs import begin, read_state
from decision_engine.erase import erase
from decision_engine.errors import StepError
from decision_engine.inbound import load_log
from decision_engine.outbox import THERE
from decision_engine.service.records import Event, Webhook, frame
from decision_engine.state import PolicyState, load
from decision_engine.training import learn_all
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight
from tests.end_to_end.test_attack_learning import AGENT, rewards_as_of

AT = "2026-03-02T10:00:00"


def lived(folder: Path, like: Workspace | None = None, without: str = "") -> Workspace:
    """Two dates decided and learned from twice, so that some decisions are closed and some open.

    `like` another life: with its decisions, but for those about one person. By themselves the
    two would not choose the same: what is learned of one person moves close calls of others.
    """
    workspace = Workspace.open(folder)
    for day in (0, 2):
        if like is None:
            decide_all(workspace, midnight(day))
        else:
            copy_decisions(like, workspace, midnight(day).date().isoformat(), without)
        rewards_as_of(workspace, midnight(day + 2), 72)
        learn_all(workspace, midnight(day + 2))
    return workspace


def copy_decisions(source: Workspace, target: Workspace, slot: str, without: str) -> None:
    with source.warehouse() as warehouse:
        epochs_, decisions = (
            pa.Table.from_batches(
                warehouse.query(f"select * from {source.engine(t)} where slot = ?", [slot])
            )
            for t in ("epochs", "decisions")
        )
    others = decisions.filter(pc.not_equal(decisions["customer_id"], without))
    with target.warehouse() as warehouse:
        warehouse.append(target.engine("epochs"), epochs_)
        warehouse.append(target.engine("decisions"), others)


def state_of(workspace: Workspace) -> PolicyState:
    with workspace.warehouse() as warehouse:
        state = read_state(workspace, warehouse, AGENT)
    assert state is not None
    return state


def somebody(workspace: Workspace) -> tuple[str, int]:
    """The customer of whom the agent has learned most, and from how many decisions."""
    with workspace.warehouse() as warehouse:
        ((customer, n),) = warehouse.rows(
            "select d.customer_id, count(*) as n"
            f" from {workspace.engine('learned_rewards')} join {workspace.engine('decisions')} d"
            " using (decision_id) where d.agent = ? group by 1 order by n desc, 1 limit 1",
            [AGENT],
        )
    return str(customer), int(n)


def versions(workspace: Workspace) -> set[str]:
    """Those that the agent has learned anything for."""
    table = workspace.engine("policy_states")
    learned = f"select version from {table} where n_decisions > 0 and agent = ?"
    return {version for (version,) in rows(workspace, learned, AGENT)}


def rows(workspace: Workspace, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with workspace.warehouse() as warehouse:
        return warehouse.rows(sql, list(values))


def test_the_state_is_the_one_that_never_knew_the_person(project: Path, tmp_path: Path) -> None:
    other = shutil.copytree(project, tmp_path / "other")
    workspace = lived(project)
    customer, n = somebody(workspace)
    assert n > 1
    before, known = state_of(workspace), versions(workspace)
    never = state_of(lived(other, workspace, customer))
    # What they did comes to light later: it must not be taken out, for it was not learned.
    with workspace.warehouse() as warehouse:
        warehouse.rows(f"update {workspace.model('fct_decision_rewards')} set credited_reward = 7")

    slot = midnight(2).date().isoformat()
    rows(workspace, "update nextmove_engine.epochs set status = 'open' where slot = ?", slot)
    with workspace.warehouse() as warehouse:
        cut_short = begin(workspace, warehouse, midnight(2))

    result = erase(workspace, customer)

    after = state_of(workspace)
    assert result["decisions"][AGENT] == n
    for part in ("closed", "open"):
        for name in ("count", "square", "gram", "moment"):
            left, wanted = (getattr(getattr(s, part), name) for s in (after, never))
            np.testing.assert_allclose(left, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
    assert before.closed.count.sum() + before.open.count.sum() == (
        after.closed.count.sum() + after.open.count.sum() + n
    )
    assert (after.theta.noise, after.as_of) == (before.theta.noise, before.as_of)
    proofs = rows(
        workspace,
        "select version_before, version_after, difference"
        f" from {workspace.engine('erasures')} where agent = ?",
        AGENT,
    )
    replaced = {old: (new, difference) for old, new, difference in proofs}
    version, difference = replaced.pop(before.version)
    assert version == after.version
    assert difference <= 1e-9
    assert set(replaced.values()) == {(None, 0.0)}
    # No state that knew them is left, and what others got is still made again from its record.
    assert {before.version, *replaced} == known
    assert versions(workspace) == {after.version}
    told = replay_decisions(workspace, [], 10_000)
    assert told["decisions"] > told["without_state"] > 0
    assert told["different_action"] == told["different_propensity"] == 0
    # A date that was cut short cannot go on with such a state.
    with workspace.warehouse() as warehouse:
        begun = begin(workspace, warehouse, midnight(2))
    assert (cut_short.status, begun.status) == ("open", "rest")


def confirm(workspace: Workspace, outbox: Outbox, instance: str | None) -> str:
    """As if all rows of an outbox of Iterable had been delivered; where they are noted."""
    with workspace.warehouse() as warehouse:
        confirmed = Confirmed.of(workspace, warehouse, "iterable", outbox)
        confirmed.prepare()
        batches = warehouse.query(f"select * from {confirmed.model}")
        confirmed.keep(pa.Table.from_batches(batches), instance)
    return confirmed.table


def test_every_table_is_rid_of_them_and_the_proof_does_not_name_them(project: Path) -> None:
    workspace = lived(project)
    ((customer, user),) = rows(
        workspace,
        "select customer_id, identifier_value from nextmove.int_identity__map"
        f" join (select distinct customer_id from {workspace.engine('decisions')}) d"
        " using (customer_id) where identifier_kind = 'user_id' order by 1 limit 1",
    )
    # An event that is found by user and by browser is one row, in the dry run too.
    browser = "b-of-theirs"
    rows(
        workspace,
        "insert into nextmove.int_identity__map by name select * replace"
        f" ('anonymous_id' as identifier_kind, '{browser}' as identifier_value)"
        " from nextmove.int_identity__map"
        f" where identifier_kind = 'user_id' and identifier_value = '{user}'",
    )
    with FramedLog(workspace.inbound_log) as log:
        log.append(
            [
                frame(
                    [
                        Event("m1", "page", AT, AT, user_id=user, anonymous_id=browser),
                        Event("m2", "page", AT, AT),
                    ]
                ),
                frame([webhook("w1", user), webhook("w2", "somebody else")]),
            ]
        )
        log.sync()
    load_log(workspace)
    # What a vendor was brought is forgotten; what it is still to be rid of is not, until it is.
    rows(
        workspace,
        "create table nextmove.outbox_iterable__list_members as"
        " select key, customer_id, email, 7 as list_id from nextmove.outbox_iterable__users",
    )
    members = Outbox("list_members", title="list_members", deletes=True)
    lists = confirm(workspace, members, THERE)
    users = confirm(workspace, Outbox("users"), None)

    told = CliRunner().invoke(
        main, ["erase", f"user_id:{user}", "--project", str(project), "--dry-run", "--json"]
    )
    assert told.exit_code == 0, told.output
    found = erase(workspace, f"user_id:{user}")
    assert json.loads(told.stdout) == found
    assert found["deleted"]["tracked_events"] == found["deleted"]["inbound_events"] == 1

    for table in ("decisions", "receipts"):
        where = f"from {workspace.engine(table)} where customer_id = ?"
        assert rows(workspace, f"select count(*) {where}", customer) == [(0,)]
    assert rows(workspace, f"select message_id from {workspace.engine('tracked_events')}") == [
        ("m2",)
    ]
    assert rows(workspace, f"select event_id from {workspace.engine('inbound_events')}") == [
        ("w2",)
    ]
    assert found["deleted"]["confirmed_iterable__users"] == 1
    assert rows(workspace, f"select 1 from {users} where customer_id = ?", customer) == []
    assert rows(workspace, f"select 1 from {users} limit 1") == [(1,)]
    assert found["leaving"] == {"confirmed_iterable__list_members": 1}
    assert rows(workspace, f"select 1 from {lists} where customer_id = ?", customer) == [(1,)]
    proof = str(rows(workspace, f"select * from {workspace.engine('erasures')}"))
    assert customer not in proof
    assert user not in proof
    assert erase(workspace, f"user_id:{user}")["decisions"] == {}


def test_what_waits_for_them_does_not_leave_and_leaves_no_trace(project: Path) -> None:
    """Nobody has put them on the list, and still nothing is sent."""
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    with open_delivery(workspace) as delivery:
        delivery.dispatch(midnight(0).date().isoformat(), midnight(0))
        waiting = list(delivery.journal.due(midnight(3)))
    customer = waiting[0]["customer_id"]
    gone = {i["send_key"] for i in waiting if i["customer_id"] == customer}

    erase(workspace, customer)

    with open_delivery(workspace) as delivery, workspace.warehouse() as warehouse:
        left = {i["send_key"] for i in delivery.journal.due(midnight(3))}
        assert left == {i["send_key"] for i in waiting} - gone
        delivery.dispatch(midnight(0).date().isoformat(), midnight(0))
        assert {i["send_key"] for i in delivery.journal.due(midnight(3))} == left
        project_receipts(workspace, warehouse, delivery.journal)
    of_them = f"select count(*) from {workspace.engine('receipts')} where customer_id = ?"
    assert rows(workspace, of_them, customer) == [(0,)]


def webhook(number: str, user: str) -> Webhook:
    return Webhook(number, "braze", "open", user, None, "email", None, None, None, False, AT, AT)


def test_a_state_that_cannot_be_proven_is_left_alone(project: Path) -> None:
    workspace = lived(project)
    customer, _ = somebody(workspace)
    with workspace.warehouse() as warehouse:
        warehouse.rows(
            f"delete from {workspace.engine('learned_rewards')} where decision_id = ("
            f" select min(decision_id) from {workspace.engine('decisions')}"
            " where agent = ? and customer_id <> ?)",
            [AGENT, customer],
        )
    before = state_of(workspace).version
    with pytest.raises(StepError, match="cannot be proven"):
        erase(workspace, customer)
    assert state_of(workspace).version == before
    assert somebody(workspace)[0] == customer


@pytest.mark.parametrize("who", ["c_nobody", "email:nobody@example.com", "kind:x", ":"])
def test_nobody(project: Path, who: str) -> None:
    with pytest.raises(StepError, match="nobody is known by that"):
        erase(Workspace.open(project), who)


def test_it_asks_first(project: Path) -> None:
    customer, _ = somebody(lived(project))
    told = CliRunner().invoke(main, ["erase", customer, "--project", str(project)], input="n\n")
    assert told.exit_code == 1
    assert "what will be erased" in told.output
    assert "cannot be undone" in told.output
    assert somebody(Workspace.open(project))[0] == customer


def test_it_does_not_ask_about_nobody(project: Path) -> None:
    told = CliRunner().invoke(main, ["erase", "c_x", "--project", str(project)], input="y\n")
    assert told.exit_code == 1
    assert "nobody is known by that" in told.output
    assert "cannot be undone" not in told.output


def test_what_they_earned_is_no_scale_and_no_reading_of_the_state_is_left(project: Path) -> None:
    """Another half-life is learned anew; other pairs are a version that no learn has written."""
    workspace = lived(project)
    customer, _ = somebody(workspace)
    path = project / "agents" / f"{AGENT}.yml"
    policy = "{kind: factored_linear_thompson, half_life_days: 3}"
    path.write_text(f"{path.read_text()}\npolicy: {policy}\n")
    workspace = Workspace.open(project)
    rewards_as_of(workspace, midnight(5), 72)
    rows(
        workspace,
        "update nextmove.fct_decision_rewards set credited_reward = -7 where decision_id in"
        f" (select decision_id from {workspace.engine('decisions')} where customer_id = ?)",
        customer,
    )
    learn_all(workspace, midnight(5))
    state = state_of(workspace)
    assert (state.theta.half_life_days, state.theta.low) == (3, -7)

    path.write_text(path.read_text().replace("half_life_days: 3", "half_life_days: 3, pairs: []"))
    workspace = Workspace.open(project)
    rows(workspace, "update nextmove.dim_customer_features set as_of = as_of + interval 5 day")
    decide_all(workspace, midnight(5))
    assert len(knowing(workspace) - {state.version}) == 1
    erase(workspace, customer)
    assert state_of(workspace).theta.low == 0
    assert knowing(workspace) == {state_of(workspace).version}


def knowing(workspace: Workspace) -> set[str]:
    """The versions that are made of decisions, whatever is told of them."""
    where = "where as_of > timestamp '2026-03-06' and agent = ?"
    found = rows(workspace, f"select state from {workspace.engine('policy_states')} {where}", AGENT)
    return {s.version for (data,) in found if (s := load(data)).closed.count.any()}
