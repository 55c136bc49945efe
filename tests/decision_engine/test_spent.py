"""What we spend, in the units of the reward, by what it is spent on."""

from __future__ import annotations

from pathlib import Path

import pytest

from decision_engine.build import weights_of, write_agent_outcomes
from decision_engine.config import Outcome
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace


def test_a_dollar_weighs_the_same_wherever_it_goes(tmp_path: Path) -> None:
    init(tmp_path / "shop", "shop", salt="spent-salt-0123456")
    workspace = Workspace.open(tmp_path / "shop")
    project = workspace.project
    assert weights_of(Outcome("order", 1.0, per="dollar"), project) == [("", 1.0)]
    by_channel = dict(weights_of(Outcome("message", -0.05, per="dollar"), project))
    assert by_channel == {"email": -0.05 * 0.001, "push": 0.0, "sms": -0.05 * 0.04}
    assert set(dict(weights_of(Outcome("message", -0.01), project)).values()) == {-0.01}
    by_name = dict(weights_of(Outcome("incentive", -0.05, per="dollar"), project))
    prices = {i.incentive: -0.05 * i.cost_cents / 100 for i in project.incentives}
    assert by_name == pytest.approx(prices)

    with workspace.warehouse() as warehouse:
        write_agent_outcomes(workspace, warehouse)
        found = warehouse.rows(
            f"select event, spent_on, weight from {workspace.engine('agent_outcomes')}"
            " where agent = 'win_back' and spent_on is not null order by 1, 2"
        )
    assert [tuple(row[:2]) for row in found] == [
        *(("incentive", name) for name in sorted(by_name)),
        *(("message", name) for name in sorted(by_channel)),
    ]
