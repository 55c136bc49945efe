"""A webhook of your own, signed as Standard Webhooks describes.

Each record is one POST of `{"type", "data"}`. `webhook-id` is the record's key, so
that a receiver can tell a repeat; `webhook-signature` covers id, time and body. A receiver says
by any 2xx that it has the event, and need not say anything else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from connectors.base import (
    REP,
    TO_CUSTOMERS,
    Lane,
    Receipt,
    Record,
    Reply,
    Request,
    Status,
    Stream,
    Window,
)
from connectors.destinations import _replies as replies
from connectors.errors import ConfigurationError

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_WINDOWS = (Window(50, 1), Window(1_000, 60))
"""A pace of our own: the receiver is yours."""


class Webhook:
    """One receiver. `events` are repeated until they are taken, `messages` are sent once."""

    name = "webhook"
    streams: Mapping[str, Stream] = {
        "events": Stream(
            "events", Lane.PROFILE, 1, "webhook", _WINDOWS, any_2xx=True, whole_rows=True
        ),
        "messages": Stream(
            "messages",
            Lane.SEND,
            1,
            "webhook",
            _WINDOWS,
            any_2xx=True,
            channels=(*TO_CUSTOMERS, REP),
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:  # noqa: ARG002 - it only signs
        """None: the signature says who we are."""
        return {}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """One event. Its type is the field `type`, else `nextmove.<stream>`.

        Raises RefusedRecordError for a record without a plain id, ValueError for a batch.
        """
        replies.check_batch(self.streams[stream], records)
        (record,) = records
        for name in record.identity:
            replies.identifier(record, name)
        if not replies.is_plain(record.key) or not record.key.isascii():
            raise replies.refused(record, "the key has characters that no header can have")
        kind = str(record.fields.get("type") or f"nextmove.{stream}")
        data = {**replies.given(record.fields, but=("type",)), **record.identity}
        body = {"type": kind, "data": data}
        return Request("POST", "", body, tuple(records), {"webhook-id": record.key})

    def sign(self, request: Request, body: bytes, api_key: str, at: int) -> Mapping[str, str]:
        """Time and signature: base64 of HMAC-SHA256 over `id.time.body`.

        Raises ConfigurationError for a secret that is none.
        """
        signed = f"{request.headers.get('webhook-id', '')}.{at}.".encode() + body
        digest = hmac.new(_secret(api_key), signed, hashlib.sha256).digest()
        signature = base64.b64encode(digest).decode()
        return {"webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """The verdict on the event. A web page is no receiver's answer, whatever its status."""
        receipts = replies.without_verdicts(request, reply, "")
        if receipts is not None:
            return receipts
        (record,) = request.records
        if reply.body.lstrip()[:1] == b"<" or "html" in reply.headers.get("content-type", ""):
            reason = f"HTTP {reply.status} with a web page"
            return [replies.receipt(record, Status.UNKNOWN, reason, reply)]
        return [replies.receipt(record, Status.ACCEPTED, "", reply)]


def _secret(text: str) -> bytes:
    """The bytes behind `whsec_...`, 24 to 64 of them."""
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not (text.startswith(_PREFIX) and _SHORTEST <= len(secret) <= _LONGEST):
        raise ConfigurationError(
            "the webhook's secret is not whsec_ and base64 of 24 to 64 bytes",
            'make one: python -c "import base64, os;'
            " print('whsec_' + base64.b64encode(os.urandom(32)).decode())\"",
        )
    return secret
