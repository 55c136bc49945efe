"""The laws every policy keeps. `check_policy` raises AssertionError at the first broken one.

Tests run it on everything in `POLICIES`, so a new policy is checked without a test of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decision_engine.basis import usual
from decision_engine.choose import choose
from decision_engine.keys import decision_keys, draw_streams
from decision_engine.learn import (
    BUCKETS,
    Evidence,
    Rewards,
    buckets,
    fold,
    learn,
    subtract,
    update,
)
from decision_engine.policies import POLICIES, shares
from decision_engine.propensity import floor_of_rows, propensities
from decision_engine.replay import Records, replay, with_posterior
from decision_engine.state import PolicyState
from decision_engine.types import Bools, Floats, Ints, Keys, Reason

FLOOR = 0.02
FEATURES = ("recency", "spend", "is_member")
ACTIONS = ("no_action", "reminder", "discount", "gift")
UNITS = {
    "reminder": ("creative=plain", "channel=email"),
    "discount": ("creative=bright", "channel=email"),
    "gift": ("creative=bright", "channel=push"),
}
TRIALS = 4000
AS_OF, HALF_LIFE = 10 * 86_400.0, 6.0


@dataclass(frozen=True, eq=False)
class Case:
    """Inputs for one policy: n rows, k actions."""

    policy: str
    state: PolicyState
    actions: tuple[str, ...]
    keys: Keys
    x: Floats
    eligible: Bools

    def posterior(self) -> tuple[Floats, Floats]:
        """Mean and sd of the policy's posterior for the rows."""
        return POLICIES[self.policy].posterior(self.state, self.actions, self.x)

    def share(self) -> Floats | None:
        """What a policy of frozen samples draws by."""
        return shares(self.policy, self.state, self.actions, self.x, self.eligible)

    def choices(self) -> Ints:
        """The chosen actions (n,)."""
        law = (*self.posterior(), self.eligible, FLOOR, POLICIES[self.policy].FAMILY)
        return choose(self.keys, *law, draw_streams(self.actions), share=self.share())

    def probabilities(self) -> Floats:
        """P(action) (n, k)."""
        law = (*self.posterior(), self.eligible, FLOOR, POLICIES[self.policy].FAMILY)
        return propensities(*law, share=self.share())

    def take(self, rows: Ints) -> Case:
        """The given rows."""
        return Case(
            self.policy,
            self.state,
            self.actions,
            self.keys[rows],
            self.x[rows],
            self.eligible[rows],
        )


