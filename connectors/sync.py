"""The profile lane of the delivery loop: upserts, at least once, each ends in one receipt.

Every call is idempotent, so whatever did not surely end is tried again: after a pause when
the vendor was in trouble, in halves when it refused a batch for one of its rows. An outage in
the middle of a run is waited for; rows that were tried three times in it are left to the next run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

from connectors import failpoint
from connectors.base import Receipt, Record, Request, Status, Stream
from connectors.calls import OUTAGE_SECONDS, Line, Target, Totals, all_of
from connectors.errors import ConnectorError, FatalError, NotSentError, UnknownOutcomeError
from connectors.limits import TOO_MANY, Limiter

IN_FLIGHT = 16
ATTEMPTS = 3
_LATER = (408, 423, TOO_MANY)
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_OPEN = (Status.NOT_SENT, Status.UNKNOWN)


class ProfileSync:
    """Iterate to run it: one receipt per record, in the records' order within a group.

    After the end, `totals` hold and `stopped` says why a run ended early, if it did: records
    that were not yet taken from the input have no receipt and belong to the next run.
    """

    def __init__(
        self,
        target: Target,
        stream: str,
        records: Iterable[Record],
        limiter: Limiter | None = None,
        in_flight: int = IN_FLIGHT,
        name: str = "",
    ) -> None:
        """`name` is the destination's in the project, under which its limits are counted.

        Raises ConfigurationError when the destination has no such stream.
        """
        self.totals = Totals()
        name = name or target.destination.name
        self._line = Line(name, target, limiter or Limiter(), OUTAGE_SECONDS)
        self._stream, self._records = self._chosen(self._line.stream(stream), iter(records))
        self._batches = self._grouped()
        self._in_flight = in_flight

    def _chosen(self, stream: Stream, records: Iterator[Record]) -> tuple[Stream, Iterator[Record]]:
        """The stream, or its bulk form when there is much to bring."""
        if not stream.bulk:
            return stream, records
        first = list(islice(records, stream.bulk_above + 1))
        is_much = len(first) > stream.bulk_above
        return (self._line.stream(stream.bulk) if is_much else stream), chain(first, records)

    @property
    def stopped(self) -> ConnectorError | None:
        """Why nothing more was sent, or None."""
        return self._line.error

    def __iter__(self) -> Iterator[Receipt]:
        with ThreadPoolExecutor(self._in_flight) as pool:
            while not self.stopped and (window := self._window()):
                for receipts in pool.map(self._settle, window):
                    for receipt in receipts:
                        self.totals.count(receipt.status)
                        yield receipt
        self.totals.check()

    def _window(self) -> list[list[Record]]:
        window = list(islice(self._batches, self._in_flight))
        self.totals.extracted += sum(map(len, window))
        return window

    def _grouped(self) -> Iterator[list[Record]]:
        """Batches of records that agree in what a request can say only once."""
        filling: dict[tuple[str, ...], list[Record]] = {}
        for record in self._records:
            group = tuple(str(record.fields.get(name)) for name in self._stream.together)
            batch = filling.setdefault(group, [])
            batch.append(record)
            if len(batch) == self._stream.batch_size:
                yield filling.pop(group)
        yield from filling.values()

    def _settle(self, records: Sequence[Record]) -> list[Receipt]:
        """Try until every record has a verdict or the attempts are used up."""
        verdicts: dict[str, Receipt] = {}
        left = list(records)
        for attempt in range(1, ATTEMPTS + 1):
            for receipt in self._attempt(left):
                verdicts[receipt.key] = _later(verdicts.get(receipt.key), receipt)
            left = [record for record in left if verdicts[record.key].status in _OPEN]
            if not left or self.stopped:
                break
            if attempt < ATTEMPTS:
                self._line.limiter.pause(attempt)
        return [_final(verdicts[record.key]) for record in records]

    def _attempt(self, records: Sequence[Record]) -> list[Receipt]:
        """One call for the records, and more for the parts of a batch that was refused."""
        request, verdicts = self._line.build(self._stream, records)
        if request is None:
            return verdicts
        answers, is_worth_splitting = self._call(request)
        if not is_worth_splitting:
            return verdicts + answers
        is_open = {receipt.key: receipt for receipt in answers if receipt.status in _OPEN}
        verdicts += [receipt for receipt in answers if receipt.key not in is_open]
        for part in _parts(request.records, is_open):
            verdicts += [_later(is_open.get(r.key), r) for r in self._attempt(part)]
        return verdicts

    def _call(self, request: Request) -> tuple[list[Receipt], bool]:
        """The verdicts, and whether calls for fewer records would tell more."""
        try:
            self._line.acquire(self._stream)
            failpoint.hit("sync.call.before")
            status, answers = self._line.call(self._stream, request)
            failpoint.hit("sync.call.after")
        except UnknownOutcomeError as error:
            return all_of(request.records, Status.UNKNOWN, str(error)), False
        except (NotSentError, FatalError) as error:
            return all_of(request.records, Status.NOT_SENT, str(error)), False
        is_open = any(answer.status in _OPEN for answer in answers)
        return answers, is_open and len(answers) > 1 and self._may_split(status)

    def _may_split(self, status: int) -> bool:
        if self.stopped or status in _LATER or status >= _SERVER_ERROR:
            return False
        return status < _CLIENT_ERROR or self._stream.splits_on_400


def _later(first: Receipt | None, again: Receipt) -> Receipt:
    """What two attempts say together: the second one not being sent says nothing of the first."""
    is_doubtful = first is not None and first.status is Status.UNKNOWN
    return first if first and is_doubtful and again.status is Status.NOT_SENT else again


def _parts(records: Sequence[Record], is_open: Collection[str]) -> list[list[Record]]:
    """The undecided records: in halves when they are all, else together."""
    left = [record for record in records if record.key in is_open]
    if len(left) < len(records):
        return [left]
    middle = len(left) // 2
    return [left[:middle], left[middle:]]


def _final(receipt: Receipt) -> Receipt:
    """A record that was never sent ends as skipped; the next run finds it again."""
    if receipt.status is not Status.NOT_SENT:
        return receipt
    reason = f"not sent: {receipt.reason}"
    return Receipt(receipt.key, Status.SKIPPED, reason, receipt.http_status)
