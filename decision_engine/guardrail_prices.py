"""What each guardrail costs that is ours to choose: measured, not modelled.

A guardrail bites when it rules out a message that every other one before it allows. Until it
bites for the first time, those for whom it is waived live exactly like the others; so the
customers it has bitten, from that decision on, are two groups drawn by lot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.base import Warehouse
from decision_engine import configurations
from decision_engine.arrow import matrix_of
from decision_engine.config import Waivable
from decision_engine.errors import StepError
from decision_engine.features import feature_names
from decision_engine.guardrails import judge
from decision_engine.lift import Lift, adjusted, lift, moments_of
from decision_engine.logged import REWARDS, contexts_of_facts, daily_epochs
from decision_engine.scene import Scene
from decision_engine.types import TREATMENT, Bools, Contexts, Epoch, Floats, Ints, Reason
from decision_engine.waivers import FACT, names_of
from decision_engine.workspace import Workspace

_SETTING = {"frequency_cap": "caps", "quiet_hours": "quiet_hours", "blackout": "blackouts"}


@dataclass(frozen=True, eq=False)
class Bitten:
    """n closed decisions of the treatment, oldest first.

    `customer` (n,) codes · `reward` (n,) · `x` (n, d) · `bites` (n,) whether the guardrail would
    rule something out · `waived` (n,) whether it does not hold for the customer.
    """

    customer: Ints
    reward: Floats
    x: Floats
    bites: Bools
    waived: Bools


def price(found: Bitten) -> Lift | None:
    """Waived minus held: the reward per customer from the first bite on; None without a bite.

    Adjusted for what was known at that decision. Refused as `lift` does.
    """
    at = np.flatnonzero(found.bites)
    _, first = np.unique(found.customer[at], return_index=True)
    first = at[first]
    since = np.full(int(found.customer.max(initial=-1)) + 1, len(found.customer))
    since[found.customer[first]] = first
    counts = np.arange(len(found.customer)) >= since[found.customer]
    total = np.zeros(len(since))
    np.add.at(total, found.customer[counts], found.reward[counts])
    waived = found.waived[first]
    if min(waived.sum(), (~waived).sum()) < 2:
        return None
    reward, x = total[found.customer[first]], found.x[first]
    groups = adjusted(
        moments_of(reward[waived], x[waived]), moments_of(reward[~waived], x[~waived])
    )
    return lift(*groups, int(counts.sum()))


def prices_of(workspace: Workspace, warehouse: Warehouse, agent: str) -> dict[str, Lift]:
    """The price of every guardrail that is waived for some, by the agent's closed decisions.

    Only dates count on which the guardrail and its waiver were what they are now.
    """
    if not workspace.project.waived:
        return {}
    found = {g: _bitten(workspace, warehouse, agent, g) for g in workspace.project.waived}
    prices = {g: price(bitten) for g, bitten in found.items() if bitten is not None}
    return {g: p for g, p in prices.items() if p is not None}


def _bitten(
    workspace: Workspace, warehouse: Warehouse, agent: str, guardrail: Waivable
) -> Bitten | None:
    parts = list(_parts(workspace, warehouse, agent, guardrail))
    if not parts:
        return None
    ids, reward, x, bites, waived = (np.concatenate(part) for part in zip(*parts, strict=True))
    customer = np.unique(ids.astype(str), return_inverse=True)[1].astype(np.int64)
    return Bitten(customer, reward, x, bites, waived)


def _parts(
    workspace: Workspace, warehouse: Warehouse, agent: str, guardrail: Waivable
) -> Iterator[tuple[NDArray[Any], Floats, Floats, Bools, Bools]]:
    """Date by date the customers and the fields of `Bitten`."""
    features = list(feature_names(workspace.agents[agent].context))
    for epoch, plan in daily_epochs(workspace, warehouse, agent):
        then = _then(workspace, warehouse, epoch, guardrail)
        if then is None or plan["features"] != features:
            continue
        rows = _closed(workspace, warehouse, agent, epoch)
        if rows.num_rows:
            contexts = contexts_of_facts(rows)
            x = matrix_of(rows["x"].combine_chunks()).astype(np.float64)
            facts = contexts.columns[FACT].values.tolist()
            yield (
                contexts.customer_ids,
                np.asarray(rows["reward"].to_numpy(), dtype=np.float64),
                x.reshape(rows.num_rows, -1),
                _bites(then, contexts, agent, epoch, guardrail),
                np.array([guardrail in names_of(fact) for fact in facts]),
            )


def _bites(
    then: Workspace, contexts: Contexts, agent: str, epoch: Epoch, guardrail: Waivable
) -> Bools:
    """(n,): whether it rules out what every guardrail before it allows, waived or not."""
    everybody = msgspec.structs.replace(then.project, waived={})
    reasons = judge(
        Scene(contexts, then.catalog(agent), everybody, epoch, None, then.agents[agent])
    )
    bites: Bools = (reasons == Reason[guardrail.upper()]).any(axis=1)
    return bites


def _then(
    workspace: Workspace, warehouse: Warehouse, epoch: Epoch, guardrail: Waivable
) -> Workspace | None:
    """The configuration of a date, if the guardrail and its waiver were what they are now."""
    try:
        then = configurations.read(workspace, warehouse, epoch.config_digest)
    except StepError:
        return None
    same = then.project.waived.get(guardrail) == workspace.project.waived[guardrail]
    setting = _SETTING[guardrail]
    same &= bool(getattr(then.project, setting) == getattr(workspace.project, setting))
    return then if same else None


def _closed(workspace: Workspace, warehouse: Warehouse, agent: str, epoch: Epoch) -> pa.Table:
    """The treatment's closed decisions of a date."""
    batches = warehouse.query(
        "select r.customer_id, d.facts, d.x, r.reward"
        f" from {workspace.model(REWARDS)} r join {workspace.engine('decisions')} d"
        " using (decision_id)"
        " where d.epoch_id = ? and d.agent = ? and d.group_name = ? and r.is_closed"
        " order by d.decision_id",
        [epoch.epoch_id, agent, TREATMENT],
    )
    found = [batch for batch in batches if batch.num_rows]
    return pa.Table.from_batches(found) if found else pa.table({})
