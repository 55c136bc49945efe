"""Learning when builds, configuration and clocks do not line up."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from decision_engine.batch import decide_all
from decision_engine.epochs import begin, freeze, read_state
from decision_engine.features import feature_names
from decision_engine.training import learn_all
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight

AGENT = "onboarding_activation"
CLOSING = midnight(3)
HALF_AN_HOUR = timedelta(minutes=30)


def rewards_as_of(workspace: Workspace, as_of: datetime, window_hours: int) -> None:
    """The rewards as dbt would build them, had every decision been carried out."""
    age = f"epoch(timestamp '{as_of}' - decided_at) / 3600.0"
    with workspace.warehouse() as warehouse:
        warehouse.rows(
            f"update {workspace.engine('agent_outcomes')} set window_hours = {window_hours}"
        )
        warehouse.rows(
            f"create or replace table {workspace.model('fct_decision_rewards')} as"
            " select decision_id, agent, decided_at as starts_at,"
            " (p_action > 0.2)::double as credited_reward,"
            f" decided_at + interval ({window_hours}) hour as closes_at,"
            f" {age} as age_hours, {age} >= {window_hours} as is_closed,"
            f" least(1.0, {age} / {window_hours}) as delay_weight, true as is_learnable"
            f" from {workspace.engine('decisions')}"
        )


def learned(workspace: Workspace) -> tuple[int, int]:
    """Closed and open decisions in the agent's state."""
    with workspace.warehouse() as warehouse:
        state = read_state(workspace, warehouse, AGENT)
    assert state is not None
    return int(state.closed.count.sum()), int(state.open.count.sum())


def test_learning_long_after_a_build_loses_no_decision(project: Path) -> None:
    workspace = Workspace.open(project)
    n = decide_all(workspace, midnight(0))["agents"][AGENT]["decisions"]
    rewards_as_of(workspace, CLOSING - HALF_AN_HOUR, 72)
    learn_all(workspace, CLOSING + HALF_AN_HOUR)
    assert learned(workspace) == (0, n)

    rewards_as_of(workspace, CLOSING + 2 * HALF_AN_HOUR, 72)
    learn_all(workspace, CLOSING + 2 * HALF_AN_HOUR)
    assert learned(workspace) == (n, 0)


def test_a_longer_window_counts_no_decision_twice(project: Path) -> None:
    workspace = Workspace.open(project)
    n = decide_all(workspace, midnight(0))["agents"][AGENT]["decisions"]
    for day, window in ((3, 72), (6, 168), (8, 168)):
        rewards_as_of(workspace, midnight(day), window)
        learn_all(workspace, midnight(day))
        assert sum(learned(workspace)) == n
    assert learned(workspace) == (n, 0)


def test_who_is_erased_takes_nobody_along(project: Path) -> None:
    """Who is decided for together is closed together, with the last: it may have been theirs."""
    workspace = Workspace.open(project)
    n = decide_all(workspace, midnight(0))["agents"][AGENT]["decisions"]
    rewards_as_of(workspace, midnight(4), 72)
    with workspace.warehouse() as warehouse:
        warehouse.rows(
            f"update {workspace.model('fct_decision_rewards')} set"
            " closes_at = closes_at + interval 2 day, is_closed = false"
        )
    learn_all(workspace, midnight(4))
    assert learned(workspace) == (0, n)
    for day in (6, 7):
        rewards_as_of(workspace, midnight(day), 72)
        learn_all(workspace, midnight(day))
        assert learned(workspace) == (n, 0)


def test_a_changed_context_starts_from_the_prior(project: Path) -> None:
    workspace = Workspace.open(project)
    decide_all(workspace, midnight(0))
    rewards_as_of(workspace, CLOSING, 72)
    learn_all(workspace, CLOSING)
    path = project / "agents" / f"{AGENT}.yml"
    # As many features as before: only their names tell that old weights mean nothing now.
    path.write_text(path.read_text().replace("{column: cross_channel_intent}", "{column: step}"))
    workspace = Workspace.open(project)
    learn_all(workspace, CLOSING)

    with workspace.warehouse() as warehouse:
        begun = begin(workspace, warehouse, midnight(1))
        agents = {a.name: a for a in freeze(workspace, warehouse, begun)}
    state = agents[AGENT].state
    assert state.features == feature_names(workspace.agents[AGENT].context)
    assert state.closed.count.sum() == state.open.count.sum() == 0
