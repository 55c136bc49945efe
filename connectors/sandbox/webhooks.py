"""The vendors' webhooks: what people did with their messages, posted at least once."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from connectors.sandbox.faults import DUPLICATE_WEBHOOKS, Faults
from connectors.sandbox.ledger import Entry

CURRENTS_BATCH = 100
ATTEMPTS = 6
FIRST_WAIT = 0.05  # seconds; doubles at each attempt
TIMEOUT = 10.0
CONNECTIONS = 8

Kind = Literal["open", "click", "unsubscribe", "complaint", "bounce", "delivered"]

_CURRENTS = {
    ("email", "delivered"): "users.messages.email.Delivery",
    ("email", "open"): "users.messages.email.Open",
    ("email", "click"): "users.messages.email.Click",
    ("email", "unsubscribe"): "users.messages.email.Unsubscribe",
    ("email", "complaint"): "users.messages.email.MarkAsSpam",
    ("email", "bounce"): "users.messages.email.Bounce",
    ("push", "delivered"): "users.messages.pushnotification.Send",
    ("push", "open"): "users.messages.pushnotification.Open",
    ("push", "click"): "users.messages.pushnotification.Open",  # a tap is all there is
    ("push", "unsubscribe"): "users.behaviors.subscription.GlobalStateChange",
    ("push", "bounce"): "users.messages.pushnotification.Bounce",
    ("sms", "delivered"): "users.messages.sms.Delivery",
    ("sms", "click"): "users.messages.sms.ShortLinkClick",
    ("sms", "unsubscribe"): "users.behaviors.subscriptiongroup.StateChange",
    ("sms", "bounce"): "users.messages.sms.Rejection",
}
_ITERABLE = {
    ("email", "delivered"): "emailSend",
    ("email", "open"): "emailOpen",
    ("email", "click"): "emailClick",
    ("email", "unsubscribe"): "emailUnSubscribe",
    ("email", "complaint"): "emailComplaint",
    ("email", "bounce"): "emailBounce",
    ("push", "delivered"): "pushSend",
    ("push", "open"): "pushOpen",
    ("push", "click"): "pushOpen",
    ("push", "unsubscribe"): "pushUninstall",
    ("push", "bounce"): "pushBounce",
    ("sms", "delivered"): "smsSend",
    ("sms", "click"): "smsClick",
    ("sms", "unsubscribe"): "smsReceived",
    ("sms", "bounce"): "smsBounce",
}


@dataclass(frozen=True)
class Engagement:
    """One reaction of one person to one message."""

    message: Entry
    kind: Kind
    at: datetime
    is_machine: bool = False


@dataclass(frozen=True)
class Post:
    """One webhook call that carries `events` events."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    events: int


def has_event(channel: str, kind: str) -> bool:
    """Whether the vendors tell of this reaction on this channel."""
    return (channel, kind) in _CURRENTS


def braze_event(engagement: Engagement) -> dict[str, Any]:
    """The reaction as a Currents event; the same reaction always has the same id."""
    message = engagement.message
    identity = f"{message.message_id}:{engagement.kind}:{engagement.at.timestamp()}"
    return {
        "event_type": _CURRENTS[message.channel, engagement.kind],
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        "time": int(engagement.at.timestamp()),
        "user": {
            "user_id": uuid.uuid5(uuid.NAMESPACE_OID, message.external_id).hex[:24],
            "external_user_id": message.external_id,
            "timezone": None,
        },
        "properties": {
            "campaign_id": message.campaign_id,
            "dispatch_id": message.dispatch_id,
            **({"email_address": message.email} if message.channel == "email" else {}),
            **_braze_details(message.channel, engagement),
        },
    }


def _braze_details(channel: str, engagement: Engagement) -> dict[str, Any]:
    kind = engagement.kind
    if channel == "email" and kind == "open" and engagement.is_machine:
        return {"machine_open": "true"}
    if channel == "email" and kind == "click":
        return {"is_suspected_bot_click": engagement.is_machine}
    if channel != "email" and kind == "unsubscribe":
        return {"channel": channel, "subscription_status": "Unsubscribed"}
    return {}


