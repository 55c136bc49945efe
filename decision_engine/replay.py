"""A logged decision, made again from its own record.

The record alone gives the action and the propensity. With the policy state it names, the raw
features give the posterior too, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_engine.choose import choose
from decision_engine.keys import draw_streams, keys_of
from decision_engine.policies import POLICIES, shares
from decision_engine.propensity import propensities
from decision_engine.state import PolicyState
from decision_engine.types import Bools, Family, Floats, Ints, Reason, Reasons


@dataclass(frozen=True, eq=False)
class Records:
    """n logged decisions of one agent, one list of k actions, one policy and one floor.

    `decision_ids` (n,) 64 hex digits · `actions` the k action keys · `policy` its kind · `mean`,
    `sd` (n, k), (n, 0) for `uniform` and `fixed` · `reasons` (n, k) · `p_agent` (n,) ·
    `preference` the action indices of a fixed policy · `share` (n, k) for `samples`.
    """

    decision_ids: Sequence[str] | NDArray[Any]
    actions: tuple[str, ...]
    policy: str
    floor: float
    mean: Floats
    sd: Floats
    reasons: Reasons
    p_agent: Floats
    preference: Sequence[int] = (0,)
    share: Floats | None = None


@dataclass(frozen=True, eq=False)
class Replayed:
    """What the records give: `action` (n,), `p_action` (n,), `propensity` (n,)."""

    action: Ints
    p_action: Floats
    propensity: Floats


def replay(records: Records) -> Replayed:
    """The same action as was logged, and its propensity to 1e-12, from the records alone.

    Raises ValueError when a record has no eligible action or an unusable posterior.
    """
    hashes, keys = draw_streams(records.actions), keys_of(records.decision_ids)
    action = choose(keys, *_law(records), hashes, records.preference, records.share)
    p = p_of(records, action)
    return Replayed(action, p, records.p_agent * p)


def chances(records: Records) -> Floats:
    """(n, k): the probability that each record's law gives to every action."""
    p: Floats = propensities(*_law(records), records.preference, records.share)
    return p


def p_of(records: Records, action: Ints) -> Floats:
    """(n,): the probability that each record's law gives to the action at this index."""
    p: Floats = chances(records)[np.arange(len(action)), action]
    return p


def _law(records: Records) -> tuple[Floats, Floats, Bools, float, Family]:
    eligible = records.reasons == Reason.ELIGIBLE
    return records.mean, records.sd, eligible, records.floor, POLICIES[records.policy].FAMILY


def with_posterior(records: Records, state: PolicyState, x: Floats) -> Records:
    """The records with what was drawn by made again from the state and features x (n, d)."""
    mean, sd = POLICIES[records.policy].posterior(state, records.actions, x)
    eligible = records.reasons == Reason.ELIGIBLE
    share = shares(records.policy, state, records.actions, x, eligible)
    return replace(records, mean=mean, sd=sd, share=share)


def records_from(agent: Mapping[str, Any], group: str, column: Callable[[str], Any]) -> Records:
    """Rows of `decisions` of one agent and group, by the agent's part of the plan of their epoch.

    `column` gives the array of a column: (n,), or (n, k) for lists.
    """
    policy = agent["policies"][group]
    ids, family = column("decision_id"), policy["family"]
    nothing = np.empty((len(ids), 0))
    learns = family not in ("uniform", "fixed")
    return Records(
        decision_ids=ids,
        actions=tuple(a["key"] for a in agent["actions"]),
        policy=policy["kind"],
        floor=policy["floor"],
        mean=np.asarray(column("mean"), dtype=np.float64) if learns else nothing,
        sd=np.asarray(column("sd"), dtype=np.float64) if learns else nothing,
        reasons=np.asarray(column("reasons"), dtype=np.uint8),
        p_agent=np.asarray(column("p_agent"), dtype=np.float64),
        preference=policy["preference"],
        share=np.asarray(column("share"), dtype=np.float64) if family == "samples" else None,
    )


def record_of(row: Mapping[str, Any], plan: Mapping[str, Any]) -> Records:
    """One row of `decisions` by the decoded `plan` of its epoch."""
    agent = plan["agents"][row["agent"]]
    return records_from(agent, row["group_name"], lambda name: [row[name]])


def completed(row: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `decisions` with p_action and propensity, if it was logged without them.

    `plan` is that of its epoch, decoded.
    """
    if row["propensity"] is not None:
        return dict(row)
    record = record_of(row, plan)
    p = float(p_of(record, np.array([record.actions.index(row["action"])]))[0])
    return {**row, "p_action": p, "propensity": float(row["p_agent"]) * p}
