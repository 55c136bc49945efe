"""fakesnow, an emulator of Snowflake, as a server of its own. It is not Snowflake."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

from connectors.warehouses import snowflake as ours

NO_TIME = datetime(1970, 1, 1)
"""What comes back for a time that is NULL; Snowflake gives NULL."""

TIMEOUTS = {"login_timeout": 20, "network_timeout": 20}
"""Seconds. An error that the emulator does not handle is tried again for minutes otherwise."""


_CREATE_TABLE_AS = """
{% macro snowflake__create_table_as(temporary, relation, compiled_code, language='sql') %}
    {{ return(dbt.snowflake__create_table_as(false, relation, compiled_code, language)) }}
{% endmacro %}
"""


@dataclass(frozen=True)
class SnowflakeEmulator:
    """A running emulator."""

    port: int
    _numbers: Iterator[int] = field(default_factory=count)

    def settings(self, database: str) -> dict[str, Any]:
        """How our warehouse opens it."""
        return {
            "account": "fakesnow",
            "user": "fake",
            "password": "snow",
            "database": database,
            "warehouse": "wh",
            "host": "localhost",
            "port": str(self.port),
            "protocol": "http",
        }

    def environment(self, database: str) -> dict[str, str]:
        """What a project that works in this database has in its environment."""
        return {
            "NEXTMOVE_SNOWFLAKE_ACCOUNT": "fakesnow",
            "NEXTMOVE_SNOWFLAKE_USER": "fake",
            "NEXTMOVE_SNOWFLAKE_PASSWORD": "snow",
            "NEXTMOVE_SNOWFLAKE_DATABASE": database,
            "NEXTMOVE_SNOWFLAKE_WAREHOUSE": "wh",
            "NEXTMOVE_SNOWFLAKE_URL": f"http://localhost:{self.port}",
        }

    def dbt_environment(self, database: str) -> dict[str, str]:
        """What dbt's profile reads."""
        values = self.settings(database).items()
        return {f"NEXTMOVE_SNOWFLAKE_{name.upper()}": value for name, value in values}

    def new_database(self) -> str:
        """A database of its own for a test; its name."""
        name = f"TEST_{next(self._numbers)}"
        settings = {k: v for k, v in self.settings(name).items() if k != "database"}
        with _connect(**settings, **TIMEOUTS) as db, db.cursor() as cursor:
            cursor.execute(f"create database {name}")
        return name


_connect = snowflake.connector.connect


def _impatient(*args: Any, **more: Any) -> Any:
    more.pop("insecure_mode", None)  # deprecated, and dbt's adapter still gives it
    return _connect(*args, **{**more, **TIMEOUTS})


def teach_dbt(project: Path) -> None:
    """Let dbt make no temporary tables: the emulator does not take them by their full name."""
    (project / "macros").mkdir(exist_ok=True)
    (project / "macros" / "snowflake__create_table_as.sql").write_text(_CREATE_TABLE_AS)


@contextlib.contextmanager
def running_emulator() -> Iterator[SnowflakeEmulator]:
    """A new, empty emulator on a free port; ended at the end."""
    with pytest.MonkeyPatch.context() as patch, _started() as emulator:
        # It calls an ARRAY a VARIANT.
        patch.setattr(ours, "_ARROW", {**ours._ARROW, "VARIANT": ours._ARROW["ARRAY"]})
        # dbt's connections have no such setting.
        patch.setattr(snowflake.connector, "connect", _impatient)
        yield emulator


@contextlib.contextmanager
def _started() -> Iterator[SnowflakeEmulator]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "fakesnow", "-s", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        else:
            raise AssertionError("the emulator did not start")
        yield SnowflakeEmulator(port)
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stderr.close()
