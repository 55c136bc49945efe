"""What the outside may try on webhooks, addresses, headers and the warehouse."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from connectors import framed
from connectors.base import Record, Request
from connectors.destinations.webhook import Webhook
from connectors.errors import ConfigurationError, RefusedRecordError
from connectors.framed import FramedLog
from connectors.http import Http
from connectors.inbound import VENDORS
from connectors.warehouses.duckdb import DuckDB
from decision_engine.service.app import Receiver, create_app
from decision_engine.service.webhooks import Webhooks

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two characters").decode()


def posted(folder: Path, body: bytes, headers: dict[str, str]) -> tuple[int, int]:
    """The answer of a receiver to one call, and how many records it has stored."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def call(log: FramedLog) -> None:
        receiver = Receiver(log)
        app = create_app(receiver, [Webhooks(receiver, {"standard": SECRET})])
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/webhooks/standard",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
        await app(scope, receive, send)

    with FramedLog(folder) as log:
        asyncio.run(call(log))
        log.rotate()
    stored = sum(1 for segment in framed.closed_segments(folder) for _ in framed.read(segment))
    return sent[0]["status"], stored


def test_a_signature_is_of_the_bytes_as_they_came(tmp_path: Path) -> None:
    event = {
        "type": "message.click",
        "timestamp": "2026-03-01T09:00:00Z",
        "data": {"external_id": "u1", "channel": "email"},
    }
    body = json.dumps(event, indent=3).encode() + b"\r\n"
    request = Request("POST", "", None, (), {"webhook-id": "w1"})
    headers = {"webhook-id": "w1", **Webhook().sign(request, body, SECRET, int(time.time()))}
    assert posted(tmp_path / "raw", body, headers) == (200, 1)
    assert posted(tmp_path / "again", json.dumps(event).encode(), headers) == (401, 0)


def test_a_signature_by_another_scheme_is_none() -> None:
    call, public_key = VENDORS["sendgrid"].known
    stamp = call.headers["x-twilio-email-event-webhook-timestamp"].encode()
    for key in (public_key.encode(), base64.b64decode(public_key)):
        forged = base64.b64encode(hmac.digest(key, stamp + call.body, hashlib.sha256)).decode()
        name = "x-twilio-email-event-webhook-signature"
        headers = {**call.headers, name: forged}
        assert not VENDORS["sendgrid"].verify(replace(call, headers=headers), public_key)

    call, secret = VENDORS["standard"].known
    signature = call.headers["webhook-signature"]
    for scheme in ("v0", "v1a", "V1", ""):
        headers = {**call.headers, "webhook-signature": signature.replace("v1", scheme, 1)}
        assert not VENDORS["standard"].verify(replace(call, headers=headers), secret)

    call, secret = VENDORS["hubspot"].known
    first = hashlib.sha256(secret.encode() + call.body).hexdigest()
    second = hashlib.sha256(f"{secret}POST{call.url}".encode() + call.body).hexdigest()
    for old in (first, second):
        for version in ("v1", "v2"):
            headers = {"x-hubspot-signature": old, "x-hubspot-signature-version": version}
            assert not VENDORS["hubspot"].verify(replace(call, headers=headers), secret)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254",
        "https://[fe80::1]",
        "https://[::ffff:169.254.169.254]",
        "https://2852039166",
        "https://0xA9FEA9FE",
        "https://0251.0376.0251.0376",
        "https://169.254.43518",
        "https://0.0.0.0",
        "https://[::]",
        "https://224.0.0.1",
        "https://255.255.255.255",
        "http://127.0.0.1.example.com",
        "http://127.1",
        "http://localhost.example.com",
    ],
)
def test_an_address_that_is_no_vendors_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url"):
        Http(url, {})


@pytest.mark.parametrize(
    "url", ["https://rest.iad-01.braze.com", "https://10.0.0.5", "http://[::1]:1"]
)
def test_an_address_that_may_be_one_is_taken(url: str) -> None:
    Http(url, {}).close()


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "a\nb", "a\x00", "a\u2028b", "k\u00e4se"])
def test_a_key_that_would_break_out_of_its_header_is_refused(key: str) -> None:
    with pytest.raises(RefusedRecordError):
        Webhook().build("events", [Record(key, {"external_id": "u1"}, {"type": "x"})])


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "attach '{folder}/other.duckdb'",
        "copy (select 1) to '{folder}/out.csv'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
    ],
)
def test_a_query_reaches_nothing_but_its_database(sql: str, tmp_path: Path) -> None:
    warehouse = DuckDB(tmp_path / "w.duckdb")
    with pytest.raises(duckdb.Error):
        warehouse.rows(sql.replace("{folder}", str(tmp_path)))
    warehouse.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"w.duckdb", "w.duckdb.wal"}
