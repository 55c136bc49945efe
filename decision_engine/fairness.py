"""Who gets what: whether a policy leaves people out, and whether it knows too little of them.

Two questions for every value of a column of the profiles (a country, a tier). *Reach*: does the
treatment send these people less, of messages or of incentives, than the lot would? The random
group has the same consents, rules and limits, so what differs from it is the policy's own doing.
*Knowledge*: is what was learned from about other people? Both compare the value with all other
people together, as a ratio; a customer is one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from connectors.base import Warehouse
from decision_engine.epochs import FEATURES
from decision_engine.logged import REWARDS
from decision_engine.workspace import Workspace

SEGMENTS = ("lifecycle_stage", "tier", "country")
"""The columns of the profiles by which people are compared, where they are there."""

FOUR_FIFTHS = 0.8
"""Less than this share of what others get is told (the four-fifths rule, 29 CFR 1607.4 D)."""

MIN_CUSTOMERS = 100
"""Values that fewer customers have are not judged."""

_ALPHA = 0.05

What = Literal["messages", "incentives", "what was learned from"]
_SENT = "d.channel is not null and d.channel <> ''"
_MEASURES: Mapping[What, str] = {
    "messages": _SENT,
    "incentives": f"{_SENT} and d.incentive is not null and d.incentive <> ''",
    "what was learned from": f"{_SENT} and r.is_learnable",
}


class Sums(NamedTuple):
    """n customers with d decisions each, y of them with something: sums of d, y, d^2, dy, y^2."""

    n: int
    d: int
    y: int
    dd: int
    dy: int
    yy: int

    @property
    def log_rate(self) -> float:
        """Log of how often a decision had it; half a one is added, so that none is not nothing."""
        return float(np.log((self.y + 0.5) / self.d))

    @property
    def variance(self) -> float:
        """Of `log_rate`: a ratio of means over customers, linearised; at least that of counts."""
        r, y = self.y / self.d, self.y + 0.5
        return max(self.yy - 2 * r * self.dy + r * r * self.dd, y) / y**2


@dataclass(frozen=True)
class Share:
    """How much people with a value get, as a share of what all others get.

    The interval of `ratio` holds for all values of a report together.
    """

    column: str
    value: str
    what: What
    customers: int
    ratio: float
    low: float
    high: float

    @property
    def is_low(self) -> bool:
        """Whether these people certainly get less, and less than four fifths."""
        return self.ratio < FOUR_FIFTHS and self.high < 1


_NOBODY = Sums(0, 0, 0, 0, 0, 0)

Counts = Mapping[tuple[str, What], Mapping[str, Sums]]
"""Of each column and measure: value to the sums of the people who have it."""


def shares(treatment: Counts, lot: Counts) -> tuple[Share, ...]:
    """Every value that can be judged against all others, the least first.

    Messages and incentives of the treatment are measured by those of the lot; what was learned
    from, of both together, by nothing else. Values are left out where either side has too few
    customers.
    """
    compared = [
        (column, value, what, found)
        for (column, what), values in sorted(treatment.items())
        for value in sorted(values)
        if (found := _compared(value, *_sides(what, values, lot.get((column, what), {}))))
    ]
    z = float(special.ndtri(1 - _ALPHA / (2 * max(len(compared), 1))))
    out = []
    for column, value, what, (n, log, sd) in compared:
        ratio, low, high = np.exp([log, log - z * sd, log + z * sd]).tolist()
        out.append(Share(column, value, what, n, ratio, low, high))
    return tuple(sorted(out, key=lambda s: (s.ratio, s.column, s.value, s.what)))


def _sides(
    what: What, treatment: Mapping[str, Sums], lot: Mapping[str, Sums]
) -> tuple[Mapping[str, Sums], Mapping[str, Sums] | None]:
    """What is to be compared with what."""
    if what == "what was learned from":
        values = {*treatment, *lot}
        return {v: _sum(side[v] for side in (treatment, lot) if v in side) for v in values}, None
    return treatment, lot


def _compared(
    value: str, mine: Mapping[str, Sums], lot: Mapping[str, Sums] | None
) -> tuple[int, float, float] | None:
    """(customers, log of the ratio, its standard error) of a value against all others."""
    log, variance = 0.0, 0.0
    for sign, counts in ((1, mine), *(((-1, lot),) if lot is not None else ())):
        here = counts.get(value, _NOBODY)
        others = _sum(sums for name, sums in counts.items() if name != value)
        if min(here.n, others.n) < MIN_CUSTOMERS:
            return None
        # Where nobody has any of it, or some have none by lot, there is nothing to compare.
        if not (here.y + others.y if sign > 0 else here.y and others.y):
            return None
        log += sign * (here.log_rate - others.log_rate)
        variance += here.variance + others.variance
    return mine[value].n, log, float(np.sqrt(variance))


def _sum(parts: Iterable[Sums]) -> Sums:
    return reduce(lambda a, b: Sums(*map(sum, zip(a, b, strict=True))), parts, _NOBODY)


def fairness_of(
    workspace: Workspace, warehouse: Warehouse, agent: str, treatment: str, lots: Sequence[str]
) -> tuple[Share, ...]:
    """Who gets what by an agent: all its decisions of the treatment and of the groups by lot."""
    columns = warehouse.columns(workspace.model(FEATURES)) or {}
    of: tuple[dict[tuple[str, What], dict[str, Sums]], ...] = ({}, {})
    for column in SEGMENTS:
        for what, condition in _MEASURES.items() if column in columns else ():
            sql = _SQL.format(
                column=warehouse.quote(column),
                has=condition,
                decisions=workspace.engine("decisions"),
                rewards=workspace.model(REWARDS),
                profiles=workspace.model(FEATURES),
                groups=", ".join("?" * (1 + len(lots))),
            )
            for value, is_treatment, *sums in warehouse.rows(
                sql, [treatment, agent, treatment, *lots]
            ):
                side = of[0 if is_treatment else 1].setdefault((column, what), {})
                side[str(value)] = Sums(*map(int, sums))
    return shares(*of)


_SQL = """
with per_customer as (
    select
        coalesce(cast(f.{column} as varchar), 'unknown') as of_value,
        case when r.group_name = ? then 1 else 0 end as is_treatment,
        count(*) as d,
        sum(case when {has} then 1 else 0 end) as y
    from {rewards} r
    join {decisions} d on d.decision_id = r.decision_id
    join {profiles} f on f.customer_id = r.customer_id
    where r.agent = ? and r.group_name in ({groups})
    group by r.customer_id, 1, 2
)
select of_value, is_treatment, count(*), sum(d), sum(y), sum(d * d), sum(d * y), sum(y * y)
from per_customer
group by of_value, is_treatment
"""
