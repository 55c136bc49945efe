"""The tracking API on a real socket, as Segment's libraries and browsers call it."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from segment.analytics.client import Client

from connectors import framed
from connectors.errors import ConfigurationError
from connectors.framed import FramedLog
from decision_engine.service.app import Receiver
from decision_engine.service.ingest import Ingest
from decision_engine.service.records import Event, records
from decision_engine.service.tracking import MAX_CALL, MAX_ITEM
from tests.sandbox_process import running_server

squeezed = partial(gzip.compress, mtime=0)
"""Without the time in it: these bodies name tests, which must be called the same everywhere."""

KEY = "write-key"
ITEM = {"userId": "u", "event": "Feature Used", "messageId": "m"}


@dataclass
class Service:
    url: str
    log: Path

    def post(
        self,
        path: str,
        body: Any,
        auth: tuple[str, str] | None = (KEY, ""),
        **headers: str,
    ) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/v1/{path}"
        return requests.post(url, data=data, auth=auth, headers=names, timeout=10)

    def stored(self) -> list[Event]:
        frames = (p for s in framed.segments(self.log) for p in framed.read(s))
        return [e for payload in frames for e in records(payload, Event)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("ingest") / "log"
    arguments = ["--port", "0", "--log", str(log)]
    env = {"NEXTMOVE_WRITE_KEY": KEY}
    with running_server("decision_engine.service", arguments, env) as (url, _):
        yield Service(url, log)


@pytest.fixture
def new(service: Service) -> Any:
    """What was stored since the test began."""
    before = len(service.stored())
    return lambda: service.stored()[before:]


class TestAnswers:
    @pytest.mark.parametrize("kind", ["track", "identify", "page", "screen", "alias", "t", "p"])
    def test_a_200_means_it_is_in_the_log(self, service: Service, new: Any, kind: str) -> None:
        reply = service.post(kind, {**ITEM, "previousId": "a"})
        assert (reply.status_code, reply.json()) == (200, {"success": True})
        assert [e.message_id for e in new()] == ["m"]
        assert reply.headers["Access-Control-Allow-Origin"] == "*"

    def test_group_is_counted_and_not_stored(self, service: Service, new: Any) -> None:
        reply = service.post("g", {"userId": "u", "groupId": "g"})
        assert (reply.status_code, reply.json()) == (200, {"success": True})
        assert new() == []

    def test_the_good_items_of_a_batch_are_stored_and_the_others_named(
        self, service: Service, new: Any
    ) -> None:
        items = [{**ITEM, "type": "track"}, {"type": "track", "event": "e"}, 5]
        reply = service.post("batch", {"batch": items})
        assert reply.status_code == 200
        refused = reply.json().pop("refused")
        assert [(r["item"], r["code"]) for r in refused] == [(1, "nobody"), (2, "shape")]
        assert len(new()) == 1

    def test_nothing_to_take(self, service: Service, new: Any) -> None:
        reply = service.post("track", {"userId": "u"})
        assert (reply.status_code, reply.json()["code"]) == (400, "event")
        assert reply.json()["message"] == "`event` is missing"
        assert service.post("b", {"batch": []}).json() == {"success": True}
        assert new() == []

    def test_what_was_left_out_is_said(self, service: Service) -> None:
        stamp = "2999-01-01T00:00:00Z"
        reply = service.post("batch", {"batch": [{**ITEM, "type": "page", "timestamp": stamp}]})
        told = "in the future: taken as the time of receipt"
        assert reply.json() == {"success": True, "notes": [{"item": 0, "timestamp": told}]}

    @pytest.mark.parametrize("size", [MAX_ITEM + 1, MAX_CALL + 1])
    def test_too_large(self, service: Service, new: Any, size: int) -> None:
        body = json.dumps(ITEM).encode().ljust(size)
        reply = service.post("track", body)
        assert (reply.status_code, reply.json()["code"]) == (413, "size")
        assert new() == []

    def test_a_full_batch(self, service: Service, new: Any) -> None:
        items = [{**ITEM, "messageId": f"m{i}", "type": "track"} for i in range(100)]
        body = json.dumps({"batch": items}).encode().ljust(MAX_CALL)
        assert service.post("batch", body).status_code == 200
        assert len(new()) == 100


class TestKey:
    @pytest.mark.parametrize("auth", [None, ("", ""), ("other", ""), (KEY + "x", ""), ("", KEY)])
    def test_wrong(self, service: Service, new: Any, auth: tuple[str, str] | None) -> None:
        reply = service.post("track", ITEM, auth=auth)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
        assert new() == []

    @pytest.mark.parametrize("header", ["Basic %%%", "Basic é".encode("latin1").decode("latin1")])
    def test_garbage(self, service: Service, header: str) -> None:
        assert service.post("track", ITEM, None, Authorization=header).status_code == 401

    def test_in_the_body_as_a_browser_beacon_sends_it(self, service: Service, new: Any) -> None:
        body = {**ITEM, "writeKey": KEY}
        reply = service.post("t", body, None, Content_Type="text/plain;charset=UTF-8")
        assert reply.status_code == 200
        assert len(new()) == 1

    def test_beside_a_bearer_token(self, service: Service) -> None:
        body = {**ITEM, "writeKey": KEY}
        assert service.post("t", body, None, Authorization="Bearer x").status_code == 200

    def test_without_a_colon(self, service: Service) -> None:
        header = "Basic " + base64.b64encode(KEY.encode()).decode()
        assert service.post("t", ITEM, None, Authorization=header).status_code == 200

    def test_the_header_goes_first(self, service: Service) -> None:
        assert service.post("t", {**ITEM, "writeKey": KEY}, ("other", "")).status_code == 401

    def test_an_empty_key_opens_nothing(self, tmp_path: Path) -> None:
        with FramedLog(tmp_path) as log, pytest.raises(ConfigurationError, match="write key"):
            Ingest(Receiver(log), "")


class TestEncoding:
    def test_gzip(self, service: Service, new: Any) -> None:
        body = squeezed(json.dumps(ITEM).encode())
        assert service.post("track", body, Content_Encoding="gzip").status_code == 200
        assert len(new()) == 1

    @pytest.mark.parametrize(
        ("body", "encoding", "status"),
        [
            (squeezed(b" " * (64 << 20)), "gzip", 413),
            (squeezed(squeezed(json.dumps(ITEM).encode())), "gzip", 400),
            (squeezed(json.dumps(ITEM).encode())[:-4], "gzip", 400),
            (squeezed(json.dumps(ITEM).encode()) + b"more", "gzip", 400),
            (json.dumps(ITEM).encode(), "gzip", 400),
            (zlib.compress(json.dumps(ITEM).encode()), "gzip", 400),
            (json.dumps(ITEM).encode(), "br", 415),
            (json.dumps(ITEM).encode(), "gzip, gzip", 415),
        ],
    )
    def test_bombs_and_garbage(
        self, service: Service, new: Any, body: bytes, encoding: str, status: int
    ) -> None:
        reply = service.post("track", body, Content_Encoding=encoding)
        assert reply.status_code == status
        assert new() == []


def test_browsers_may_call_from_anywhere(service: Service) -> None:
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    reply = requests.options(f"{service.url}/v1/t", headers=headers, timeout=10)
    assert reply.status_code == 204
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    assert "Content-Type" in reply.headers["Access-Control-Allow-Headers"]
    assert requests.get(f"{service.url}/v1/t", timeout=10).status_code == 405
    refused = requests.post(f"{service.url}/v1/t", data=b"{", timeout=10)
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


def test_where_libraries_are_told_to_send(service: Service) -> None:
    reply = requests.get(f"{service.url}/v1/projects/{KEY}/settings", timeout=10)
    host = service.url.removeprefix("http://")
    here = {"apiKey": KEY, "apiHost": f"{host}/v1", "protocol": "http"}
    assert reply.json() == {"integrations": {"Segment.io": here}}
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    other = requests.get(f"{service.url}/v1/projects/other/settings", timeout=10)
    assert other.status_code == 404


@pytest.mark.parametrize("compressed", [False, True])
def test_segments_own_library(service: Service, new: Any, compressed: bool) -> None:
    failed: list[Any] = []
    client = Client(
        KEY,
        host=service.url,
        gzip=compressed,
        upload_interval=0.01,
        on_error=lambda error, _: failed.append(error),
    )
    client.identify("u-1", {"email": "Ann@X.example"})
    client.track("u-1", "Feature Used", {"feature": "export", "at": datetime(2026, 3, 2)})
    client.page("u-1", "Docs", "Pricing", {"path": "/pricing"})
    client.screen(user_id="u-1", name="Cart")
    client.alias("anon-1", "u-1")
    client.group("u-1", "acme")
    client.flush()
    client.shutdown()

    assert failed == []
    assert [(e.type, e.user_id, e.event or e.page_path or e.email) for e in new()] == [
        ("identify", "u-1", "ann@x.example"),
        ("track", "u-1", "Feature Used"),
        ("page", "u-1", "/pricing"),
        ("screen", "u-1", "Cart"),
        ("identify", "u-1", None),
    ]
    assert len({e.message_id for e in new()}) == 5


def test_segments_own_library_hears_of_a_wrong_key(service: Service) -> None:
    failed: list[Any] = []
    client = Client("other", host=service.url, sync_mode=False, on_error=lambda e, _: heard(e))

    def heard(error: Any) -> None:
        failed.append((error.status, error.code, error.message))

    client.track("u", "e")
    client.flush()
    client.shutdown()
    assert failed == [(401, "unauthorized", "the write key is missing or wrong")]


def test_metrics(service: Service) -> None:
    before = sample(service)
    service.post("batch", {"batch": [{**ITEM, "type": "track"}, {"type": "page"}]})
    service.post("group", {"userId": "u"})
    service.post("track", ITEM, None)
    after = sample(service)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: n for name, n in grown.items() if n and name.startswith("nextmove_tr")} == {
        'nextmove_tracking_calls_total{kind="batch",status="200"}': 1,
        'nextmove_tracking_calls_total{kind="group",status="200"}': 1,
        'nextmove_tracking_calls_total{kind="track",status="401"}': 1,
        'nextmove_tracking_events_total{type="track"}': 1,
        'nextmove_tracking_refused_total{reason="nobody"}': 1,
        'nextmove_tracking_refused_total{reason="unauthorized"}': 1,
        "nextmove_tracking_ignored_total": 1,
    }


def sample(service: Service) -> dict[str, float]:
    text = requests.get(f"{service.url}/metrics", timeout=10).text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_ready(service: Service) -> None:
    reply = requests.get(f"{service.url}/ready", timeout=10)
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
