"""Effects against known truth, and a nudge that only looks good."""

from __future__ import annotations

import numpy as np
import pytest

from decision_engine.evaluate import Log
from decision_engine.reward_model import cross_fit, folds_of
from decision_engine.types import Bools, Floats
from decision_engine.uplift import NO_EFFECT, choose, effects, personal_effect

# Retention by action (nothing, tour, call) at loyalty u: the tour does nothing, the call helps
# those who are about to leave and annoys the others.
TOUR, CALL = 1, 2


def retention(u: Floats) -> Floats:
    stay = 0.2 + 0.6 * u
    return np.stack([stay, stay, stay + 0.25 - 0.3 * u], axis=1)


def random_log(rng: np.random.Generator, n: int = 4000) -> tuple[Log, Floats, Bools]:
    """Actions drawn evenly among the possible; a call is possible for two thirds."""
    u = rng.random(n)
    eligible = np.ones((n, 3), dtype=np.bool_)
    eligible[:, CALL] = rng.random(n) < 2 / 3
    p = eligible / eligible.sum(axis=1, keepdims=True)
    action = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1)
    row = np.arange(n)
    reward = (rng.random(n) < retention(u)[row, action]).astype(float)
    return Log(action, reward, p[row, action]), u[:, None], eligible


def test_by_hand() -> None:
    # Six rows repeated: action 1 earns 1, 0, 1, nothing 0, 1, 0, all with chance 1/2, no model.
    a, r = np.array([1, 1, 1, 0, 0, 0] * 100), np.array([1.0, 0, 1, 0, 1, 0] * 100)
    log = Log(a, r, np.full(600, 0.5))
    (found,) = effects(log, np.ones((600, 2), np.bool_), np.zeros((600, 2)))
    # Scores 2, 0, 2, 0, -2, 0: mean 1/3, squared deviations sum to 12 - 6/9 a repeat.
    assert abs(found.estimate.value - 1 / 3) < 1e-12
    assert abs(found.estimate.standard_error - np.sqrt(100 * (12 - 6 / 9) / 599 / 600)) < 1e-12
    # One alternative: the one-sided 95% bound, 1.645 standard errors below (degrees are many).
    reach = (found.estimate.value - found.certain) / found.estimate.standard_error
    assert reach == pytest.approx(1.645, abs=0.02)


def test_effects_are_unbiased_and_covered_with_eligibility_and_a_model() -> None:
    rng, found = np.random.default_rng(3), []
    for _ in range(200):
        log, x, eligible = random_log(rng, 2000)
        q = cross_fit(log, x, 3, folds_of(log, rng)).predictions
        found.append({e.action: e for e in effects(log, eligible, q)})
    for action, truth in ((TOUR, 0.0), (CALL, 0.10)):
        each = [f[action].estimate for f in found]
        values = np.array([e.value for e in each])
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(200)
        hits = np.mean([e.low <= truth <= e.high for e in each])
        assert abs(hits - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)
    # The certain bounds of all actions together are above the truth in at most 5% of logs.
    wrong = np.mean([f[TOUR].certain > 0 or f[CALL].certain > 0.1 for f in found])
    assert wrong < 0.05 + 4 * np.sqrt(0.95 * 0.05 / 200)


