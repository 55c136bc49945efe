"""The send lane of the delivery loop: what reaches a person is sent at most once.

    due intents -> batches -> gate -> durable `sending` -> calls -> durable receipts

A window is some batches in flight together, with one fsync before the calls and one after. As
many messages as are in it are unknown after a crash, at most.
A window never holds two messages for one customer, so that the gate of the second sees the
first. Whatever surely was not sent stays an intent, for this run or the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors import failpoint
from connectors.base import LATER, Receipt, Record, Request, SendGate, Status, Stream
from connectors.calls import Line, Target, Totals, all_of
from connectors.errors import (
    ConfigurationError,
    ConnectorError,
    FatalError,
    NotSentError,
    UnknownOutcomeError,
)
from connectors.journal import Journal
from connectors.journal_records import epoch, epoch_of
from connectors.limits import Limiter

IN_FLIGHT = 60
"""Messages in a window."""
CALLS = 24
"""Calls in a window: where a message takes a call of its own, as with some vendors."""
ATTEMPTS = 3
"""Calls for one intent in one run, when each before surely did nothing."""
LOOKAHEAD = 2_000
"""Intents held while batches fill up; bounds memory and the age of a batch."""

Intent = Mapping[str, Any]
Group = tuple[str, ...]


@dataclass(frozen=True)
class SendRun:
    """What a run did. `waiting` intents are due but not sent; `stopped` says why, by destination.

    `totals.extracted` counts the intents that came to an end in this run.
    """

    totals: Totals
    waiting: int
    stopped: Mapping[str, ConnectorError]


def deliver_sends(
    journal: Journal,
    targets: Mapping[str, Target],
    gate: SendGate,
    now: Callable[[], datetime],
    limiter: Limiter | None = None,
    in_flight: int = IN_FLIGHT,
) -> SendRun:
    """Send every due intent of the journal, at most once each.

    `targets` are by the name in an intent's `destination`. `gate` is asked right before each
    send; its reason becomes a `skipped` receipt, but for `LATER`. `now` is UTC and read again for
    each window.
    `in_flight` is the number of messages that may be under way together.
    A destination that cannot go on (wrong key, dead server, rate limit) is in `stopped`, its
    intents wait, the others are served. Raises what the gate raises, with nothing sent after.
    """
    limiter = limiter or Limiter()
    lines = {name: Line(name, target, limiter) for name, target in targets.items()}
    waiting = journal.counts()["intent"]
    with ThreadPoolExecutor(min(CALLS, in_flight)) as pool:
        run = _Run(journal, lines, gate, now, pool, in_flight)
        while run.round():
            pass
    run.totals.extracted = waiting - journal.counts()["intent"]
    run.totals.check()
    stopped = {name: line.error for name, line in lines.items() if line.error}
    return SendRun(run.totals, journal.count_due(now()), {**stopped, **run.misdirected})


@dataclass(eq=False)
class _Batch:
    """Intents that can share a request."""

    line: Line
    stream: Stream
    intents: list[Intent] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.intents) >= self.stream.batch_size

    @property
    def is_urgent(self) -> bool:
        return _is_urgent(self.intents[0])


@dataclass
class _Run:
    """One call of `deliver_sends`. `alone` are keys whose batch was refused as a whole."""

    journal: Journal
    lines: Mapping[str, Line]
    gate: SendGate
    now: Callable[[], datetime]
    pool: ThreadPoolExecutor
    in_flight: int
    totals: Totals = field(default_factory=Totals)
    misdirected: dict[str, ConnectorError] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    alone: set[str] = field(default_factory=set)
    verdicts: list[Receipt] = field(default_factory=list)
    is_unfinished: bool = False

    def round(self) -> bool:
        """Every due intent once; whether some want another round."""
        self.is_unfinished = False
        window: list[_Batch] = []
        for batch in self._batches():
            while window and not self._has_room(window, batch):
                window = self._window(window)
            window.append(batch)
        while window:
            window = self._window(window)
        self._record([])
        return self.is_unfinished

    def _has_room(self, window: Sequence[_Batch], batch: _Batch) -> bool:
        messages = sum(len(b.intents) for b in (*window, batch))
        return len(window) < CALLS and messages <= self.in_flight

    # ---- due intents -> batches ----

    def _batches(self) -> Iterator[_Batch]:
        filling: dict[Group, _Batch] = {}
        held = 0
        for intent in self._due():
            if self.lines and all(line.error for line in self.lines.values()):
                return
            batch = self._batch_for(intent, filling)
            if batch is None:
                continue
            batch.intents.append(intent)
            held += 1
            if batch.is_full or held >= LOOKAHEAD:
                group = _group(intent, self.alone) if batch.is_full else next(iter(filling))
                full = filling.pop(group)
                held -= len(full.intents)
                yield full
        yield from filling.values()

    def _due(self) -> Iterator[Intent]:
        """What nobody asked for waits behind what somebody waits for."""
        now = self.now()
        yield from (intent for intent in self.journal.due(now) if _is_urgent(intent))
        yield from (intent for intent in self.journal.due(now) if not _is_urgent(intent))

    def _batch_for(self, intent: Intent, filling: dict[Group, _Batch]) -> _Batch | None:
        """The batch that waits for this intent; None when it must not be tried now."""
        if self.tries[intent["send_key"]] >= ATTEMPTS:
            return None
        group = _group(intent, self.alone)
        if group not in filling:
            try:
                line = self._line(intent["destination"])
                if line.error:
                    return None
                filling[group] = _Batch(line, line.stream(intent["stream"]))
            except ConfigurationError as error:
                self.misdirected[intent["destination"]] = error
                return None
        batch = filling[group]
        return None if batch.line.error else batch

    def _line(self, name: str) -> Line:
        if name not in self.lines:
            known = ", ".join(self.lines)
            raise ConfigurationError(f"no destination is called {name}", f"there are {known}")
        return self.lines[name]

    # ---- gate ----

    def _admitted(self, window: Sequence[_Batch]) -> list[_Batch]:
        """What may be sent now. The rest gets a verdict, or waits for the next round."""
        now, customers = self.now(), set[str]()
        for batch in window:
            batch.intents = [i for i in batch.intents if self._is_admitted(i, now, customers)]
        return [batch for batch in window if batch.intents and not batch.line.error]

    def _is_admitted(self, intent: Intent, now: datetime, customers: set[str]) -> bool:
        if intent["customer_id"] in customers:
            self.is_unfinished = True
            return False
        if epoch_of(intent["expires_at"]) <= epoch(now):
            reason: str | None = "expired"
        else:
            reason = self.gate(intent, now)
        if reason == LATER:
            return False
        if reason is not None:
            self.verdicts.append(Receipt(intent["send_key"], Status.SKIPPED, reason))
            return False
        customers.add(intent["customer_id"])
        return True

    # ---- call ----

    def _window(self, window: Sequence[_Batch]) -> list[_Batch]:
        """Send the batches whose turn it is; the others, whose turn comes later."""
        batches = self._admitted(window)
        waited, ready = self._ready(batches)
        rest = [batch for batch in batches if batch not in ready]
        if waited > 0:
            ready = self._admitted(ready)
        calls = [(batch, request) for batch in ready if (request := self._request(batch))]
        if calls:
            keys = [record.key for _, request in calls for record in request.records]
            self.journal.start(keys, self.now())
            answers = self.pool.map(lambda call: _send(*call), calls)
            self._record([receipt for receipts in answers for receipt in receipts])
        return rest

    def _ready(self, batches: Sequence[_Batch]) -> tuple[float, list[_Batch]]:
        """The batches that have a place in the rate limit now; if none has, wait for the first.

        A place is for a call that is made at once: held while others are waited for, it would
        be used too late, together with theirs. Returns the seconds waited, too.
        """
        ready = [b for b in batches if b.line.try_acquire(b.stream, is_urgent=b.is_urgent)]
        if ready or not batches:
            return 0.0, ready
        first = batches[0]
        try:
            return first.line.acquire(first.stream, is_urgent=first.is_urgent), [first]
        except FatalError:
            return 0.0, []

    def _request(self, batch: _Batch) -> Request | None:
        if batch.line.error:
            return None
        records = [_record(intent) for intent in batch.intents]
        request, refused = batch.line.build(batch.stream, records)
        self.verdicts += refused
        return request

    def _record(self, receipts: Sequence[Receipt]) -> None:
        """Make verdicts durable and count them. Skips may be lost before: they are found again."""
        receipts = [*receipts, *self.verdicts]
        self.verdicts = []
        if not receipts:
            return
        self.journal.finish(receipts, self.now())
        for receipt in receipts:
            if receipt.status is Status.NOT_SENT:
                self._try_again(receipt)
            else:
                self.totals.count(receipt.status)

    def _try_again(self, receipt: Receipt) -> None:
        self.tries[receipt.key] += 1
        if receipt.http_status in _BATCH_REFUSED:
            self.alone.add(receipt.key)
        self.is_unfinished |= self.tries[receipt.key] < ATTEMPTS


_BATCH_REFUSED = (400, 413, 422)


def _group(intent: Intent, alone: set[str]) -> Group:
    """What intents must agree in to share a request."""
    key = intent["send_key"] if intent["send_key"] in alone else ""
    return (
        intent["destination"],
        intent["stream"],
        str(intent.get("campaign_id")),
        intent["channel"],
        str(_is_urgent(intent)),
        key,
    )


def _is_urgent(intent: Intent) -> bool:
    """Whether it is transactional: somebody waits for it, and no cap or promotion is meant."""
    return intent.get("is_promotional") is False


def _record(intent: Intent) -> Record:
    """The intent as a destination sees it; `fields` has the message and how to address it."""
    known_as = intent.get("known_as", {})
    identity = {"external_id": intent.get("external_id") or intent["customer_id"], **known_as}
    fields = {
        **intent.get("fields", {}),
        "campaign_id": intent.get("campaign_id"),
        "channel": intent["channel"],
        "decision_id": intent["decision_id"],
    }
    return Record(intent["send_key"], identity, fields)


def _send(batch: _Batch, request: Request) -> list[Receipt]:
    """One call and its verdicts; a batch whose line was stopped meanwhile is not sent.

    Where the vendor acts only once on a key, a call without a verdict is made again under the
    same key. From then on only an acceptance tells what became of the first one.
    """
    failpoint.hit("deliver.call.before")
    try:
        receipts = _call(batch, request)
        for attempt in range(1, ATTEMPTS if batch.stream.repeat_s else 1):
            if not any(receipt.status is Status.UNKNOWN for receipt in receipts):
                break
            batch.line.limiter.pause(attempt)
            batch.line.acquire(batch.stream, is_urgent=batch.is_urgent)
            receipts = list(map(_surer, receipts, _call(batch, request)))
    except FatalError:
        pass  # no place for another call: what the first one said stands
    finally:
        failpoint.hit("deliver.call.after")
    return receipts


def _surer(first: Receipt, again: Receipt) -> Receipt:
    is_surer = first.status is Status.UNKNOWN and again.status is Status.ACCEPTED
    return again if is_surer else first


def _call(batch: _Batch, request: Request) -> list[Receipt]:
    try:
        return batch.line.call(batch.stream, request)[1]
    except UnknownOutcomeError as error:
        return all_of(request.records, Status.UNKNOWN, str(error))
    except (NotSentError, FatalError) as error:
        return all_of(request.records, Status.NOT_SENT, str(error))
