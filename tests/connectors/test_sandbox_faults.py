"""Limits, faults, and the ledger as the witness of what really happened."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.sandbox.faults import LATENCY_SECONDS, Faults
from connectors.sandbox.ledger import Entry, Ledger
from connectors.sandbox.limits import Limit, Pool
from tests.sandbox_process import (
    BRAZE_KEY,
    HUBSPOT_KEY,
    ITERABLE_KEY,
    Sandbox,
    running_sandbox,
)

BRAZE = {"Authorization": f"Bearer {BRAZE_KEY}"}
ITERABLE = {"Api-Key": ITERABLE_KEY}
HUBSPOT = {"Authorization": f"Bearer {HUBSPOT_KEY}"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    """The shared sandbox, with a ledger that looks empty; each test uses up its faults."""
    return replace(shared, seen=len(shared.ledger()))


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("tight"), "--limit-divisor", "95") as running:
        yield running


def track(sandbox: Sandbox, who: str, timeout: float = 10) -> requests.Response:
    return sandbox.session.post(
        f"{sandbox.url}/braze/users/track",
        json={"attributes": [{"external_id": who, "email": f"{who}@example.com"}]},
        headers=BRAZE,
        timeout=timeout,
    )


def target(sandbox: Sandbox, who: str) -> requests.Response:
    payload = {"campaignId": 1, "recipientUserId": who}
    url = f"{sandbox.url}/iterable/api/email/target"
    return sandbox.session.post(url, json=payload, headers=ITERABLE, timeout=10)


def upsert(sandbox: Sandbox, *emails: str) -> requests.Response:
    inputs = [
        {"id": email, "idProperty": "email", "properties": {}, "objectWriteTraceId": str(i)}
        for i, email in enumerate(emails)
    ]
    url = f"{sandbox.url}/hubspot/crm/v3/objects/contacts/batch/upsert"
    return sandbox.session.post(url, json={"inputs": inputs}, headers=HUBSPOT, timeout=10)


class TestLimits:
    def test_braze(self, tight: Sandbox) -> None:
        before = time.time()
        replies = [track(tight, "u") for _ in range(32)]  # 3,000 / 95 = 31 in 3 s
        assert [r.status_code for r in replies] == [201] * 31 + [429]
        last = replies[-1]
        assert last.headers["X-RateLimit-Limit"] == "31"
        assert last.headers["X-RateLimit-Remaining"] == "0"
        assert 0 <= int(last.headers["X-RateLimit-Reset"]) - before <= 4
        assert len(tight.ledger("braze")) == 31

    def test_iterable_and_its_next_window(self, tight: Sandbox) -> None:
        url = f"{tight.url}/iterable/api/users/bulkUpdate"

        def update() -> requests.Response:
            body = {"users": [{"userId": "u"}]}
            return tight.session.post(url, json=body, headers=ITERABLE, timeout=10)

        assert update().status_code == 200
        refused = update()
        assert refused.status_code == 429
        assert refused.json() == {
            "msg": "Exceeded rate limit for endpoint: /api/users/bulkUpdate, project: 1",
            "code": "RateLimitExceeded",
            "params": {},
        }
        deadline = time.monotonic() + 5
        while update().status_code != 200:
            assert time.monotonic() < deadline
        assert len(tight.ledger("iterable")) == 2

    def test_hubspot(self, tight: Sandbox) -> None:
        replies = [upsert(tight, "a@example.com") for _ in range(3)]  # 190 / 95 = 2 in 10 s
        assert [r.status_code for r in replies] == [200, 200, 429]
        body = replies[-1].json()
        assert body.pop("correlationId")
        assert body == {
            "status": "error",
            "message": "You have reached your ten_secondly_rolling limit.",
            "errorType": "RATE_LIMIT",
            "policyName": "TEN_SECONDLY_ROLLING",
        }
        assert replies[1].headers["X-HubSpot-RateLimit-Max"] == "2"
        assert replies[1].headers["X-HubSpot-RateLimit-Remaining"] == "0"
        assert replies[1].headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
        assert replies[1].headers["X-HubSpot-RateLimit-Daily-Remaining"] == str(625_000 // 95 - 2)

    def test_a_fixed_window_forgets_at_its_end(self) -> None:
        now = 100.0
        pool = Pool([Limit("x", 2, 10)], clock=lambda: now)
        allowed = []
        for moment in (100.0, 105.0, 109.9, 110.0):
            now = moment
            allowed.append(pool.take()[0].is_allowed)
        assert allowed == [True, True, False, True]

    def test_a_rolling_window_looks_back(self) -> None:
        now = 0.0
        pool = Pool([Limit("x", 2, 10, is_rolling=True)], clock=lambda: now)
        seen = []
        for moment in (100.0, 105.0, 109.9, 110.0, 114.0):
            now = moment
            usage = pool.take()[0]
            seen.append((usage.is_allowed, round(usage.resets_in, 1)))
        assert seen == [(True, 10.0), (True, 5.0), (False, 0.1), (True, 5.0), (False, 1.0)]

    def test_a_full_window_spends_nothing_in_the_others(self) -> None:
        pool = Pool([Limit("short", 1, 1), Limit("long", 10, 100)], clock=lambda: 0.0)
        pool.take()
        for _ in range(5):
            short, long = pool.take()
        assert (short.is_allowed, long.remaining) == (False, 9)


class TestFaults:
    def test_reset_after_accept_takes_effect_and_answers_nothing(self, sandbox: Sandbox) -> None:
        sandbox.control("faults", vendor="braze", kind="reset_after_accept", count=1)
        with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
            track(sandbox, "u-1")
        assert [e["external_id"] for e in sandbox.ledger()] == ["u-1"]
        assert track(sandbox, "u-2").status_code == 201

    def test_reset_before_accept_has_no_effect(self, sandbox: Sandbox) -> None:
        sandbox.control("faults", vendor="braze", kind="reset_before_accept", count=1)
        with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
            track(sandbox, "u")
        assert sandbox.ledger() == []

    def test_timeout_after_accept_takes_effect_and_never_answers(self, sandbox: Sandbox) -> None:
        sandbox.control("faults", vendor="braze", kind="timeout_after_accept", count=1)
        with pytest.raises(requests.ReadTimeout):
            track(sandbox, "u", timeout=0.2)
        assert len(sandbox.ledger()) == 1

    def test_a_late_answer_and_half_of_one_take_effect(self, sandbox: Sandbox) -> None:
        for kind in ("latency", "truncated"):
            sandbox.control("faults", vendor="braze", kind=kind, count=1)
        began = time.monotonic()
        late = track(sandbox, "u-1")
        assert time.monotonic() - began >= LATENCY_SECONDS
        half = track(sandbox, "u-2")
        assert half.status_code == late.status_code == 201
        assert half.content == late.content[: len(late.content) // 2]
        assert [e["external_id"] for e in sandbox.ledger()] == ["u-1", "u-2"]

    @pytest.mark.parametrize(
        ("kind", "status", "text"),
        [
            ("error_500", 500, '{"message":"Internal Server Error"}'),
            ("rate_limit", 429, '{"message":"Rate limit exceeded"}'),
            ("html_200", 200, "<!DOCTYPE html><html><body><h1>Welcome</h1></body></html>"),
        ],
    )
    def test_answers_without_effect(
        self, sandbox: Sandbox, kind: str, status: int, text: str
    ) -> None:
        sandbox.control("faults", vendor="braze", kind=kind, count=2)
        replies = [track(sandbox, "u") for _ in range(3)]
        assert [r.status_code for r in replies] == [status, status, 201]
        assert replies[0].text == text
        assert len(sandbox.ledger()) == 1

    def test_reject_strikes_records_in_the_vendors_own_style(self, sandbox: Sandbox) -> None:
        for vendor in ("braze", "iterable", "hubspot"):
            sandbox.control("faults", vendor=vendor, kind="reject", count=1)
        rows = [{"external_id": "a"}, {"external_id": "b"}]
        url = f"{sandbox.url}/braze/users/track"
        braze = sandbox.session.post(url, json={"attributes": rows}, headers=BRAZE, timeout=10)
        assert (braze.status_code, [e["index"] for e in braze.json()["errors"]]) == (201, [0])
        assert target(sandbox, "u").status_code == 400
        hubspot = upsert(sandbox, "a@example.com", "b@example.com")
        assert hubspot.status_code == 207
        assert hubspot.json()["errors"][0]["context"] == {"objectWriteTraceId": ["0"]}
        assert [e["external_id"] for e in sandbox.ledger()] == ["b", "b@example.com"]

    def test_a_share_is_the_same_for_the_same_seed(self) -> None:
        def drawn(seed: int) -> list[str | None]:
            faults = Faults(seed)
            faults.put("braze", "error_500", share=0.3)
            return [faults.draw("braze") for _ in range(1000)]

        assert drawn(1) == drawn(1) != drawn(2)
        assert 250 < drawn(1).count("error_500") < 350

    def test_zero_removes_a_fault(self, sandbox: Sandbox) -> None:
        sandbox.control("faults", vendor="braze", kind="error_500", share=1.0)
        assert track(sandbox, "u").status_code == 500
        sandbox.control("faults", vendor="braze", kind="error_500", share=0.0)
        assert track(sandbox, "u").status_code == 201

    @pytest.mark.parametrize(
        "body",
        [
            {"vendor": "braze", "kind": "unheard_of", "count": 1},
            {"vendor": "nobody", "kind": "reject", "count": 1},
            {"vendor": "braze", "kind": "reject", "share": 2},
            {"vendor": "braze", "kind": "reject", "often": True},
        ],
    )
    def test_a_fault_that_makes_no_sense_is_a_400(
        self, sandbox: Sandbox, body: dict[str, Any]
    ) -> None:
        reply = sandbox.session.post(f"{sandbox.url}/_sandbox/faults", json=body, timeout=10)
        assert reply.status_code == 400


class TestLedger:
    def test_every_answered_effect_is_in_the_file_after_a_kill(self, tmp_path: Path) -> None:
        with running_sandbox(tmp_path) as sandbox:
            for i in range(20):
                assert track(sandbox, f"u-{i}").status_code == 201
            sandbox.process.send_signal(signal.SIGKILL)
            sandbox.process.wait(timeout=10)
        lines = (sandbox.directory / "ledger.jsonl").read_text().splitlines()
        assert [json.loads(line)["external_id"] for line in lines] == [f"u-{i}" for i in range(20)]

    def test_a_restart_goes_on(self, tmp_path: Path) -> None:
        for who in ("u-1", "u-2"):
            with running_sandbox(tmp_path) as sandbox:
                url = f"{sandbox.url}/iterable/api/users/bulkUpdate"
                user = {"userId": who, "email": f"{who}@example.com"}
                sandbox.session.post(url, json={"users": [user]}, headers=ITERABLE, timeout=10)
            assert sandbox.process.returncode == 0
        with running_sandbox(tmp_path) as sandbox:
            target(sandbox, "u-1")
            entries = sandbox.ledger()
        assert [e["n"] for e in entries] == [1, 2, 3]
        assert entries[2].items() >= {"kind": "message", "email": "u-1@example.com"}.items()

    def test_a_torn_last_line_is_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger.jsonl"
        ledger = Ledger(path)
        ledger.add(Entry(vendor="braze", kind="event", external_id="u"))
        ledger.close()
        path.write_bytes(path.read_bytes() + b'{"n":2,"vend')
        ledger = Ledger(path)
        ledger.add(Entry(vendor="braze", kind="event", external_id="v"))
        ledger.close()
        assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2]

    def test_reading_on_from_a_number(self, sandbox: Sandbox) -> None:
        for i in range(3):
            track(sandbox, f"u-{i}")
        query = {"after": str(sandbox.seen + 2), "vendor": "braze"}
        url = f"{sandbox.url}/_sandbox/ledger"
        reply = sandbox.session.get(url, params=query, timeout=10).json()
        assert reply["next"] == sandbox.seen + 3
        assert [e["external_id"] for e in reply["entries"]] == ["u-2"]
