from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import beta as beta_law
from scipy.stats import norm

from decision_engine.propensity import (
    beta_argmax,
    beta_parameters,
    first_eligible,
    floor_of_rows,
    gaussian_argmax,
    mix_floor,
    propensities,
)
from decision_engine.types import Floats

TOLERANCE = 1e-3
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(10)


def by_quad(mean: Floats, sd: Floats, arm: int) -> float:
    """One arm's probability by scipy's adaptive quadrature between the arms' quantiles."""
    others = np.arange(len(mean)) != arm

    def density(t: float) -> float:
        logs = log_ndtr((t - mean[others]) / sd[others]).sum()
        return float(norm.pdf(t, mean[arm], sd[arm]) * np.exp(logs))

    cuts = _cuts(mean, sd, np.array([-8.5, -3, -1, 1, 3, 8.5]), sd[arm], mean[arm])
    return float(sum(quad(density, a, b, epsabs=1e-9, epsrel=1e-7)[0] for a, b in pairwise(cuts)))


def _cuts(mean: Floats, sd: Floats, z: Floats, arm_sd: float, arm_mean: float) -> Floats:
    points = np.unique((mean[:, None] + sd[:, None] * z).ravel())
    low, high = arm_mean - 8.5 * arm_sd, arm_mean + 8.5 * arm_sd
    return np.concatenate([[low], points[(points > low) & (points < high)], [high]])


def by_panels(mean: Floats, sd: Floats) -> Floats:
    """All arms at once: 10-point Gauss-Legendre on panels no wider than a quarter sd of any arm.

    The panels' total is checked against 1, so this reference vouches for itself.
    """
    edges = np.unique((mean[:, None] + sd[:, None] * np.linspace(-9, 9, 73)).ravel())
    edges = edges[edges >= (mean - 9 * sd).max()]
    out = np.zeros(len(mean))
    for start in range(0, len(edges) - 1, 500):
        part = edges[start : start + 501]
        half = np.diff(part) / 2
        t = (part[:-1, None] + half[:, None] * (1 + POINTS)).ravel()
        z = (t - mean[:, None]) / sd[:, None]
        logs = log_ndtr(z)
        log_pdf = -z * z / 2 - 0.5 * np.log(2 * np.pi) - np.log(sd)[:, None]
        out += np.exp(log_pdf - logs + logs.sum(axis=0)) @ (half[:, None] * WEIGHTS).ravel()
    assert abs(out.sum() - 1) < 1e-7
    return out


def error(mean: Floats, sd: Floats) -> float:
    every = np.ones((1, len(mean)), dtype=bool)
    found = gaussian_argmax(mean[None], sd[None], every)[0]
    return float(np.abs(found - by_panels(mean, sd)).max())


def test_the_references_agree() -> None:
    mean, sd = np.array([0.1, 0.0, 0.3, -0.5]), np.array([0.001, 1.0, 0.1, 2.0])
    expected = [by_quad(mean, sd, arm) for arm in range(4)]
    assert by_panels(mean, sd) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("k", "ratio"),
    [*product([2, 3, 10, 50], [1.0, 10.0, 100.0, 1000.0]), (200, 10.0), (200, 1000.0)],
)
def test_mixtures_of_fresh_and_mature_arms(k: int, ratio: float) -> None:
    for mature in {1, k // 2, k - 1}:
        sd = np.where(np.arange(k) < mature, 1.0, ratio)
        for below in (0.0, 1.0, 2.5):
            mean = np.where(sd == 1.0, np.arange(k) / k, -below * ratio)
            assert error(mean, sd) < TOLERANCE, (mature, below)


@pytest.mark.parametrize("ratio", [1.0, 10.0, 100.0, 1000.0])
def test_five_hundred_arms(ratio: float) -> None:
    sd = np.where(np.arange(500) % 5 == 0, ratio, 1.0)
    assert error(np.zeros(500), sd) < TOLERANCE


@pytest.mark.parametrize("k", [2, 3, 10, 50, 200, 500])
def test_ties_are_even(k: int) -> None:
    p = gaussian_argmax(np.full((1, k), 0.3), np.full((1, k), 0.02), np.ones((1, k), dtype=bool))
    assert np.abs(p - 1 / k).max() < 1e-12


@pytest.mark.parametrize("seed", range(60))
def test_random_posteriors_of_many_scales(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.choice([2, 3, 5, 10, 20, 50]))
    sd = 10 ** rng.uniform(0, rng.uniform(0, 3), k)
    mean = [
        rng.normal(size=k) * sd.min() * 3,
        rng.normal(size=k) * sd.max(),
        rng.normal(size=k) * sd,
        -sd * rng.uniform(0, 3, k),
    ][seed % 4]
    assert error(mean + rng.normal(), sd) < TOLERANCE


def test_two_arms_have_a_closed_form() -> None:
    rng = np.random.default_rng(3)
    mean, sd = rng.normal(size=(300, 2)), 10 ** rng.uniform(-2, 1, (300, 2))
    expected = norm.cdf((mean[:, 0] - mean[:, 1]) / np.hypot(sd[:, 0], sd[:, 1]))
    found = gaussian_argmax(mean, sd, np.ones((300, 2), dtype=bool))[:, 0]
    assert np.abs(found - expected).max() < TOLERANCE


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_unit_and_origin_do_not_matter(scale: float) -> None:
    rng = np.random.default_rng(4)
    mean, sd, mask = rng.normal(size=(5, 6)), rng.uniform(0.1, 2, (5, 6)), np.ones((5, 6), bool)
    moved = gaussian_argmax((mean + 3) * scale, sd * scale, mask)
    assert np.abs(moved - gaussian_argmax(mean, sd, mask)).max() < 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40))
