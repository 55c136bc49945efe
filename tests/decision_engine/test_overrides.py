"""What people decree: at once, everywhere, on the record, and taken back as easily."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from decision_engine import epochs
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch
from decision_engine.batch import decide_all, decided
from decision_engine.cli import main
from decision_engine.config import SmallList
from decision_engine.data_checks import check
from decision_engine.decrees import with_lists
from decision_engine.guardrails import GUARDRAILS, REASON_NAMES, at_send, judge
from decision_engine.override_labels import label, score
from decision_engine.override_log import OverrideLog
from decision_engine.overrides import (
    NO_OVERRIDES,
    Override,
    Overrides,
    actions_of,
    settled,
    standing,
)
from decision_engine.scene import Scene
from decision_engine.service.deciding import Decider
from decision_engine.types import Contexts, Epoch, Reason
from decision_engine.workspace import Workspace
from tests.decision_engine.test_batch import EPOCH, Shop
from tests.decision_engine.test_guardrails import CATALOG, INTENT, NOON, PERSON, epoch, people
from tests.decision_engine.test_guardrails import project as rules
from tests.end_to_end.bench_decide import AS_OF

AGENT = "onboarding_activation"


def decree(kind: str, **fields: Any) -> Override:
    return msgspec.convert(
        {"override_id": kind, "at": "2026-01-01", "by": "ann", "why": "x", "kind": kind, **fields},
        Override,
    )  # fmt: skip


def judged(change: Mapping[str, Any], *decreed: Override, is_known: bool = True) -> dict[str, str]:
    overrides = Overrides(decreed, is_known).of("growth")
    codes = judge(Scene(people(change), CATALOG, rules(), epoch(), overrides=overrides))[0]
    named = zip(CATALOG.actions, codes, strict=True)
    return {a.key: REASON_NAMES[int(c)] for a, c in named if c and c != Reason.NOT_ELIGIBLE}


POSSIBLE = ("promo", "tip", "push", "sms", "gold", "call")


@pytest.mark.parametrize(
    ("override", "change", "expected"),
    [
        (decree("pause", agent="growth"), {}, dict.fromkeys(POSSIBLE, "paused")),
        (decree("pause"), {}, dict.fromkeys(POSSIBLE, "paused")),
        (decree("pause", agent="other"), {}, {}),
        (decree("pause", until="2026-01-15T12:00:01"), {}, dict.fromkeys(POSSIBLE, "paused")),
        (decree("pause", until="2026-01-15T12:00:00"), {}, {}),
        (decree("exclude", rule="tier = 'gold'"), {}, dict.fromkeys(POSSIBLE, "excluded")),
        (decree("exclude", rule="tier = 'silver'"), {}, {}),
        (decree("exclude", rule="country = 'PT'"), {"country": None}, None),
        (decree("freeze", action="promo"), {}, {"promo": "frozen"}),
        (decree("freeze", action="no_action"), {}, {}),
        (decree("freeze", action="gone"), {}, {}),
    ],
)
def test_what_one_override_rules_out(
    override: Override, change: dict[str, Any], expected: dict[str, str] | None
) -> None:
    found = judged(change, override)
    assert found == (dict.fromkeys(found, "excluded") if expected is None else expected)
    assert found if expected is None else True


def test_nothing_is_sent_when_it_is_not_known_what_is_decreed() -> None:
    assert judged({}, is_known=False) == dict.fromkeys(POSSIBLE, "paused")


def test_people_come_last_so_that_their_reason_says_nothing_else_was_in_the_way() -> None:
    found = judged({"consent_email": False}, decree("pause"))
    assert found["promo"] == "no_consent"
    assert found["push"] == "paused"
    assert list(GUARDRAILS)[-3:] == [Reason.EXCLUDED, Reason.PAUSED, Reason.FROZEN]


def test_released_overrides_do_not_stand() -> None:
    pause, freeze = decree("pause"), decree("freeze", action="promo")
    release = decree("release", releases="pause")
    assert standing([pause, freeze, release]) == (freeze,)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (decree("pause", agent="growth"), "paused"),
        (decree("pause", agent="other"), None),
        (decree("exclude", rule="country = 'GB'"), "excluded"),
        (decree("freeze", agent="growth", action="promo"), "frozen"),
        (decree("freeze", agent="growth", action="autumn"), "frozen"),
        (decree("freeze", agent="growth", action="tip"), None),
        (decree("stop", agent="growth", decision_id="d1"), "overridden"),
        (decree("stop", agent="growth", decision_id="d2"), None),
        (decree("pin", agent="growth", action="tip"), None),
    ],
)
def test_the_send_boundary_heeds_them(override: Override, expected: str | None) -> None:
    found = at_send(
        INTENT, PERSON, rules(), NOON, kill_switch=False, overrides=Overrides((override,))
    )
    assert found == expected


reasons = st.lists(
    st.lists(st.sampled_from([0, 0, 4, 7]), min_size=4, max_size=4), min_size=1, max_size=5
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    table=reasons,
    wanted=st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
    data=st.data(),
)
def test_settled_leaves_the_first_possible_one(
    table: list[list[int]], wanted: list[int], data: st.DataObject
) -> None:
    before = np.array(table, dtype=np.uint8)
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table))))
    after = settled(before, wanted, rows, Reason.PINNED)
    for i, codes in enumerate(before.tolist()):
        possible = [a for a in wanted if codes[a] == 0]
        if not (rows[i] and possible):
            assert after[i].tolist() == codes
        else:
            assert [a for a in range(4) if after[i, a] == 0] == possible[:1]
            others = [a for a in range(4) if a != possible[0]]
            assert all(after[i, a] == (codes[a] or Reason.PINNED) for a in others)


def test_a_small_list_follows_its_own_rule() -> None:
    contexts = people(
        {"tier": "gold"}, {"tier": "gold", "service_consent_email": False}, {"tier": "iron"}
    )
    codes = judge(Scene(contexts, CATALOG, rules(), epoch()))
    lists = (SmallList("vip", "tier = 'gold'", ("tip", "push")), SmallList("all", "true", ("sms",)))
    after = with_lists(codes, lists, CATALOG, contexts)
    left = [[CATALOG.keys[k] for k in np.flatnonzero(row == 0)] for row in after]
    assert left == [["tip"], ["push"], ["sms"]]
    none = people({"tier": "gold", "is_suppressed": None})
    blocked = judge(Scene(none, CATALOG, rules(), epoch()))
    assert (with_lists(blocked, lists, CATALOG, none) == blocked).all()


# --- the log ---


def test_the_log_is_seen_at_once_and_by_all(tmp_path: Path) -> None:
    writer, reader = OverrideLog(tmp_path / "log"), OverrideLog(tmp_path / "log")
    assert reader.current() is NO_OVERRIDES
    made = writer.add(kind="pause", by="ann", why="stock", agent="growth")
    assert reader.current().standing == (made,)
    assert reader.current() is reader.current()
    writer.add(kind="release", by="bob", why="stock is here", releases=made.override_id)
    assert reader.current().standing == ()
    assert [o.kind for o in reader.read()] == ["pause", "release"]


def test_a_log_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    log = OverrideLog(tmp_path / "log")
    log.add(kind="pause", by="ann", why="stock", agent="growth")
    file = tmp_path / "log" / "00000001.log"
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    assert not log.current().is_known
    file.write_bytes(whole)
    assert log.current().is_known
    assert OverrideLog(tmp_path / "log").current().standing


# --- in a project ---


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("overrides") / "shop")


def run(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["override", *words, "--project", str(folder), "--json"])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.output) if code == 0 else {"said": result.output}
    return found


@pytest.fixture
def folder(shop: Shop) -> Iterator[Path]:
    yield shop.workspace.root
    for override in shop.workspace.overrides().standing:
        run(shop.workspace.root, "release", override.override_id, "--why", "the test has ended")


def test_the_command_line(folder: Path) -> None:
    given = run(folder, "pause", AGENT, "--by", "ann", "--why", "stock", "--until", "2026-12-01")
    (found,) = run(folder, "list")["overrides"]
    assert found.items() >= {
        "override_id": given["override_id"], "kind": "pause", "agent": AGENT, "by": "ann",
        "why": "stock", "until": "2026-12-01T00:00:00",
    }.items()  # fmt: skip
    other = run(folder, "pause", AGENT, "--why", "stock")
    assert "unknown override ''" in run(folder, "release", "", "--why", "x", code=2)["said"]
    ended = run(folder, "release", given["override_id"][:8], "--why", "it is here")
    assert ended == {"released": given["override_id"]}
    again = run(folder, "release", given["override_id"], "--why", "it is here", code=2)
    assert "has been released already" in again["said"]
    run(folder, "release", other["override_id"], "--why", "it is here")
    assert run(folder, "list")["overrides"] == []
    assert [o["kind"] for o in run(folder, "list", "--all")["overrides"]][-2:] == [
        "release", "release",
    ]  # fmt: skip


def printed(folder: Path, *words: str) -> str:
    result = CliRunner().invoke(main, ["override", *words, "--project", str(folder)])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_what_people_write_is_printed_as_it_is(folder: Path) -> None:
    run(folder, "exclude", "tier = '[/x] [red]'", "--why", "[/why]", "--by", "[b]")
    shown = printed(folder, "list")
    assert all(text in shown for text in ("'[/x]", "[red]'", "[/why]", "[b]"))


def test_an_override_that_has_ended_is_not_said_to_be_in_force(folder: Path) -> None:
    said = printed(folder, "pause", AGENT, "--why", "x", "--until", "2020-01-01")
    assert "is logged, but it ended on 2020-01-01 00:00 already" in said
    assert "(ended)" in printed(folder, "list")


def test_no_table_for_nothing(folder: Path) -> None:
    assert printed(folder, "list") == "No override is in force."
    assert printed(folder, "held") == "No decision waits for approval."
    assert printed(folder, "score").startswith("No override has changed a decision")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pause", "nobody"), "unknown agent 'nobody'"),
        (("freeze", AGENT, "nothing"), "unknown action or creative 'nothing'"),
        (("exclude", "tier = "), "is not a complete condition"),
        (("exclude", "teir = 'gold'"), "did you mean 'tier'"),
        (("release", "0123"), "unknown override '0123'"),
        (("pause", AGENT, "--by", " "), "--by is empty"),
    ],
)
def test_a_wrong_override_is_refused_and_not_logged(
    folder: Path, words: tuple[str, ...], said: str
) -> None:
    before = run(folder, "list", "--all")
    assert said.split("'")[0] in " ".join(run(folder, *words, "--why", "x", code=2)["said"].split())
    assert run(folder, "list", "--all") == before


def agents_with(shop: Shop, *decreed: Override) -> list[AgentInEpoch]:
    overrides = Overrides(decreed)
    return [replace(a, overrides=overrides.of(a.name)) for a in shop.agents]


Chosen = dict[str, tuple[Any, ...]]


def chosen(
    shop: Shop, agents: list[AgentInEpoch], moment: Epoch = EPOCH, contexts: Contexts | None = None
) -> Chosen:
    """The action, group and reasons of everybody."""
    people_ = shop.contexts if contexts is None else contexts
    made = decide_batch(people_, agents, moment, shop.project)
    return {
        d.customer_ids[i]: (a.plan.catalog.keys[d.action[i]], d.group[i], *d.reasons[i].tolist())
        for a, d in made
        for i in range(len(d))
    }


PIN = "push.save_for_later.none.h13"


def test_a_pin_is_for_the_treatment_and_for_whom_it_is_possible(shop: Shop) -> None:
    free = chosen(shop, shop.agents)
    agents = agents_with(shop, decree("pin", agent=AGENT, action=PIN, rule="tier = 'silver'"))
    (agent,) = (a for a in agents if a.name == AGENT)
    at = agent.plan.catalog.keys.index(PIN)
    tier = dict(zip(shop.contexts.customer_ids, shop.contexts.columns["tier"].values, strict=True))
    changed = 0
    for who, (action, group, *codes) in chosen(shop, agents).items():
        mine = len(codes) == len(agent.plan.catalog) and free[who][2 + at] == 0
        if mine and group == "treatment" and tier[who] == "silver":
            assert action == PIN
            changed += free[who][0] != PIN
        else:
            assert (action, group, *codes) == free[who]
    assert changed


def test_the_last_pin_wins(shop: Shop) -> None:
    """Where it is possible; elsewhere the one before holds."""
    decreed = [decree("pin", agent=AGENT, action=action) for action in (PIN, "welcome_tour")]
    free, pinned = (
        next(a for a in agents if a.name == AGENT)
        for agents in (shop.agents, agents_with(shop, *decreed))
    )
    ((_, before),), ((_, made),) = (
        decide_batch(shop.contexts, [agent], EPOCH, shop.project) for agent in (free, pinned)
    )
    catalog, mine = free.plan.catalog, made.group == "treatment"
    possible = before.reasons[mine] == Reason.ELIGIBLE
    tour = possible[:, actions_of(decreed[1], catalog)].any(axis=1)
    nudge = possible[:, catalog.keys.index(PIN)]
    chosen_ = np.array([catalog.actions[i].creative for i in made.action[mine]])
    assert (tour & nudge).any()
    assert (chosen_[tour] == "welcome_tour").all()
    assert (chosen_[nudge & ~tour] == "save_for_later").all()


def test_no_decision_violates_a_guardrail_in_any_order(shop: Shop) -> None:
    """Each guardrail is asked by itself, so none can hide behind another one's reason."""
    decreed = (
        decree("exclude", rule="country IS NULL"),
        decree("freeze", agent=AGENT, action="back_in_a_tap"),
        decree("pin", agent=AGENT, action=PIN),
        decree("pause", agent="win_back"),
    )
    agents = agents_with(shop, *decreed)
    together = chosen(shop, agents)
    shuffled = shop.contexts.take(np.random.default_rng(1).permutation(len(shop.contexts)))
    assert chosen(shop, agents, contexts=shuffled) == together
    some = shop.contexts.take(np.arange(0, len(shop.contexts), 7))
    alone = [chosen(shop, agents, contexts=some.take(np.array([i]))) for i in range(len(some))]
    assert {k: v for one in alone for k, v in one.items()} == {
        who: together[who] for who in some.customer_ids if who in together
    }
    asked = 0
    for agent, made in decide_batch(shop.contexts, agents, EPOCH, shop.project):
        order = {who: i for i, who in enumerate(shop.contexts.customer_ids)}
        rows = shop.contexts.take(np.array([order[who] for who in made.customer_ids], dtype=int))
        scene = Scene(
            rows, agent.plan.catalog, shop.project, EPOCH, None, agent.config, agent.overrides
        )
        for guardrail in GUARDRAILS.values():
            for may, actions in guardrail(scene):
                assert (may | ~np.isin(made.action, actions)).all(), guardrail.__name__
                asked += len(made)
    assert asked > 5_000