def test_a_policy_of_known_chances_adds_evidence_and_no_bias() -> None:
    """A fifth by lot, the others by a team that looks at loyalty."""
    rng, together, alone, inside = np.random.default_rng(9), [], [], []
    people = np.array([[0.1], [0.9]])
    for _ in range(80):
        u, lot = rng.random(2500), rng.random(2500) < 0.2
        tour = 0.85 / (1 + np.exp(4 * (0.5 - u)))
        team = np.stack([np.full(2500, 0.1), 0.025 + tour, 0.875 - tour], axis=1)
        p = np.where(lot[:, None], 1 / 3, team)
        action = (rng.random((2500, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=CALL)
        row = np.arange(2500)
        kept = (rng.random(2500) < retention(u)[row, action]).astype(float)
        log, x, eligible = Log(action, kept, p[row, action]), u[:, None], np.ones_like(p, np.bool_)
        q = cross_fit(log, x, 3, folds_of(log, rng)).predictions
        found = {e.action: e.estimate for e in effects(log, eligible, q, 0, 100, lot)}
        together.append(found[CALL])
        by_lot = effects(log.take(lot), eligible[lot], q[lot], 0, 100)
        alone.append(next(e.estimate for e in by_lot if e.action == CALL))
        _, low, high = personal_effect(log, x, eligible, q, CALL, by_lot=lot).at(people)
        inside.append((low <= 0.25 - 0.3 * people[:, 0]) & (high >= 0.25 - 0.3 * people[:, 0]))
    values = np.array([e.value for e in together])
    assert abs(values.mean() - 0.10) < 4 * values.std() / np.sqrt(80)
    hits = [np.mean([e.low <= 0.10 <= e.high for e in together]), *np.mean(inside, axis=0)]
    assert np.abs(np.array(hits) - 0.95).max() < 4 * np.sqrt(0.95 * 0.05 / 80)
    narrower = [
        e.standard_error / one.standard_error for e, one in zip(together, alone, strict=True)
    ]
    assert np.mean(narrower) < 0.75


def test_correlation_picks_the_wrong_nudge_and_this_the_right_one() -> None:
    rng, n = np.random.default_rng(4), 6000
    # A team that tours the loyal and calls the ones about to leave.
    u = rng.random(n)
    action = np.where(u > 0.6, TOUR, np.where(u < 0.4, CALL, 0))
    kept = rng.random(n) < retention(u)[np.arange(n), action]
    by_action = [kept[action == a].mean() for a in range(3)]
    assert int(np.argmax(by_action)) == TOUR
    log, x, eligible = random_log(rng, n)
    q = cross_fit(log, x, 3, folds_of(log, rng)).predictions
    first, second = effects(log, eligible, q)
    assert (first.action, second.action) == (CALL, TOUR)
    assert first.certain > 0 > second.certain
    # And for whom: the call for those about to leave, nothing for the loyal.
    each = [personal_effect(log, x, eligible, q, a) for a in (TOUR, CALL)]
    people = np.array([[0.05], [0.2], [0.95]])
    chosen, bound = choose(each, people, np.ones((3, 3), np.bool_))
    assert chosen.tolist() == [CALL, CALL, NO_EFFECT]
    assert (bound[:2] > 0).all()
    blocked, _ = choose(each, people, np.tile([True, True, False], (3, 1)))
    assert (blocked == NO_EFFECT).all()


def test_personal_effects_are_covered() -> None:
    rng, inside = np.random.default_rng(6), []
    people = np.array([[0.1], [0.5], [0.9]])
    truth = 0.25 - 0.3 * people[:, 0]
    for _ in range(150):
        log, x, eligible = random_log(rng, 1500)
        q = cross_fit(log, x, 3, folds_of(log, rng)).predictions
        _, low, high = personal_effect(log, x, eligible, q, CALL).at(people)
        inside.append((low <= truth) & (truth <= high))
    assert np.abs(np.mean(inside, axis=0) - 0.95).max() < 4 * np.sqrt(0.95 * 0.05 / 150)


def test_people_with_many_rows_are_one_unit_and_constants_are_harmless() -> None:
    rng = np.random.default_rng(7)
    log, x, eligible = random_log(rng, 900)
    q = cross_fit(log, x, 3, folds_of(log, rng)).predictions
    one = personal_effect(log, x, eligible, q, CALL)
    rows = np.repeat(np.arange(900), 3)
    tripled = Log(log.action[rows], log.reward[rows], log.propensity[rows], rows)
    three = personal_effect(tripled, x[rows], eligible[rows], q[rows], CALL)
    assert three.at(x[:5])[1] == pytest.approx(one.at(x[:5])[1], abs=1e-9)
    flat = np.column_stack([x, np.full(900, 7.0)])
    with_flat = personal_effect(log, flat, eligible, q, CALL)
    assert with_flat.at(flat[:5])[0] == pytest.approx(one.at(x[:5])[0])


def test_what_cannot_be_known_is_refused() -> None:
    log, x, eligible = random_log(np.random.default_rng(8), 900)
    never = eligible & np.array([True, True, False])
    refused = {e.action: e.estimate for e in effects(log, never, np.zeros((900, 3)))}[CALL]
    assert refused.verdict == "refused"
    assert "possible" in refused.reason
    with pytest.raises(ValueError, match="too few"):
        personal_effect(log, x, never, np.zeros((900, 3)), CALL)


def test_bounds_are_for_all_actions_at_once_and_settled_choices_say_nothing() -> None:
    log, x, eligible = random_log(np.random.default_rng(4))
    free = {e.action: e for e in effects(log, eligible, np.zeros((len(log), 3)))}
    for e in free.values():  # two of them: 97.5 % each, one-sided
        assert e.certain == pytest.approx(e.estimate.low, abs=1e-12)
    lines = [personal_effect(log, x, eligible, np.zeros((len(log), 3)), a) for a in (TOUR, CALL)]
    _, bound = choose(lines, x, eligible)
    each = np.stack([line.at(x, 0.95)[1] for line in lines], axis=1)
    np.testing.assert_allclose(bound, np.where(eligible[:, 1:], each, -np.inf).max(axis=1))
    # A person has pinned the call for some: nothing else was possible, so it was no experiment.
    n = len(log)
    action = np.concatenate([log.action, np.full(n, CALL)])
    reward = np.concatenate([log.reward, np.ones(n)])
    both = Log(action, reward, np.concatenate([log.propensity, np.ones(n)]))
    pinned = np.concatenate([eligible, np.tile([False, False, True], (n, 1))])
    (again,) = (e for e in effects(both, pinned, np.zeros((2 * n, 3))) if e.action == CALL)
    assert again.estimate == free[CALL].estimate