def test_rows_sum_to_one_masked_are_zero_and_rows_are_alone(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    mean, sd = rng.normal(size=(n, k)), 10 ** rng.uniform(-3, 0, (n, k))
    mask = rng.random((n, k)) < 0.6
    mask[np.arange(n), rng.integers(0, k, n)] = True
    p = gaussian_argmax(np.where(mask, mean, np.nan), sd, mask)
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    assert (p[~mask] == 0).all()
    assert (p >= 0).all()
    rows = rng.permutation(n)[: max(1, n // 2)]
    alone = gaussian_argmax(mean[rows], sd[rows], mask[rows])
    assert np.abs(alone - p[rows]).max() <= 1e-15


def test_many_rows_of_different_widths_are_each_as_if_alone() -> None:
    rng = np.random.default_rng(6)
    mean, sd = rng.normal(size=(400, 40)), 10 ** rng.uniform(-3, 0, (400, 40))
    mask = rng.random((400, 40)) < rng.random((400, 1))
    mask[:, 0] = True
    p = gaussian_argmax(mean, sd, mask)
    for row in (0, 17, 399):
        one = slice(row, row + 1)
        assert np.array_equal(gaussian_argmax(mean[one], sd[one], mask[one])[0], p[row])


def moments(alpha: Floats, beta: Floats) -> tuple[Floats, Floats]:
    total = alpha + beta
    mean = alpha / total
    return mean, np.sqrt(mean * (1 - mean) / (total + 1))


def beta_by_quad(mean: Floats, sd: Floats) -> Floats:
    alpha, beta = beta_parameters(mean, sd)
    arms = [beta_law(a, b) for a, b in zip(alpha, beta, strict=True)]
    cuts = np.unique([arm.ppf(u) for arm in arms for u in (1e-9, 0.1, 0.5, 0.9, 1 - 1e-9)])

    def chance(arm: int) -> float:
        def density(t: float) -> float:
            others = [o.cdf(t) for i, o in enumerate(arms) if i != arm]
            return float(arms[arm].pdf(t) * np.prod(others))

        inside = [0.0, *cuts, 1.0]
        return float(sum(quad(density, a, b, epsabs=1e-8)[0] for a, b in pairwise(inside)))

    return np.array([chance(arm) for arm in range(len(mean))])


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([1, 16, 151], [1, 86, 851]),
        ([1, 1501, 1801], [1, 8501, 8201]),
        ([1, 1, 30001], [11, 101, 1_000_001]),
        ([2, 900], [1, 100]),
    ],
)
def test_beta_agrees_with_adaptive_quadrature(alpha: list[float], beta: list[float]) -> None:
    a, b = np.array(alpha, dtype=float), np.array(beta, dtype=float)
    mean, sd = moments(a, b)
    found = beta_argmax(mean[None], sd[None], np.ones((1, len(a)), dtype=bool))[0]
    assert np.abs(found - beta_by_quad(mean, sd)).max() < TOLERANCE


def test_beta_rows_are_alone_and_masked() -> None:
    mean, sd = np.array([[0.1, 0.2, 0.5]]).repeat(4, 0), np.array([[0.02, 0.05, 0.25]]).repeat(4, 0)
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=bool)
    p = beta_argmax(mean, sd, mask)
    assert (p[~mask] == 0).all()
    assert np.array_equal(p[0], p[2])
    assert np.array_equal(p[1], beta_argmax(mean[1:2], sd[1:2], mask[1:2])[0])
    assert p[3, 1] == 1


def test_beta_parameters_come_back_from_mean_and_sd() -> None:
    a, b = np.array([1.0, 3.0, 1800.0]), np.array([1.0, 50.0, 90_000.0])
    found = beta_parameters(*moments(a, b))
    assert np.allclose(found, (a, b), rtol=1e-9)


def test_floor_is_a_fifth_of_the_row_at_most() -> None:
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    assert floor_of_rows(mask, 0.2) == pytest.approx([0.05, 0.2, 0.1])
    q = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [0.25, 0.75, 0, 0]])
    p = mix_floor(q, mask, 0.05)
    assert p[0] == pytest.approx([0.85, 0.05, 0.05, 0.05])
    assert p[1] == pytest.approx([1, 0, 0, 0])
    assert p[2] == pytest.approx([0.05 + 0.9 * 0.25, 0.05 + 0.9 * 0.75, 0, 0])


def test_uniform_and_fixed_need_no_posterior() -> None:
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], dtype=bool)
    none = np.empty((2, 0))
    uniform = propensities(none, none, mask, 0.0, "uniform")
    assert uniform == pytest.approx(np.array([[1 / 3, 1 / 3, 0, 1 / 3], [1, 0, 0, 0]]))
    fixed = propensities(none, none, mask, 0.0, "fixed", (2, 3))
    assert fixed.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert first_eligible(mask, ()).tolist() == [0, 0]


@pytest.mark.parametrize("family", ["gaussian", "beta"])
@pytest.mark.parametrize(("mean", "sd"), [(np.nan, 0.1), (0.5, 0.0), (0.5, np.inf)])
def test_unusable_posteriors_are_refused(family: str, mean: float, sd: float) -> None:
    compute = gaussian_argmax if family == "gaussian" else beta_argmax
    mask = np.ones((1, 2), dtype=bool)
    with pytest.raises(ValueError, match="finite"):
        compute(np.array([[0.5, mean]]), np.array([[0.1, sd]]), mask)
    with pytest.raises(ValueError, match="eligible"):
        compute(np.full((1, 2), 0.5), np.full((1, 2), 0.1), ~mask)
