"""The tables that the loop itself writes, by name, with their Arrow schemas.

dbt reads them as the source `nextmove_engine`; all timestamps are UTC without a zone.
"""

from __future__ import annotations

import pyarrow as pa

_TEXT, _BOOL, _INT, _FLOAT = pa.string(), pa.bool_(), pa.int32(), pa.float64()
_BIG, _TIME, _BYTES = pa.int64(), pa.timestamp("us"), pa.binary()
_FLOATS, _CODES = pa.list_(pa.float64()), pa.list_(pa.uint8())


def exact(expression: str) -> str:
    """SQL: a number as a decimal, as in dbt. The sum of such does not depend on their order."""
    return f"cast({expression} as decimal(28, 12))"


AGENT_OUTCOMES = pa.schema(
    {
        "agent": _TEXT,
        "event": _TEXT,
        "weight": _FLOAT,
        "per": _TEXT,
        "window_hours": _INT,
        "sequence_credit": _FLOAT,
        "spent_on": _TEXT,
    }
)
ZONE_OFFSETS = pa.schema(
    {
        "time_zone": _TEXT,
        "valid_from": _TIME,
        "valid_until": _TIME,
        "offset_minutes": _INT,
    }
)
EPOCHS = pa.schema(
    {
        "epoch_id": _TEXT,
        "slot": _TEXT,
        "as_of": _TIME,
        "profile_build": _TEXT,
        "config_digest": _TEXT,
        "kill_switch": _BOOL,
        "plan": _TEXT,
        "status": _TEXT,
    }
)
DECISIONS = pa.schema(
    {
        "decision_id": _TEXT,
        "epoch_id": _TEXT,
        "slot": _TEXT,
        "agent": _TEXT,
        "customer_id": _TEXT,
        "decided_at": _TIME,
        "group_name": _TEXT,
        "policy": _TEXT,
        "policy_version": _TEXT,
        "action": _TEXT,
        "channel": _TEXT,
        "creative": _TEXT,
        "incentive": _TEXT,
        "is_promotional": _BOOL,
        "send_at": _TIME,
        "expires_at": _TIME,
        "carried_out_by": _TEXT,
        "p_agent": _FLOAT,
        "p_action": _FLOAT,
        "propensity": _FLOAT,
        "floor": _FLOAT,
        "n_actions": _INT,
        "n_eligible": _INT,
        "mean": _FLOATS,
        "sd": _FLOATS,
        "share": _FLOATS,
        "reasons": _CODES,
        "x": _FLOATS,
        "facts": _TEXT,
    }
)
RECEIPTS = pa.schema(
    {
        "send_key": _TEXT,
        "decision_id": _TEXT,
        "destination": _TEXT,
        "stream": _TEXT,
        "customer_id": _TEXT,
        "attempt": _INT,
        "status": _TEXT,
        "reason": _TEXT,
        "http_status": _INT,
        "vendor_ref": _TEXT,
        "at": _TIME,
    }
)
INBOUND_EVENTS = pa.schema(
    {
        "event_id": _TEXT,
        "vendor": _TEXT,
        "event_type": _TEXT,
        "external_id": _TEXT,
        "email": _TEXT,
        "channel": _TEXT,
        "campaign_id": _TEXT,
        "message_ref": _TEXT,
        "decision_id": _TEXT,
        "is_machine": _BOOL,
        "occurred_at": _TIME,
        "received_at": _TIME,
    }
)
TRACKED_EVENTS = pa.schema(
    {
        "message_id": _TEXT,
        "type": _TEXT,
        "event": _TEXT,
        "anonymous_id": _TEXT,
        "user_id": _TEXT,
        "email": _TEXT,
        "phone": _TEXT,
        "platform": _TEXT,
        "page_path": _TEXT,
        "page_class": _TEXT,
        "session_id": _TEXT,
        "ticket_id": _TEXT,
        "ticket_kind": _TEXT,
        "sentiment": _FLOAT,
        "properties": _TEXT,
        "occurred_at": _TIME,
        "received_at": _TIME,
    }
)
POLICY_STATES = pa.schema(
    {
        "agent": _TEXT,
        "version": _TEXT,
        "as_of": _TIME,
        "policy": _TEXT,
        "closed_through": _TIME,
        "n_decisions": _BIG,
        "state": _BYTES,
        "summary": _TEXT,
        "is_current": _BOOL,
    }
)
LEARNED_REWARDS = pa.schema(
    {
        "decision_id": _TEXT,
        "agent": _TEXT,
        "reward": _FLOAT,
        "weight": _FLOAT,
        "is_closed": _BOOL,
    }
)
ERASURES = pa.schema(
    {
        "person": _TEXT,
        "erased_at": _TIME,
        "agent": _TEXT,
        "version_before": _TEXT,
        "version_after": _TEXT,
        "decisions": _BIG,
        "difference": _FLOAT,
        "deleted": _TEXT,
    }
)
FENCES = pa.schema({"name": _TEXT, "token": _BIG})
SYNC_RUNS = pa.schema(
    {
        "run_id": _TEXT,
        "destination": _TEXT,
        "stream": _TEXT,
        "lane": _TEXT,
        "started_at": _TIME,
        "seconds": _FLOAT,
        "in_outbox": _BIG,
        "extracted": _BIG,
        "accepted": _BIG,
        "rejected": _BIG,
        "skipped": _BIG,
        "unknown": _BIG,
        "not_sent": _BIG,
        "removed": _BIG,
        "state": _TEXT,
        "reason": _TEXT,
    }
)
DATA_CHECKS = pa.schema(
    {
        "profile_build": _TEXT,
        "as_of": _TIME,
        "column_name": _TEXT,
        "unknown_share": _FLOAT,
        "low": _FLOAT,
        "high": _FLOAT,
        "failed": _TEXT,
    }
)
CONFIGURATIONS = pa.schema({"config_digest": _TEXT, "since": _TIME, "content": _TEXT})
OVERRIDES = pa.schema(
    {
        "override_id": _TEXT,
        "at": _TIME,
        "by": _TEXT,
        "why": _TEXT,
        "kind": _TEXT,
        "agent": _TEXT,
        "action": _TEXT,
        "rule": _TEXT,
        "decision_id": _TEXT,
        "releases": _TEXT,
        "until": _TIME,
        "content": _TEXT,
    }
)
OVERRIDE_LABELS = pa.schema(
    {
        "decision_id": _TEXT,
        "override_id": _TEXT,
        "agent": _TEXT,
        "kind": _TEXT,
        "action": _TEXT,
        "model_action": _TEXT,
        "model_value": _FLOAT,
        "labelled_at": _TIME,
    }
)
LOADED_SEGMENTS = pa.schema({"segment": _BIG, "events": _BIG})
JOURNAL_POSITION = pa.schema({"position": _BIG})
HOME = pa.schema({"name": _TEXT, "folder": _TEXT, "host": _TEXT, "since": _TIME})
RUNS = pa.schema({"slot": _TEXT, "step": _TEXT, "as_of": _TIME, "totals": _TEXT})

