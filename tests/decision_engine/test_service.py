"""The receiver on a real socket: what it acknowledged is on the disk, whatever happens."""

from __future__ import annotations

import http.client
import json
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors import framed
from connectors.errors import ConfigurationError, LogError
from connectors.framed import FramedLog
from decision_engine.service.app import serve
from decision_engine.service.rotation import close_segment
from decision_engine.service.webhooks import Webhooks
from tests.sandbox_process import BRAZE_TOKEN, ITERABLE_TOKEN, running_sandbox, running_server

TOKENS = {"BRAZE_WEBHOOK_KEY": BRAZE_TOKEN, "ITERABLE_WEBHOOK_KEY": ITERABLE_TOKEN}
BRAZE = {"Authorization": f"Bearer {BRAZE_TOKEN}"}
ITERABLE = {"Authorization": ITERABLE_TOKEN}
COLUMNS = {
    "record",
    "event_id",
    "vendor",
    "event_type",
    "external_id",
    "email",
    "channel",
    "campaign_id",
    "message_ref",
    "decision_id",
    "is_machine",
    "occurred_at",
    "received_at",
}


@dataclass(frozen=True)
class Running:
    url: str
    log: Path
    process: subprocess.Popen[str]

    def post(self, vendor: str, payload: Any, headers: dict[str, str]) -> requests.Response:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        url = f"{self.url}/webhooks/{vendor}"
        return requests.post(url, data=data, headers=headers, timeout=10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start receivers on the test's log; they end with the test."""
    with ExitStack() as stack:

        def run(*args: str, **env: str) -> Running:
            arguments = ["--port", "0", "--log", str(tmp_path / "log"), *args]
            server = running_server("decision_engine.service", arguments, {**TOKENS, **env})
            url, process = stack.enter_context(server)
            return Running(url, tmp_path / "log", process)

        yield run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("receiver") / "log"
    arguments = ["--port", "0", "--log", str(log)]
    with running_server("decision_engine.service", arguments, TOKENS) as (url, process):
        yield Running(url, log, process)


def opened(number: int, kind: str = "Open") -> dict[str, Any]:
    return {
        "event_type": f"users.messages.email.{kind}",
        "id": f"e-{number}",
        "time": 1772445605,
        "user": {"user_id": "b", "external_user_id": f"u-{number}"},
        "properties": {"campaign_id": "c", "dispatch_id": "d", "email_address": "a@example.com"},
    }


def stored(log: Path) -> list[dict[str, Any]]:
    """All events of a log, the open segment's too."""
    return [e for segment in framed.segments(log) for e in events_of(segment)]


def closed(log: Path) -> list[str]:
    """The event ids that a loader would see."""
    found = [e for segment in framed.closed_segments(log) for e in events_of(segment)]
    return [e["event_id"] for e in found]


def events_of(segment: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for p in framed.read(segment) for line in p.split(b"\n")]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class TestAnswers:
    def test_a_2xx_means_it_is_in_the_log(self, shared: Running) -> None:
        before = len(stored(shared.log))
        reply = shared.post("braze", {"events": [opened(1), opened(2)]}, BRAZE)
        assert (reply.status_code, reply.json()) == (200, {"accepted": 2})
        events = stored(shared.log)[before:]
        assert [e["event_id"] for e in events] == ["e-1", "e-2"]
        assert set(events[0]) == COLUMNS

    @pytest.mark.parametrize(
        "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": BRAZE_TOKEN}, ITERABLE]
    )
    @pytest.mark.parametrize("payload", [{"events": [opened(1)]}, {"events": []}, b"{"])
    def test_a_wrong_token_is_refused_and_nothing_is_stored(
        self, shared: Running, payload: Any, headers: dict[str, str]
    ) -> None:
        before = len(stored(shared.log))
        reply = shared.post("braze", payload, headers)
        assert (reply.status_code, reply.json()) == (401, {"error": "unauthorized"})
        assert len(stored(shared.log)) == before

    def test_two_tokens_count_while_one_is_changed(self, start: Callable[..., Running]) -> None:
        running = start(BRAZE_WEBHOOK_KEY="Basic new-token-0123\nold-token-0123")
        statuses = {
            token: running.post("braze", {"events": []}, {"Authorization": f"Bearer {token}"})
            for token in ("Basic new-token-0123", "old-token-0123", "new-token-0123", "Basic")
        }
        assert [reply.status_code for reply in statuses.values()] == [200, 200, 401, 401]

    @pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[]", b'"text"', b"null"])
    @pytest.mark.parametrize("vendor", ["braze", "iterable"])
    def test_what_is_not_a_webhook_is_a_400(
        self, shared: Running, vendor: str, body: bytes
    ) -> None:
        before = len(stored(shared.log))
        headers = {"braze": BRAZE, "iterable": ITERABLE}[vendor]
        assert shared.post(vendor, body, headers).status_code == 400
        assert len(stored(shared.log)) == before

    def test_texts_that_no_column_should_hold(self, shared: Running) -> None:
        long, nul = opened(1), opened(2)
        long["id"] = "x" * 2049
        nul["id"] = "a\x00b"
        assert shared.post("braze", {"events": [long]}, BRAZE).status_code == 400
        assert shared.post("braze", {"events": [nul]}, BRAZE).status_code == 200
        assert stored(shared.log)[-1]["event_id"] == "ab"

    def test_what_a_vendor_tells_of_the_future_happened_now(self, shared: Running) -> None:
        late = {**opened(3, "Unsubscribe"), "time": 253402300799}
        assert shared.post("braze", {"events": [late]}, BRAZE).status_code == 200
        event = stored(shared.log)[-1]
        assert event["occurred_at"] == event["received_at"]

    def test_an_empty_batch_is_fine(self, shared: Running) -> None:
        reply = shared.post("braze", {"events": []}, BRAZE)
        assert (reply.status_code, reply.json()) == (200, {"accepted": 0})

    def test_a_body_over_1_mib_is_a_413(self, shared: Running) -> None:
        before = len(stored(shared.log))
        body = json.dumps({"events": [opened(1)]}).encode()
        assert shared.post("braze", body.ljust((1 << 20) + 1), BRAZE).status_code == 413
        assert len(stored(shared.log)) == before
        assert shared.post("braze", body.ljust(1 << 20), BRAZE).status_code == 200

    def test_an_unknown_vendor_is_a_404(self, shared: Running) -> None:
        assert shared.post("nobody", {"events": []}, BRAZE).status_code == 404

    def test_health_and_metrics(self, start: Callable[..., Running]) -> None:
        running = start()
        assert requests.get(f"{running.url}/health", timeout=10).json() == {"status": "ok"}
        running.post("braze", {"events": [opened(1), opened(2)]}, BRAZE)
        running.post("braze", {"events": [opened(1)]}, {})
        running.post("n\n}obody", {}, {})
        told = requests.get(f"{running.url}/metrics", timeout=10).text
        for line in (
            "# HELP nextmove_webhook_requests_total Webhook calls by vendor and answer.",
            "# TYPE nextmove_webhook_requests_total counter",
            'nextmove_webhook_requests_total{status="200",vendor="braze"} 1.0',
            'nextmove_webhook_requests_total{status="401",vendor="braze"} 1.0',
            'nextmove_webhook_requests_total{status="404",vendor="unknown"} 1.0',
            'nextmove_webhook_events_total{vendor="braze"} 2.0',
            'nextmove_records_total{kind="webhook"} 2.0',
            "nextmove_commit_seconds_count 1.0",
            'nextmove_commit_seconds_bucket{le="+Inf"} 1.0',
        ):
            assert line in told.splitlines()


