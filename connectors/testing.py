"""The laws of every destination. A new one passes them without a test of its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from connectors.base import Destination, Receipt, Record, Reply, Request, Signing, Status
from connectors.errors import RefusedRecordError

SECRET = "canary-key-5up3r"  # noqa: S105 - a canary
_NO_EVIDENCE = (
    Reply(200, b""),
    Reply(200, b"{}"),
    Reply(200, b"[]"),
    Reply(200, b"null"),
    Reply(200, b'{"message":"succ'),
    Reply(200, b"<html><body>Welcome</body></html>"),
    Reply(200, b"[" * 100_000),
    Reply(204, b""),
    Reply(302, b""),
    Reply(400, b"no"),
    Reply(408, b""),
    Reply(413, b""),
    Reply(429, b""),
    Reply(500, b'{"message":"success","code":"Success","successCount":1000}'),
    Reply(503, b""),
)


def check_destination(destination: Destination, stream: str, records: Sequence[Record]) -> None:
    """Raise AssertionError unless the destination keeps the laws for these valid records.

    `records` are at least one and at most a batch.
    """
    request = destination.build(stream, records)
    _check_build(destination, stream, records, request)
    _check_limits(destination, stream, records)
    _check_identifiers(destination, stream, records[0])
    _check_secret(destination, request)
    for reply in _NO_EVIDENCE:
        if not (destination.streams[stream].any_2xx and _is_acknowledgement(reply)):
            _check_receipts(request, destination.parse(request, reply), reply)


def _is_acknowledgement(reply: Reply) -> bool:
    """What counts where any 2xx does: everything but a web page."""
    return 200 <= reply.status < 300 and not reply.body.startswith(b"<")


def _law(holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(text)


def _check_build(
    destination: Destination, stream: str, records: Sequence[Record], request: Request
) -> None:
    again = destination.build(stream, list(records))
    _law(request.records == tuple(records), "the request must keep the records in their order")
    _law(request == again, "the same records must give the same request")
    sent = msgspec.json.decode(msgspec.json.encode(request.json))
    _law(sent == request.json, "the body must be plain JSON")
    _law(request.path[:1] in ("", "/"), "the path must begin with /, or be the base URL itself")


def _check_limits(destination: Destination, stream: str, records: Sequence[Record]) -> None:
    size = destination.streams[stream].batch_size
    for batch in ([], [records[0]] * (size + 1)):
        try:
            destination.build(stream, batch)
        except ValueError:
            continue
        raise AssertionError(f"a batch of {len(batch)} must be refused with ValueError")


def _check_identifiers(destination: Destination, stream: str, record: Record) -> None:
    """Nothing, line breaks, invisible and direction characters are no identifiers."""
    if not record.identity:  # a thing, not a person
        return
    for hostile in ("", " ", "a\r\nBcc: b", "a\x00", "a\u202eb", "a\u200bb", "a\U000e0041"):
        identity = dict.fromkeys(record.identity, hostile)
        try:
            destination.build(stream, [Record(record.key, identity, record.fields)])
        except RefusedRecordError as error:
            named = error.key
        else:
            raise AssertionError(f"the identifier {hostile!r} must be refused")
        _law(named == record.key, "the refusal must name the record")


def _check_secret(destination: Destination, request: Request) -> None:
    is_shown = SECRET in str(destination.headers(SECRET))
    _law(is_shown or isinstance(destination, Signing), "the key must be in the headers")
    _law(SECRET not in repr(destination) + repr(request), "the key must not be shown")


def _check_receipts(request: Request, receipts: Sequence[Receipt], reply: Reply) -> None:
    keys = [record.key for record in request.records]
    _law([receipt.key for receipt in receipts] == keys, "one receipt per record, in order")
    accepted = [receipt for receipt in receipts if receipt.status is Status.ACCEPTED]
    _law(not accepted, f"accepted without evidence: HTTP {reply.status} {reply.body[:40]!r}")
    if reply.status >= 500 or reply.status in (200, 408):
        surely = [r for r in receipts if r.status is not Status.UNKNOWN]
        _law(not surely, f"HTTP {reply.status} leaves the outcome unknown")
    for receipt, record in zip(receipts, request.records, strict=True):
        shown = [value for value in record.identity.values() if value in receipt.reason]
        _law(not shown, "a reason must not show an identifier")
