"""A new creative begins with few customers, and is open to more as evidence on it grows.

Which customers is settled by a hash of their own for each creative, so who has been let in stays
in while the evidence grows (a changed context or an erasure takes some away), and the
probabilities of a choice are among what was possible, like with every guardrail.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from decision_engine.keys import customer_keys, uniforms
from decision_engine.state import PolicyState
from decision_engine.types import Catalog, Floats, Reason, Reasons

FULL = 200.0
"""Decisions for a creative from which on it is open to all; an estimate needs as many."""


def reaches(catalog: Catalog, state: PolicyState) -> Floats | None:
    """The share of customers (k,) that each action is open to; None when it is all for all.

    Linear in the decisions that the state has learned of the creative, whatever its incentive or
    hour: `ramp` at none, 1 at `FULL`.
    """
    if all(action.ramp is None for action in catalog.actions):
        return None
    counts = state.evidence(catalog.keys).count.tolist()
    of: dict[str, float] = {}
    for action, count in zip(catalog.actions, counts, strict=True):
        of[action.creative] = of.get(action.creative, 0.0) + count
    return np.array(
        [
            1.0 if a.ramp is None else min(1.0, a.ramp + (1 - a.ramp) * of[a.creative] / FULL)
            for a in catalog.actions
        ]
    )


def ramped(
    reasons: Reasons,
    reach: Floats | None,
    catalog: Catalog,
    salt: str,
    agent: str,
    customer_ids: Iterable[str],
) -> Reasons:
    """The reasons (n, k), with what is not open to a customer yet ruled out."""
    if reach is None or reach.min() >= 1.0:
        return reasons
    out, ids = reasons.copy(), list(customer_ids)
    lots: dict[str, Floats] = {}
    for i in np.flatnonzero(reach < 1.0).tolist():
        creative = catalog.actions[i].creative
        if creative not in lots:
            own = customer_keys(salt, f"ramp\x1f{agent}\x1f{creative}", ids)
            lots[creative] = uniforms(own, "ramp")[:, 0]
        out[(lots[creative] >= reach[i]) & (out[:, i] == Reason.ELIGIBLE), i] = Reason.RAMP
    return out
