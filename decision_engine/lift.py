"""How much better one group of customers did than another.

Works from a group's size, means and covariances, so that a warehouse can do the summing. Lift is
intention-to-treat: a unit is a customer of the group, reached or not, with the reward of the
whole period. Whether the groups are sound is for `sample_ratio` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from decision_engine.intervals import Z95, Verdict
from decision_engine.types import Floats

MIN_GROUP = 100
"""Customers a group needs before its mean is compared."""

PLANNED_SAMPLE = 5_000
"""Observations (both groups) at which the always-valid interval is tightest."""

_ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


class Group(NamedTuple):
    """A group's customers: how many, their mean reward and its variance (ddof 1)."""

    n: int
    mean: float
    variance: float


@dataclass(frozen=True)
class Lift:
    """Treatment minus control, in reward per customer; intervals are NaN when refused.

    `difference` holds for one look at a fixed time; `always_valid` for any number of looks, so
    it is the one to stop on. `relative` is treatment / control - 1 (NaN unless control > 0).
    """

    treatment: Group
    control: Group
    difference: Interval
    always_valid: Interval
    relative: Interval
    verdict: Verdict = "estimated"
    reason: str = ""


class Moments(NamedTuple):
    """A group's customers with d covariates known before the period began.

    `mean` (1 + d,) and `covariance` (1 + d, 1 + d, ddof 1), the reward first.
    """

    n: int
    mean: Floats
    covariance: Floats


def group_of(rewards: Floats) -> Group:
    """The summary of (n,) rewards."""
    n = len(rewards)
    return Group(
        n, float(rewards.mean()) if n else 0.0, float(rewards.var(ddof=1)) if n > 1 else 0.0
    )


def mean_interval(group: Group) -> Interval:
    """The group's mean, +- 1.96 standard errors."""
    half = Z95 * float(np.sqrt(group.variance / group.n)) if group.n > 1 else float("inf")
    return Interval(group.mean, group.mean - half, group.mean + half)


def moments_of(rewards: Floats, covariates: Floats) -> Moments:
    """The summary of (n,) rewards and (n, d) covariates."""
    both = np.column_stack([rewards, covariates])
    if len(both) < 2:
        raise ValueError("a group needs two customers or more")
    return Moments(len(both), both.mean(axis=0), np.atleast_2d(np.cov(both, rowvar=False)))


def adjusted(treatment: Moments, control: Moments) -> tuple[Group, Group]:
    """The two groups as if both had the covariates of all their customers together (CUPED).

    mean - b'(covariate mean - common mean), with the b of least variance of the difference:
    (S1/n1 + S0/n0)^-1 (c1/n1 + c0/n0), S and c a group's covariances of the covariates and with
    the reward (Deng et al. 2013; as precise as the interacted regression of Lin 2013). Under
    randomisation the difference keeps its expectation up to O(1/n), whatever the covariates.
    """
    both = (treatment, control)
    size = np.array([g.n for g in both], dtype=np.float64)
    d = len(treatment.mean) - 1
    spread = sum(g.covariance[1:, 1:] / g.n for g in both)
    shared = sum(g.covariance[1:, 0] / g.n for g in both)
    # Constant or repeated covariates get coefficients of 0 instead of an error.
    b = np.linalg.lstsq(np.asarray(spread), np.asarray(shared), rcond=1e-10)[0]
    centre = np.average([g.mean[1:] for g in both], axis=0, weights=size)
    direction = np.concatenate([[1.0], -b])
    first, second = (
        Group(
            g.n,
            float(g.mean[0] - b @ (g.mean[1:] - centre)),
            # d coefficients were fitted to these very residuals.
            float(direction @ g.covariance @ direction) * (g.n - 1) / max(g.n - 1 - d, 1),
        )
        for g in both
    )
    return first, second


def lift(treatment: Group, control: Group, observations: int | None = None) -> Lift:
    """Difference of two means (Welch), its confidence sequence, and the relative lift.

    `observations` are the rows whose rewards were summed by customer (decisions, or customers x
    days): what grows from look to look when the customers stay the same. By default the
    customers themselves. Refused when a group has fewer than MIN_GROUP customers.
    """
    smallest = min(treatment.n, control.n)
    if smallest < MIN_GROUP:
        none = Interval(float("nan"), float("nan"), float("nan"))
        reason = f"a group has {smallest} customers, fewer than {MIN_GROUP}"
        return Lift(treatment, control, none, none, none, "refused", reason)
    value = treatment.mean - control.mean
    error = float(np.sqrt(treatment.variance / treatment.n + control.variance / control.n))
    half = always_valid_half_width(error, observations or treatment.n + control.n)
    return Lift(
        treatment,
        control,
        difference=Interval(value, value - Z95 * error, value + Z95 * error),
        always_valid=Interval(value, value - half, value + half),
        relative=_relative(treatment, control),
    )


def always_valid_half_width(standard_error: float, n: float, alpha: float = _ALPHA) -> float:
    """Half width at n observations of an asymptotic confidence sequence of level 1 - alpha.

    s sqrt(2 (n r^2 + 1) / (n r)^2 log(sqrt(n r^2 + 1) / alpha)), s = standard_error sqrt(n) and
    r^2 = (-2 log alpha + log(1 - 2 log alpha)) / PLANNED_SAMPLE (Waudby-Smith et al., Annals of
    Statistics 2024, theorem 2.2 and its rule for r).
    """
    spread = -2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))
    mixed = n * spread / PLANNED_SAMPLE + 1
    half = np.sqrt(2 * mixed / (mixed - 1) * np.log(np.sqrt(mixed) / alpha))
    return float(standard_error * half)


def paired_interval(differences: Floats) -> Interval:
    """Mean of (s,) differences of runs paired by seed, +- Student's t with s - 1 degrees.

    With one run the interval is infinite.
    """
    s, value = len(differences), float(differences.mean())
    if s < 2:
        return Interval(value, float("-inf"), float("inf"))
    error = float(differences.std(ddof=1)) / np.sqrt(s)
    half = float(special.stdtrit(s - 1, 1 - _ALPHA / 2) * error)
    return Interval(value, value - half, value + half)


def _relative(treatment: Group, control: Group) -> Interval:
    """Delta method on the ratio of two independent means (Kohavi et al. 2020, chapter 18)."""
    if control.mean <= 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    ratio = treatment.mean / control.mean
    variance = treatment.variance / treatment.n + ratio**2 * control.variance / control.n
    half = Z95 * float(np.sqrt(variance)) / control.mean
    return Interval(ratio - 1, ratio - 1 - half, ratio - 1 + half)
