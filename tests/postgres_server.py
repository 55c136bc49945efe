"""A PostgreSQL cluster that lives in a temporary folder, for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2
import pytest

SUPERUSER = "nextmove"
_SERVICE_ACCOUNT = "postgres"
"""Whom the server runs as when the tests run as root, which it refuses."""

_SETTINGS = {
    # Nobody keeps this data, and the sort order is unlike that of bytes: nothing may lean on it.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "listen_addresses": "",
    # Not UTC: what we write must not depend on it.
    "timezone": "America/New_York",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running cluster, reached through the unix socket in `socket_folder`."""

    socket_folder: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def new_database(self, template: str = "template1") -> str:
        """A database of its own for a test, a copy of `template`; its name."""
        name = f"test_{next(self._numbers)}"
        self.run(f"create database {name} template {template}")
        return name

    def run(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement as superuser."""
        db = psycopg2.connect(host=str(self.socket_folder), user=SUPERUSER, dbname=database)
        with contextlib.closing(db), db.cursor() as cursor:
            db.autocommit = True
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []

    def environment(self, database: str) -> dict[str, str]:
        """What a project that works in this database has in its environment."""
        return {
            "NEXTMOVE_POSTGRES_HOST": str(self.socket_folder),
            "NEXTMOVE_POSTGRES_USER": SUPERUSER,
            "NEXTMOVE_POSTGRES_PASSWORD": "unused",
            "NEXTMOVE_POSTGRES_DATABASE": database,
        }


@cache
def binaries() -> Path | None:
    """Where initdb and postgres are; None when they are not installed."""
    on_path = shutil.which("initdb")
    known = [Path(on_path).resolve().parent] if on_path else []
    known += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in known if (p / "initdb").exists() and (p / "postgres").exists()), None)


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A new cluster; stopped and removed at the end. Skips the test when there is no server."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="nextmove-pg-"))
    account: dict[str, Any] = {}
    if os.getuid() == 0:
        account = {"user": _SERVICE_ACCOUNT, "group": _SERVICE_ACCOUNT, "extra_groups": []}
        shutil.chown(folder, _SERVICE_ACCOUNT, _SERVICE_ACCOUNT)
    try:
        with _started(found, folder, account) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _started(found: Path, folder: Path, account: dict[str, Any]) -> Iterator[PostgresServer]:
    data = folder / "data"
    initdb = [str(found / "initdb"), "-D", str(data), "-U", SUPERUSER, "--auth=trust", "--no-sync"]
    initdb += ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **account)
    settings = [word for item in _SETTINGS.items() for word in ("-c", "=".join(item))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(found / "postgres"), "-D", str(data), "-k", str(folder), *settings],
            stdout=log, stderr=log, cwd=folder, **account,
        )  # fmt: skip
        try:
            ready = [str(found / "pg_isready"), "-h", str(folder), "-q", "-t", "1"]
            while subprocess.run(ready, check=False, cwd=folder).returncode:
                assert process.poll() is None, (folder / "log").read_text()
            yield PostgresServer(folder)
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: connections are closed
            process.wait(timeout=30)
