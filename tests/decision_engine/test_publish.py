"""Publishing over HTTP: who may, what is answered, and that it is there afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import generate_latest

from decision_engine.service.publish import MAX_BODY, MAX_ROWS
from tests.hot_service import API_KEY, HotService, hot_service

KEY = {"Authorization": f"Bearer {API_KEY}"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HotService]:
    with hot_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def put(
    service: HotService, path: str, body: Any, headers: dict[str, str] = KEY
) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.put(f"{service.url}/v1/hot_store{path}", data, headers=headers, timeout=10)


def rows(service: HotService, *rows: Any, instance: str | None = None) -> dict[str, Any]:
    return {"instance": instance or service.store.instance, "rows": list(rows)}


def profile(key: str) -> dict[str, Any]:
    return {"key": key, "as_of": 1, "external_id": key, "identifiers": f"user_id:{key}"}


def test_a_greeting_names_the_store_and_notes_as_of_when_it_is_complete(
    service: HotService,
) -> None:
    instance = service.store.instance
    for body in ({}, {"instance": instance}, {"instance": None}):
        reply = put(service, "", body)
        assert (reply.status_code, reply.json()) == (200, {"instance": instance})
    assert put(service, "", {"instance": instance, "as_of": 7}).status_code == 200
    assert service.store.as_of == 7
    assert (
        "nextmove_hot_store_as_of_seconds 7e-06"
        in generate_latest(service.receiver.metrics).decode()
    )


def test_each_row_gets_its_verdict(service: HotService) -> None:
    call = rows(service, profile("u1"), 7, profile("u2"), {"key": "u3"}, ["key"])
    reply = put(service, "/profiles", call)
    assert reply.status_code == 200
    answers = reply.json()["rows"]
    assert [(a["key"], a["status"]) for a in answers] == [
        ("u1", "accepted"),
        (None, "rejected"),
        ("u2", "accepted"),
        ("u3", "rejected"),
        (None, "rejected"),
    ]
    assert all(a["reason"] for a in answers if a["status"] == "rejected")
    assert service.store.customer_of(["user_id:u2"]) == "u2"


def test_rows_can_be_deleted(service: HotService) -> None:
    put(service, "/profiles", rows(service, profile("u4")))
    gone = put(service, "/profiles", rows(service, {"key": "u4", "deleted": True}))
    assert gone.json()["rows"] == [{"key": "u4", "status": "accepted"}]
    assert service.store.get_profile("u4") is None


@pytest.mark.parametrize("path", ["", "/profiles", "/policies"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {API_KEY}x"},
        {"Authorization": API_KEY},
        {"Authorization": f"Basic {API_KEY}"},
        {"Authorization": "Bearer \xff"},
    ],
)
def test_only_who_has_the_key_may_publish(
    service: HotService, path: str, headers: dict[str, str]
) -> None:
    body = rows(service, profile("u5")) if path else {"as_of": 99}
    reply = put(service, path, body, headers)
    assert (reply.status_code, reply.json()) == (401, {"error": "unauthorized"})
    assert service.store.get_profile("u5") is None
    assert service.store.as_of != 99


@pytest.mark.parametrize("path", ["", "/profiles", "/policies"])
def test_another_instance_is_a_conflict_and_changes_nothing(service: HotService, path: str) -> None:
    body = rows(service, profile("u6"), instance="other") if path else {"instance": "other"}
    reply = put(service, path, body)
    assert reply.status_code == 409
    assert "another store" in reply.json()["error"]
    assert service.store.get_profile("u6") is None


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("", b"", 400, "not understood"),
        ("", {"as_of": "yesterday"}, 400, "Expected `int"),
        ("", {"as_of": 4_102_444_800_000_000}, 400, "`as_of` is in the future"),
        ("", {"rows": []}, 400, "unknown field `rows`"),
        ("/profiles", {"rows": []}, 400, "missing required field `instance`"),
        ("/profiles", {"instance": "x", "rows": {}}, 400, "Expected `array`"),
        ("/profiles", b"[" * 100_000, 400, "not understood"),
        ("/profiles", {"instance": "x", "rows": [{}] * (MAX_ROWS + 1)}, 400, "at most 500"),
        ("/people", {"instance": "x", "rows": []}, 404, "there are profiles and policies"),
    ],
)
def test_what_is_not_understood(
    service: HotService, path: str, body: Any, status: int, error: str
) -> None:
    before = service.store.as_of
    reply = put(service, path, body)
    assert reply.status_code == status
    assert error in reply.json()["error"]
    assert service.store.as_of == before


def test_a_body_has_a_limit(service: HotService) -> None:
    reply = put(service, "/profiles", b" " * (MAX_BODY + 1))
    assert reply.status_code == 413


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with hot_service(tmp_path) as service:
        service.store._writer.execute("pragma query_only = on")
        reply = put(service, "/profiles", rows(service, profile("u7")))
        assert (reply.status_code, reply.json()) == (
            503,
            {"error": "the hot store cannot be written"},
        )
        service.store._writer.execute("pragma query_only = off")
        assert put(service, "/profiles", rows(service, profile("u7"))).status_code == 200
