"""What only the simulation knows: how good each decision was, next to chance and the best.

The oracle is myopic: for each decision it takes the eligible action with the highest
expected reward for that person, hidden traits included, at that moment; what the agent counts
as spent is taken off. It is an upper bound that no policy which sees only columns can reach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from connectors.base import Warehouse
from decision_engine.agent_check import SPENT
from decision_engine.build import weights_of
from decision_engine.market import ActionView, Market
from decision_engine.types import Floats
from decision_engine.workspace import Workspace

_EPOCH = datetime(1970, 1, 1)


@dataclass
class Account:
    """Sums of expected reward over decisions: of what was chosen, of chance, of the best."""

    decisions: int = 0
    chosen: float = 0.0
    uniform: float = 0.0
    oracle: float = 0.0

    @property
    def share(self) -> float:
        """Share of the random-to-oracle gap that was reached; NaN when there is no gap."""
        gap = self.oracle - self.uniform
        return (self.chosen - self.uniform) / gap if gap > 1e-12 else float("nan")


class Truth:
    """Keeps the accounts by week and group while the simulation runs."""

    def __init__(self, market: Market, workspace: Workspace) -> None:
        self.market = market
        self.workspace = workspace
        self.accounts: dict[tuple[int, str], Account] = defaultdict(Account)
        self._first: datetime | None = None

    def observe(self, now: datetime) -> None:
        """Value the decisions of this slot; to be called before anybody gets a message."""
        self._first = self._first or now
        week = (now - self._first).days // 7 + 1
        with self.workspace.warehouse() as warehouse:
            for agent in self.workspace.agents:
                for rows in self._decisions(warehouse, agent, now.date().isoformat()):
                    self._add(week, agent, rows)

    def _decisions(self, warehouse: Warehouse, agent: str, slot: str) -> Iterator[dict[str, Any]]:
        decisions = self.workspace.engine("decisions")
        customers = self.workspace.model("dim_customers")
        for batch in warehouse.query(
            f"select d.group_name, d.action, d.reasons, d.decided_at, c.email"
            f" from {decisions} d join {customers} c using (customer_id)"
            f" where d.agent = ? and d.slot = ? and c.email is not null order by d.decision_id",
            [agent, slot],
        ):
            yield batch.to_pydict()

    def _add(self, week: int, agent: str, rows: dict[str, Any]) -> None:
        people = [self.market.person_of_email(e) for e in rows["email"]]
        known = [i for i, p in enumerate(people) if p is not None]
        if not known:
            return
        value = self._expected(agent, [people[i] for i in known], rows, known)
        eligible = np.array([rows["reasons"][i] for i in known]) == 0
        keys = self.workspace.catalog(agent).keys
        chosen = np.array([keys.index(rows["action"][i]) for i in known])
        at = np.arange(len(known))
        uniform = (value * eligible).sum(axis=1) / eligible.sum(axis=1)
        best = np.where(eligible, value, -np.inf).max(axis=1)
        groups = np.array([rows["group_name"][i] for i in known])
        for group in np.unique(groups):
            mine = groups == group
            account = self.accounts[week, str(group)]
            account.decisions += int(mine.sum())
            account.chosen += float(value[at, chosen][mine].sum())
            account.uniform += float(uniform[mine].sum())
            account.oracle += float(best[mine].sum())

    def _expected(
        self, agent: str, people: list[Any], rows: dict[str, Any], known: list[int]
    ) -> Floats:
        views = [
            ActionView(a.channel, a.creative, a.incentive, a.send_hour, a.wait_days)
            for a in self.workspace.catalog(agent).actions
        ]
        seconds = [(rows["decided_at"][i] - _EPOCH) / timedelta(seconds=1) for i in known]
        at = np.array(seconds, dtype=np.float64)
        who, outcomes = np.array(people, dtype=np.int64), self.workspace.agents[agent].outcomes
        weights = {o.event: o.weight for o in outcomes if o.event not in SPENT}
        value = self.market.expected_reward(who, views, at, weights)
        orders = self.market.expected_reward(who, views, at, {"order": 1.0})
        for outcome in outcomes:
            if outcome.event in SPENT:
                price = dict(weights_of(outcome, self.workspace.project))
                of = "channel" if outcome.event == "message" else "incentive"
                spent = np.array([price.get(getattr(view, of), 0.0) for view in views])
                value += spent * (1.0 if of == "channel" else orders)
        return value

    def by_week(self, group: str) -> list[Account]:
        """The accounts of one group, week by week."""
        return [self.accounts[w, g] for w, g in sorted(self.accounts) if g == group]
