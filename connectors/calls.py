"""One destination during one run: its limits, its circuit breaker, and why it was stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from connectors.base import Destination, Receipt, Record, Reply, Request, Status, Stream
from connectors.errors import (
    AddressError,
    ConfigurationError,
    ConnectorError,
    CredentialsError,
    FatalError,
    NotSentError,
    RefusedRecordError,
    UnavailableError,
    UnknownOutcomeError,
)
from connectors.http import Http
from connectors.limits import TOO_MANY, Limiter

Post = Callable[[Request], Reply]
"""Sends one request. Raises NotSentError or UnknownOutcomeError when there is no reply."""

FAILURES_IN_A_ROW = 5
PATIENCE_SECONDS = 120.0
"""A run that must wait longer than this for a rate limit leaves the rest to the next run."""

_MOVED = (301, 307, 308)
_NOT_FOUND = 404
_NO_ENTRY = (401, 403)


@dataclass(frozen=True)
class Target:
    """A destination and the way to reach it. Never shows a key: `post` holds it."""

    destination: Destination
    post: Post = field(repr=False)


@contextmanager
def connected(destination: Destination, url: str, api_key: str) -> Iterator[Target]:
    """The destination behind a base URL. Raises ConfigurationError for a bad URL or key."""
    if not api_key:
        raise ConfigurationError(f"{destination.name} has no key", "set its environment variable")
    with Http(url, destination.headers(api_key), api_key) as http:
        yield Target(destination, http.post)


@dataclass
class Totals:
    """What became of a run's records: extracted = accepted + rejected + skipped + unknown."""

    extracted: int = 0
    accepted: int = 0
    rejected: int = 0
    skipped: int = 0
    unknown: int = 0

    def count(self, status: Status) -> None:
        """One more record with this final status."""
        setattr(self, status.value, getattr(self, status.value) + 1)

    def check(self) -> None:
        """Raises AssertionError when a record is missing or counted twice."""
        ended = self.accepted + self.rejected + self.skipped + self.unknown
        if self.extracted != ended:
            raise AssertionError(f"{self.extracted} extracted but {ended} ended: {self}")


class Line:
    """The way to one destination. Safe to use from several threads.

    `error` is set once, by the first reply that makes going on senseless, or by too many
    failures in a row; from then on nothing more is sent.
    """

    def __init__(self, name: str, target: Target, limiter: Limiter) -> None:
        self.name = name
        self.destination = target.destination
        self.limiter = limiter
        self.error: ConnectorError | None = None
        self._post = target.post
        self._failures = 0
        self._lock = threading.Lock()

    def stream(self, name: str) -> Stream:
        """A stream of this destination. Raises ConfigurationError when it has none so named."""
        if name not in self.destination.streams:
            known = ", ".join(self.destination.streams)
            raise ConfigurationError(f"{self.name} has no stream {name}", f"it has {known}")
        return self.destination.streams[name]

    def acquire(self, stream: Stream) -> float:
        """Wait for the rate limit; the seconds waited. Raises UnavailableError past patience."""
        waited = self.limiter.acquire(self._pool(stream), stream.windows, PATIENCE_SECONDS)
        if waited < 0:
            raise self.stop(UnavailableError(f"{self.name} is at its rate limit"))
        return waited

    def _pool(self, stream: Stream) -> str:
        return f"{self.name}/{stream.pool}"

    def call(self, stream: Stream, request: Request) -> tuple[int, list[Receipt]]:
        """One call: its HTTP status, and one verdict per record.

        Raises FatalError, NotSentError or UnknownOutcomeError when there are no verdicts.
        """
        if self.error:
            raise NotSentError(str(self.error))
        try:
            reply = self._post(request)
        except (NotSentError, UnknownOutcomeError) as error:
            self._failed(str(error))
            raise
        self.limiter.heed(self._pool(stream), stream.windows, reply)
        self._check_entry(reply.status)
        receipts = self.destination.parse(request, reply)
        if all(receipt.status is Status.UNKNOWN for receipt in receipts):
            self._failed(receipts[0].reason)
        elif reply.status != TOO_MANY:
            with self._lock:
                self._failures = 0
        return reply.status, receipts

    def _check_entry(self, status: int) -> None:
        if status in _NO_ENTRY:
            hint = "check the key and that the URL is of the same region"
            raise self.stop(CredentialsError(f"{self.name} refuses the key: HTTP {status}", hint))
        if status == _NOT_FOUND or status in _MOVED:
            hint = "check the base URL"
            raise self.stop(AddressError(f"{self.name} is not at this URL: HTTP {status}", hint))

    def _failed(self, what: str) -> None:
        """Count a call without any verdict; too many in a row open the circuit."""
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= FAILURES_IN_A_ROW:
            text = f"{self.name} failed {failures} times in a row, last with: {what}"
            self.stop(UnavailableError(text, "nothing more was sent, the next run goes on"))

    def stop(self, error: FatalError) -> FatalError:
        """Send nothing more in this run; the first reason stays. Returns `error`."""
        with self._lock:
            self.error = self.error or error
        return error

    def build(
        self, stream: Stream, records: Sequence[Record]
    ) -> tuple[Request | None, list[Receipt]]:
        """A request for the records that can be sent, and REJECTED receipts for the others."""
        left = list(records)
        refused: list[Receipt] = []
        while left:
            try:
                return self.destination.build(stream.name, left), refused
            except RefusedRecordError as error:
                refused.append(Receipt(error.key, Status.REJECTED, error.reason))
                left = [record for record in left if record.key != error.key]
        return None, refused


def all_of(records: Sequence[Record], status: Status, reason: str) -> list[Receipt]:
    """The same verdict for every record."""
    return [Receipt(record.key, status, reason) for record in records]
