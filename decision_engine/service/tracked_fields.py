"""The fields of one tracked item, each checked and brought into the form of its column."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict, get_args
from urllib.parse import urlsplit

import msgspec

from decision_engine.config import PageClass
from decision_engine.identifiers import clean_email, clean_id, clean_phone

LONGEST_ID = 256
LONGEST_EMAIL = 320
LONGEST_PATH = 1024
TICKET_OPENED = "Support Ticket Opened"
TICKET_SOLVED = "Support Ticket Solved"
TICKET_KINDS = ("complaint", "question", "request")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PAGE_CLASSES = frozenset(get_args(PageClass))
_WEB = ("analytics.js", "analytics-next", "browser")
_APP = ("ios", "android", "kotlin", "swift", "react-native", "flutter")

Notes = dict[str, str]
"""Field to what was done about it."""
Text = str | int | None


class UnusableError(Exception):
    """An item cannot be taken. `code` is one of few, for counting; the text is for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Item(msgspec.Struct, rename="camel"):
    """One call, or one item of a batch. What may be anything is judged where it is used."""

    type: str | None = None
    message_id: Text = None
    user_id: Text = None
    anonymous_id: Text = None
    previous_id: Text = None
    event: str | None = None
    name: Any = None
    timestamp: Any = None
    original_timestamp: Any = None
    properties: Any = None
    traits: Any = None
    context: Any = None


class Identity(TypedDict):
    """Columns that say who it was."""

    user_id: str | None
    anonymous_id: str | None
    email: str | None
    phone: str | None


class Described(TypedDict):
    """Columns that say what it was."""

    event: str | None
    page_path: str | None
    page_class: str | None
    session_id: str | None
    ticket_id: str | None
    ticket_kind: str | None
    sentiment: float | None


def identifier(name: str, value: Text) -> str | None:
    """A clean identifier, or None. Raises UnusableError when too long or with control characters.

    Two people must not become one because an id was cut.
    """
    cleaned = clean_id(str(value)) if value is not None else None
    if cleaned is not None and not _is_fit(cleaned, LONGEST_ID):
        raise UnusableError(name, f"`{name}` is longer than {LONGEST_ID} or has control characters")
    return cleaned


def moment(value: object) -> datetime | None:
    """An ISO 8601 time as UTC without a zone, which it is if it has no offset; None if not one."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at.astimezone(UTC).replace(tzinfo=None) if at and at.tzinfo else at
    except (ValueError, OverflowError):
        return None


def identity(item: Item, kind: str, context: Mapping[str, Any], notes: Notes) -> Identity:
    """Who it was. Raises UnusableError when it was nobody.

    An alias says that an anonymous visitor (`previousId`) is a user.
    """
    traits = _mapping(item.traits) if kind == "identify" else _mapping(context.get("traits"))
    email = traits.get("email")
    if item.event in (TICKET_OPENED, TICKET_SOLVED):
        email = _mapping(item.properties).get("email", email)
    found = Identity(
        user_id=identifier("userId", item.user_id),
        anonymous_id=identifier("anonymousId", item.anonymous_id),
        email=_email(email, notes),
        phone=_optional("phone", traits.get("phone"), clean_phone, LONGEST_ID, notes),
    )
    if kind == "alias":
        found["anonymous_id"] = identifier("previousId", item.previous_id)
        if not (found["user_id"] and found["anonymous_id"]):
            raise UnusableError("nobody", "`userId` or `previousId` is missing")
    if not (found["user_id"] or found["anonymous_id"] or found["email"]):
        raise UnusableError("nobody", "`userId` and `anonymousId` are missing")
    return found


def described(
    item: Item,
    kind: str,
    context: Mapping[str, Any],
    page_classes: Mapping[PageClass, tuple[str, ...]],
    notes: Notes,
) -> Described:
    """What it was. Raises UnusableError for a track call without a name, a ticket without an id."""
    properties = _mapping(item.properties)
    path = _optional("path", _path(item, kind, context), clean_id, LONGEST_PATH, notes)
    session = context.get("sessionId", properties.get("session_id"))
    ticket_id, ticket_kind, sentiment = _ticket(item, kind, properties, notes)
    return Described(
        event=_event_name(item) if kind == "track" else None,
        page_path=path,
        page_class=_page_class(properties.get("page_class"), path, page_classes),
        session_id=_optional("session_id", session, clean_id, LONGEST_ID, notes),
        ticket_id=ticket_id,
        ticket_kind=ticket_kind,
        sentiment=sentiment,
    )


def platform(kind: str, context: Mapping[str, Any]) -> str | None:
    """`web` or `app`, from the library, the device or the kind of call; None for a server."""
    library = str(_mapping(context.get("library")).get("name", "")).lower()
    device = str(_mapping(context.get("device")).get("type", "")).lower()
    if kind == "screen" or device in ("ios", "android") or any(n in library for n in _APP):
        return "app"
    if kind == "page" or "page" in context or any(n in library for n in _WEB):
        return "web"
    return None


def properties(item: Item, kind: str) -> str | None:
    """The JSON text of a call's properties or traits; None when there are none."""
    name = "traits" if kind == "identify" else "properties"
    found = getattr(item, name)
    if not found:
        return None
    if not isinstance(found, dict):
        raise UnusableError(name, f"`{name}` is not an object")
    encoded = msgspec.json.encode(found)
    if b"\\u0000" in encoded:  # a character that Postgres cannot store in a JSON column
        encoded = msgspec.json.encode(_without_nul(found))
    return encoded.decode()


