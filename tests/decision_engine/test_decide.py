from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta as beta_law
from scipy.stats import chi2, norm

from decision_engine import config
from decision_engine.choose import choose
from decision_engine.decide import AgentPlan, Candidates, arbitrate, decide, values
from decision_engine.keys import customer_keys, decision_keys, draw_streams, streams, uniforms
from decision_engine.policies import POLICIES
from decision_engine.propensity import beta_parameters, floor_of_rows, propensities
from decision_engine.replay import Records, replay, with_posterior
from decision_engine.send_times import SendTimes
from decision_engine.testing import ACTIONS, FEATURES, sample_case
from decision_engine.types import Action, Catalog, Decisions, Family, Floats, Ints, Keys, Reason

SALT = "a salt for the tests"
N = 20_000
CATALOG = Catalog(tuple(Action(key) for key in ACTIONS))


def keys_for(n: int = N, slot: str = "s") -> Keys:
    return decision_keys(SALT, "welcome", slot, [f"c{i}" for i in range(n)])[0]


def exact(mean: Floats, sd: Floats, family: Family) -> Floats:
    """P(largest) of independent draws by scipy's adaptive quadrature with breakpoints."""
    if family == "beta":
        alpha, beta = beta_parameters(mean, sd)
        arms = [beta_law(a, b) for a, b in zip(alpha, beta, strict=True)]
    else:
        arms = [norm(m, s) for m, s in zip(mean, sd, strict=True)]
    levels = (1e-10, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-10)
    cuts = np.unique([arm.ppf(u) for arm in arms for u in levels])

    def chance(arm: int) -> float:
        def density(t: float) -> float:
            others = [o.cdf(t) for i, o in enumerate(arms) if i != arm]
            return float(arms[arm].pdf(t) * np.prod(others))

        return float(sum(quad(density, a, b, epsabs=1e-8)[0] for a, b in pairwise(cuts)))

    return np.array([chance(arm) for arm in range(len(mean))])


def assert_shares(chosen: Ints, p: Floats) -> None:
    """Chi-square at 1e-6 over the arms that are expected at least five times."""
    expected = p * len(chosen)
    found = np.bincount(chosen, minlength=len(p))
    likely = expected >= 5
    statistic = ((found - expected)[likely] ** 2 / expected[likely]).sum()
    assert statistic < chi2.isf(1e-6, max(likely.sum() - 1, 1)), (found, expected)
    assert found[~likely].sum() < 5 * (~likely).sum() + 10


