"""What the vendors remember. All of it is a fold of the ledger."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.sandbox.faults import REJECT, Faults
from connectors.sandbox.ledger import Entry, Ledger

UNSUBSCRIBING = ("unsubscribe", "complaint", "bounce")


@dataclass
class Profile:
    """A person at one vendor. `unsubscribed` has the channels that are closed for good."""

    email: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    unsubscribed: dict[str, str] = field(default_factory=dict)


@dataclass
class Account:
    """One vendor's memory. `received` has (campaign, external id) of delivered messages."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    ids_by_email: dict[str, str] = field(default_factory=dict)
    messages: dict[str, Entry] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    received: set[tuple[str, str]] = field(default_factory=set)


class State:
    """The accounts of all vendors, their ledger, the clock and the faults."""

    def __init__(self, directory: Path, seed: int = 0) -> None:
        self.ledger = Ledger(directory / "ledger.jsonl")
        self.faults = Faults(seed)
        self.accounts: defaultdict[str, Account] = defaultdict(Account)
        self._now: datetime | None = None
        for entry in self.ledger.entries:
            self._apply(entry)

    def now(self) -> datetime:
        """The clock written on effects (UTC): real time until it is set."""
        return self._now or datetime.now(UTC)

    def set_clock(self, now: datetime) -> None:
        """Stop the clock at `now`. A time without a zone is UTC."""
        self._now = now if now.tzinfo else now.replace(tzinfo=UTC)

    def record(self, entry: Entry) -> Entry:
        """Accept an effect: into the ledger and into the vendor's memory."""
        entry.at = entry.at or iso(self.now())
        self._apply(self.ledger.add(entry))
        return entry

    def refuses(self, vendor: str) -> bool:
        """Whether the next record is to be refused by a `reject` fault."""
        return self.faults.hits(vendor, REJECT)

    def send(self, entry: Entry) -> Entry:
        """Accept a message and deliver it to the person's profile, if that can be done.

        A person without a profile, without an e-mail address (for e-mail), or who left the
        channel is not reached: the entry becomes `undeliverable`. Phone numbers and push
        tokens come from apps, which are not part of this imitation, so every known person
        is reachable by push and SMS.
        """
        profile = self.accounts[entry.vendor].profiles.get(entry.external_id)
        entry.message_id = uuid.uuid4().hex
        entry.email = profile.email if profile else ""
        entry.reason = entry.reason or _obstacle(profile, entry.channel)
        entry.kind = "undeliverable" if entry.reason else "message"
        return self.record(entry)

    def engage(self, message: Entry, kind: str, at: str) -> None:
        """A person reacted to a message: leaving, complaining and bouncing close the channel."""
        if kind in UNSUBSCRIBING:
            self.record(
                Entry(
                    vendor=message.vendor,
                    kind="unsubscribe",
                    external_id=message.external_id,
                    email=message.email,
                    channel=message.channel,
                    campaign_id=message.campaign_id,
                    message_id=message.message_id,
                    reason=kind,
                    at=at,
                )
            )

    def _apply(self, entry: Entry) -> None:
        account = self.accounts[entry.vendor]
        if entry.kind in ("profile", "contact"):
            _merge(account, entry)
        elif entry.kind == "message":
            account.messages[entry.message_id] = entry
            account.received.add((entry.campaign_id, entry.external_id))
        elif entry.kind == "deletion":
            account.profiles.pop(entry.external_id, None)
        elif entry.kind == "event":
            account.events.add(entry.message_id)
        elif entry.kind == "unsubscribe":
            profile = account.profiles.setdefault(entry.external_id, Profile(entry.email))
            profile.unsubscribed.setdefault(entry.channel, entry.reason)


def iso(moment: datetime) -> str:
    """ISO-8601 in UTC, with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _merge(account: Account, entry: Entry) -> None:
    profile = account.profiles.setdefault(entry.external_id, Profile())
    profile.attributes.update(entry.properties)
    if entry.email and entry.email != profile.email:
        profile.email = entry.email
        account.ids_by_email[entry.email] = entry.external_id


def _obstacle(profile: Profile | None, channel: str) -> str:
    if profile is None:
        return "unknown_user"
    if channel in profile.unsubscribed:
        return f"closed_by_{profile.unsubscribed[channel]}"
    if channel == "email" and not profile.email:
        return "no_address"
    return ""
