"""Combinations that learn from each other: the posterior, its samples, what is logged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decision_engine.basis import normal_equations
from decision_engine.catalog import catalog_of
from decision_engine.choose import choose
from decision_engine.config import Agent, AgentAction, Creative, FactoredLinearThompson, Outcome
from decision_engine.factors import (
    Design,
    Equations,
    Precisions,
    credible_precisions,
    diagonal,
    solver,
    units_of,
)
from decision_engine.keys import decision_keys, draw_streams
from decision_engine.learn import learn
from decision_engine.policies import factored_linear_thompson as factored
from decision_engine.policies import shared_units
from decision_engine.propensity import mix_floor, propensities
from decision_engine.state import PolicyState, Sums, load, save
from decision_engine.testing import sample_case, sample_rewards
from decision_engine.types import Action, Floats

D = 3
UNITS = {
    "a": ("creative=a", "channel=email", "tone=calm"),
    "b": ("creative=b", "channel=email", "tone=urgent"),
    "c": ("creative=b", "channel=push", "tone=urgent"),
}
ACTIONS = ("no_action", "a", "b", "c")
PRECISIONS = Precisions((20.0, 50.0), (5.0, 30.0))


def learned(n: int = 300, seed: int = 1) -> PolicyState:
    rng, k = np.random.default_rng(seed), len(ACTIONS)
    x = np.concatenate([np.ones((k, n, 1)), rng.normal(1, 2, size=(k, n, D))], axis=2)
    reward = (rng.random((k, n)) < 0.2).astype(float)
    sums = Sums(
        np.full(k, float(n)),
        reward.sum(axis=1),
        x.transpose(0, 2, 1) @ x,
        np.einsum("kn,knd->kd", reward, x),
    )
    prior = PolicyState.initial("welcome", "factored_linear_thompson", ACTIONS, ("p", "q", "r"))
    theta = replace(
        prior.theta,
        feature_mean=np.full(D, 1.0),
        feature_scale=np.full(D, 2.0),
        common=rng.normal(size=D + 1) * 0.05,
        noise=0.4,
        precisions=PRECISIONS,
    )
    return replace(prior, closed=sums, theta=theta).with_units(UNITS)


def dense(state: PolicyState) -> tuple[Floats, Floats]:
    """Mean (k D) and covariance (k D, k D) of all weights, from one big matrix."""
    gram, moment = normal_equations(state.evidence(ACTIONS), state.theta)
    design, size = Design.of(state.units, ACTIONS), D + 1
    has = np.concatenate([np.eye(len(design.own_names))[design.own], design.has], axis=1)
    of_action = np.kron(has, np.eye(size))  # (k D, blocks D)
    blocks = [of_action[a * size : (a + 1) * size] for a in range(4)]
    precision = sum(b.T @ g @ b for b, g in zip(blocks, gram, strict=True))
    own, shared = (diagonal(size, p) for p in PRECISIONS)
    prior = [np.tile(own, len(design.own_names)), np.tile(shared, len(design.shared_names))]
    inverse = np.linalg.inv(precision + np.diag(np.concatenate(prior)))
    mean = of_action @ inverse @ of_action.T @ moment.reshape(-1)
    covariance = of_action @ inverse @ of_action.T * (factored.WIDTH * state.theta.noise) ** 2
    return mean + np.tile(state.theta.common, 4), covariance


def test_samples_are_those_of_the_joint_posterior() -> None:
    state = learned(20)
    mean, covariance = dense(state)
    found = factored.samples(state, ACTIONS, 20_000)
    assert np.allclose(found.mean.reshape(-1), mean)
    spread = np.cov(found.offset.reshape(len(found.offset), -1).T, bias=True)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.abs((spread - covariance) / scale).max() < 0.06
    b, c = slice(2 * (D + 1), 3 * (D + 1)), slice(3 * (D + 1), None)
    assert np.abs(covariance[b, c] / scale[b, c]).max() > 0.2  # there is something to get right


def test_mean_and_sd_are_those_of_the_samples() -> None:
    state, x = learned(), np.random.default_rng(2).normal(1, 2, size=(5, D))
    mean, sd = factored.posterior(state, ACTIONS, x)
    found = factored.samples(state, ACTIONS)
    z = np.c_[np.ones(5), (x - 1.0) / 2.0]
    assert np.allclose(mean, z @ found.mean.T)
    assert np.allclose(sd, np.sqrt(np.square(found.offset @ z.T).mean(axis=0)).T)


def test_shares_count_the_samples_that_an_action_wins() -> None:
    state, rng = learned(), np.random.default_rng(3)
    x, eligible = rng.normal(1, 2, size=(40, D)), rng.random((40, 4)) < 0.7
    eligible[:, 0] = True
    found = factored.samples(state, ACTIONS)
    z = np.c_[np.ones(40), (x - 1.0) / 2.0]
    draws = np.concatenate([found.mean + found.offset, found.mean - found.offset])
    score = np.where(eligible, np.einsum("skd,nd->snk", draws, z), -np.inf).argmax(axis=2)
    expected = np.array([np.bincount(row, minlength=4) for row in score.T]) / factored.SAMPLES
    assert np.array_equal(factored.shares(state, ACTIONS, x, eligible), expected)


def test_shares_are_near_those_of_samples_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    state, x = learned(), np.random.default_rng(4).normal(1, 2, size=(200, D))
    every = np.ones((200, 4), dtype=bool)
    few = factored.shares(state, ACTIONS, x, every)
    monkeypatch.setattr(factored, "SAMPLES", 8192)
    factored._weights.cache_clear()
    monkeypatch.setattr(factored.samples, "__defaults__", (8192,))
    many = factored.shares(state, ACTIONS, x, every)
    factored._weights.cache_clear()
    assert np.abs(few - many).sum(axis=1).mean() / 2 < 0.06  # total variation


def test_a_new_action_starts_from_what_it_shares() -> None:
    rng, n = np.random.default_rng(5), 6000
    actions = tuple(f"variant-{i}" for i in range(12))
    tones = {a: "urgent" if i < 6 else "calm" for i, a in enumerate(actions)}
    units = {a: (f"creative={a}", f"tone={tone}") for a, tone in tones.items()}
    units |= {"new": ("creative=n", "tone=urgent"), "dull": ("creative=m", "tone=calm")}
    rows = sample_rewards(rng, n, 12)
    reward = (rng.random(n) < np.where(rows.action < 6, 0.3, 0.1)).astype(float)
    rows = replace(rows, reward=reward, is_closed=np.ones(n, dtype=bool), weight=np.ones(n))
    state = learn(
        None, [rows], agent="w", policy="factored_linear_thompson", actions=actions,
        features=("p", "q", "r"), as_of=10 * 86_400.0, units=units,
    )  # fmt: skip
    assert state.theta.precisions is not None
    mean, _ = factored.posterior(state, (*actions, "new", "dull"), np.zeros((1, D)))
    assert mean[0, 12] == pytest.approx(0.3, abs=0.06)
    assert mean[0, 13] == pytest.approx(0.1, abs=0.06)


def test_log_evidence_is_that_of_the_whole_system() -> None:
    state = learned()
    gram, moment = normal_equations(state.evidence(ACTIONS), state.theta)
    equations = Equations(Design.of(UNITS, ACTIONS), gram, moment)
    size, has = D + 1, equations.design.has
    own_has = np.eye(len(equations.design.own_names))[equations.design.own]
    of_action = np.kron(np.concatenate([own_has, has], axis=1), np.eye(size))

    def whole(precisions: Precisions) -> float:
        counts = (own_has.shape[1], has.shape[1])
        parts = zip(counts, precisions, strict=True)
        prior = np.concatenate([np.tile(diagonal(size, p), count) for count, p in parts])
        blocks = [of_action[a * size : (a + 1) * size] for a in range(4)]
        system = np.diag(prior) + sum(b.T @ g @ b for b, g in zip(blocks, gram, strict=True))
        side = of_action.T @ moment.reshape(-1)
        explained = side @ np.linalg.solve(system, side) / 0.4**2
        return float(np.log(prior).sum() - np.linalg.slogdet(system)[1] + explained) / 2

    other = Precisions((100.0, 1e9), (1000.0, 300.0))
    found = [
        solver(equations, p).log_evidence(*equations.moments, 0.4) for p in (PRECISIONS, other)
    ]
    assert found[0] - found[1] == pytest.approx(whole(PRECISIONS) - whole(other), rel=1e-9)
    best = credible_precisions(equations, 0.4)
    at_best = solver(equations, best).log_evidence(*equations.moments, 0.4)
    assert at_best >= solver(equations, Precisions()).log_evidence(*equations.moments, 0.4)


def test_units_are_dimensions_attributes_and_pairs() -> None:
    action = Action("k", "email", "hello", "ten", 9, attributes=(("tone", "calm"),))
    pairs = (("channel", "send_hour"), ("tone", "incentive"), ("topic", "channel"))
    assert units_of([Action("no_action"), action], pairs) == {
        "k": (
            "creative=hello", "channel=email", "incentive=ten", "send_hour=9", "tone=calm",
            "channel=email&send_hour=9", "tone=calm&incentive=ten",
        )
    }  # fmt: skip
    assert shared_units(FactoredLinearThompson(pairs=()), [action])["k"][-1] == "tone=calm"


def test_waits_are_shared_only_where_they_differ() -> None:
    """An agent whose messages all leave at once learns what it always has."""
    at_once = [Action(f"a{i}", "email", "hello", "none", hour) for i, hour in enumerate((9, 19))]
    pairs = (("channel", "wait_days"),)
    assert not any("wait" in unit for units in units_of(at_once, pairs).values() for unit in units)
    found = units_of([*at_once, replace(at_once[0], key="later", wait_days=2)], pairs)
    assert found["later"][-2:] == ("wait_days=2", "channel=email&wait_days=2")
    assert all("wait_days=0" in found[key] for key in ("a0", "a1"))


def test_an_action_without_units_is_a_block_of_its_own() -> None:
    state = replace(learned(), units={})
    mean, _ = factored.posterior(state, ACTIONS, np.ones((1, D)))
    alone, _ = factored.posterior(state, ("a",), np.ones((1, D)))
    assert np.allclose(mean[0, 1], alone[0, 0])


def test_a_state_with_units_comes_back_whole() -> None:
    state = learned()
    after = load(save(state))
    assert (after.units, after.theta.precisions) == (UNITS, PRECISIONS)
    assert after.version == state.version
    assert replace(state, units={}).version != state.version


def test_floor_and_shares_are_drawn_exactly() -> None:
    n = 20_000
    share = np.tile([0.0, 0.25, 0.75, 0.0], (n, 1))
    eligible = np.tile([True, True, True, False], (n, 1))
    keys, _ = decision_keys("a salt of the tests", "w", "s", [str(i) for i in range(n)])
    empty = np.empty((n, 0))
    found = choose(
        keys, empty, empty, eligible, 0.02, "samples", draw_streams(ACTIONS), share=share
    )
    p = propensities(empty, empty, eligible, 0.02, "samples", share=share)
    assert np.array_equal(p, mix_floor(share, eligible, 0.02))
    off = np.bincount(found, minlength=4) / n - p[0]
    assert (np.abs(off) <= 4 * np.sqrt(p[0] * (1 - p[0]) / n)).all()


@pytest.mark.parametrize("share", [None, np.full((2, 4), 0.3), np.full((2, 3), 1 / 3)])
def test_shares_that_are_none_are_refused(share: Floats | None) -> None:
    every, empty = np.ones((2, 4), dtype=bool), np.empty((2, 0))
    with pytest.raises(ValueError, match="`share`"):
        propensities(empty, empty, every, 0.0, "samples", share=share)


@pytest.mark.parametrize("bad", [np.zeros((2, D + 1)), np.full((2, D), np.nan)])
def test_unusable_features_are_refused(bad: Floats) -> None:
    with pytest.raises(ValueError, match="`x`"):
        factored.posterior(learned(), ACTIONS, bad)


def test_samples_are_frozen_by_the_version() -> None:
    case = sample_case("factored_linear_thompson", np.random.default_rng(1), 5)
    law = (ACTIONS, case.x, case.eligible)
    before = factored.shares(case.state, *law)
    factored._weights.cache_clear()
    assert np.array_equal(before, factored.shares(case.state, *law))
    later = replace(case.state, as_of=case.state.as_of + 1)
    assert not np.array_equal(before, factored.shares(later, *law))


def test_the_attributes_of_a_creative_come_to_its_actions() -> None:
    creative = Creative("note", "email", "1", "A note", attributes={"tone": "calm", "art": "no"})
    agent = Agent("hi", "Hi", "true", (Outcome("order", 1.0),), (AgentAction("note"),))
    found = catalog_of(agent, {"note": creative}, ()).actions[1]
    assert found.attributes == (("art", "no"), ("tone", "calm"))
