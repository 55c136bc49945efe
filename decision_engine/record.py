"""Decisions as rows of the `decisions` table: Arrow for a batch, plain data for a few."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from decision_engine.agent_in_epoch import AgentInEpoch
from decision_engine.arrow import list_array
from decision_engine.columns import lists_of
from decision_engine.config import hours
from decision_engine.tables import DECISIONS
from decision_engine.types import Decisions, Epoch, Floats

CarriedOutBy = Literal["delivery", "caller"]
"""Who carries a decision out: our delivery, or whoever asked for it."""

_UNIX = datetime(1970, 1, 1)
_FIELDS = tuple((field.name, field.type) for field in DECISIONS)
_NAMES = tuple(name for name, _ in _FIELDS)
_TIMES = frozenset(name for name, kind in _FIELDS if pa.types.is_timestamp(kind))
_encode = msgspec.json.Encoder().encode


def table_of(
    decisions: Decisions,
    agent: AgentInEpoch,
    epoch: Epoch,
    carried_out_by: CarriedOutBy = "delivery",
) -> pa.Table:
    """Decisions as a table with the schema of `decisions`; a propensity left out is NULL."""
    columns = _columns(decisions, agent, epoch, carried_out_by)
    arrays = [_arrow(columns[name], kind) for name, kind in _FIELDS]
    return pa.Table.from_arrays(arrays, schema=DECISIONS)


def rows_of(
    decisions: Decisions,
    agent: AgentInEpoch,
    epoch: Epoch,
    carried_out_by: CarriedOutBy = "delivery",
) -> list[dict[str, Any]]:
    """The rows of `table_of` as plain data: for a handful of decisions, without Arrow."""
    columns = _columns(decisions, agent, epoch, carried_out_by)
    lists = [
        values if isinstance(values, list) else _plain(values, name in _TIMES)
        for name, values in columns.items()
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _columns(
    decisions: Decisions, agent: AgentInEpoch, epoch: Epoch, carried_out_by: CarriedOutBy
) -> Mapping[str, Any]:
    """Column name -> n values; times and numbers as float64 with NaN for NULL."""
    n, actions = len(decisions), agent.plan.catalog.actions
    chosen = [actions[i] for i in decisions.action.tolist()]
    return {
        "decision_id": decisions.decision_ids,
        "epoch_id": [epoch.epoch_id] * n,
        "slot": decisions.slots,
        "agent": [agent.name] * n,
        "customer_id": decisions.customer_ids,
        "decided_at": [epoch.as_of] * n,
        "group_name": decisions.group,
        "policy": decisions.policy,
        "policy_version": [agent.state.version] * n,
        "action": [a.key for a in chosen],
        "channel": [a.channel for a in chosen],
        "creative": [a.creative for a in chosen],
        "incentive": [a.incentive for a in chosen],
        "is_promotional": [a.is_promotional for a in chosen],
        "send_at": decisions.send_at,
        "expires_at": expiry(decisions, agent, epoch),
        "carried_out_by": [carried_out_by] * n,
        "p_agent": decisions.p_agent,
        "p_action": decisions.p_action,
        "propensity": decisions.propensity,
        "floor": [agent.floors[g] for g in decisions.group.tolist()],
        "n_actions": [len(actions)] * n,
        "n_eligible": np.add.reduce(decisions.reasons == 0, axis=1, dtype=np.int64),
        "mean": decisions.mean,
        "sd": decisions.sd,
        "share": decisions.share,
        "reasons": decisions.reasons,
        "x": decisions.x,
        "facts": facts_json(decisions),
    }


def expiry(decisions: Decisions, agent: AgentInEpoch, epoch: Epoch) -> Floats:
    """Unix seconds after which a decision must not be carried out any more."""
    # Nothing leaves before the epoch; NaN is what does not leave.
    meant_for: Floats = np.fmax(decisions.send_at, epoch.seconds)
    return meant_for + hours(agent.config.time_to_live) * 3600.0


def facts_json(decisions: Decisions) -> list[str]:
    """The guardrail facts of each row as a JSON object."""
    names, lists = tuple(decisions.facts), lists_of(decisions.facts)
    return [
        _encode(dict(zip(names, row, strict=True))).decode() for row in zip(*lists, strict=True)
    ]


def _arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        return list_array(values, kind.value_type)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        if pa.types.is_timestamp(kind):
            return pa.array(_micros(values), mask=np.isnan(values)).cast(kind)
        return pa.array(values, type=kind, mask=np.isnan(values))
    return pa.array(values, type=kind)


def _plain(values: Any, is_time: bool) -> list[Any]:
    plain: list[Any] = values.tolist()
    if values.ndim == 1 and values.dtype.kind == "f":
        return [None if v != v else _moment(v) if is_time else v for v in plain]
    return plain


def _micros(seconds: Floats) -> Any:
    return (np.where(np.isnan(seconds), 0.0, seconds) * 1e6).astype(np.int64)


def _moment(seconds: float) -> datetime:
    return _UNIX + timedelta(microseconds=int(seconds * 1e6))
