"""Orders: how often people buy of themselves, how much, and with what discount."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit, ndtri

from decision_engine.market.identifiers import Identifiers
from decision_engine.market.people import DAY, People, generator
from decision_engine.market.schemas import Rows, ids, only, pick, times
from decision_engine.market.state import State
from decision_engine.types import Bools, Floats, Ints

CATEGORIES = ("shirts", "shoes", "jackets", "bags", "home", "gifts")
PRODUCTS = 60
DRAWS = 7
"""Uniform draws that one order takes."""

_STATUSES = ("paid", "refunded", "cancelled")
_A_DAY = np.array([0.0025, 0.005, 0.014])
_LAPSED = 0.0015


def organic_orders(people: People, state: State, day: int, midnight: float, seed: int) -> Ints:
    """Who (n,) orders on a day of themselves, given how many orders they have already."""
    drawn = generator(seed, day, "orders").random(len(people))
    lapsed = (state.orders > 1) & (midnight - state.last_order > 60 * DAY)
    rate = np.where(lapsed, _LAPSED, _A_DAY[np.minimum(state.orders, 2)])
    keen = people.activity / 0.14
    return np.flatnonzero((people.signup_day < day) & (drawn < rate * keen))


def organic_draws(people: People, day: int, seed: int) -> Floats:
    """Draws (t, DRAWS) of everybody's order of the day, whether they order or not."""
    return generator(seed, day, "baskets").random((len(people), DRAWS))


def add_orders(
    rows: Rows, known: Identifiers, who: Ints, at: Floats, name: pa.Array, draws: Floats,
    dollars: Floats | None = None,
) -> Bools:  # fmt: skip
    """Orders of n people at `at` under the ids `name`; which of them (n,) are paid.

    `draws` (n, DRAWS) uniform. `dollars` (n,) is the incentive that brought each of them; such
    orders are always paid. Without it people find discounts by themselves, thrifty ones often.
    """
    people = known.people
    amount = 100 * np.exp(people.basket[who] + 0.35 * ndtri(draws[:, 0]))
    if dollars is None:
        bargain = draws[:, 1] < expit(-1.2 + 1.4 * people.thrift[who])
        discount = np.where(bargain, amount * (0.10 + 0.10 * draws[:, 2]), 0.0)
        status = np.searchsorted([0.96, 0.99], draws[:, 3])
    else:
        discount, status = np.minimum(100 * dollars, amount), np.zeros(len(who), dtype=np.int64)
    person = pa.array(who)
    by_user = draws[:, 4] < 0.6
    rows.add(
        "orders",
        len(who),
        order_id=name,
        shop_customer_id=known.shop_customer_id.take(person),
        email=only(~by_user | (draws[:, 4] > 0.1), known.email.take(person)),
        user_id=only(by_user, known.user_id.take(person)),
        currency="USD",
        amount_cents=amount.astype(np.int64),
        discount_cents=discount.astype(np.int64),
        status=pick(_STATUSES, status),
        ordered_at=times(at),
    )
    _add_items(rows, name, amount.astype(np.int64), draws)
    is_paid: Bools = status == 0
    return is_paid


def _add_items(rows: Rows, name: pa.Array, amount: Ints, draws: Floats) -> None:
    """One to three lines; what they cost adds up to the amount."""
    lines = 1 + (3 * draws[:, 5]).astype(np.int64)
    order = np.repeat(np.arange(len(lines)), lines)
    line = np.arange(len(order)) - np.repeat(np.cumsum(lines) - lines, lines)
    share = amount[order] // lines[order]
    price = np.where(line == 0, amount[order] - share * (lines[order] - 1), share)
    first = (PRODUCTS * draws[:, 6]).astype(np.int64)[order]
    rows.add(
        "order_items",
        len(order),
        order_id=name.take(pa.array(order)),
        line=line + 1,
        product_id=product_ids((first + 7 * line) % PRODUCTS),
        quantity=1,
        price_cents=price,
    )


def product_ids(products: Ints) -> pa.Array:
    """The id of each product number."""
    return ids("prod", 100 + products)


def add_products(rows: Rows, seed: int, at: float) -> None:
    """The shop's shelf, as it was at `at`."""
    rng = generator(seed, 0, "products")
    number = np.arange(PRODUCTS)
    category = pick(CATEGORIES, number % len(CATEGORIES))
    rows.add(
        "products",
        PRODUCTS,
        product_id=product_ids(number),
        name=pc.binary_join_element_wise(category, pa.array(number).cast(pa.string()), " no. "),
        category=category,
        price_cents=(1500 + 12_000 * rng.random(PRODUCTS)).astype(np.int64),
        is_active=rng.random(PRODUCTS) < 0.95,
        updated_at=times(np.full(PRODUCTS, at)),
    )