def test_one_customer_is_excluded_by_their_id(folder: Path, shop: Shop) -> None:
    """A rule may say who: in the check of the data, in the batch and in the service."""
    _, sent = shop.decide(shop.contexts)[0]
    who = sent.customer_ids[sent.action > 0][0]
    run(folder, "exclude", f"customer_id = '{who}'", "--why", "they asked us to")
    workspace, day = Workspace.open(folder), AS_OF + timedelta(days=1)
    with workspace.warehouse() as warehouse:
        assert check(workspace, warehouse, day, {}, write=False) == {}
        begun = epochs.begin(workspace, warehouse, day)
        agents = epochs.freeze(workspace, warehouse, begun)
        tables = list(decided(workspace, warehouse, agents, begun, lambda _: None))
    rows = {row["customer_id"]: row for table in tables for row in table.to_pylist()}
    assert rows[who]["action"] == "no_action"
    assert [i for i, row in rows.items() if Reason.EXCLUDED in row["reasons"]] == [who]

    states, now = {a.name: a.state for a in agents}, workspace.overrides()
    decider = Decider(workspace, states, is_stopped=False, overrides=now)
    index = shop.profiles["customer_id"].to_pylist().index(who)
    (profile,) = shop.profiles.slice(index, 1).to_pylist()
    made = decider.decide([("now", who, profile)], [a.name for a in agents], day)
    assert (made[who]["action"], made[who]["reasons"]) == ("no_action", rows[who]["reasons"])


