"""What people do reaches the receiver as the vendors' documented webhooks."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox_process import (
    BRAZE_KEY,
    BRAZE_TOKEN,
    ITERABLE_KEY,
    ITERABLE_TOKEN,
    Sandbox,
    running_sandbox,
)

AT = "2026-03-02T10:00:05Z"
BRAZE = {"Authorization": f"Bearer {BRAZE_KEY}"}


@dataclass
class Listener:
    """A receiver that keeps what it gets and answers the statuses it was given, then 200."""

    url: str = ""
    calls: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def events(self, path: str) -> list[Any]:
        return [body for where, _, body in self.calls if where == path]


@pytest.fixture(scope="module")
def ear() -> Iterator[Listener]:
    heard = Listener()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {k.lower(): v for k, v in self.headers.items()}
            heard.calls.append((self.path, headers, body))
            self.send_response(heard.statuses.pop() if heard.statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield heard
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, ear: Listener) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("sandbox")
    with running_sandbox(directory, "--limit-divisor", "0.01", webhooks=ear.url) as running:
        yield running


@pytest.fixture
def listener(ear: Listener) -> Listener:
    ear.calls.clear()
    ear.statuses.clear()
    return ear


def braze_messages(sandbox: Sandbox, people: int, channel: str = "email") -> list[dict[str, Any]]:
    """Deliver one message to each of new people; their ledger entries."""
    start = len(sandbox.ledger())
    who = [f"u-{uuid.uuid4().hex[:8]}" for _ in range(people)]
    for first in range(0, people, 50):
        batch = who[first : first + 50]
        rows = [{"external_id": w, "email": f"{w}@example.com"} for w in batch]
        url = f"{sandbox.url}/braze/users/track"
        sandbox.session.post(url, json={"attributes": rows}, headers=BRAZE, timeout=10)
        braze_send(sandbox, batch, channel)
    return [e for e in sandbox.ledger()[start:] if e["kind"] == "message"]


def braze_send(sandbox: Sandbox, who: list[str], channel: str = "email") -> None:
    properties = {"decision_id": "d"}
    recipients = [{"external_user_id": w, "trigger_properties": properties} for w in who]
    url = f"{sandbox.url}/braze/campaigns/trigger/send"
    body = {"campaign_id": f"{channel}-1", "recipients": recipients}
    assert sandbox.session.post(url, json=body, headers=BRAZE, timeout=10).status_code == 201


def iterable_message(sandbox: Sandbox, channel: str = "email") -> dict[str, Any]:
    headers = {"Api-Key": ITERABLE_KEY}
    url = f"{sandbox.url}/iterable/api"
    who = f"u-{uuid.uuid4().hex[:8]}"
    user = {"userId": who, "email": f"{who}@example.com"}
    sandbox.session.post(f"{url}/users/bulkUpdate", json={"users": [user]}, headers=headers)
    body = {
        "campaignId": 41,
        "recipientUserId": who,
        "metadata": {"decision_id": "d-7"},
        "dataFields": {"first_name": "Ada"},
    }
    sandbox.session.post(f"{url}/{channel}/target", json=body, headers=headers, timeout=10)
    return sandbox.ledger("iterable")[-1]


def react(message: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
    keys = {"vendor": message["vendor"], "message_id": message["message_id"]}
    return {**keys, "type": kind, "at": AT, **more}


class TestBraze:
    def test_a_currents_call(self, sandbox: Sandbox, listener: Listener) -> None:
        [message] = braze_messages(sandbox, 1)
        answer = sandbox.control("engagements", events=[react(message, "open", is_machine=True)])
        assert answer == {"posted": 1, "failed": 0}
        [(path, headers, body)] = listener.calls
        assert path == "/webhooks/braze"
        assert headers["authorization"] == f"Bearer {BRAZE_TOKEN}"
        assert headers["braze-currents-version"] == "1"
        [event] = body["events"]
        assert event.pop("id")
        assert event["user"].pop("user_id")
        assert event == {
            "event_type": "users.messages.email.Open",
            "time": 1772445605,
            "user": {"external_user_id": message["external_id"], "timezone": None},
            "properties": {
                "campaign_id": "email-1",
                "dispatch_id": message["dispatch_id"],
                "email_address": message["email"],
                "machine_open": "true",
            },
        }

    @pytest.mark.parametrize(
        ("channel", "kind", "name"),
        [
            ("email", "click", "users.messages.email.Click"),
            ("email", "unsubscribe", "users.messages.email.Unsubscribe"),
            ("email", "complaint", "users.messages.email.MarkAsSpam"),
            ("email", "bounce", "users.messages.email.Bounce"),
            ("email", "delivered", "users.messages.email.Delivery"),
            ("push", "open", "users.messages.pushnotification.Open"),
            ("sms", "click", "users.messages.sms.ShortLinkClick"),
        ],
    )
    def test_event_names(
        self, sandbox: Sandbox, listener: Listener, channel: str, kind: str, name: str
    ) -> None:
        [message] = braze_messages(sandbox, 1, channel)
        sandbox.control("engagements", events=[react(message, kind)])
        assert listener.calls[0][2]["events"][0]["event_type"] == name

    def test_100_events_a_call(self, sandbox: Sandbox, listener: Listener) -> None:
        messages = braze_messages(sandbox, 250)
        events = [react(message, "open") for message in messages]
        assert sandbox.control("engagements", events=events) == {"posted": 250, "failed": 0}
        sizes = sorted(len(body["events"]) for body in listener.events("/webhooks/braze"))
        assert sizes == [50, 100, 100]
        ids = {e["id"] for body in listener.events("/webhooks/braze") for e in body["events"]}
        assert len(ids) == 250


class TestIterable:
    def test_a_system_webhook(self, sandbox: Sandbox, listener: Listener) -> None:
        message = iterable_message(sandbox)
        sandbox.control("engagements", events=[react(message, "click")])
        [(path, headers, body)] = listener.calls
        assert (path, headers["authorization"]) == ("/webhooks/iterable", ITERABLE_TOKEN)
        assert body == {
            "email": message["email"],
            "userId": message["external_id"],
            "eventName": "emailClick",
            "dataFields": {
                "email": message["email"],
                "campaignId": 41,
                "messageId": message["message_id"],
                "createdAt": "2026-03-02 10:00:05 +00:00",
                "decision_id": "d-7",
            },
        }

    @pytest.mark.parametrize(
        ("channel", "kind", "name"),
        [
            ("email", "open", "emailOpen"),
            ("email", "unsubscribe", "emailUnSubscribe"),
            ("email", "complaint", "emailComplaint"),
            ("push", "open", "pushOpen"),
            ("sms", "click", "smsClick"),
        ],
    )
    def test_event_names(
        self, sandbox: Sandbox, listener: Listener, channel: str, kind: str, name: str
    ) -> None:
        message = iterable_message(sandbox, channel)
        sandbox.control("engagements", events=[react(message, kind)])
        assert listener.calls[0][2]["eventName"] == name


class TestDelivery:
    def test_a_refused_call_is_made_again(self, sandbox: Sandbox, listener: Listener) -> None:
        listener.statuses = [503, 500]
        message = iterable_message(sandbox)
        answer = sandbox.control("engagements", events=[react(message, "open")])
        assert answer == {"posted": 1, "failed": 0}
        assert len(listener.calls) == 3
        assert listener.calls[0][2] == listener.calls[2][2]

    def test_it_gives_up_in_the_end(self, sandbox: Sandbox, listener: Listener) -> None:
        listener.statuses = [503] * 50
        [message] = braze_messages(sandbox, 1)
        events = [react(message, "open"), react(message, "click")]
        assert sandbox.control("engagements", events=events) == {"posted": 0, "failed": 2}
        assert len(listener.calls) == 6

    def test_without_a_target_every_webhook_fails(self, tmp_path: Path) -> None:
        with running_sandbox(tmp_path / "alone") as sandbox:
            [message] = braze_messages(sandbox, 1)
            answer = sandbox.control("engagements", events=[react(message, "open")])
        assert answer == {"posted": 0, "failed": 1}

    def test_the_same_event_twice(self, sandbox: Sandbox, listener: Listener) -> None:
        sandbox.control("faults", vendor="iterable", kind="duplicate_webhooks", count=1)
        sandbox.control("engagements", events=[react(iterable_message(sandbox), "open")])
        first, second = listener.events("/webhooks/iterable")
        assert first == second

    @pytest.mark.parametrize(
        "change", [{"message_id": "unheard-of"}, {"type": "shrug"}, {"at": "later"}]
    )
    def test_an_impossible_reaction_is_a_400_and_nothing_is_posted(
        self, sandbox: Sandbox, listener: Listener, change: dict[str, str]
    ) -> None:
        [message] = braze_messages(sandbox, 1)
        events = [react(message, "open"), react(message, "open") | change]
        url = f"{sandbox.url}/_sandbox/engagements"
        reply = sandbox.session.post(url, json={"events": events}, timeout=10)
        assert reply.status_code == 400
        assert listener.calls == []


@pytest.mark.parametrize("kind", ["unsubscribe", "complaint", "bounce"])
def test_who_left_is_not_reached_again(sandbox: Sandbox, listener: Listener, kind: str) -> None:
    [message] = braze_messages(sandbox, 1)
    sandbox.control("engagements", events=[react(message, kind)])
    braze_send(sandbox, [message["external_id"]])
    braze_send(sandbox, [message["external_id"]], channel="push")
    closed, push = sandbox.ledger()[-2:]
    assert (closed["kind"], closed["reason"]) == ("undeliverable", f"closed_by_{kind}")
    assert push["kind"] == "message"
