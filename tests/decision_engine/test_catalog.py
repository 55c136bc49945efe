"""From an agent's file to its actions."""

from __future__ import annotations

import pytest

from decision_engine.catalog import action_key, catalog_of
from decision_engine.config import Agent, AgentAction, Creative, Incentive, Outcome

CREATIVES = {
    "note": Creative("note", "email", "1", "A note"),
    "sorry": Creative("sorry", "sms", "2", "Sorry", promotional=False, resolution=True),
}
INCENTIVES = (Incentive("ten_percent", "Ten percent"),)


def agent(*actions: AgentAction) -> Agent:
    return Agent("hello", "Say hello", "true", (Outcome("order", 1.0),), actions)


def test_no_action_first_then_creative_by_incentive_by_hour() -> None:
    catalog = catalog_of(
        agent(AgentAction("note", ("none", "ten_percent"), (9, 19)), AgentAction("sorry")),
        CREATIVES,
        INCENTIVES,
    )
    assert catalog.keys == (
        "no_action",
        "email.note.none.h09",
        "email.note.none.h19",
        "email.note.ten_percent.h09",
        "email.note.ten_percent.h19",
        "sms.sorry.none.now",
    )


def test_each_wait_is_an_action_of_its_own_and_no_wait_changes_no_key() -> None:
    creative = CREATIVES["note"]
    found = catalog_of(
        agent(AgentAction("note", send_hours=(9, 19), wait_days=(0, 2))), CREATIVES, INCENTIVES
    )
    assert found.keys[1:] == (
        "email.note.none.h09",
        "email.note.none.h09.d2",
        "email.note.none.h19",
        "email.note.none.h19.d2",
    )
    assert [a.wait_days for a in found.actions[1:]] == [0, 2, 0, 2]
    assert list(found.by_time) == [(9, 0), (9, 2), (19, 0), (19, 2)]
    assert action_key(creative, "none", None, 0) == "email.note.none.now"
    assert action_key(creative, "none", None, 5) == "email.note.none.d5"


def test_an_action_knows_what_its_creative_is() -> None:
    entry = AgentAction("sorry", send_hours=(8,), eligible_if="tier = 'gold'")
    found = catalog_of(agent(entry), CREATIVES, INCENTIVES).actions[1]
    assert (found.channel, found.send_hour, found.eligible_if) == ("sms", 8, "tier = 'gold'")
    assert found.is_resolution
    assert not found.is_promotional


@pytest.mark.parametrize("entry", [AgentAction("nothing"), AgentAction("note", ("half_off",))])
def test_unknown_names_are_errors(entry: AgentAction) -> None:
    with pytest.raises(KeyError):
        catalog_of(agent(entry), CREATIVES, INCENTIVES)


def test_the_same_action_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="distinct"):
        catalog_of(agent(AgentAction("note"), AgentAction("note")), CREATIVES, INCENTIVES)
