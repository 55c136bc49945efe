"""The words of delivery: what a destination is and what it answers.

A destination only builds requests and parses replies; both are pure. The delivery
loop (`deliver.py`) is the one place that touches the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa


class Lane(StrEnum):
    """Which promise a stream makes.

    PROFILE: at-least-once and idempotent. SEND: at-most-once with a reported unknown.
    """

    PROFILE = "profile"
    SEND = "send"


class Status(StrEnum):
    """The verdict on one record. Every record of a run ends in exactly one of them."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"
    """Surely had no effect (connect error, 429, open circuit), or a repeat has none: may be tried
    again."""


@dataclass(frozen=True)
class Record:
    """One row to deliver. `key` is unique within its stream.

    `fields` are the changed columns (profile lane) or the message (send lane).
    `identity` holds the identifiers the vendor knows the person by.
    """

    key: str
    identity: Mapping[str, str]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Receipt:
    """What became of one record in one attempt. `vendor_ref` is the vendor's own id, if any."""

    key: str
    status: Status
    reason: str = ""
    http_status: int | None = None
    vendor_ref: str = ""


@dataclass(frozen=True)
class Request:
    """One HTTP call for `records`, ready but for the base URL and the credentials.

    `body`, when there is one, is sent as it is instead of `json`; None as `json` is no body.
    `wait_s` seconds pass before the call is made. `memory` is what earlier replies of the same
    conversation said, for `parse`.
    """

    method: str
    path: str
    json: Any
    records: tuple[Record, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait_s: float = 0.0
    memory: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer as the destination sees it. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """At most `calls` calls in `seconds`."""

    calls: int
    seconds: float


TO_CUSTOMERS = ("email", "push", "sms")
REP = "rep"


@dataclass(frozen=True)
class Stream:
    """One object type or endpoint of a destination.

    `pool` names the rate-limit pool it shares; `windows` are that pool's limits.
    `splits_on_400`: the vendor refuses a whole batch for one bad row, so a refused
    batch is halved until each row has its own verdict.

    What a stream may have besides:

    - `together`: fields that all records of one request must agree in.
    - `whole_rows`: a changed row is sent whole, for the vendor replaces what it has.
    - `deletes`: a record with `deleted` true takes its row away; its other fields say which.
    - `bulk`: the stream to use instead when a run has more than `bulk_above` records.
    - `channels`: send lane only; the channels whose messages it brings. What is for a rep goes to
      a colleague, all else to the customer.
    - `repeat_s`: send lane only; within these seconds the vendor surely acts only once on the
      same key, so a call without an answer may be made again.
    - `any_2xx`: a 2xx says everything; such receivers promise no body.
    - `follow(request, reply)`: the next call of a conversation, or None when `reply` is the
      last. `reply` is None when there was no answer: what then ends things tidily.
    - `used(reply)`: the share of the day's calls that is used up, if the reply says.
    - `denied(reply)`: why the key is refused, for vendors that say it with a 2xx.
    """

    name: str
    lane: Lane
    batch_size: int
    pool: str
    windows: tuple[Window, ...]
    splits_on_400: bool = False
    together: tuple[str, ...] = ()
    whole_rows: bool = False
    deletes: bool = False
    bulk: str = ""
    bulk_above: int = 0
    channels: tuple[str, ...] = TO_CUSTOMERS
    repeat_s: float = 0.0
    any_2xx: bool = False
    follow: Callable[[Request, Reply | None], Request | None] | None = None
    used: Callable[[Reply], float | None] | None = None
    denied: Callable[[Reply], str] | None = None


class Destination(Protocol):
    """An outside system. `build` and `parse` are pure: no network, no clock, no randomness."""

    name: str
    streams: Mapping[str, Stream]

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Authentication headers for one call."""
        ...

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """One request for at most `batch_size` records, in their order."""
        ...

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """One receipt per record of the request, in the request's order.

        Never ACCEPTED without evidence in the reply.
        """
        ...


@runtime_checkable
class Signing(Protocol):
    """A destination whose every request carries a signature over its body."""

    def sign(self, request: Request, body: bytes, api_key: str, at: int) -> Mapping[str, str]:
        """Headers for one call made at `at` (epoch seconds)."""
        ...


@runtime_checkable
class LoggingIn(Protocol):
    """A destination whose key may be a client's, who gets an access token for it."""

    def is_client(self, api_key: str) -> bool:
        """Whether the key is a client's; else it is an access token itself."""
        ...

    def login(self, api_key: str) -> Request:
        """The call that asks for a token."""
        ...

    def token(self, reply: Reply) -> str | None:
        """The token in the answer, if there is one."""
        ...

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Authentication headers for one call, by a token."""
        ...


SendGate = Callable[[Mapping[str, Any], datetime], str | None]
"""Asked at the send boundary for every intent: None to send, or the reason to skip; or `LATER`."""

LATER = "later"
"""The intent is left as it is, for the next run."""


class Warehouse(Protocol):
    """What the loop needs from a warehouse. Tables are `schema.name`; data is Arrow.

    SQL given to it is the part that all warehouses share. Names in it are lower case and not
    quoted, but for those from `quote`; values are bound where a `?` stands. Column names of
    results are lower case, times are UTC without a zone, and what is written is seen by `query`
    once it is committed. WarehouseError when the warehouse refuses or is gone.
    """

    @property
    def dialect(self) -> str:
        """What the rule compiler calls this warehouse's SQL."""
        ...

    def quote(self, name: str) -> str:
        """A column's name for SQL, whatever characters and keywords are in it."""
        ...

    def among(self, column: str) -> str:
        """A condition: the text column is one of a list, which is bound to its one `?`."""
        ...

    def query(self, sql: str, params: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """Stream a result as batches of at most 65,536 rows."""
        ...

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A small result as Python tuples."""
        ...

    def columns(self, table: str) -> dict[str, str] | None:
        """Column name to type, in order; None when the table does not exist."""
        ...

    def ensure(self, table: str, schema: pa.Schema, key: Sequence[str] = ()) -> None:
        """Create the table (and its schema) if it is not there.

        `key` are the columns that no two rows agree in. A warehouse that can, makes sure of it.
        """
        ...

    def append(self, table: str, data: pa.Table | pa.RecordBatch) -> int:
        """Insert rows by column name; the number inserted."""
        ...

    def insert_absent(self, table: str, data: pa.Table | pa.RecordBatch, key: Sequence[str]) -> int:
        """Insert the rows whose key is not there yet; the number inserted.

        No two rows of `data` have the same key.
        """
        ...

    def merge(self, table: str, data: pa.Table | pa.RecordBatch, key: Sequence[str]) -> int:
        """Insert or replace by key; the number of rows given. No two have the same key."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing. Not to be opened again inside, nor is a table to be made there."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
