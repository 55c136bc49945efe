"""The parts of the lift against a market where each is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from decision_engine.evaluate import Log
from decision_engine.types import Bools, Floats, Ints
from decision_engine.waterfall import PARTS, Randomised, mix, waterfall

# no_action; content A at two hours, content B at two hours. Segments want different contents.
CONTENT = np.array([0, 1, 1, 2, 2])
RATES = np.array([[0.10, 0.14, 0.20, 0.30, 0.36], [0.10, 0.26, 0.32, 0.12, 0.18]])
SHARES = np.array([0.0, 0.1, 0.3, 0.1, 0.5])  # what the treatment uses over all


def market(rng: np.random.Generator, n: int) -> tuple[Ints, Bools]:
    segment, blocked = rng.integers(0, 2, n), rng.random(n) < 0.3
    eligible = np.ones((n, 5), dtype=np.bool_)
    eligible[:, 4] = ~blocked
    return segment, eligible


def treat(segment: Ints, eligible: Bools) -> Floats:
    """The treatment's law: mostly the better content, B late where that is possible."""
    wish = np.where(segment[:, None] == 0, [0.0, 0.05, 0.05, 0.1, 0.8], [0.0, 0.1, 0.7, 0.1, 0.1])
    wanted = np.where(eligible, wish, 0.0)
    wanted /= wanted.sum(axis=1, keepdims=True)
    return 0.05 * mix(np.ones(5), eligible) + 0.95 * wanted


def draw(rng: np.random.Generator, p: Floats, segment: Ints) -> Log:
    action = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 4)
    row = np.arange(len(p))
    reward = (rng.random(len(p)) < RATES[segment, action]).astype(float)
    return Log(action, reward, p[row, action])


def groups(rng: np.random.Generator, n: int = 3000) -> Randomised:
    segment, eligible = market(rng, n)
    held, _ = market(rng, n)
    treated, possible = market(rng, n)
    nothing = np.tile([1.0, 0, 0, 0, 0], (n, 1))
    q = np.tile(RATES.mean(axis=0), (n, 1)) * 0.8
    return Randomised(
        holdout=draw(rng, nothing, held),
        random=draw(rng, mix(np.ones(5), eligible), segment),
        treatment=draw(rng, treat(treated, possible), treated),
        eligible=eligible,
        predictions=q,
        content=CONTENT,
    )


def truth() -> Floats:
    """Values of the six ways, from their definitions, over a million contexts."""
    rng = np.random.default_rng(1)
    segment, eligible = market(rng, 300_000)
    rates, p = RATES[segment], treat(segment, eligible)
    used = p.mean(axis=0)
    blind = np.where(eligible, 0.2, 0.0)
    blind[:, 0] += 1 - blind.sum(axis=1)
    evenly = np.array([used[0], *np.repeat([used[1:3].sum() / 2, used[3:].sum() / 2], 2)])
    ways = [blind, mix(np.ones(5), eligible), mix(evenly, eligible), mix(used, eligible), p]
    values = [0.10, *((w * rates).sum(axis=1).mean() for w in ways)]
    return np.array(values)


def test_parts_are_unbiased_covered_and_add_up_exactly() -> None:
    rng, steps, found = np.random.default_rng(2), np.diff(truth()), []
    for _ in range(60):
        w = waterfall(groups(rng, 1200))
        assert list(w.parts) == list(PARTS)
        assert sum(p.value for p in w.parts.values()) == w.total.value
        found.append([*w.parts.values(), w.total])
    expected = [*steps, steps.sum()]
    for j, true in enumerate(expected):
        values = np.array([f[j].value for f in found])
        assert abs(values.mean() - true) < 4 * values.std() / np.sqrt(60) + 2e-3, j
        hits = np.mean([f[j].low <= true <= f[j].high for f in found])
        assert abs(hits - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 60), j
    assert steps[-1] > 0.03  # the model is worth something in this market


def test_the_total_is_the_difference_of_treatment_and_holdout() -> None:
    of = groups(np.random.default_rng(3))
    found = waterfall(of)
    difference = of.treatment.reward.mean() - of.holdout.reward.mean()
    assert found.total.value == pytest.approx(difference, abs=1e-12)
    error = np.sqrt(sum(g.reward.var() / len(g) for g in (of.treatment, of.holdout)))
    half = (found.total.high - found.total.low) / 2
    assert half == pytest.approx(1.96 * error, rel=0.01)


def test_a_model_for_everybody_alike_is_worth_nothing() -> None:
    rng = np.random.default_rng(4)
    of = groups(rng, 20_000)
    segment, eligible = market(rng, 20_000)
    alike = replace(of, treatment=draw(rng, mix(SHARES, eligible), segment))
    model = waterfall(alike).parts["model"]
    assert abs(model.value) < 0.015
    assert model.low < 0.01


def test_small_groups_and_missing_support_are_refused() -> None:
    of = groups(np.random.default_rng(5))
    small = waterfall(replace(of, holdout=of.holdout.take(np.arange(50))))
    assert (small.verdict, "holdout" in small.reason) == ("refused", True)
    always = Log(np.zeros(3000, np.int64), of.random.reward, np.ones(3000))
    unsupported = waterfall(replace(of, random=always))
    assert "actions" in unsupported.reason
    assert np.isnan(unsupported.parts["model"].value)
    whole = waterfall(of).total
    assert unsupported.total.value == pytest.approx(whole.value)
    assert unsupported.total.low == pytest.approx(whole.low)


def test_a_mix_without_possible_shares_is_even() -> None:
    eligible = np.array([[True, True, False], [True, False, True]])
    assert mix(np.array([0.0, 0.0, 1.0]), eligible).tolist() == [[0.5, 0.5, 0], [0, 0, 1.0]]
