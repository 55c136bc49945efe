"""One destination during one run: its limits, its circuit breaker, and why it was stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from connectors.base import (
    Destination,
    Lane,
    LoggingIn,
    Receipt,
    Record,
    Reply,
    Request,
    Signing,
    Status,
    Stream,
)
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
from connectors.http import Http, Sign
from connectors.limits import TOO_MANY, Limiter
from connectors.login import LoggedIn
from connectors.reasons import without_values

Post = Callable[[Request], Reply]
"""Sends one request. Raises NotSentError or UnknownOutcomeError when there is no reply."""

FAILURES_IN_A_ROW = 5
REST_SECONDS = 30.0
"""How long a vendor is left alone that answered before and now fails again and again."""
OUTAGE_SECONDS = 360.0
"""How long a run of the profile lane waits for such a vendor."""
PATIENCE_SECONDS = 120.0
"""A run that must wait longer than this for a rate limit leaves the rest to the next run; one
that would wait for an outage waits as long for a limit."""

COMMON_SHARE = 0.8
"""Of each window: what profiles and promotions may use. The rest is for transactional messages."""

_MOVED = (301, 307, 308)
_NOT_FOUND = 404
_NO_ENTRY = (401, 403)


@dataclass(frozen=True)
class Target:
    """A destination and the way to reach it. Never shows a key: `post` holds it.

    `daily_share` is how much of the vendor's daily calls may be used up, by us and by others,
    before nothing more is sent.
    """

    destination: Destination
    post: Post = field(repr=False)
    daily_share: float = 1.0


@contextmanager
def connected(
    destination: Destination, url: str, api_key: str, daily_share: float = 1.0
) -> Iterator[Target]:
    """The destination behind a base URL. Raises ConfigurationError for a bad URL or key."""
    if not api_key:
        raise ConfigurationError(f"{destination.name} has no key", "set its environment variable")
    if isinstance(destination, LoggingIn) and destination.is_client(api_key):
        with closing(LoggedIn(destination, url, api_key)) as client:
            yield Target(destination, client.post, daily_share)
        return
    headers, sign = destination.headers(api_key), _signer(destination, api_key)
    with Http(url, headers, api_key, sign=sign) as http:
        yield Target(destination, http.post, daily_share)


def _signer(destination: Destination, api_key: str) -> Sign | None:
    if not isinstance(destination, Signing):
        return None
    signing = destination
    signing.sign(Request("POST", "", None, ()), b"", api_key, 0)  # a key that cannot sign
    return lambda request, body: signing.sign(request, body, api_key, int(time.time()))


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
    failures in a row; from then on nothing more is sent. A vendor that has answered before is
    given `outage_s` seconds to come back, and asked now and then.
    """

    def __init__(self, name: str, target: Target, limiter: Limiter, outage_s: float = 0.0) -> None:
        self.name = name
        self.destination = target.destination
        self.limiter = limiter
        self.error: ConnectorError | None = None
        self._post = target.post
        self._daily_share = target.daily_share
        self._outage_s = outage_s
        self._failures = 0
        self._answered_at = float("-inf")
        self._lock = threading.Lock()

    def stream(self, name: str) -> Stream:
        """A stream of this destination. Raises ConfigurationError when it has none so named."""
        if name not in self.destination.streams:
            known = ", ".join(self.destination.streams)
            raise ConfigurationError(f"{self.name} has no stream {name}", f"it has {known}")
        return self.destination.streams[name]

    def acquire(self, stream: Stream, *, is_urgent: bool = False) -> float:
        """Wait for the rate limit; the seconds waited. Raises UnavailableError past patience.

        Urgent calls may use what is kept free of all others where messages are sent.
        """
        patience = max(PATIENCE_SECONDS, self._outage_s)
        waited = self._place(stream, is_urgent, patience)
        if waited < 0:
            raise self.stop(UnavailableError(f"{self.name} is at its rate limit"))
        return waited

    def try_acquire(self, stream: Stream, *, is_urgent: bool = False) -> bool:
        """Take a call's place if there is one now."""
        return self._place(stream, is_urgent, 0.0) >= 0

    def _place(self, stream: Stream, is_urgent: bool, patience: float) -> float:
        share = 1.0 if is_urgent or not self._sends(stream.pool) else COMMON_SHARE
        return self.limiter.acquire(self._pool(stream), stream.windows, patience, share)

    def _sends(self, pool: str) -> bool:
        streams = self.destination.streams.values()
        return any(s.pool == pool and s.lane is Lane.SEND for s in streams)

    def _pool(self, stream: Stream) -> str:
        return f"{self.name}/{stream.pool}"

    def call(self, stream: Stream, request: Request) -> tuple[int, list[Receipt]]:
        """One call, or one conversation: the last HTTP status, and one verdict per record.

        Raises NotSentError or UnknownOutcomeError when there is no reply, FatalError when
        nothing more should be sent.
        """
        if self.error:
            raise NotSentError(f"{self.name} was stopped: {self.error.args[0]}")
        reply = self._exchange(stream, request)
        try:
            request, reply = self._followed(stream, request, reply)
        except (NotSentError, FatalError) as error:
            if stream.lane is Lane.SEND:  # the first call has brought the message
                raise UnknownOutcomeError(str(error)) from error
            raise
        receipts = without_values(request.records, self.destination.parse(request, reply))
        if all(receipt.status is Status.UNKNOWN for receipt in receipts):
            self._failed(stream, receipts[0].reason)
        elif reply.status != TOO_MANY:
            with self._lock:
                self._failures, self._answered_at = 0, self.limiter.clock()
        return reply.status, receipts

    def _followed(self, stream: Stream, request: Request, reply: Reply) -> tuple[Request, Reply]:
        """The last request and reply of a conversation that begins with these."""
        while stream.follow and (following := stream.follow(request, reply)):
            request = following
            self.limiter.sleep(request.wait_s)
            try:
                self.acquire(stream)
            except FatalError:
                self._tidy(stream, request)
                raise
            reply = self._exchange(stream, request)
        return request, reply

    def _exchange(self, stream: Stream, request: Request) -> Reply:
        """One reply, and what it says about going on."""
        try:
            reply = self._post(request)
        except (NotSentError, UnknownOutcomeError) as error:
            self._failed(stream, str(error))
            self._tidy(stream, request)
            raise
        self.limiter.heed(self._pool(stream), stream.windows, reply)
        self._check_quota(stream, reply)
        self._check_entry(stream, reply)
        return reply

    def _tidy(self, stream: Stream, request: Request) -> None:
        """End a conversation that was cut off. Nothing depends on whether that succeeds."""
        last = stream.follow(request, None) if stream.follow else None
        if last is not None and self._place(stream, False, PATIENCE_SECONDS) >= 0:
            with suppress(NotSentError, UnknownOutcomeError):
                self._post(last)

    def _check_quota(self, stream: Stream, reply: Reply) -> None:
        used = stream.used(reply) if stream.used else None
        if used is not None and used >= self._daily_share:
            text = f"{self.name}: {used:.0%} of the day's calls are used up"
            stop = self.stop(UnavailableError(text, "the rest goes out tomorrow, or with a higher"
                                              " `daily_share`"))  # fmt: skip
            if reply.status in _NO_ENTRY:
                raise stop

    def _check_entry(self, stream: Stream, reply: Reply) -> None:
        status, denied = reply.status, stream.denied(reply) if stream.denied else ""
        if status in _NO_ENTRY or denied:
            hint = "check the key and that the URL is of the same region"
            why = denied or f"HTTP {status}"
            raise self.stop(CredentialsError(f"{self.name} refuses the key: {why}", hint))
        if status == _NOT_FOUND or status in _MOVED:
            hint = "check the base URL"
            raise self.stop(AddressError(f"{self.name} is not at this URL: HTTP {status}", hint))

    def _failed(self, stream: Stream, what: str) -> None:
        """Count a call without any verdict; too many in a row open the circuit."""
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures < FAILURES_IN_A_ROW:
            return
        if self.limiter.clock() - self._answered_at < self._outage_s:
            self.limiter.shut(self._pool(stream), stream.windows, REST_SECONDS)
        else:
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
