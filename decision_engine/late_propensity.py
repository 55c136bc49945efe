"""Propensities that were left for later: a decision's record suffices to compute them.

The hot path answers without them, because the choice does not depend on them. They are filled in
when its log is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Warehouse
from decision_engine.audit import groups_of, records_of
from decision_engine.errors import StepError
from decision_engine.replay import p_of
from decision_engine.types import Floats
from decision_engine.workspace import Workspace


def with_propensities(workspace: Workspace, warehouse: Warehouse, table: pa.Table) -> pa.Table:
    """Rows of `decisions` with p_action and propensity filled in where they are NULL.

    The order of the rows may change. StepError when an epoch is not in the warehouse, or the
    action is not one that its plan knows.
    """
    is_late = pc.is_null(table["p_action"])
    late = table.filter(is_late)
    if not late.num_rows:
        return table
    plans = _plans(workspace, warehouse, late["epoch_id"].unique().to_pylist())
    parts = [_filled(part, plans[part["epoch_id"][0].as_py()]) for part in groups_of(late)]
    return pa.concat_tables([table.filter(pc.invert(is_late)), *parts])


def _filled(part: pa.Table, plan: Mapping[str, Any]) -> pa.Table:
    p = _p_actions(part, plan)
    for name, values in (("p_action", p), ("propensity", part["p_agent"].to_numpy() * p)):
        at = part.schema.get_field_index(name)
        part = part.set_column(at, part.schema.field(at), pa.array(values, pa.float64()))
    return part


def _p_actions(part: pa.Table, plan: Mapping[str, Any]) -> Floats:
    """The probability (n,) of what was chosen, for rows of one epoch, agent and group."""
    agent = part["agent"][0].as_py()
    frozen = plan["agents"].get(agent)
    known = {a["key"]: i for i, a in enumerate(frozen["actions"])} if frozen else {}
    chosen = part["action"].to_pylist()
    if not known.keys() >= set(chosen):
        raise StepError(f"a decision of {agent} in the log does not fit the plan of its epoch")
    return p_of(records_of(frozen, part), np.array([known[action] for action in chosen]))


def _plans(workspace: Workspace, warehouse: Warehouse, epoch_ids: list[str]) -> dict[str, Any]:
    table = workspace.engine("epochs")
    rows = warehouse.rows(
        f"select epoch_id, plan from {table} where {warehouse.among('epoch_id')}", [epoch_ids]
    )
    found = {epoch_id: json.loads(plan) for epoch_id, plan in rows}
    missing = set(epoch_ids) - set(found)
    if missing:
        raise StepError(
            f"the log has decisions of epoch {min(missing)}, which is not in {table}:"
            " an earlier segment is missing"
        )
    return found
