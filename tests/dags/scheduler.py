"""A real Airflow: scheduler, DAG processor and API server as processes, and its REST API."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

PARTS = ("api-server", "scheduler", "dag-processor")
POLICY = """
from datetime import timedelta

def task_policy(task):
    task.retry_delay = timedelta(seconds=4)
"""
"""Airflow's own way to change all tasks: a test has no minutes to wait for another try."""


@dataclass(frozen=True)
class Airflow:
    """A running Airflow; `url` is its API."""

    home: Path
    url: str
    session: requests.Session

    def call(self, method: str, path: str, **body: Any) -> Any:
        """One call of the REST API; the decoded answer."""
        reply = self.session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=60)
        assert reply.ok, reply.text
        return reply.json()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query in its database."""
        with closing(sqlite3.connect(self.home / "airflow.db", timeout=60)) as database:
            return database.execute(sql).fetchall()

    def logs(self) -> str:
        """What all tasks have logged."""
        return "\n".join(p.read_text() for p in (self.home / "logs").rglob("attempt=*.log"))


@contextmanager
def running_airflow(home: Path, environment: Mapping[str, str]) -> Iterator[Airflow]:
    """Start one with a pool of one slot; its DAGs are paused."""
    port = free_port()
    env = {
        **environment,
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
    }
    (home / "config").mkdir(parents=True)
    (home / "config" / "airflow_local_settings.py").write_text(POLICY)
    command = [sys.executable, "-m", "airflow"]
    subprocess.run([*command, "db", "migrate"], env=env, check=True, capture_output=True)
    with ExitStack() as stack:
        for part in PARTS:
            stack.enter_context(process([*command, part], env, home / f"{part}.log"))
        session = stack.enter_context(requests.Session())
        airflow = Airflow(home, f"http://127.0.0.1:{port}", session)
        until(lambda: is_up(airflow), "the API answers")
        token = session.get(f"{airflow.url}/auth/token", timeout=60).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        airflow.call("POST", "pools", name="nextmove", slots=1, include_deferred=False)
        yield airflow


def is_up(airflow: Airflow) -> bool:
    """Whether its API answers."""
    try:
        return airflow.session.get(f"{airflow.url}/api/v2/version", timeout=60).ok
    except requests.ConnectionError:
        return False


def until(is_so: Callable[[], bool], what: str, pause: float = 0.5) -> None:
    """Wait for something that other processes do, at most ten minutes."""
    deadline = time.monotonic() + 600.0
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(pause)


@contextmanager
def process(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[None]:
    """A process that ends with the block."""
    with log.open("w") as output:
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(30)


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child_of(step: str, project: Path) -> int | None:
    """The process that does a step of a project, if there is one."""
    wanted = f"decision_engine.cli\0--progress\0{step}\0--project\0{project}\0".encode()
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in found.read_bytes():
                return int(found.parent.name)
        except OSError:
            continue
    return None


def parent_of(pid: int) -> int:
    """Who started a process."""
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])
