"""Decisions become send intents, as the delivery journal takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from connectors.base import Warehouse
from decision_engine.config import needs_approval
from decision_engine.errors import StepError
from decision_engine.opt_outs import OptOut, token_of
from decision_engine.overrides import Override, is_approved
from decision_engine.types import REP
from decision_engine.workspace import Workspace

MESSAGES = "messages"
MERGES = "int_identity__merges"
DECIDED_FOR = "decided_for"
"""In a send intent, the customer of its decision, where that is not its customer any more."""
_IN_TIME = "d.expires_at > ?"
_TOLD_FOR = timedelta(days=7)
"""A delivery looks so far back for messages that nobody approved: it comes by more often."""


def undispatched(
    workspace: Workspace, warehouse: Warehouse, now: datetime
) -> tuple[list[str], list[str]]:
    """Dates with messages that have not expired and may not all be in the journal yet.

    First those that are decided, then those whose decisions were cut short.
    """
    found = warehouse.rows(
        "select d.slot, max(e.status) from"
        f" (select distinct slot from {workspace.engine('decisions')}"
        "   where action <> 'no_action' and expires_at > ?) d"
        f" join {workspace.engine('epochs')} e on e.slot = d.slot"
        f" left join {workspace.engine('runs')} r on r.slot = d.slot and r.step = 'dispatch'"
        " where r.slot is null group by d.slot order by d.slot",
        [now],
    )
    return [s for s, last in found if last == "done"], [s for s, last in found if last != "done"]


def intents(
    workspace: Workspace, warehouse: Warehouse, slot: str, as_of: datetime
) -> Iterator[dict[str, Any]]:
    """The send intents of an epoch's slot: every decision that is ours to send and not expired.

    `EVENTS` stands for all decisions of the hot path. What a person must approve first is not
    among them (`approved`).
    """
    for row in _decided(workspace, warehouse, f"e.slot = ? and {_IN_TIME}", slot, as_of):
        if not needs_approval(workspace.agents.get(row["agent"])):
            yield _sendable(workspace, row)


def approved(
    workspace: Workspace, warehouse: Warehouse, as_of: datetime
) -> Iterator[dict[str, Any]]:
    """The send intents of decisions that a person has approved, unless they have expired.

    Nor if they say something else by now.
    """
    last_words = workspace.overrides().decisions
    ids = [key for key, override in last_words.items() if override.kind == "approve"]
    if ids:
        where = f"{warehouse.among('d.decision_id')} and {_IN_TIME}"
        for row in _decided(workspace, warehouse, where, ids, as_of):
            if _is_approved(workspace, row, last_words[row["decision_id"]]):
                yield _sendable(workspace, row)


def held(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> list[dict[str, Any]]:
    """The decisions that wait for a person's approval, those that expire first at the front."""
    last_words = workspace.overrides().decisions
    if not (names := _under_approval(workspace)):
        return []
    where = f"{warehouse.among('d.agent')} and {unsettled(workspace)} and {_IN_TIME}"
    rows = _decided(workspace, warehouse, where, names, as_of)
    waiting = [
        {**row, "subject": _sendable(workspace, row)["fields"]["subject"]}
        for row in rows
        if (word := last_words.get(row["decision_id"])) is None
        or (word.kind == "approve" and not _is_approved(workspace, row, word))
    ]
    return sorted(waiting, key=lambda row: (row["expires_at"], row["decision_id"]))


def lapsed(workspace: Workspace, warehouse: Warehouse, as_of: datetime) -> Iterator[dict[str, Any]]:
    """The send intents of decisions that expired before anybody approved them.

    For their receipts: delivery skips what has expired, and says so. Nothing is said of what the
    project could not send any more.
    """
    if not (names := _under_approval(workspace)):
        return
    where = (
        f"{warehouse.among('d.agent')} and {unsettled(workspace)}"
        " and d.expires_at <= ? and d.expires_at > ?"
    )
    for row in _decided(workspace, warehouse, where, names, as_of, as_of - _TOLD_FOR):
        if row["creative"] in workspace.creatives and row["channel"] in workspace.project.channels:
            yield _sendable(workspace, row)


def _under_approval(workspace: Workspace) -> list[str]:
    return [name for name, agent in workspace.agents.items() if needs_approval(agent)]


def unsettled(workspace: Workspace) -> str:
    """A condition: how the message of a decision ended is not known, or it has not."""
    return (
        f"not exists (select 1 from {workspace.engine('receipts')} r"
        " where r.decision_id = d.decision_id and r.status <> 'not_sent')"
    )


def message_of(
    workspace: Workspace, warehouse: Warehouse, decision_id: str
) -> dict[str, Any] | None:
    """The send intent of one decision, expired or not; None when it has nothing for us to send."""
    found = _decided(workspace, warehouse, "d.decision_id = ?", decision_id)
    return next((_sendable(workspace, row) for row in found), None)


