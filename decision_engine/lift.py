"""How much better one group of customers did than another, and whether the groups are sound.

Works from a group's size, mean and variance, so that a warehouse can do the summing. Lift is
intention-to-treat: a unit is a customer of the group, reached or not, with the reward of the
whole period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from decision_engine.evaluate import Z95, Verdict
from decision_engine.types import Floats

MIN_GROUP = 100
"""Customers a group needs before its mean is compared."""

SAMPLE_RATIO_ALPHA = 0.001
"""Group sizes less likely than this under their shares are a defect, not chance."""

PLANNED_SAMPLE = 5_000
"""Customers (both groups) at which the always-valid interval is tightest."""

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


@dataclass(frozen=True)
class SampleRatio:
    """Chi-square test of group sizes against their shares; `refused` when they do not fit."""

    chi_square: float
    p_value: float
    verdict: Verdict
    reason: str = ""


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


def lift(treatment: Group, control: Group) -> Lift:
    """Difference of two means (Welch), its confidence sequence, and the relative lift.

    Refused when a group has fewer than MIN_GROUP customers.
    """
    smallest = min(treatment.n, control.n)
    if smallest < MIN_GROUP:
        none = Interval(float("nan"), float("nan"), float("nan"))
        reason = f"a group has {smallest} customers, fewer than {MIN_GROUP}"
        return Lift(treatment, control, none, none, none, "refused", reason)
    value = treatment.mean - control.mean
    error = float(np.sqrt(treatment.variance / treatment.n + control.variance / control.n))
    half = always_valid_half_width(error, treatment.n + control.n)
    return Lift(
        treatment,
        control,
        difference=Interval(value, value - Z95 * error, value + Z95 * error),
        always_valid=Interval(value, value - half, value + half),
        relative=_relative(treatment, control),
    )


def always_valid_half_width(standard_error: float, n: int) -> float:
    """Half width at n units of an asymptotic 95% confidence sequence.

    s sqrt(2 (n r^2 + 1) / (n r)^2 log(sqrt(n r^2 + 1) / alpha)), s = standard_error sqrt(n) and
    r^2 = (-2 log alpha + log(1 - 2 log alpha)) / PLANNED_SAMPLE (Waudby-Smith et al., Annals of
    Statistics 2024, theorem 2.2 and its rule for r).
    """
    spread = -2 * np.log(_ALPHA) + np.log(1 - 2 * np.log(_ALPHA))
    mixed = n * spread / PLANNED_SAMPLE + 1
    half = np.sqrt(2 * mixed / (mixed - 1) * np.log(np.sqrt(mixed) / _ALPHA))
    return float(standard_error * half)


def sample_ratio(counts: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Whether group sizes fit their shares: sum (observed - expected)^2 / expected, k - 1 df.

    `counts` and `shares` have the same keys, every share is above 0. Refused below
    SAMPLE_RATIO_ALPHA: something before the measurement loses or adds customers.
    """
    if counts.keys() != shares.keys():
        raise ValueError("`counts` and `shares` must name the same groups")
    observed = np.array([counts[g] for g in shares], dtype=np.float64)
    share = np.array(list(shares.values()), dtype=np.float64)
    if len(share) < 2 or share.min() <= 0 or observed.sum() == 0:
        raise ValueError("`shares` must be two or more, above 0, and `counts` not all 0")
    expected = share / share.sum() * observed.sum()
    chi_square = float((np.square(observed - expected) / expected).sum())
    p_value = float(special.chdtrc(len(share) - 1, chi_square))
    if p_value >= SAMPLE_RATIO_ALPHA:
        return SampleRatio(chi_square, p_value, "estimated")
    reason = f"group sizes do not fit their shares (p = {p_value:.2g}): the comparison is unsound"
    return SampleRatio(chi_square, p_value, "refused", reason)


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
