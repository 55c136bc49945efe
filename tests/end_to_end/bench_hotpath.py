"""make bench-hotpath: decisions per second of the service, beside the bare HTTP floor.

The server runs on one core and the load on the other. Each decision is among 100 actions with 32
features, durable before it is answered. First the server is saturated (64 calls in flight), then
calls arrive at half of that rate whatever the answers do (open loop, Poisson), and latency counts
from the moment a call was due. The floor is the same framework and server with a fixed answer of
the same size. All of it in one run, because machines differ and are shared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import secrets
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import requests
import yaml

from connectors import framed
from decision_engine.agent_in_epoch import initial_state
from decision_engine.scaffold import init
from decision_engine.service.definitions import profile_types
from decision_engine.service.live import micros_of
from decision_engine.service.records import Decision, records
from decision_engine.state import PolicyState, Sums, save
from decision_engine.workspace import Workspace
from tests.end_to_end.load_generator import Load, closed_loop, open_loop, post

PEOPLE = 10_000
CREATIVES, FEATURES = 33, 32
INCENTIVES = ["none", "ten_percent", "free_shipping"]
NUMBERS = ("integer", "bigint", "double precision")
KEYS = ("NEXTMOVE_API_KEY", "NEXTMOVE_WRITE_KEY", "BRAZE_WEBHOOK_KEY", "ITERABLE_WEBHOOK_KEY")
CONNECTIONS, OPEN_CONNECTIONS = 64, 256
SERVER_CORE, LOAD_CORE = 0, 1


def make_project(folder: Path) -> Workspace:
    """One agent of 100 actions and 32 features, and the guardrails of a new project."""
    init(folder, "bench", salt=secrets.token_hex(16))
    for file in (*(folder / "agents").iterdir(), *(folder / "creatives").iterdir()):
        file.unlink()
    config = yaml.safe_load((folder / "nextmove.yml").read_text())
    config["groups"] = [{"name": "treatment", "share": 1.0}]
    config["service"] = {}
    (folder / "nextmove.yml").write_text(yaml.safe_dump(config))
    creatives = [
        {
            "creative": f"idea_{i}",
            "channel": ("email", "push", "sms")[i % 3],
            "campaign_id": str(i),
            "subject": f"Idea {i}",
        }
        for i in range(CREATIVES)
    ]
    numbers = [n for n, kind in profile_types().items() if kind in NUMBERS][:FEATURES]
    agent = {
        "agent": "bench",
        "goal": "Decide quickly.",
        "audience": "has_email AND orders_count >= 0",
        "outcomes": [{"event": "order", "weight": 1.0, "window": "72h"}],
        "triggers": [{"on": "type = 'track' AND event = 'Never'"}],
        "context": [{"column": name} for name in numbers],
        "actions": [{"creative": c["creative"], "incentives": INCENTIVES} for c in creatives],
    }
    (folder / "creatives" / "all.yml").write_text(yaml.safe_dump(creatives))
    (folder / "agents" / "bench.yml").write_text(yaml.safe_dump(agent))
    return Workspace.open(folder)


def learned(state: PolicyState) -> PolicyState:
    """A state that has seen a few thousand rewards."""
    rng = np.random.default_rng(1)
    k, d = len(state.actions), len(state.features)
    z = np.concatenate([np.ones((k, 200, 1)), rng.normal(1, 1, (k, 200, d))], axis=2)
    reward = rng.normal(0.1, 0.3, (k, 200))
    sums = Sums(
        count=np.full(k, 200.0),
        square=(reward**2).sum(axis=1),
        gram=np.einsum("kni,knj->kij", z, z),
        moment=np.einsum("kn,kni->ki", reward, z),
    )
    return replace(state, closed=sums)


def people(now: datetime) -> Iterator[dict[str, Any]]:
    """Profiles with every column of the contract."""
    rng = np.random.default_rng(2)
    for i in range(PEOPLE):
        row: dict[str, Any] = {}
        for name, kind in profile_types().items():
            if kind == "boolean":
                row[name] = not name.startswith(("is_", "has_open"))
            elif kind in ("integer", "bigint"):
                row[name] = 0 if "sends_" in name else int(rng.integers(0, 9))
            elif kind == "double precision":
                row[name] = float(rng.random())
            else:
                row[name] = None
        row |= {"key": f"c_{i:032x}", "identifiers": f"user_id:u{i}", "external_id": f"u{i}"}
        row |= {
            "as_of": micros_of(now),
            "turn_offset": 0,
            "time_zone": "UTC",
            "recent_events": None,
        }
        del row["customer_id"]
        yield row


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


@contextmanager
def server(*command: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """A process of ours on the server's core, ready to answer."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(env or {})},
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )
    assert process.stdout is not None
    try:
        yield Server(json.loads(process.stdout.readline())["url"], process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def publish(url: str, workspace: Workspace, key: str) -> None:
    """What a delivery would do."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"

    def put(path: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = session.put(f"{url}/v1/hot_store{path}", json=body, timeout=60)
        reply.raise_for_status()
        answer: dict[str, Any] = reply.json()
        return answer

    instance = put("", {})["instance"]
    state = learned(initial_state(workspace.agents["bench"], workspace.catalog("bench")))
    text = b64encode(save(state)).decode()
    policy = {"key": "bench", "version": state.version, "state": text}
    verdicts = put("/policies", {"instance": instance, "rows": [policy]})["rows"]
    rows = list(people(datetime.now(UTC)))
    for start in range(0, len(rows), 500):
        answer = put("/profiles", {"instance": instance, "rows": rows[start : start + 500]})
        verdicts += answer["rows"]
    refused = [v for v in verdicts if v["status"] != "accepted"]
    if refused:
        sys.exit(f"not published: {refused[0]}")


HEAD = f"{'':28}{'calls/s':>9}{'CPU us':>8}{'p50 ms':>8}{'p99 ms':>8}{'p99.9':>8}{'failed':>8}"


def told(what: str, load: Load) -> None:
    """One line of the table."""
    quantiles = "".join(f"{load.milliseconds(q):8.2f}" for q in (0.5, 0.99, 0.999))
    print(
        f"{what:28}{load.rate:9,.0f}{load.cpu_micros:8.0f}{quantiles}{load.failures:8}", flush=True
    )


def measure(
    name: str, at: Server, bodies: Callable[[int], bytes], seconds: float
) -> tuple[Load, Load]:
    """Saturation, then half of it."""
    closed_loop(at.url, at.pid, bodies, CONNECTIONS, 1.0)  # warm up
    full = closed_loop(at.url, at.pid, bodies, CONNECTIONS, seconds)
    told(f"{name}, saturated", full)
    half = open_loop(at.url, at.pid, bodies, OPEN_CONNECTIONS, seconds, full.rate / 2, seed=3)
    told(f"{name}, half of that", half)
    return full, half


def decisions_in(log: Path) -> int:
    """Durable decisions."""
    return sum(
        1
        for segment in framed.segments(log)
        for _, payload in framed.frames(segment)
        for _ in records(payload, Decision)
    )


def main() -> None:
    """Measure and print; exit 1 when a decision is missing from the log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    os.sched_setaffinity(0, {LOAD_CORE})
    gc.disable()  # a pause of the generator is none of the server
    key, run = secrets.token_hex(16), secrets.token_hex(4)
    head = f"Authorization: Bearer {key}\r\n"
    counter = iter(range(1 << 60))
    rng = np.random.default_rng(4)
    who = rng.integers(0, PEOPLE, 1 << 16).tolist()

    def ask(i: int) -> bytes:
        body = {"user_id": f"u{who[i % len(who)]}", "agent": "bench", "id": f"{run}{next(counter)}"}
        return post("/v1/decide", msgspec.json.encode(body), head)

    def track(i: int) -> bytes:
        body = {
            "type": "page", "userId": f"u{who[i % len(who)]}", "messageId": f"{run}{next(counter)}",
            "properties": {"path": "/pricing", "page_class": "price"}, "writeKey": key,
        }  # fmt: skip
        return post("/v1/page", msgspec.json.encode(body))

    print(HEAD)
    with server("tests.end_to_end.bench_floor") as floor:
        floor_full, _ = measure("bare HTTP", floor, ask, seconds)
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_project(Path(folder) / "bench")
        env = {
            "NEXTMOVE_API_KEY": key,
            "NEXTMOVE_WRITE_KEY": key,
            "BRAZE_WEBHOOK_KEY": key,
            "ITERABLE_WEBHOOK_KEY": key,
        }
        project = ("decision_engine.cli", "serve", "--project", str(workspace.root), "--port", "0")
        with server(*project, env=env) as service:
            publish(service.url, workspace, key)
            first = requests.post(
                f"{service.url}/v1/decide",
                json={"user_id": "u1", "agent": "bench"},
                headers={"Authorization": f"Bearer {key}"},
                timeout=10,
            ).json()
            print(f"(one of the answers: {first['action']} of {len(workspace.catalog('bench'))})")
            before = next(counter)
            full, _ = measure("decide, k=100, durable", service, ask, seconds)
            asked = next(counter) - before - 1
            measure("track one page", service, track, seconds / 2)
        durable = decisions_in(workspace.inbound_log)
    print(f"decide costs {full.cpu_micros / floor_full.cpu_micros:.1f}x the floor's CPU")
    print(f"{asked:,} asked for, {durable:,} decisions in the log")
    if durable < asked:
        sys.exit("decisions are missing")


if __name__ == "__main__":
    main()
