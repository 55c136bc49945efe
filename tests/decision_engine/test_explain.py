"""Explanations: they say what the record says, for every kind of decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from decision_engine.config import Creative
from decision_engine.explain.case import Case
from decision_engine.explain.explanation import Counterfactual, Explanation, Replay, explanation
from decision_engine.explain.readers import READERS, Reader, text_for
from decision_engine.explain.reasons import REASON_TEXT, TO_CUSTOMER
from decision_engine.explain.told import Told
from decision_engine.explain.words import number, percent, reward, value_of, without_fields
from decision_engine.replay import chances, record_of
from decision_engine.types import Reason

CREATIVES = {
    "ideas": Creative("ideas", "email", "1", "Three things"),
    "hello": Creative("hello", "sms", "2", "Hello"),
}


def action(key: str, channel: str, creative: str, incentive: str, hour: int | None) -> Any:
    return {
        "key": key, "channel": channel, "creative": creative,
        "incentive": incentive, "send_hour": hour,
    }  # fmt: skip


ACTIONS = [
    action("no_action", "", "", "none", None),
    action("email.ideas.none.h09", "email", "ideas", "none", 9),
    action("email.ideas.ten_percent.h19", "email", "ideas", "ten_percent", 19),
    action("sms.hello.none.now", "sms", "hello", "none", None),
]
PLAN: dict[str, Any] = {
    "agents": {
        "win_back": {
            "policy_version": "v3",
            "family": "gaussian",
            "floor": 0.01,
            "features": ["log1p(days_since_last_order)", "email_click_rate", "tier=silver",
                         "tier=gold"],
            "actions": ACTIONS,
            "audience": "true",
            "time_to_live_hours": 24,
            "policies": {
                "treatment": {
                    "kind": "linear_thompson", "family": "gaussian", "floor": 0.01,
                    "preference": [0],
                },
                "holdout": {"kind": "fixed", "family": "fixed", "floor": 0.0, "preference": [0]},
            },
            "groups": [{"name": "treatment", "share": 0.7}, {"name": "holdout", "share": 0.1}],
        }
    },
    "arbiter_explore": 0.05,
}  # fmt: skip
RECORD: dict[str, Any] = {
    "decision_id": "3f2a",
    "epoch_id": "e1",
    "slot": "2026-03-08",
    "agent": "win_back",
    "customer_id": "c_17",
    "decided_at": datetime(2026, 3, 8, 0, 0),
    "group_name": "treatment",
    "policy": "linear_thompson",
    "policy_version": "v3",
    "action": "email.ideas.none.h09",
    "send_at": datetime(2026, 3, 8, 13, 0),
    "expires_at": datetime(2026, 3, 9, 13, 0),
    "p_agent": 1.0,
    "p_action": 0.62,
    "propensity": 0.62,
    "floor": 0.01,
    "mean": [0.02, 0.14, 0.11, 0.3],
    "sd": [0.01, 0.05, 0.06, 0.2],
    "share": [],
    "reasons": [0, 0, 0, 10],
    "x": [float(np.log1p(75)), 0.125, 0.0, 1.0],
    "facts": {"time_zone": "America/New_York", "tier": "gold", "sends_7d": 3, "sends_1d": 0},
}


def explain(
    record: Any, plan: Any, creatives: Any, receipts: Any = (), reader: Reader = "marketer"
) -> Explanation:
    case = Case(record, plan, creatives)
    return explanation(case, text_for(reader, Told(case, receipts)))


def text(**changes: Any) -> str:
    return explain({**RECORD, **changes}, PLAN, CREATIVES).text


WHOLE = """\
Win back chose email "Three things" at 9:00 for customer c_17 on 2026-03-08 00:00 UTC.
Seen: days since last order 75, email click rate 0.125, tier gold.
Possible: 3 of 4 moves, doing nothing included.
Ruled out: 1 move (sms hello), because the customer has had as many messages as the caps allow \
(so far 0 in 1 day, 3 in 7 days).
Why this one: the agent expected 0.140 ± 0.050 of reward from it; the next best, \
email "Three things" with ten percent at 19:00, promised 0.110 ± 0.060.
How sure: this move had a chance of 62 %. No possible move ever has less than 1 %, \
so all go on being tried.
Group: treatment (70 % of customers).
When: to leave at 2026-03-08 13:00 UTC, 09:00 on the customer's clock; \
worthless after 2026-03-09 13:00 UTC.
By: linear thompson, version v3, epoch e1, decision 3f2a."""


def test_the_whole_text_of_one_decision() -> None:
    assert text() == WHOLE


def test_a_wait_in_words() -> None:
    actions = [dict(a) for a in PLAN["agents"][RECORD["agent"]]["actions"]]
    for a, wait in zip(actions[1:], (1, 2, 0), strict=True):
        a["wait_days"] = wait
    actions[2]["send_hour"] = None
    agent = {**PLAN["agents"][RECORD["agent"]], "actions": actions}
    case = Case(RECORD, {**PLAN, "agents": {RECORD["agent"]: agent}}, CREATIVES)
    assert case.move(1) == 'email "Three things" in 1 day, at 9:00'
    assert case.move(2) == 'email "Three things" with ten percent in 2 days'


def test_handing_over_to_a_rep_in_words() -> None:
    agent = PLAN["agents"][RECORD["agent"]]
    call = action("rep.call_back.none.now", "rep", "call_back", "none", None)
    plan = {**PLAN, "agents": {RECORD["agent"]: {**agent, "actions": [*ACTIONS[:3], call]}}}
    creatives = {**CREATIVES, "call_back": Creative("call_back", "rep", "3", "Call them back")}
    chosen = {**RECORD, "action": call["key"], "reasons": [0, 0, 0, 0]}
    move = 'handing over to a rep "Call them back"'

    def told(record: Any, reader: Reader) -> str:
        return explain(record, plan, creatives, reader=reader).text

    assert f"Win back chose {move} for customer c_17" in told(chosen, "marketer")
    assert f"Customer c_17 is for you: {move} (decided" in told(chosen, "rep")
    assert "decided that somebody of ours should be in touch with you" in told(chosen, "customer")
    nobody = {**RECORD, "reasons": [0, 0, 0, int(Reason.UNREACHABLE)]}
    why = "there is no address for the channel (for a rep: no contact with an owner in the CRM)"
    ruled_out = f"Ruled out: 1 move (handing over to a rep call back), because {why}."
    assert ruled_out in told(nobody, "marketer")
    assert "Not now: handing over to a rep, because" in told(nobody, "rep")


def test_the_same_as_data() -> None:
    found = explain(RECORD, PLAN, CREATIVES)
    ruled_out = [(a.action, a.ruled_out_by) for a in found.alternatives]
    assert ruled_out == [
        ("no_action", None),
        ("email.ideas.none.h09", None),
        ("email.ideas.ten_percent.h19", None),
        ("sms.hello.none.now", "frequency_cap"),
    ]
    assert found.alternatives[1].expected == 0.14
    assert (found.next_best, found.propensity) == ("email.ideas.ten_percent.h19", 0.62)
    assert found.difference == pytest.approx(0.03)
    assert msgspec.json.decode(msgspec.json.encode(found))["text"] == found.text


def test_every_alternative_has_the_chance_that_the_record_gives_it() -> None:
    found = [a.chance for a in explain(RECORD, PLAN, CREATIVES).alternatives]
    assert found == chances(record_of(RECORD, PLAN))[0].tolist()
    assert found[3] == 0.0
    assert sum(found) == pytest.approx(1.0, abs=1e-12)
    half = explain({**RECORD, "p_agent": 0.5}, PLAN, CREATIVES)
    assert [a.chance for a in half.alternatives] == [p / 2 for p in found]


def test_a_move_that_was_tried_to_learn_is_called_that() -> None:
    tried = text(action="email.ideas.ten_percent.h19", p_action=0.3)
    assert '"Three things" at 9:00 promised more, 0.140 ± 0.050.' in tried
    assert "tries each move as often as it may be the best one" in tried


def test_what_was_ruled_out_never_counts_as_better() -> None:
    """The text message promised most of all, but it was not possible."""
    assert "0.300" not in text()


def test_doing_nothing() -> None:
    found = text(action="no_action", send_at=None)
    assert "Win back chose doing nothing for customer c_17" in found
    assert "When: nothing is sent." in found


def test_nothing_else_was_possible() -> None:
    found = text(action="no_action", send_at=None, reasons=[0, 3, 3, 3], p_action=1.0)
    assert "Possible: nothing but doing nothing, out of 4 moves." in found
    assert "Why this one: it was the only move that was possible." in found
    assert "Ruled out: 3 moves (email ideas, sms hello), because the customer objected" in found
    assert "No possible move ever" not in found


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("uniform", "every possible move has the same chance"),
        ("fixed", "a group with a fixed list"),
    ],
)
def test_groups_without_a_learned_policy(policy: str, why: str) -> None:
    nothing = [float("nan")] * 4
    record = {**RECORD, "policy": policy, "group_name": "holdout", "mean": nothing, "sd": nothing}
    found = explain(record, PLAN, CREATIVES)
    assert not found.contributions
    assert why in found.text
    assert "Group: holdout (10 % of customers)." in found.text
    assert "nan" not in found.text
    assert {a.expected for a in found.alternatives} == {None}


def test_beta_scores_are_not_called_reward() -> None:
    assert "expected 0.140 ± 0.050 as a score from 0 to 1" in text(policy="weighted_thompson")


def test_the_choice_between_agents_is_told() -> None:
    found = text(p_agent=0.975, propensity=0.975 * 0.62)
    assert "this agent a chance of 97.5 % among those that wanted the customer" in found
    assert "together 60.5 %" in found


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.ELIGIBLE])
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    assert REASON_TEXT[reason] in text(reasons=[0, 0, int(reason), 0])


def test_reasons_are_told_in_the_order_of_the_guardrails() -> None:
    found = text(reasons=[0, 0, 10, 4])
    assert found.index(REASON_TEXT[Reason.NO_CONSENT]) < found.index("caps allow")


def test_deliveries_are_told() -> None:
    receipt = {"status": "skipped", "reason": "no_consent", "at": datetime(2026, 3, 8, 13, 1)}
    found = explain(RECORD, PLAN, CREATIVES, [receipt]).text
    assert "Delivery: skipped (no_consent) at 2026-03-08 13:01 UTC." in found


def test_what_is_zero_is_seen_last() -> None:
    found = text(x=[0.0, 0.125, 1.0, 0.0])
    assert "Seen: email click rate 0.125, tier silver, days since last order 0." in found


def test_what_is_not_known_is_left_out() -> None:
    found = text(facts={}, x=[0.0, 0.0, 0.0, 0.0])
    assert "tier other or unknown" in found
    assert "on the customer's clock" not in found
    assert "caps allow." in found


def test_a_creative_that_was_taken_away_is_named_by_its_name() -> None:
    assert 'chose email "ideas" at 9:00' in explain(RECORD, PLAN, {}).text


def test_many_names_are_cut_short() -> None:
    many = [*ACTIONS, *(action(f"k{i}", "push", f"p{i}", "none", 9) for i in range(6))]
    plan = {**PLAN, "agents": {"win_back": {**PLAN["agents"]["win_back"], "actions": many}}}
    record = {**RECORD, "reasons": [0, 0, 0, 0] + [4] * 6, "mean": [0.0] * 10, "sd": [1.0] * 10}
    assert "(push p0, push p1, push p2, push p3, 2 more)" in explain(record, plan, CREATIVES).text


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_gets_a_text(reader: Reader) -> None:
    other = Counterfactual("tier", "gold", "silver", "no_action", "doing nothing", 1.0)
    receipt = {"status": "accepted", "reason": None, "at": datetime(2026, 3, 8, 13, 1)}
    case = Case(RECORD, PLAN, CREATIVES)
    told = text_for(reader, Told(case, [receipt], [other], Replay(True, 0.0), "digest"))
    assert "silver" in told
    assert "nan" not in told
    assert "{{" not in told
    assert (RECORD["customer_id"] in told) == (reader != "customer")


@pytest.mark.parametrize("entry", ["{} email", "{} email d{}"])
def test_messages_that_wait_are_counted(entry: str) -> None:
    waiting = ",".join(entry.format(n, n) for n in range(3))
    record = {**RECORD, "facts": {**RECORD["facts"], "messages_waiting": waiting}}
    found = explain(record, PLAN, CREATIVES).text
    assert "3 decided and yet to leave" in found


def test_the_customer_is_told_in_the_second_person_and_of_the_right_to_object() -> None:
    told = explain(RECORD, PLAN, CREATIVES, reader="customer").text
    assert TO_CUSTOMER[Reason.FREQUENCY_CAP] in told
    assert "the customer" not in told
    assert "You may object" in told
    assert RECORD["decision_id"] in told


def test_the_auditor_sees_every_action_every_input_and_a_replay_that_failed() -> None:
    case = Case(RECORD, PLAN, CREATIVES)
    told = text_for("auditor", Told(case, replayed=Replay(False, 0.25)))
    assert all(a["key"] in told for a in ACTIONS)
    assert all(name in told for name in PLAN["agents"]["win_back"]["features"])
    assert all(name in told for name in RECORD["facts"])
    assert "ANOTHER ACTION, probability off by 0.25" in told


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.ELIGIBLE])
def test_every_reason_has_a_sentence_for_the_customer(reason: Reason) -> None:
    assert "customer" not in TO_CUSTOMER[reason].replace("customers", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (75.0, "75"), (0.125, "0.125"), (15010.0, "15,010"), (1.501e7, "15,010,000"),
        (0.00001234, "0.00001234"), (-2.5, "-2.5"), (123.456, "123.5"), (float("nan"), "unknown"),
    ],
)  # fmt: skip
def test_numbers_have_no_exponent(value: float, shown: str) -> None:
    assert number(value) == shown


def test_rewards_have_the_decimals_that_their_spread_allows() -> None:
    assert reward(0.14, 0.05) == "0.140"
    assert reward(0.000123, 0.00004) == "0.000123"
    assert reward(0.03, 0.05, "+") == "+0.030"
    assert percent(0.00015) == "0.015 %"


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("One step left, {{ first_name }}", "One step left, [first name]"),
        ("{{${first_name} | default: 'there'}}, hello", "[first name], hello"),
        ('Hi {{defaultIfEmpty firstName "you"}}', "Hi [first name]"),
        ("{{profile.favouriteShop}} is open", "[favourite shop] is open"),
        ("{% if x %}Now{% endif %} open", "Now open"),
        ("Plain", "Plain"),
    ],
)
def test_what_the_sender_fills_in_is_named(subject: str, shown: str) -> None:
    assert without_fields(subject) == shown


def test_a_text_that_is_empty_is_told_as_none() -> None:
    assert [value_of(v) for v in ("", None, "lead", True, 0.0)] == [
        "none", "unknown", "lead", "yes", "0",
    ]  # fmt: skip
