"""dbt in this process: the project is parsed once for each name of a database, for every test."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from connectors.warehouses.postgres import Postgres
from connectors.warehouses.snowflake import Snowflake
from tests.dbt_project.warehouse import AS_OF, Copy, Place
from tests.postgres_server import SUPERUSER, running_postgres
from tests.snowflake_emulator import running_emulator, teach_dbt

with warnings.catch_warnings():
    # dbt's own imports and its use of click warn; our code does not go through them.
    warnings.simplefilter("ignore")
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

PACKAGE = Path(__file__).resolve().parents[2] / "dbt_project"


class Dbt(Protocol):
    """Run one dbt command; the results by node name."""

    def __call__(
        self, place: Place, *command: str, as_of: datetime | None = AS_OF, **variables: Any
    ) -> dict[str, Any]: ...


class DbtError(Exception):
    """One line per node that failed."""


def invoke(
    arguments: list[str], manifest: Any = None, on_event: Callable[[Any], None] = lambda _: None
) -> Any:
    """dbt's own result; DbtError when the command did not succeed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome: Any = dbtRunner(manifest, [on_event]).invoke(arguments)
        finally:
            # dbt keeps the file open for the life of the process.
            manager: Any = DuckDBConnectionManager
            manager.close_all_connections()
    if outcome.exception is not None:
        raise DbtError(str(outcome.exception))
    if not outcome.success:
        failed = [r for r in outcome.result.results if r.status in ("error", "fail")]
        raise DbtError("\n".join(f"{r.node.name}: {r.message}" for r in failed))
    return outcome.result


def folders(project: Path, scratch: Path) -> list[str]:
    """The arguments that keep dbt's files out of the project."""
    return [
        *("--project-dir", str(project), "--profiles-dir", str(project)),
        *("--target-path", str(scratch / "target"), "--log-path", str(scratch / "logs")),
        *("--quiet", "--log-level-file", "none"),
    ]


def variables_of(as_of: datetime | None, **variables: Any) -> list[str]:
    """The --vars argument."""
    moment = {} if as_of is None else {"as_of": as_of.strftime("%Y-%m-%d %H:%M:%S")}
    return ["--vars", json.dumps({**moment, **variables})]


@pytest.fixture(scope="session")
def manifest_for(
    project_for: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Any]:
    """The parsed project by kind of warehouse and name of the database, which every node carries.

    The environment of the warehouse must be set.
    """

    @cache
    def parse(kind: str, database: str) -> Any:
        scratch = tmp_path_factory.mktemp("parse")
        return invoke(["parse", "--target", kind, *folders(project_for(kind), scratch)])

    return parse


@pytest.fixture(scope="session")
def project_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Our project, for the emulator a copy with what it needs."""

    @cache
    def find(kind: str) -> Path:
        if kind != "snowflake":
            return PACKAGE
        copy = tmp_path_factory.mktemp("project") / "dbt_project"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("target", "logs"))
        teach_dbt(copy)
        return copy

    return find


@pytest.fixture(scope="session")
def dbt(
    manifest_for: Callable[[str, str], Any],
    project_for: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Dbt:
    """Our project on a DuckDB file or on a copy.

    Without further variables the session's manifest is used; with them dbt parses again.
    """
    scratch = tmp_path_factory.mktemp("dbt")

    def run(
        place: Place, *command: str, as_of: datetime | None = AS_OF, **variables: Any
    ) -> dict[str, Any]:
        if isinstance(place, Copy):
            kind, database, environment = place.kind, place.database, place.environment
        else:
            kind, database = "duckdb", place.stem
            environment = {"NEXTMOVE_DUCKDB_PATH": str(place)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            arguments = [*command, "--target", kind, *folders(project_for(kind), scratch)]
            result = invoke(
                [*arguments, *variables_of(as_of, **variables)],
                None if variables else manifest_for(kind, database),
            )
        return {r.node.name: r for r in result.results}

    return run


@pytest.fixture(scope="session")
def in_postgres() -> Iterator[Callable[[Path], Copy]]:
    """Copies a DuckDB file into a database of its own."""
    with running_postgres() as server:

        def copy(path: Path) -> Copy:
            name = server.new_database()
            host = str(server.socket_folder)
            opened = partial(Postgres, host=host, database=name, user=SUPERUSER)
            return Copy("postgres", name, opened, server.environment(name)).fill(path)

        yield copy


@pytest.fixture(scope="session")
def in_snowflake() -> Iterator[Callable[[Path], Copy]]:
    """The same for the emulator."""
    with running_emulator() as emulator:

        def copy(path: Path) -> Copy:
            name = emulator.new_database()
            opened = partial(Snowflake, **emulator.settings(name))
            return Copy("snowflake", name, opened, emulator.dbt_environment(name)).fill(path)

        yield copy
