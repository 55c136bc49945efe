"""Each group's customers and all they earned, by intention to treat: whatever was done for them.

Every closed decision counts, whichever actions the agent had then: the groups are the same lot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Warehouse
from decision_engine.arrow import matrix_of
from decision_engine.lift import Group, Lift, Moments, adjusted, lift, moments_of
from decision_engine.logged import REWARDS
from decision_engine.sample_ratio import SampleRatio, sample_ratio, strata
from decision_engine.types import TREATMENT, Floats, Ints
from decision_engine.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Experiment:
    """m customers, each with what was known of them at their first decision.

    `group` (m,) index into `groups` and `shares` (m, groups) as in force then · `x` (m, d) raw
    features, those that every epoch of them has · `reward` and `decisions` (m,) of the whole
    period · `moved` how many were in another group later.
    """

    groups: tuple[str, ...]
    group: Ints
    shares: Floats
    x: Floats
    reward: Floats
    decisions: Ints
    moved: int

    def sizes(self) -> SampleRatio | None:
        """Customers per group against the shares in force at each one's first decision."""
        used = np.asarray(self.shares.min(axis=0) > 0)
        if used.sum() < 2 or not used[self.group].all():
            return None
        place = np.cumsum(used) - 1
        return sample_ratio(*strata(place[self.group], self.shares[:, used]))

    def means(self) -> dict[str, Group]:
        """Reward per customer of each group with two customers or more."""
        return {
            name: Group(m.n, float(m.mean[0]), float(m.covariance[0, 0]))
            for name, m in self._moments().items()
        }

    def lifts(self) -> dict[str, Lift]:
        """Treatment against every other group, adjusted for what was known before."""
        moments = self._moments()
        if TREATMENT not in moments:
            return {}
        rows = np.bincount(self.group, self.decisions, len(self.groups))
        count = dict(zip(self.groups, rows.astype(int).tolist(), strict=True))
        return {
            name: lift(*adjusted(moments[TREATMENT], m), count[TREATMENT] + count[name])
            for name, m in moments.items()
            if name != TREATMENT
        }

    def _moments(self) -> dict[str, Moments]:
        return {
            name: moments_of(self.reward[self.group == i], self.x[self.group == i])
            for i, name in enumerate(self.groups)
            if (self.group == i).sum() > 1
        }


def read_experiment(workspace: Workspace, warehouse: Warehouse, agent: str) -> Experiment | None:
    """The agent's experiment so far; None without closed decisions."""
    of_customer = "partition by r.customer_id"
    found = list(
        warehouse.query(
            "select epoch_id, group_name, x, reward, decisions, moved from ("
            "select r.customer_id, d.epoch_id, r.group_name, d.x,"
            f" sum(r.reward) over ({of_customer}) as reward, count(*) over ({of_customer}) as"
            f" decisions, case when min(r.group_name) over ({of_customer})"
            f" < max(r.group_name) over ({of_customer}) then 1 else 0 end as moved,"
            f" row_number() over ({of_customer} order by d.decided_at, d.decision_id)"
            f" as place from {workspace.model(REWARDS)} r"
            f" join {workspace.engine('decisions')} d on r.decision_id = d.decision_id"
            " where d.agent = ? and r.is_closed) firsts where place = 1 order by customer_id",
            [agent],
        )
    )
    if not found:
        return None
    rows = warehouse.rows(f"select epoch_id, plan from {workspace.engine('epochs')}")
    plans = {epoch: json.loads(text)["agents"].get(agent) for epoch, text in rows}
    known = pa.array([epoch for epoch, plan in plans.items() if plan], pa.string())
    table = pa.Table.from_batches(found)
    table = table.filter(pc.is_in(table["epoch_id"], known)).combine_chunks()
    if not table.num_rows:
        return None
    epochs, epoch = np.unique(table["epoch_id"].to_pylist(), return_inverse=True)
    return _experiment(table, [plans[e] for e in epochs.tolist()], epoch)


def _experiment(table: pa.Table, plans: list[dict[str, Any]], epoch: Ints) -> Experiment:
    """From the first decisions (m,) with the plans of their epochs, indexed by `epoch` (m,)."""
    groups = tuple(sorted({g["name"] for plan in plans for g in plan["groups"]}))
    shares = np.zeros((len(plans), len(groups)))
    for i, plan in enumerate(plans):
        for g in plan["groups"]:
            shares[i, groups.index(g["name"])] = g["share"]
    common = [f for f in plans[-1]["features"] if all(f in plan["features"] for plan in plans)]
    x = np.empty((table.num_rows, len(common)))
    for i, plan in enumerate(plans):
        at = np.flatnonzero(epoch == i)
        logged = matrix_of(table["x"].take(pa.array(at)).combine_chunks())
        x[at] = logged[:, [plan["features"].index(f) for f in common]]
    place = {name: i for i, name in enumerate(groups)}
    return Experiment(
        groups=groups,
        group=np.array([place[name] for name in table["group_name"].to_pylist()], dtype=np.int64),
        shares=shares[epoch],
        x=x,
        # A warehouse adds up in any order: without rounding, the last bit is left to chance.
        reward=np.round(table["reward"].to_numpy().astype(np.float64), 9),
        decisions=table["decisions"].to_numpy().astype(np.int64),
        moved=int(table["moved"].to_numpy().astype(np.int64).sum()),
    )