def merged(inner: object, outer: object) -> Mapping[str, Any]:
    """The context of an item over that of its batch."""
    return {**_mapping(outer), **_mapping(inner)}


def _event_name(item: Item) -> str:
    name = clean_id(item.event)
    if name is None:
        raise UnusableError("event", "`event` is missing")
    if not _is_fit(name, LONGEST_ID):
        raise UnusableError(
            "event", f"`event` is longer than {LONGEST_ID} or has control characters"
        )
    return name


def _path(item: Item, kind: str, context: Mapping[str, Any]) -> object:
    """Without query and fragment: they may hold personal data."""
    page = _mapping(context.get("page"))
    if kind in ("page", "screen"):
        page = {**page, **_mapping(item.properties)}
    path = page.get("path") or page.get("url") or (item.name if kind == "screen" else None)
    if not isinstance(path, str):
        return None
    try:
        return urlsplit(path).path
    except ValueError:
        return None


def _page_class(
    given: object, path: str | None, page_classes: Mapping[PageClass, tuple[str, ...]]
) -> str | None:
    """The class that the call names, else the one with the longest prefix of the path."""
    if isinstance(given, str) and given in _PAGE_CLASSES:
        return given
    fitting = [
        (len(prefix), name)
        for name, prefixes in page_classes.items()
        for prefix in prefixes
        if path is not None and path.startswith(prefix)
    ]
    return max(fitting)[1] if fitting else None


def _ticket(
    item: Item, kind: str, properties: Mapping[str, Any], notes: Notes
) -> tuple[str | None, str | None, float | None]:
    if kind != "track" or item.event not in (TICKET_OPENED, TICKET_SOLVED):
        return None, None, None
    given = properties.get("ticket_id")
    is_text = isinstance(given, str | int) and not isinstance(given, bool)
    ticket_id = identifier("ticket_id", given if is_text else None)
    if ticket_id is None:
        raise UnusableError("ticket_id", "`properties.ticket_id` is missing")
    if item.event == TICKET_SOLVED:
        return ticket_id, None, None
    ticket_kind, sentiment = properties.get("kind"), properties.get("sentiment")
    if ticket_kind not in TICKET_KINDS:
        raise UnusableError("kind", f"`properties.kind` must be one of {', '.join(TICKET_KINDS)}")
    if sentiment is not None and not _is_sentiment(sentiment):
        notes["sentiment"] = "not a number from -1 to 1: left out"
        sentiment = None
    return ticket_id, ticket_kind, sentiment if sentiment is None else float(sentiment)


def _is_sentiment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1


def _optional(
    name: str,
    value: object,
    clean: Callable[[str], str | None],
    longest: int,
    notes: Notes,
) -> str | None:
    """A clean text, or None and a note when there is something that cannot be one."""
    if value is None:
        return None
    if isinstance(value, str | int) and not isinstance(value, bool):
        cleaned = clean(str(value))
        if cleaned is None or _is_fit(cleaned, longest):
            return cleaned
    notes[name] = f"not a text of at most {longest} printable characters: left out"
    return None


def _email(value: object, notes: Notes) -> str | None:
    """A clean address, or None and a note."""
    found = _optional("email", value, clean_id, LONGEST_EMAIL, notes)
    if found is not None and clean_email(found) is None:
        notes["email"] = "not an address: left out"
    return clean_email(found)


def _is_fit(text: str, longest: int) -> bool:
    return len(text) <= longest and _CONTROL.search(text) is None


def _mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object; some libraries write an empty one as []."""
    return value if isinstance(value, dict) else {}


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, list):
        return [_without_nul(v) for v in value]
    if isinstance(value, dict):
        return {_without_nul(k): _without_nul(v) for k, v in value.items()}
    return value