def iterable_event(engagement: Engagement) -> dict[str, Any]:
    """The reaction as a system webhook. It has no id of its own."""
    message = engagement.message
    return {
        "email": message.email,
        "userId": message.external_id,
        "eventName": _ITERABLE[message.channel, engagement.kind],
        "dataFields": {
            "email": message.email,
            "campaignId": int(message.campaign_id),
            "messageId": message.message_id,
            "createdAt": f"{engagement.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} +00:00",
            **message.metadata,
            **_iterable_details(message.channel, engagement),
        },
    }


def _iterable_details(channel: str, engagement: Engagement) -> dict[str, Any]:
    kind = engagement.kind
    if channel == "email" and kind in ("open", "click") and engagement.is_machine:
        return {"isBot": True}
    if channel == "sms" and kind == "unsubscribe":
        return {"smsMessage": "STOP"}
    return {}


def posts_for(
    engagements: Sequence[Engagement], tokens: Mapping[str, str], faults: Faults
) -> list[Post]:
    """The calls that tell of all engagements, some twice if the vendor is told to."""
    told = [e for e in engagements for _ in range(_times(e, faults))]
    braze = [braze_event(e) for e in told if e.message.vendor == "braze"]
    iterable = [iterable_event(e) for e in told if e.message.vendor == "iterable"]
    batches = [braze[i : i + CURRENTS_BATCH] for i in range(0, len(braze), CURRENTS_BATCH)]
    return [_currents(batch, tokens["braze"]) for batch in batches] + [
        _system_webhook(event, tokens["iterable"]) for event in iterable
    ]


def _times(engagement: Engagement, faults: Faults) -> int:
    return 2 if faults.hits(engagement.message.vendor, DUPLICATE_WEBHOOKS) else 1


def _currents(events: Sequence[dict[str, Any]], token: str) -> Post:
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {token}",
        "Braze-Currents-Version": "1",
    }
    body = msgspec.json.encode({"events": events})
    return Post("/webhooks/braze", body, headers, len(events))


def _system_webhook(event: dict[str, Any], token: str) -> Post:
    headers = {"Content-Type": "application/json", "Authorization": token}
    return Post("/webhooks/iterable", msgspec.json.encode(event), headers, 1)


class Poster:
    """Posts webhooks to one target over a few kept-alive connections, concurrently.

    A call that is not answered by a 2xx is made again with growing waits, `ATTEMPTS` times
    in all (about 1.5 s). The vendors go on for hours or days; here somebody is waiting.
    """

    def __init__(self, target: str, wait: Callable[[float], None] = time.sleep) -> None:
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the webhook target must be an http(s) URL")
        is_secure = parts.scheme == "https"
        self._connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._wait = wait
        self._is_closed = False
        self._local = threading.local()
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="webhooks")

    async def post(self, posts: Iterable[Post]) -> tuple[int, int]:
        """Post everything; the numbers of events delivered and given up."""
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(self._threads, self._deliver, post) for post in posts]
        done = await asyncio.gather(*calls)
        return sum(n for n, ok in done if ok), sum(n for n, ok in done if not ok)

    def close(self) -> None:
        """Give up what is not posted yet."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _deliver(self, post: Post) -> tuple[int, bool]:
        for attempt in range(ATTEMPTS):
            if self._is_closed:
                break
            if attempt:
                self._wait(FIRST_WAIT * 2 ** (attempt - 1))
            if 200 <= self._call(post) < 300:
                return post.events, True
        return post.events, False

    def _call(self, post: Post) -> int:
        """The status of one call; 0 when there was no answer."""
        connection = self._connection()
        try:
            connection.request("POST", self._path + post.path, post.body, dict(post.headers))
            reply = connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        return reply.status

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect(self._host, self._port, timeout=TIMEOUT)
        connection: http.client.HTTPConnection = self._local.connection
        return connection