class TestStart:
    def test_a_vendor_without_a_token_is_not_served(self, start: Callable[..., Running]) -> None:
        running = start("--braze-key-env", "MY_KEY", MY_KEY="mine", ITERABLE_WEBHOOK_KEY="")
        mine = {"Authorization": "Bearer mine"}
        assert running.post("braze", {"events": [opened(1)]}, mine).status_code == 200
        assert running.post("iterable", {}, ITERABLE).status_code == 404

    def test_without_any_token_it_does_not_start(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "decision_engine.service", "--log", str(tmp_path)]
        done = subprocess.run(
            [*command, "--braze-key-env", "NO_SUCH", "--iterable-key-env", "NOR_SUCH"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 2
        for name in ("no key is set", "NO_SUCH", "NOR_SUCH", "or NEXTMOVE_WRITE_KEY"):
            assert name in " ".join(done.stderr.split())

    def test_who_signs_an_address_needs_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="hubspot signs the address"):
            serve(tmp_path, [partial(Webhooks, secrets={"hubspot": "secret"})])

    @pytest.mark.parametrize("secrets", [{"slack": "token"}, {"braze": ""}])
    def test_a_vendor_that_cannot_be_checked_is_refused(
        self, tmp_path: Path, secrets: dict[str, str]
    ) -> None:
        with pytest.raises(ConfigurationError, match="webhooks cannot be received"):
            serve(tmp_path, [partial(Webhooks, secrets=secrets)])

    def test_a_port_that_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BRAZE_WEBHOOK_KEY", "x")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            command = [sys.executable, "-m", "decision_engine.service", "--log", str(tmp_path)]
            command += ["--port", port]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 2
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"cannot listen on 127.0.0.1 port {port}: Address already"), (
            done.stderr
        )
        assert "Traceback" not in done.stderr

    def test_a_log_has_one_receiver(
        self, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = start()
        monkeypatch.setenv("BRAZE_WEBHOOK_KEY", "x")
        command = [sys.executable, "-m", "decision_engine.service", "--log", str(running.log)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 2
        assert "in use by another process" in done.stderr

    def test_sigterm_is_a_normal_end_that_closes_the_segment(
        self, start: Callable[..., Running]
    ) -> None:
        running = start()
        running.post("braze", {"events": [opened(1)]}, BRAZE)
        running.process.terminate()
        assert running.process.wait(timeout=10) == 0
        assert closed(running.log) == ["e-1"]


class TestRotation:
    def test_on_request(self, start: Callable[..., Running]) -> None:
        running = start()
        running.post("braze", {"events": [opened(1)]}, BRAZE)
        assert closed(running.log) == []
        close_segment(running.log)
        assert closed(running.log) == ["e-1"]
        close_segment(running.log)
        assert len(framed.segments(running.log)) == 2

    def test_on_request_without_a_receiver(self, tmp_path: Path) -> None:
        with FramedLog(tmp_path) as log:
            log.append([b'{"event_id":"e-1"}'])
        close_segment(tmp_path)
        assert closed(tmp_path) == ["e-1"]
        assert not (tmp_path / "rotate").exists()

    def test_a_receiver_that_does_not_answer(self, tmp_path: Path) -> None:
        with FramedLog(tmp_path), pytest.raises(LogError, match="does not close its segment"):
            close_segment(tmp_path, timeout=0.05)

    def test_on_sigusr1(self, start: Callable[..., Running]) -> None:
        running = start()
        running.post("braze", {"events": [opened(1)]}, BRAZE)
        running.process.send_signal(signal.SIGUSR1)
        until(lambda: closed(running.log) == ["e-1"])

    @pytest.mark.parametrize("option", ["--rotate-seconds=0.1", "--rotate-bytes=100"])
    def test_by_age_and_size(self, start: Callable[..., Running], option: str) -> None:
        running = start(option)
        running.post("braze", {"events": [opened(1)]}, BRAZE)
        until(lambda: closed(running.log) == ["e-1"])


class TestDurability:
    def test_a_full_disk_is_a_503_and_passes(self, start: Callable[..., Running]) -> None:
        running = start()
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (2000, unlimited))
        replies = [running.post("braze", {"events": [opened(i)]}, BRAZE) for i in range(20)]
        codes = [reply.status_code for reply in replies]
        assert set(codes) == {200, 503}
        assert replies[-1].json() == {"error": "the log cannot be written"}
        assert requests.get(f"{running.url}/health", timeout=10).status_code == 503
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        assert running.post("braze", {"events": [opened(99)]}, BRAZE).status_code == 200
        assert requests.get(f"{running.url}/health", timeout=10).status_code == 200
        acknowledged = [f"e-{i}" for i, code in enumerate(codes) if code == 200]
        assert [e["event_id"] for e in stored(running.log)] == [*acknowledged, "e-99"]

    def test_ten_kills_under_load_lose_no_acknowledged_event(self, tmp_path: Path) -> None:
        chance = random.Random(20260302)
        load = Load()
        for _ in range(10):
            arguments = ["--port", "0", "--log", str(tmp_path), "--rotate-bytes", "4000"]
            with running_server("decision_engine.service", arguments, TOKENS) as (url, process):
                senders = [load.sender(url) for _ in range(4)]
                goal = len(load.acknowledged) + chance.randint(5, 80)
                until(lambda goal=goal: len(load.acknowledged) >= goal)  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                for sender in senders:
                    sender.join(timeout=10)
        close_segment(tmp_path)
        found = closed(tmp_path)
        assert len(load.acknowledged) > 50
        assert load.acknowledged <= set(found)
        assert len(found) == len(set(found))


@dataclass
class Load:
    """Threads that post events, each with a new id, until the receiver is gone."""

    acknowledged: set[str] = field(default_factory=set)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sender(self, url: str) -> threading.Thread:
        thread = threading.Thread(target=self._send, args=(url.removeprefix("http://"),))
        thread.start()
        return thread

    def _send(self, address: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            while True:
                with self.lock:
                    self.sent += 1
                    event = opened(self.sent)
                body = json.dumps({"events": [event]})
                connection.request("POST", "/webhooks/braze", body, BRAZE)
                reply = connection.getresponse()
                reply.read()
                if reply.status == 200:
                    self.acknowledged.add(event["id"])
        except (OSError, http.client.HTTPException):
            connection.close()


def test_from_the_sandbox_into_the_log(start: Callable[..., Running], tmp_path: Path) -> None:
    receiver = start()
    with running_sandbox(tmp_path / "sandbox", webhooks=receiver.url) as sandbox:
        braze = {"Authorization": "Bearer sandbox-braze-key"}
        iterable = {"Api-Key": "sandbox-iterable-key"}
        person = {"external_id": "u", "email": "u@example.com"}
        user = {"userId": "u", "email": "u@example.com"}
        send = {"campaign_id": "c", "recipients": [{"external_user_id": "u"}]}
        target = {"campaignId": 41, "recipientUserId": "u", "metadata": {"decision_id": "d-1"}}
        for path, body, headers in (
            ("braze/users/track", {"attributes": [person]}, braze),
            ("braze/campaigns/trigger/send", send, braze),
            ("iterable/api/users/bulkUpdate", {"users": [user]}, iterable),
            ("iterable/api/sms/target", target, iterable),
        ):
            url = f"{sandbox.url}/{path}"
            assert sandbox.session.post(url, json=body, headers=headers, timeout=10).ok
        messages = [e for e in sandbox.ledger() if e["kind"] == "message"]
        at = "2026-03-02T10:00:05Z"
        events = [
            {"vendor": m["vendor"], "message_id": m["message_id"], "type": "click", "at": at}
            for m in messages
        ]
        machine = {**events[0], "type": "open", "is_machine": True}
        answer = sandbox.control("engagements", events=[*events, machine])
        assert answer == {"posted": 3, "failed": 0}
    rows = {(e["vendor"], e["event_type"]): e for e in stored(receiver.log)}
    assert set(rows) == {("braze", "click"), ("braze", "open"), ("iterable", "click")}
    assert (
        rows["braze", "click"].items()
        >= {
            "external_id": "u",
            "channel": "email",
            "campaign_id": "c",
            "message_ref": messages[0]["dispatch_id"],
            "is_machine": False,
        }.items()
    )
    assert rows["braze", "open"]["is_machine"] is True
    assert (
        rows["iterable", "click"].items()
        >= {
            "external_id": "u",
            "channel": "sms",
            "campaign_id": "41",
            "message_ref": messages[1]["message_id"],
            "decision_id": "d-1",
            "is_machine": False,
        }.items()
    )
    assert {e["occurred_at"] for e in rows.values()} == {at.removesuffix("Z")}
