"""What a message teaches that was chosen and then kept back, where the truth is known."""

from __future__ import annotations

import re

import numpy as np

from decision_engine.build import package_folder
from decision_engine.guardrails import (
    EXPIRED,
    GUARDRAILS,
    NOT_APPROVED,
    OVERRIDDEN,
    REASON_NAMES,
    UNKNOWN_AGENT,
    UNKNOWN_PERSON,
)
from decision_engine.learn import learn_anew
from decision_engine.policies import POLICIES
from decision_engine.types import Bools, Reason
from tests.rewards import closed

POLICY = "linear_thompson"
N = 8_000


def test_what_was_kept_back_counts_for_its_action() -> None:
    """Two fifths turn away while a message waits, and most of them it then does not reach.

    They buy less anyway, which no feature says.
    """
    rng = np.random.default_rng(4)
    turns_away, action = rng.random(N) < 0.4, rng.integers(0, 2, N)
    is_kept_back = (action == 1) & turns_away & (rng.random(N) < 0.8)
    is_reached = (action == 1) & ~is_kept_back
    reward = np.where(turns_away, 0.1, 0.5) + 0.1 * is_reached + rng.normal(0, 0.2, N)
    of_choosing_it = 0.1 * (0.6 + 0.4 * 0.2)

    def learned(rows: Bools) -> float:
        state = learn_anew(
            [closed(np.zeros((N, 1))[rows], action[rows], reward[rows])],
            agent="a",
            policy=POLICY,
            actions=("no_action", "email.call.none.d2"),
            features=("x",),
            as_of=0.0,
        )
        policy = POLICIES[POLICY]
        mean, _ = policy.posterior(state, state.actions, np.zeros((1, 1)))
        nothing, message = policy.in_rewards(state, mean)[0].tolist()
        return float(message - nothing)

    assert abs(learned(np.ones(N, dtype=bool)) - of_choosing_it) < 0.02
    assert learned(~is_kept_back) > of_choosing_it + 0.1, "of whom it reached only"


def test_what_is_ours_is_named_as_receipts_name_it() -> None:
    sql = (package_folder() / "models" / "marts" / "fct_decision_rewards.sql").read_text()
    (ours,) = re.findall(r"set ours = \[(.+?)\]", sql, re.DOTALL)
    at_send = {EXPIRED, NOT_APPROVED, OVERRIDDEN, UNKNOWN_AGENT, UNKNOWN_PERSON, "erased"}
    known = at_send | {REASON_NAMES[r] for r in (*GUARDRAILS, Reason.BUDGET)}
    assert set(re.findall(r"'(\w+)'", ours)) <= known
