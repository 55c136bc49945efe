"""Tiny servers on real sockets that answer, or fail to, exactly as told."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Behaviour = Callable[[socket.socket, bytes], bool]
"""Gets a connection and the request read from it; whether to keep the connection."""


def answer(body: bytes = b"{}", status: str = "200 OK", headers: str = "") -> Behaviour:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()

    def behave(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(head + body)
        return True

    return behave


def raw(data: bytes) -> Behaviour:
    """Say this, and hang up."""

    def behave(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(data)
        return False

    return behave


def reset(connection: socket.socket, _: bytes) -> bool:
    """Hang up with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


@contextmanager
def server(*behaviours: Behaviour) -> Iterator[tuple[str, list[bytes]]]:
    """(base URL, requests seen): behaves in turn, and like the last one from then on."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            # The client may hang up in the middle of what we say.
            with connection, suppress(OSError):
                while request := read_request(connection):
                    behaviour = behaviours[min(len(seen), len(behaviours) - 1)]
                    seen.append(request)
                    if not behaviour(connection, request):
                        return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(5)
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join(5)
    for thread in threads:
        thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """One whole request; empty when the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = _receive(connection)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += _receive(connection)
    return head + b"\r\n\r\n" + body


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""