@pytest.mark.parametrize("policy", ["linear_thompson", "weighted_thompson"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shares_of_one_context_are_exact(policy: str, seed: int) -> None:
    case = sample_case(policy, np.random.default_rng(seed), 1)
    mean, sd = (np.repeat(part, N, axis=0) for part in case.posterior())
    every = np.ones(mean.shape, dtype=bool)
    family = POLICIES[policy].FAMILY
    p = exact(mean[0], sd[0], family)
    assert np.abs(propensities(mean[:1], sd[:1], every[:1], 0.0, family)[0] - p).max() < 1e-3
    for floor in (0.0, 0.03):
        chosen = choose(keys_for(), mean, sd, every, floor, family, draw_streams(ACTIONS))
        assert_shares(chosen, floor + (1 - len(p) * floor) * p)


@pytest.mark.parametrize("family", ["gaussian", "beta"])
def test_shares_of_mixed_scales_are_exact(family: Family) -> None:
    mean = np.array([[0.10, 0.12, 0.50, 0.05, 0.11]]).repeat(N, axis=0)
    sd = np.array([[0.001, 0.05, 0.28, 0.04, 0.01]]).repeat(N, axis=0)
    every = np.ones(mean.shape, dtype=bool)
    chosen = choose(keys_for(), mean, sd, every, 0.0, family, draw_streams(list("abcde")))
    assert_shares(chosen, exact(mean[0], sd[0], family))


@pytest.mark.parametrize("family", ["gaussian", "beta"])
def test_draws_of_different_arms_are_uncorrelated(family: Family) -> None:
    """Which arm wins against a constant must not depend on whether another arm does."""
    mean = np.array([[0.5, 0.5, 0.5]]).repeat(N, axis=0)
    sd = np.array([[1e-9, 0.1, 0.1]]).repeat(N, axis=0)
    wins = []
    for arm in (1, 2):
        pair = np.zeros(mean.shape, dtype=bool)
        pair[:, [0, arm]] = True
        wins.append(
            choose(keys_for(), mean, sd, pair, 0.0, family, draw_streams(list("abc"))) == arm
        )
    assert abs(np.corrcoef(wins)[0, 1]) < 0.02


@pytest.mark.parametrize("family", ["gaussian", "uniform"])
def test_the_floor_branch_is_even_among_the_eligible(family: Family) -> None:
    eligible = np.array([[True, False, True, True]]).repeat(N, axis=0)
    mean = np.array([[9.0, 8.0, 0.0, 0.0]]).repeat(N, axis=0)
    sd = np.full(mean.shape, 1e-3)
    chosen = choose(keys_for(), mean, sd, eligible, 0.2, family, draw_streams(list("abcd")))
    floor = float(floor_of_rows(eligible, 0.2)[0])
    greedy, even = [1 - 2 * floor, 0, floor, floor], [1 / 3, 0, 1 / 3, 1 / 3]
    p = np.array(greedy if family == "gaussian" else even)
    assert_shares(chosen, p)


def test_the_choice_is_independent_of_other_slots_and_agents() -> None:
    mean, sd = np.zeros((N, 2)), np.ones((N, 2))
    every = np.ones((N, 2), dtype=bool)
    picks = [
        choose(keys_for(slot=s), mean, sd, every, 0.0, "gaussian", draw_streams(["a", "b"]))
        for s in ("monday", "tuesday")
    ]
    assert abs(np.corrcoef(picks[0], picks[1])[0, 1]) < 0.035


def test_nothing_eligible_is_refused() -> None:
    none = np.zeros((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="eligible"):
        choose(keys_for(2), np.zeros((2, 2)), np.ones((2, 2)), none, 0.1, "gaussian", keys_for(2))


def test_the_arbiter_follows_its_law() -> None:
    keys = customer_keys(SALT, "arbiter\x1fs", [f"c{i}" for i in range(N)])
    value = np.array([[0.1, 0.3, 0.2]]).repeat(N, axis=0)
    available = np.array([[True, True, True]]).repeat(N, axis=0)
    agent, p = arbitrate(keys, value, available, 0.3)
    assert_shares(agent, np.array([0.1, 0.8, 0.1]))
    assert set(np.round(p[agent == 1], 12)) == {0.8}
    assert set(np.round(p[agent != 1], 12)) == {0.1}


def test_the_arbiter_with_one_or_no_agent() -> None:
    available = np.array([[False, True], [False, False], [True, True]])
    agent, p = arbitrate(keys_for(3), np.array([[9.0, 1], [9, 1], [0, 0]]), available, 0.0)
    assert agent.tolist() == [1, -1, 0]
    assert p.tolist() == [1.0, 1.0, 1.0]


def candidates(n: int, seed: int = 1) -> tuple[AgentPlan, Candidates]:
    rng = np.random.default_rng(seed)
    case = sample_case("linear_thompson", rng, n)
    keys, ids = decision_keys(SALT, "welcome", "s", [f"c{i}" for i in range(n)])
    customers = np.array([f"c{i}" for i in range(n)], dtype=object)
    rows = Candidates(
        keys=keys,
        slots=np.full(n, "s", dtype=object),
        decision_ids=ids,
        customer_ids=customers,
        group=rng.choice(np.array(["treatment", "random", "usual", "holdout"], dtype=object), n),
        reasons=np.where(case.eligible, Reason.ELIGIBLE, Reason.NO_CONSENT).astype(np.uint8),
        x=case.x,
        times=SendTimes(
            np.tile([np.nan, *(np.arange(1, len(ACTIONS)) * 3600.0)], (n, 1)),
            np.tile([-1, *range(1, len(ACTIONS))], (n, 1)),
            np.ones(n, dtype=bool),
            np.arange(len(ACTIONS)),
        ),
        p_agent=rng.uniform(0.5, 1, n),
    )
    policies: dict[str, config.Policy] = {
        "treatment": config.LinearThompson(floor=0.02),
        "random": config.UniformPolicy(),
        "usual": config.FixedPolicy(actions=("gift", "reminder")),
        "holdout": config.FixedPolicy(),
    }
    return AgentPlan("welcome", CATALOG, policies, case.state), rows


def part(rows: Candidates, at: slice) -> Candidates:
    arrays = {
        name: getattr(rows, name)[at]
        for name in Candidates.__dataclass_fields__
        if name not in ("facts", "times")
    }
    return replace(rows, times=rows.times.take(np.arange(len(rows.keys))[at]), **arrays)


def test_groups_get_their_own_policy() -> None:
    plan, rows = candidates(400)
    made = decide(plan, rows)
    eligible = rows.reasons == Reason.ELIGIBLE
    assert (made.action[rows.group == "holdout"] == 0).all()
    usual = rows.group == "usual"
    expected = np.where(eligible[:, 3], 3, np.where(eligible[:, 1], 1, 0))
    assert np.array_equal(made.action[usual], expected[usual])
    random = rows.group == "random"
    assert np.allclose(made.p_action[random], 1 / eligible[random].sum(axis=1))
    assert np.isnan(made.mean[~(rows.group == "treatment")]).all()
    assert np.isfinite(made.mean[rows.group == "treatment"]).all()
    assert eligible[np.arange(400), made.action].all()
    assert np.array_equal(made.propensity, made.p_agent * made.p_action)
    assert np.array_equal(np.isnan(made.send_at), made.action == 0)


def test_one_row_decides_as_it_does_in_a_batch() -> None:
    plan, rows = candidates(60)
    whole = decide(plan, rows)
    for i in range(0, 60, 7):
        one = decide(plan, part(rows, slice(i, i + 1)))
        assert one.action[0] == whole.action[i]
        assert abs(one.p_action[0] - whole.p_action[i]) <= 1e-15
        assert np.array_equal(one.mean[0], whole.mean[i], equal_nan=True)
        assert np.array_equal(one.sd[0], whole.sd[i], equal_nan=True)


def test_propensity_can_wait_and_no_rows_are_fine() -> None:
    plan, rows = candidates(40)
    lazy = decide(plan, rows, with_propensity=False)
    assert np.array_equal(lazy.action, decide(plan, rows).action)
    assert np.isnan(lazy.propensity).all()
    assert len(decide(plan, part(rows, slice(0, 0)))) == 0


def test_thompson_without_a_state_is_refused() -> None:
    plan, rows = candidates(20)
    with pytest.raises(ValueError, match="has no policy state"):
        decide(replace(plan, state=None), rows)


def test_values_are_gains_over_doing_nothing() -> None:
    plan, rows = candidates(50)
    policy = plan.policies["treatment"]
    eligible = rows.reasons == Reason.ELIGIBLE
    assert plan.state is not None
    mean, _ = POLICIES["linear_thompson"].posterior(plan.state, ACTIONS, rows.x)
    expected = np.where(eligible, mean, -np.inf).max(axis=1) - mean[:, 0]
    assert np.allclose(values(plan, policy, rows.x, eligible), expected)
    assert (values(plan, config.UniformPolicy(), rows.x, eligible) == 0).all()
    costs = np.array([0.0, 0.3, 0.1, 0.2])[: len(ACTIONS)]
    net = np.where(eligible, mean - mean[:, :1] - costs, -np.inf).max(axis=1)
    assert np.allclose(values(plan, policy, rows.x, eligible, costs), net)
    # A list may have settled it otherwise: what is worse than nothing is still worth nothing.
    settled = np.arange(len(ACTIONS)) == (mean - mean[:, :1]).argmin(axis=1)[:, None]
    assert (values(plan, policy, rows.x, settled) == 0).all()


def records(made: Decisions, group: str) -> Records:
    at = made.group == group
    return Records(
        decision_ids=made.decision_ids[at],
        actions=ACTIONS,
        policy=str(made.policy[at][0]),
        floor=0.02 if group == "treatment" else 0.0,
        mean=made.mean[at],
        sd=made.sd[at],
        reasons=made.reasons[at],
        p_agent=made.p_agent[at],
        preference=(3, 1) if group == "usual" else (0,),
    )


@pytest.mark.parametrize("group", ["treatment", "random", "usual", "holdout"])
def test_records_replay(group: str) -> None:
    plan, rows = candidates(300)
    made = decide(plan, rows)
    at = made.group == group
    again = replay(records(made, group))
    assert np.array_equal(again.action, made.action[at])
    assert np.abs(again.propensity - made.propensity[at]).max() <= 1e-12


def test_the_posterior_replays_from_state_and_features() -> None:
    plan, rows = candidates(300)
    made = decide(plan, rows)
    logged = records(made, "treatment")
    assert plan.state is not None
    again = with_posterior(logged, plan.state, made.x[made.group == "treatment"])
    assert np.array_equal(again.mean, logged.mean)
    assert np.array_equal(again.sd, logged.sd)
    assert len(FEATURES) == made.x.shape[1]


def test_beta_records_replay_from_mean_and_sd() -> None:
    case = sample_case("weighted_thompson", np.random.default_rng(4), 200)
    mean, sd = case.posterior()
    _, ids = decision_keys("a salt of the tests", "welcome", "s", [str(i) for i in range(200)])
    reasons = np.where(case.eligible, 0, 3).astype(np.uint8)
    logged = Records(ids, ACTIONS, "weighted_thompson", 0.02, mean, sd, reasons, np.ones(200))
    again = replay(logged)
    assert np.array_equal(again.action, case.choices())
    p = case.probabilities()[np.arange(200), again.action]
    assert np.abs(again.p_action - p).max() <= 1e-12


def test_floor_draws_have_a_stream_of_their_own() -> None:
    keys = keys_for()
    arms = streams(["a"])
    assert abs(np.corrcoef(uniforms(keys, "floor")[:, 0], uniforms(keys, arms)[:, 0])[0, 1]) < 0.035