def sample_rewards(rng: np.random.Generator, n: int, k: int = len(ACTIONS)) -> Rewards:
    """Learnable decisions (n) with 0/1 rewards that depend on action and features."""
    customers = [f"customer-{i}" for i in rng.integers(0, max(1, n // 2), n)]
    x = np.column_stack([rng.normal(size=n), rng.exponential(size=n), rng.random(n) < 0.3])
    action = rng.integers(0, k, n)
    closed = rng.random(n) < 0.7
    chance = 1 / (1 + np.exp(2 - 0.3 * action - 0.4 * x[:, 0] * (action == 1)))
    return Rewards(
        x=x,
        action=action,
        reward=(rng.random(n) < chance).astype(np.float64),
        weight=np.where(closed, 1.0, rng.uniform(0.1, 1.0, n)),
        is_closed=closed,
        bucket=buckets(customers),
        order=rng.permutation(n),
        decided_at=rng.uniform(0, 10 * 86_400, n),
    )


def sample_case(policy: str, rng: np.random.Generator, n: int) -> Case:
    """A case with a learned state in which the last action is new to the policy."""
    state = learn(
        None,
        [sample_rewards(rng, 800, len(ACTIONS) - 1)],
        agent="welcome",
        policy=policy,
        actions=ACTIONS[:-1],
        features=FEATURES,
        as_of=AS_OF,
        units=UNITS,
    )
    eligible = rng.random((n, len(ACTIONS))) < 0.7
    eligible[:, 0] = True
    keys, _ = decision_keys("a salt of the tests", "welcome", "s", [str(i) for i in range(n)])
    return Case(policy, state, ACTIONS, keys, rng.normal(size=(n, len(FEATURES))), eligible)


def check_policy(policy: str, seed: int = 1, n: int = 97) -> None:
    """Run every law on a policy of `POLICIES`. Raises AssertionError."""
    rng = np.random.default_rng(seed)
    case = sample_case(policy, rng, n)
    check_probabilities(case)
    check_rows_are_independent(case, rng)
    check_actions_are_independent(case)
    check_single_action(case)
    check_weights(case)
    check_shares_are_exact(case)
    check_replay(case)
    check_merge(policy, rng)
    check_subtraction(policy, rng)


def check_probabilities(case: Case) -> None:
    """Rows sum to 1, masked actions have 0, choices are possible, Thompson keeps the floor."""
    p, chosen = case.probabilities(), case.choices()
    _require(np.allclose(p.sum(axis=1), 1.0, rtol=0, atol=1e-12), "rows must sum to 1")
    _require((p[~case.eligible] == 0).all(), "a masked action must have probability 0")
    _require((p[np.arange(len(p)), chosen] > 0).all(), "a chosen action must have been possible")
    if POLICIES[case.policy].FAMILY not in ("uniform", "fixed"):
        least = floor_of_rows(case.eligible, FLOOR)[:, None]
        _require((p >= least - 1e-15)[case.eligible].all(), "the floor must be kept")


def check_rows_are_independent(case: Case, rng: np.random.Generator) -> None:
    """A row has the same posterior, choice and probabilities alone and in any batch."""
    mean, sd = case.posterior()
    chosen, p = case.choices(), case.probabilities()
    order = rng.permutation(len(chosen))
    for rows in (order, order[:1], order[1:9], order[9:40]):
        part = case.take(rows)
        _require(np.array_equal(part.posterior()[0], mean[rows]), "mean must not see the batch")
        _require(np.array_equal(part.posterior()[1], sd[rows]), "sd must not see the batch")
        _require(np.array_equal(part.choices(), chosen[rows]), "the draw must not see the batch")
        _require(np.abs(part.probabilities() - p[rows]).max() <= 1e-15, "nor the propensity")


def check_actions_are_independent(case: Case) -> None:
    """An action that is new but not possible changes no choice, wherever it stands in the list."""
    eligible = np.insert(case.eligible, 1, False, axis=1)
    actions = (case.actions[0], "just_added", *case.actions[1:])
    wider = Case(case.policy, case.state, actions, case.keys, case.x, eligible)
    names = np.array(case.actions)[case.choices()]
    _require((np.array(actions)[wider.choices()] == names).all(), "draws belong to action keys")
    p = np.delete(wider.probabilities(), 1, axis=1)
    _require(np.abs(p - case.probabilities()).max() <= 1e-12, "as do probabilities")


def check_single_action(case: Case) -> None:
    """With one possible action its probability is 1 and it is chosen."""
    only = np.zeros_like(case.eligible)
    only[:, 0] = True
    single = Case(case.policy, case.state, case.actions, case.keys, case.x, only)
    _require((single.choices() == 0).all(), "the only possible action must be chosen")
    _require(np.abs(single.probabilities()[:, 0] - 1).max() <= 1e-15, "with probability 1")


def check_weights(case: Case) -> None:
    """What each feature adds to the mean adds up to it."""
    mean, _ = case.posterior()
    weights, theta = POLICIES[case.policy].weights(case.state, case.actions), case.state.theta
    z = np.column_stack([np.ones(len(case.x)), (case.x - theta.feature_mean) / theta.feature_scale])
    parts = z @ weights.T * usual(case.x, theta.usual)[:, None]
    _require(np.allclose(parts, mean, rtol=0, atol=1e-9), "parts must add up to the mean")


def check_shares_are_exact(case: Case) -> None:
    """Many people with one context: each action is chosen as often as its probability says."""
    row = np.zeros(TRIALS, dtype=np.int64)
    keys, _ = decision_keys("another salt", "welcome", "s", [str(i) for i in range(TRIALS)])
    crowd = replace(case.take(row), keys=keys)
    p = case.take(row[:1]).probabilities()[0]
    off = np.bincount(crowd.choices(), minlength=len(p)) - TRIALS * p
    # Five standard deviations, and five counts more for actions of almost no chance.
    _require((np.abs(off) <= 5 * np.sqrt(TRIALS * p * (1 - p)) + 5).all(), "shares must be exact")


def check_replay(case: Case) -> None:
    """The record alone gives the action and the propensity; the state gives the record."""
    reasons = np.where(case.eligible, Reason.ELIGIBLE, Reason.NO_CONSENT).astype(np.uint8)
    ids = [f"{key:016x}" for key in case.keys.tolist()]
    law = (case.actions, case.policy, FLOOR, *case.posterior(), reasons, np.ones(len(ids)))
    logged = Records(ids, *law, share=case.share())
    again, chosen = replay(logged), case.choices()
    p = case.probabilities()[np.arange(len(chosen)), chosen]
    _require(np.array_equal(again.action, chosen), "the record must give the action")
    _require(np.abs(again.p_action - p).max() <= 1e-12, "the record must give the propensity")
    made = with_posterior(logged, case.state, case.x)
    for name in ("mean", "sd", "share"):
        before, after = getattr(logged, name), getattr(made, name)
        _require(before is after or np.array_equal(before, after), f"the state must give {name}")


def check_merge(policy: str, rng: np.random.Generator) -> None:
    """Two workers' sums add up to the same posterior, to the last bit."""
    rows, x = sample_rewards(rng, 900), rng.normal(size=(9, len(FEATURES)))
    lower, upper = (_fold(rows.take(rows.bucket // (BUCKETS // 2) == i)) for i in (0, 1))
    whole, merged = (
        POLICIES[policy].posterior(_learned(policy, evidence), ACTIONS, x)
        for evidence in (_fold(rows), lower + upper)
    )
    _require(all(np.array_equal(a, b) for a, b in zip(whole, merged, strict=True)), "sums must add")


def check_subtraction(policy: str, rng: np.random.Generator) -> None:
    """A state without a person is the one that never knew the person, at equal settings."""
    rows = sample_rewards(rng, 900)
    gone = rows.bucket == rows.bucket[0]
    everyone = _learned(policy, _fold(rows))
    without = subtract(everyone, rows.take(gone), ACTIONS)
    never = _learned(policy, _fold(rows.take(~gone)))
    for part in ("closed", "open"):
        for name in ("count", "square", "gram", "moment"):
            a, b = (getattr(getattr(state, part), name) for state in (without, never))
            _require(np.allclose(a, b, rtol=1e-9, atol=1e-9), "a person must come out again")


def _fold(rows: Rewards) -> Evidence:
    return fold([rows], len(ACTIONS), len(FEATURES), AS_OF, HALF_LIFE)


def _learned(policy: str, evidence: Evidence) -> PolicyState:
    prior = PolicyState.initial("welcome", policy, ACTIONS, FEATURES, half_life_days=HALF_LIFE)
    start = prior.with_units(UNITS)
    return update(start, evidence, ACTIONS, policy, AS_OF, half_life_days=HALF_LIFE)


def _require(holds: object, law: str) -> None:
    if not holds:
        raise AssertionError(law)