def _is_approved(workspace: Workspace, row: dict[str, Any], word: Override) -> bool:
    agent = workspace.agents.get(row["agent"])
    if agent is None or not needs_approval(agent):
        return True
    return is_approved(word, _sendable(workspace, row), agent.owner)


def _decided(
    workspace: Workspace, warehouse: Warehouse, where: str, *values: Any
) -> Iterator[dict[str, Any]]:
    query = (
        "select d.decision_id, d.customer_id as decided_for, c.customer_id, c.external_id,"
        " c.time_zone, c.contact_id, c.account_id, c.rep_id, d.agent, d.action, d.channel,"
        " d.creative, d.slot, d.incentive, d.is_promotional, d.send_at, d.expires_at"
        f" from {workspace.engine('decisions')} d"
        f" join {workspace.engine('epochs')} e on d.epoch_id = e.epoch_id"
        f" left join {workspace.built(warehouse, MERGES)} m on d.customer_id = m.old_customer_id"
        f" join {workspace.built(warehouse, 'dim_customers')} c"
        " on coalesce(m.customer_id, d.customer_id) = c.customer_id"
        f" where {where} and d.action <> 'no_action' and d.carried_out_by = 'delivery'"
        " order by d.send_at, d.decision_id"
    )
    for batch in warehouse.query(query, list(values)):
        yield from batch.to_pylist()


def _sendable(workspace: Workspace, row: dict[str, Any]) -> dict[str, Any]:
    """The intent of a decision. StepError when the project cannot send it any more."""
    if row["creative"] not in workspace.creatives:
        raise StepError(
            f"creative '{row['creative']}' was decided for {row['slot']} and is not in creatives/"
            " any more; put it back until this date's messages are sent"
        )
    if row["channel"] not in workspace.project.channels:
        raise StepError(
            f"nextmove.yml: channels: {row['channel']} was decided for {row['slot']} and has no"
            " destination any more; put it back until this date's messages are sent"
        )
    return intent_of(workspace, row)


def intent_of(workspace: Workspace, row: dict[str, Any]) -> dict[str, Any]:
    """One decision as a send intent. It holds no address: the vendor knows the person."""
    creative = workspace.creatives[row["creative"]]
    is_merged = row["decided_for"] != row["customer_id"]
    intent = {
        "send_key": send_key(workspace.project.project, row),
        "decision_id": row["decision_id"],
        "customer_id": row["customer_id"],
        "external_id": row["external_id"],
        **({DECIDED_FOR: row["decided_for"]} if is_merged else {}),
        "destination": workspace.project.channels[row["channel"]],
        "stream": creative.stream,
        "channel": row["channel"],
        "agent": row["agent"],
        "action": row["action"],
        "campaign_id": creative.campaign_id,
        "is_promotional": row["is_promotional"],
        "time_zone": row["time_zone"],
        "fields": {
            "agent": row["agent"],
            "creative": row["creative"],
            "incentive": row["incentive"],
            "subject": creative.subject,
            **({"body": creative.body} if creative.body else {}),
            **_opt_out(workspace, row),
        },
        "send_at": row["send_at"].isoformat(),
        "expires_at": row["expires_at"].isoformat(),
    }
    return of_contact(intent, row) if row["channel"] == REP else intent


def _opt_out(workspace: Workspace, row: dict[str, Any]) -> dict[str, str]:
    """The address of a one-click opt-out, for the header List-Unsubscribe of an e-mail."""
    if row["channel"] != "email" or not workspace.public_url:
        return {}
    known_as = OptOut(row["external_id"], row["channel"], row["decision_id"])
    token = token_of(known_as, workspace.unsubscribe_key())
    return {"unsubscribe_url": f"{workspace.public_url}/unsubscribe/{token}"}


def of_contact(intent: dict[str, Any], who: Mapping[str, Any]) -> dict[str, Any]:
    """The intent of a rep's move, with whom it is about by the CRM's ids, and all as one text.

    `who` has contact_id, account_id and rep_id, None where the CRM does not know the customer.
    """
    fields = intent["fields"]
    about = (
        f"Customer {intent['external_id']}, contact {who['contact_id']} of {who['rep_id']},"
        f" decision {intent['decision_id'][:12]}."
    )
    told = {
        "text": "\n\n".join(filter(None, (fields["subject"], fields.get("body"), about))),
        "account_id": who["account_id"],
        "rep_id": who["rep_id"],
        "due_at": f"{intent['send_at']}Z",
    }
    known_as = {"contact_id": who["contact_id"] or ""}
    return {**intent, "known_as": known_as, "fields": {**fields, **told}}


def send_key(project: str, row: dict[str, Any]) -> str:
    """SHA-256 of what makes a send the same send; no run id, attempt or clock is in it."""
    parts = (project, row["decision_id"], row["decided_for"], row["channel"], "0")
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
