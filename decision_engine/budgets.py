"""Money, stock and the time of people: what messages use up, and what a unit of it is worth.

Each limit has a price in reward units per unit, frozen for an epoch like everything else. An
action that uses a limit up is possible for a person only when its expected gain over doing
nothing is more than what it uses is worth. That depends on the person and the price alone, so
it is the same for one row and for a million, in any order. The price is the lowest at which the
epoch's demand fits what is left: the shadow price of the limit. The limit itself is kept where
messages leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from decision_engine.config import Incentive, Limit
from decision_engine.keys import customer_keys, uniforms
from decision_engine.types import Action, Catalog, Floats, Reason, Reasons

Prices = Mapping[str, float]
NO_PRICES: Prices = MappingProxyType({})
Demand = Callable[[Prices], Mapping[str, float]]
"""What would be used of each limit at given prices."""

ROUNDS, STEPS = 2, 10
"""Times that all limits are gone through, and halvings of a price's range each time."""

LOWEST, HIGHEST, TIE = 1e-10, 1e6, 1e-6
"""Between what a price is looked for, and what luck is worth, in reward units."""


def use(limit: Limit, action: Action, incentives: Sequence[Incentive]) -> float:
    """How much of a limit one message uses up, in its unit; 0 for doing nothing."""
    named = (
        (limit.incentives, action.incentive),
        (limit.creatives, action.creative),
        (limit.channels, action.channel),
    )
    if not action.channel or any(names and name not in names for names, name in named):
        return 0.0
    if limit.unit == "messages":
        return 1.0
    return float(next((i.cost_cents for i in incentives if i.incentive == action.incentive), 0))


def uses(limit: Limit, catalog: Catalog, incentives: Sequence[Incentive]) -> Floats:
    """(k,): `use` of each action."""
    return np.array([use(limit, action, incentives) for action in catalog.actions])


def costs(
    limits: Sequence[Limit], prices: Prices, catalog: Catalog, incentives: Sequence[Incentive]
) -> Floats:
    """(k,): what each action uses up is worth, in reward units."""
    total = np.zeros(len(catalog))
    for limit in limits:
        total += prices.get(limit.limit, 0.0) * uses(limit, catalog, incentives)
    return total


def worth_it(reasons: Reasons, gains: Floats, cost: Floats, lot: Floats) -> Reasons:
    """The reasons (n, k), with what does not gain (n, k) more than it costs (k,) ruled out.

    Among people for whom it gains the same, as for all of them before anything is learned, their
    `lot` (n,) from 0 to 1 decides.
    """
    bid = gains + TIE * lot[:, np.newaxis]
    out = reasons.copy()
    out[(reasons == Reason.ELIGIBLE) & (cost > 0) & (bid <= cost)] = Reason.BUDGET
    return out


def lots(salt: str, customer_ids: Iterable[str]) -> Floats:
    """(n,): a number from 0 to 1 for each customer, always the same."""
    lot: Floats = uniforms(customer_keys(salt, "lot", customer_ids), "lot")[:, 0]
    return lot


def clearing(limits: Sequence[Limit], left: Mapping[str, float], demand: Demand) -> Prices:
    """The lowest prices at which the demand for each limit fits what is left of it.

    One limit after the other by bisection, twice over, for a price moves demand for the others.
    Demand falls as its own price rises. What is unsold at the highest bid is found by doubling.
    """
    prices = {limit.limit: 0.0 for limit in limits}
    for _ in range(ROUNDS):
        for name in prices:
            prices[name] = _price(name, prices, left[name], demand)
    return {name: price for name, price in prices.items() if price > 0}


def _price(name: str, prices: Prices, left: float, demand: Demand) -> float:
    def fits(price: float) -> bool:
        return demand({**prices, name: price}).get(name, 0.0) <= left

    if fits(0.0):
        return 0.0
    high = LOWEST
    while not fits(high) and high < HIGHEST:
        high *= 8
    low = high / 8
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