def test_overrides_become_labels_and_are_scored(folder: Path, shop: Shop) -> None:
    """What would have been chosen without an override is what is chosen without it."""
    workspace = Workspace.open(folder)
    run(folder, "freeze", AGENT, "next_step", "--why", "wrong price")
    run(folder, "pin", AGENT, PIN, "--where", "consent_sms AND tier = 'silver'", "--why", "launch")
    run(folder, "exclude", "consent_sms AND tier = 'bronze'", "--why", "outage")
    run(folder, "pause", "first_to_second_purchase", "--why", "stock is late")
    with workspace.warehouse() as warehouse:
        begun = epochs.begin(workspace, warehouse, AS_OF)
        agents = epochs.freeze(workspace, warehouse, begun)
    without = [replace(a, overrides=NO_OVERRIDES) for a in agents]
    free = chosen(shop, without, begun.epoch)
    made = decide_batch(shop.contexts, without, begun.epoch, shop.project)
    turn = {who: agent.name for agent, d in made for who in d.customer_ids}
    decide_all(workspace, AS_OF)
    with workspace.warehouse() as warehouse:
        assert label(workspace, warehouse, AS_OF) > 0
        assert label(workspace, warehouse, AS_OF) == 0
        rows = warehouse.rows(
            "select d.customer_id, l.kind, l.action, d.action, l.model_action, l.override_id"
            " from nextmove_engine.override_labels l"
            " join nextmove_engine.decisions d using (decision_id)"
        )
        labelled = {row[0]: row for row in rows}
        assert {row[1] for row in rows} == {"freeze", "pin", "exclude", "pause"}
        standing_now = {o.override_id: o.kind for o in workspace.overrides().standing}
        for who, kind, action, done, model_action, override_id in rows:
            assert action == done != model_action == free[who][0]
            assert standing_now[override_id] == kind
        decided = warehouse.rows("select customer_id, agent, action from nextmove_engine.decisions")
        # Who was left nothing to send by an override has left the turn to another agent.
        assert any(agent != turn[who] for who, agent, _ in decided)
        for who, agent, done in decided:
            if agent == turn[who]:
                assert (who in labelled) is (done != free[who][0])
        assert score(workspace, warehouse) == []
        ((message, action, agent),) = warehouse.rows(
            "select decision_id, action, agent from nextmove_engine.decisions"
            " where action <> 'no_action' and group_name = 'treatment'"
            " order by decision_id limit 1"
        )
    stopped = run(folder, "stop", message, "--why", "we spoke")
    assert "too_late" not in stopped
    with workspace.warehouse() as warehouse:
        assert label(workspace, warehouse, AS_OF) == 1
        assert warehouse.rows(
            "select kind, agent, action, model_action, override_id"
            f" from nextmove_engine.override_labels where decision_id = '{message}'"
            " and kind = 'stop'"
        ) == [("stop", agent, "no_action", action, stopped["override_id"])]
        # Each is scored by what its decisions earned, once their outcome is settled.
        warehouse.rows(
            "create table nextmove.fct_decision_rewards as"
            " select decision_id, 0.5 as reward, substr(decision_id, 1, 1) < '8' as is_closed"
            " from nextmove_engine.decisions"
        )
        by_hand = {
            row[:2]: row[2:]
            for row in warehouse.rows(
                "select override_id, agent, any_value(kind), count(*),"
                " count(*) filter (substr(decision_id, 1, 1) < '8'),"
                " avg(model_value) filter (substr(decision_id, 1, 1) < '8')"
                " from nextmove_engine.override_labels group by 1, 2"
            )
        }
    scored = run(folder, "score")["overrides"]
    logged = {o["override_id"]: o["kind"] for o in run(folder, "list", "--all")["overrides"]}
    assert {s["kind"] for s in scored} == {"freeze", "pin", "exclude", "pause", "stop"}
    assert len(scored) == len(by_hand)
    for row in scored:
        kind, labels, settled_, expected = by_hand[row["override_id"], row["agent"]]
        assert (row["kind"], row["labels"], row["settled"]) == (kind, labels, settled_)
        assert logged[row["override_id"]] == kind
        assert row["earned"] == (0.5 if settled_ else None)
        assert row["expected"] == pytest.approx(expected)
    with workspace.warehouse() as warehouse:
        warehouse.rows("drop table nextmove.fct_decision_rewards")


def test_another_override_begins_another_epoch(folder: Path) -> None:
    """The rest of a date is decided under what holds now; who is decided stays decided."""
    workspace, tomorrow = Workspace.open(folder), AS_OF + timedelta(days=1)
    with workspace.warehouse() as warehouse:
        begun = epochs.begin(workspace, warehouse, tomorrow)
        agents = epochs.freeze(workspace, warehouse, begun)
        epochs.commit(workspace, warehouse, begun.epoch, agents)
        assert epochs.begin(workspace, warehouse, tomorrow).status == "open"
        made = run(folder, "pause", AGENT, "--why", "x")
        rest = epochs.begin(workspace, warehouse, tomorrow)
        assert (rest.status, rest.epoch.epoch_id != begun.epoch.epoch_id) == ("rest", True)
        run(folder, "release", made["override_id"], "--why", "x")
        assert epochs.begin(workspace, warehouse, tomorrow).epoch == begun.epoch


def test_an_override_ends_by_itself() -> None:
    override = decree("pause", until="2026-01-15T12:00:00")
    assert override.holds_at(NOON - timedelta(seconds=1))
    assert not override.holds_at(NOON)
    assert not override.holds_at(datetime(2027, 1, 1))