ENGINE_TABLES: dict[str, pa.Schema] = {
    "agent_outcomes": AGENT_OUTCOMES,
    "zone_offsets": ZONE_OFFSETS,
    "configurations": CONFIGURATIONS,
    "data_checks": DATA_CHECKS,
    "epochs": EPOCHS,
    "decisions": DECISIONS,
    "receipts": RECEIPTS,
    "inbound_events": INBOUND_EVENTS,
    "tracked_events": TRACKED_EVENTS,
    "policy_states": POLICY_STATES,
    "learned_rewards": LEARNED_REWARDS,
    "erasures": ERASURES,
    "overrides": OVERRIDES,
    "override_labels": OVERRIDE_LABELS,
    "loaded_segments": LOADED_SEGMENTS,
    "journal_position": JOURNAL_POSITION,
    "runs": RUNS,
    "sync_runs": SYNC_RUNS,
    "fences": FENCES,
}

ENGINE_KEYS: dict[str, tuple[str, ...]] = {
    "configurations": ("config_digest",),
    "data_checks": ("profile_build", "column_name"),
    "epochs": ("epoch_id",),
    "decisions": ("decision_id",),
    "inbound_events": ("vendor", "event_id"),
    "tracked_events": ("message_id",),
    "policy_states": ("agent", "version"),
    "learned_rewards": ("decision_id",),
    "overrides": ("override_id",),
    "override_labels": ("decision_id", "override_id"),
    "loaded_segments": ("segment",),
    "runs": ("slot", "step"),
    "sync_runs": ("run_id",),
    "fences": ("name",),
}
"""What no two rows of a table agree in."""
