"""Slack: one message to one channel by chat.postMessage.

Every answer is a 200; `ok` says whether it was one. There is no key against repeats, so a call
without an answer stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from connectors.base import REP, Lane, Receipt, Record, Reply, Request, Status, Stream, Window
from connectors.destinations import _replies as replies

_CHANNEL = re.compile(r"[A-Z0-9]{6,20}")
_LONGEST_TEXT = 4_000
_DENIED = (
    "invalid_auth",
    "not_authed",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "missing_scope",
)
_LATER = ("ratelimited", "rate_limited")
_UNSURE = ("internal_error", "fatal_error", "service_unavailable", "request_timeout")


def _denied(reply: Reply) -> str:
    error = str(replies.body_of(reply).get("error") or "")
    return error if error in _DENIED else ""


class Slack:
    """Web API of one workspace; a channel, or a person, is known by `slack_channel`.

    What a rep is told goes to the channel that its `campaign_id` is the id of.
    """

    name = "slack"
    streams: Mapping[str, Stream] = {
        "messages": Stream(
            name="messages",
            lane=Lane.SEND,
            batch_size=1,
            pool="chat.postMessage",
            # About one a second is for each channel; here it is for all, which is on the safe side.
            windows=(Window(1, 1), Window(50, 60)),
            channels=(REP,),
            denied=_denied,
        ),
    }

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Bearer authentication with a bot's token."""
        return {"Authorization": f"Bearer {api_key}"}

    def build(self, stream: str, records: Sequence[Record]) -> Request:
        """One message of plain text: what looks like a link or a mention stays what it is.

        Raises RefusedRecordError for a record without channel or text, ValueError for a batch.
        """
        replies.check_batch(self.streams[stream], records)
        (record,) = records
        for name in record.identity:
            replies.identifier(record, name)
        channel = record.identity.get("slack_channel") or record.fields.get("campaign_id")
        if not _CHANNEL.fullmatch(str(channel)):
            raise replies.refused(record, "slack_channel or campaign_id is not a channel's id")
        text = str(record.fields.get("text") or "")
        if not 0 < len(text) <= _LONGEST_TEXT:
            raise replies.refused(record, f"text must have 1 to {_LONGEST_TEXT} characters")
        body = {"channel": channel, "text": _escaped(text), "unfurl_links": False}
        return Request("POST", "/api/chat.postMessage", body, tuple(records))

    def parse(self, request: Request, reply: Reply) -> list[Receipt]:
        """The verdict on the message; `vendor_ref` is its time stamp."""
        (record,) = request.records
        receipts = replies.without_verdicts(request, reply, "")
        if receipts is not None:
            return receipts
        body = replies.body_of(reply)
        error = str(body.get("error") or "")
        if body.get("ok") is True and isinstance(body.get("ts"), str) and body["ts"]:
            return [replies.receipt(record, Status.ACCEPTED, "", reply, body["ts"])]
        if body.get("ok") is not False or not error or error in _UNSURE:
            reason = error or f"HTTP {reply.status} without ok"
            return [replies.receipt(record, Status.UNKNOWN, reason, reply)]
        is_open = error in _DENIED or error in _LATER
        status = Status.NOT_SENT if is_open else Status.REJECTED
        return [replies.receipt(record, status, error, reply)]


def _escaped(text: str) -> str:
    """Slack's three control characters as text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
