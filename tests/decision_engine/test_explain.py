"""Explanations: they say what the record says, for every kind of decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from decision_engine.config import Creative
from decision_engine.explain import REASON_TEXT, explain
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
    "reasons": [0, 0, 0, 10],
    "x": [float(np.log1p(75)), 0.125, 0.0, 1.0],
    "facts": {"time_zone": "America/New_York", "tier": "gold", "sends_7d": 3, "sends_1d": 0},
}


def text(**changes: Any) -> str:
    return explain({**RECORD, **changes}, PLAN, CREATIVES).text


WHOLE = """\
Win back chose email "Three things" at 9:00 for customer c_17 on 2026-03-08 00:00 UTC.
Seen: days since last order 75, email click rate 0.125, tier gold.
Possible: 3 of 4 moves, doing nothing included.
Ruled out: 1 move (sms hello), because the customer has had as many messages as the caps allow: \
0 in 1 day, 3 in 7 days.
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


def test_the_same_as_data() -> None:
    found = explain(RECORD, PLAN, CREATIVES)
    assert found.possible == ["no_action", "email.ideas.none.h09", "email.ideas.ten_percent.h19"]
    assert found.blocked == {"frequency_cap": ["sms.hello.none.now"]}
    assert (found.expected, found.uncertainty, found.propensity) == (0.14, 0.05, 0.62)
    assert msgspec.json.decode(msgspec.json.encode(found))["text"] == found.text


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
    assert why in found.text
    assert "Group: holdout (10 % of customers)." in found.text
    assert "nan" not in found.text
    assert found.expected is None


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
