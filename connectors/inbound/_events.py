"""What all webhook readers share."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from connectors.repeated_names import repeated_names

Event = dict[str, object]
"""One row of inbound_events; times are naive UTC datetimes."""


def is_token(given: str, secret: str) -> bool:
    """Whether they are the same, in a time that says nothing; an empty secret is never right."""
    return bool(secret) and hmac.compare_digest(given.encode(), secret.encode())


def decoded(body: bytes) -> Any:
    """The JSON in a body. Raises ValueError, whatever is wrong with it."""
    try:
        found, is_ambiguous = msgspec.json.decode(body), repeated_names(body)[0]
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if is_ambiguous:
        raise ValueError("a name is there twice")
    return found


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(*values: object) -> str | None:
    """The first that is text or a whole number and not empty, as text."""
    for value in values:
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return str(value)
    return None


def required(name: str, value: str | None) -> str:
    """The value. Raises ValueError that names the field when there is none."""
    if value is None:
        raise ValueError(f"`{name}` is missing")
    return value


def is_true(value: object) -> bool:
    """True for true and for the text "true", as some vendors write it."""
    return value is True or str(value).lower() == "true"


TRAP = "nextmove-trap"
"""In the address of a link that no reader can see; whoever follows it is a program."""

_PROGRAMS = re.compile(
    r"(?<!cu)bot\b|crawl|spider|scanner|headless|curl/|wget/|python|java/|go-http", re.I
)


def is_program(agent: object, link: object) -> bool:
    """Whether a user agent calls itself a program, or a link was followed that is a trap."""
    return bool(_PROGRAMS.search(str(agent or ""))) or TRAP in str(link or "")


CHANNELS = ("email", "push", "sms", "rep")
"""What an opt-out of everything is an opt-out of: being called on by a rep, too."""


def event(
    vendor: str,
    event_id: str,
    event_type: str,
    channel: str,
    times: tuple[datetime, datetime],
    *,
    external_id: str | None = None,
    email: str | None = None,
    campaign_id: str | None = None,
    message_ref: str | None = None,
    decision_id: str | None = None,
    is_machine: bool = False,
) -> Event:
    """A row; `times` are when it occurred and when it was received."""
    return {
        "event_id": event_id,
        "vendor": vendor,
        "event_type": event_type,
        "external_id": external_id,
        "email": email,
        "channel": channel,
        "campaign_id": campaign_id,
        "message_ref": message_ref,
        "decision_id": decision_id,
        "is_machine": is_machine,
        "occurred_at": naive_utc(times[0]),
        "received_at": naive_utc(times[1]),
    }


def epoch(name: str, value: object, unit: float = 1.0) -> datetime:
    """A number of units of so many seconds since 1970 as naive UTC. ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`{name}` is not epoch seconds")
    try:
        return datetime.fromtimestamp(value * unit, UTC).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"`{name}` is out of range") from None


def iso(name: str, value: object) -> datetime:
    """ISO 8601 text as naive UTC. ValueError for others."""
    try:
        return naive_utc(datetime.fromisoformat(str(value)))
    except (ValueError, OverflowError):
        raise ValueError(f"`{name}` is not a time") from None


def naive_utc(at: datetime) -> datetime:
    """UTC without a zone; a time without a zone was UTC already."""
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
