"""What is surely not sent, and what nobody knows: on real sockets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from connectors.base import Request
from connectors.calls import connected
from connectors.destinations import DESTINATIONS
from connectors.errors import ConfigurationError, NotSentError, UnknownOutcomeError
from connectors.http import IDLE_SECONDS, MAX_BODY, Http
from tests.connectors.sockets import Behaviour, answer, raw, reset, server

KEY = "canary-key-5up3r"
REQUEST = Request("POST", "/users/track", {"n": 1}, (), {"X-Extra": "yes"})


def http(url: str, timeout: float = 5.0, **options: float) -> Http:
    return Http(url, {"Authorization": f"Bearer {KEY}"}, KEY, read_timeout=timeout, **options)  # type: ignore[arg-type]


def test_a_reply_comes_back_with_lower_case_headers() -> None:
    body = b'{"ok":true}'
    with (
        server(answer(body, "201 Created", "X-RateLimit-Remaining: 5\r\n")) as (url, seen),
        http(url + "/base/") as client,
    ):
        reply = client.post(REQUEST)
    assert (reply.status, reply.body) == (201, body)
    assert reply.headers["x-ratelimit-remaining"] == "5"
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    assert sent == b'{"n":1}'
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /base/users/track http/1.1"
    assert {
        "x-extra: yes",
        f"authorization: bearer {KEY}",
        "content-type: application/json",
    } <= set(lines)


def test_connection_refused_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with http(url) as client, pytest.raises(NotSentError, match="connection refused"):
        client.post(REQUEST)


def test_an_unknown_host_is_not_sent() -> None:
    with (
        http("https://no-such-host.invalid") as client,
        pytest.raises(NotSentError, match="host name"),
    ):
        client.post(REQUEST)


def test_a_server_that_is_no_tls_server_gets_no_request() -> None:
    with (
        server(raw(b"")) as (url, seen),
        http(url.replace("http:", "https:"), 0.3, connect_timeout=0.3) as client,
        pytest.raises((NotSentError, UnknownOutcomeError)),
    ):
        client.post(REQUEST)
    assert not any(b"canary" in request for request in seen)


def silent(connection: socket.socket, _: bytes) -> bool:
    connection.recv(1)
    return False


@pytest.mark.parametrize(
    "behaviour",
    [
        silent,
        reset,
        raw(b""),
        raw(b"HTTP/1.1 20"),
        raw(b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
        raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
        answer(bytes(2 * MAX_BODY)),
    ],
)
def test_no_whole_reply_is_unknown_and_not_tried_again(behaviour: Behaviour) -> None:
    with (
        server(behaviour, answer()) as (url, seen),
        http(url, 0.3) as client,
        pytest.raises(UnknownOutcomeError) as caught,
    ):
        client.post(REQUEST)
    assert len(seen) == 1
    assert KEY not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_a_status_line_without_a_body_is_a_reply_without_evidence() -> None:
    with server(raw(b"HTTP/1.1 201 Crea")) as (url, _), http(url) as client:
        assert client.post(REQUEST).body == b""


def test_a_dropped_keep_alive_connection_is_unknown_and_not_tried_again() -> None:
    with server(answer(), reset, answer()) as (url, seen), http(url) as client:
        client.post(REQUEST)
        with pytest.raises(UnknownOutcomeError):
            client.post(REQUEST)
        client.post(REQUEST)
    assert len(seen) == 3


def test_a_connection_is_used_again_only_while_it_is_fresh() -> None:
    ports: list[int] = []
    reply = answer()

    def note(connection: socket.socket, request: bytes) -> bool:
        ports.append(connection.getpeername()[1])
        return reply(connection, request)

    now = [0.0]
    with server(note) as (url, _), Http(url, {}, clock=lambda: now[0]) as client:
        for pause in (0.0, IDLE_SECONDS / 2, IDLE_SECONDS):
            now[0] += pause
            client.post(REQUEST)
    assert ports[0] == ports[1] != ports[2]


def test_redirects_are_not_followed() -> None:
    with server(answer()) as (elsewhere, reached):
        location = f"Location: {elsewhere}/steal\r\n"
        with server(answer(b"", "307 Moved", location)) as (url, _), http(url) as client:
            assert client.post(REQUEST).status == 307
    assert not reached


def test_the_key_is_blotted_out_of_replies() -> None:
    body = f'{{"message":"bad key {KEY}"}}'.encode()
    with server(answer(body, "401 No")) as (url, _), http(url) as client:
        assert client.post(REQUEST).body == b'{"message":"bad key ***"}'
        assert KEY not in repr(client)


def test_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with server(answer()) as (url, seen), http(url) as client:
        client.post(REQUEST)
    assert f"Bearer {KEY}".encode() in seen[0]


@pytest.mark.parametrize(
    "url",
    [
        "rest.braze.com",
        "ftp://rest.braze.com",
        "http://rest.braze.com",
        "https://user:pw@rest.braze.com",
        "https://rest.braze.com/?x=1",
        "https://",
        "file:///etc/passwd",
    ],
)
def test_urls_that_would_leak_the_key_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url") as caught:
        http(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("key", ["abc\n", " abc", "ab\r\nX-Evil: 1", "käse"])
def test_keys_that_cannot_be_a_header_are_refused_without_being_shown(key: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="Api-Key") as caught,
        connected(DESTINATIONS["iterable"], "https://api.iterable.com", key),
    ):
        pass
    assert key.strip() not in str(caught.value)


def test_no_key_is_a_configuration_error() -> None:
    with (
        pytest.raises(ConfigurationError, match="braze has no key"),
        connected(DESTINATIONS["braze"], "https://rest.iad-01.braze.com", ""),
    ):
        pass
