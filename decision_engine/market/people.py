"""Who lives in the market: the traits of every person, drawn once from the seed.

Three blocks of people, in this order: the customers of day 0, the newcomers (who are visitors
until they sign up, some every day) and visitors who stay anonymous for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from decision_engine.types import Bools, Floats, Ints

CHANNELS = ("email", "push", "sms")
ZONES = ("America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/London")
COUNTRIES = ("US", "US", "US", "GB")
REGIONS = ("NY", "TX", "CA", "ENG")
TIERS = ("bronze", "silver", "gold")
DAY = 86_400.0
NEWCOMER_DAYS = 90
"""Days on which people sign up; a longer simulation goes on without new ones."""
NEVER = 1_000_000
STEPS = 5
"""Onboarding has this many steps."""

_NEWCOMERS_A_DAY = 0.004
_ANONYMOUS = 0.25
_CONSENT = ((0.85, 0.85, 0.85), (0.30, 0.87, 0.35), (0.29, 0.33, 0.86))
_HISTORY = 150.0


@dataclass(frozen=True)
class People:
    """Traits of t people; every array is (t, ...).

    `signup_day` days from day 0 (NEVER: stays anonymous) · `zone` index into ZONES ·
    `orders`, `order_age` paid orders at day 0 and days since the last one (inf: none) ·
    `affinity` (t, 3) liking of each channel · `peak_hour` local hour they like to read at ·
    `thrift`, `activity` (visits per day), `basket` (log dollars) show in their history ·
    `taste`, `pair` (+1, -1) show nowhere but in reactions · `has_channel` (t, 3) an address
    exists · `consent` (t, 3): 1 granted, 0 withdrawn, -1 never asked.
    """

    customers: int
    signup_day: Ints
    zone: Ints
    zone_is_known: Bools
    orders: Ints
    order_age: Floats
    tier: Ints
    favourite: Ints
    affinity: Floats
    peak_hour: Floats
    thrift: Floats
    activity: Floats
    basket: Floats
    taste: Floats
    pair: Floats
    devices: Ints
    has_channel: Bools
    consent: Ints
    is_suppressed: Bools
    has_bad_address: Bools
    has_mail_proxy: Bools
    has_scanner: Bools

    def __len__(self) -> int:
        return len(self.signup_day)


def generator(seed: int, day: int, purpose: str) -> np.random.Generator:
    """The random numbers for one purpose on one day: no draw shifts any other."""
    return np.random.default_rng([seed, day + 10_000, crc32(purpose.encode())])


def draw_people(customers: int, seed: int) -> People:
    """Everybody who will ever appear; about 1.6 people per customer of day 0."""
    signup_day = _signup_days(customers, seed)
    t = len(signup_day)
    rng = generator(seed, 0, "people")
    orders, order_age = _orders(customers, t, rng)
    oldest = np.where(np.isfinite(order_age), -order_age - 40.0 * (orders - 1) - 10, NEVER)
    signup_day = np.minimum(signup_day, oldest.astype(np.int64))
    thrift, taste = rng.standard_normal(t), rng.standard_normal(t)
    favourite = rng.choice(3, size=t, p=(0.40, 0.34, 0.26)).astype(np.int64)
    has_channel, consent = _permissions(favourite, rng)
    return People(
        customers=customers,
        signup_day=signup_day,
        zone=rng.choice(4, size=t, p=(0.35, 0.22, 0.23, 0.20)).astype(np.int64),
        zone_is_known=rng.random(t) >= 0.01,
        orders=orders,
        order_age=order_age,
        tier=_tiers(orders, rng),
        favourite=favourite,
        affinity=_affinity(favourite, rng),
        peak_hour=rng.choice([9.0, 13.0, 19.0], size=t, p=(0.3, 0.2, 0.5)) + rng.normal(0, 1, t),
        thrift=thrift,
        activity=0.14 * np.exp(0.7 * rng.standard_normal(t)),
        basket=4.1 - 0.40 * thrift + 0.15 * rng.standard_normal(t),
        taste=taste,
        pair=np.where(rng.random(t) < 0.5, 1.0, -1.0),
        devices=rng.choice([1, 2, 3], size=t, p=(0.5, 0.35, 0.15)).astype(np.int64),
        has_channel=has_channel,
        consent=consent,
        is_suppressed=rng.random(t) < 0.005,
        has_bad_address=rng.random(t) < 0.004,
        has_mail_proxy=rng.random(t) < 0.3,
        has_scanner=rng.random(t) < 0.03,
    )


def _signup_days(customers: int, seed: int) -> Ints:
    rng = generator(seed, 0, "signup")
    before = -1 - (rng.random(customers) * _HISTORY).astype(np.int64)
    a_day = max(1, round(_NEWCOMERS_A_DAY * customers))
    newcomers = np.repeat(np.arange(NEWCOMER_DAYS), a_day)
    return np.concatenate([before, newcomers, np.full(round(_ANONYMOUS * customers), NEVER)])


def _orders(customers: int, t: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Paid orders at day 0 (40 % none, 25 % one) and the age of the last one in days."""
    kind = rng.random(t)
    several = 1 + rng.geometric(0.4, t)
    orders = np.where(kind < 0.40, 0, np.where(kind < 0.65, 1, several))
    fresh, stale = 1 + 58 * rng.random(t), 61 + 300 * rng.random(t) ** 2
    age_of_several = np.where(rng.random(t) < 0.5, fresh, stale)
    age = np.where(orders == 1, 2 + 148 * rng.random(t), age_of_several)
    orders[customers:] = 0
    return orders.astype(np.int64), np.where(orders > 0, age, np.inf)


def _tiers(orders: Ints, rng: np.random.Generator) -> Ints:
    standing = 0.8 * np.log1p(orders) + rng.normal(0, 0.7, len(orders))
    tiers: Ints = np.where(orders > 0, np.searchsorted([0.75, 1.5], standing), 0).astype(np.int64)
    return tiers


def _affinity(favourite: Ints, rng: np.random.Generator) -> Floats:
    affinity = rng.normal(-0.5, 0.25, (len(favourite), 3))
    affinity[np.arange(len(favourite)), favourite] += 1.3
    return affinity


def _permissions(favourite: Ints, rng: np.random.Generator) -> tuple[Bools, Ints]:
    """Addresses and consents; people tend to have consented to the channel that they like."""
    t = len(favourite)
    granted = rng.random((t, 3)) < np.array(_CONSENT).T[favourite]
    consent = np.where(granted, 1, np.where(rng.random((t, 3)) < 0.5, 0, -1)).astype(np.int64)
    has_channel = granted | (rng.random((t, 3)) < (1.0, 0.3, 0.5))
    has_channel[:, 0] = True
    return has_channel, consent
