"""An open-loop load of HTTP calls: calls leave when they are due, whatever the answers do.

A closed loop would wait for a slow server and so hide how slow it is. Latency counts from the
moment a call was due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Load:
    """What came of a run; latencies in seconds, CPU of the server process in seconds."""

    calls: int
    failures: int
    seconds: float
    cpu: float
    latency: np.ndarray[tuple[int], np.dtype[np.float64]]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.calls / self.seconds

    @property
    def cpu_micros(self) -> float:
        """Server CPU per call."""
        return self.cpu / max(self.calls, 1) * 1e6

    def milliseconds(self, quantile: float) -> float:
        """A quantile of the latency."""
        return float(np.quantile(self.latency, quantile) * 1e3)


def closed_loop(
    url: str, pid: int, bodies: Callable[[int], bytes], connections: int, seconds: float
) -> Load:
    """As fast as the server goes, with so many calls in flight: saturation."""
    return asyncio.run(_run(url, pid, bodies, connections, seconds, None))


def open_loop(
    url: str,
    pid: int,
    bodies: Callable[[int], bytes],
    connections: int,
    seconds: float,
    rate: float,
    seed: int,
) -> Load:
    """Poisson arrivals at a rate per second."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
    return asyncio.run(_run(url, pid, bodies, connections, seconds, np.cumsum(gaps).tolist()))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def _run(
    url: str,
    pid: int,
    bodies: Callable[[int], bytes],
    connections: int,
    seconds: float,
    due: Sequence[float] | None,
) -> Load:
    state = _State(bodies, due, time.perf_counter() + 0.05, seconds)
    before = cpu_seconds(pid)
    clients = [_client(url, state) for _ in range(connections)]
    await asyncio.gather(*clients)
    took = time.perf_counter() - state.start
    cpu = cpu_seconds(pid) - before
    return Load(len(state.latency), state.failures, took, cpu, np.array(state.latency))


class _State:
    """What the connections share: the next call, and what became of those before."""

    def __init__(
        self,
        bodies: Callable[[int], bytes],
        due: Sequence[float] | None,
        start: float,
        seconds: float,
    ) -> None:
        self.bodies, self.due, self.start, self.seconds = bodies, due, start, seconds
        self.next = 0
        self.latency: list[float] = []
        self.failures = 0

    async def take(self) -> tuple[int, float] | None:
        """The number of a call and when it was due, at that moment or later; None at the end."""
        i, self.next = self.next, self.next + 1
        if self.due is None:
            now = time.perf_counter()
            return (i, now) if now < self.start + self.seconds else None
        if i >= len(self.due):
            return None
        at = self.start + self.due[i]
        wait = at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        return i, at


async def _client(url: str, state: _State) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while (call := await state.take()) is not None:
        i, at = call
        writer.write(state.bodies(i))
        status = await _answer(reader)
        state.latency.append(time.perf_counter() - at)
        state.failures += status != b"200"
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return head.split(b" ", 2)[1]


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """The bytes of one POST over a kept connection."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
