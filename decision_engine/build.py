"""build: dbt turns raw tables into profiles, outcomes and outboxes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.base import Warehouse
from connectors.errors import ConfigurationError
from decision_engine.config import Outcome, Project, hours
from decision_engine.confirmed import SHIPPED
from decision_engine.dbt_profile import is_about_profile, output_of, profile_error
from decision_engine.errors import StepError
from decision_engine.tables import AGENT_OUTCOMES
from decision_engine.workspace import Workspace
from decision_engine.zone_offsets import write_zone_offsets

PROFILES = "dim_customer_features"

Progress = Callable[[str], None]
"""Called with one short line for each piece of work that has ended."""


@dataclass(frozen=True)
class BuildTotals:
    """What one dbt invocation did.

    `failed_columns` are the columns of profiles on which a test warned, with the test's name.
    """

    models: int
    tests: int
    warnings: tuple[str, ...]
    failed_columns: Mapping[str, str]


def package_folder() -> Path:
    """Our dbt package: carried by the wheel, or beside this package in a source checkout."""
    carried = Path(str(files("decision_engine"))) / "_data" / "dbt_project"
    beside = Path(__file__).resolve().parent.parent / "dbt_project"
    return carried if carried.exists() else beside


def build(
    workspace: Workspace,
    as_of: datetime,
    *,
    command: str = "build",
    select: str | None = None,
    exclude: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> BuildTotals:
    """Run dbt on the project as of a moment (UTC).

    `command` is `build` (models and tests) or `run` (models only). StepError with one
    line per failed model or test.
    """
    with workspace.alone("build"):
        manifest = prepare(workspace)
        with workspace.warehouse() as warehouse:
            if problems := missing_sources(workspace, warehouse):
                raise ConfigurationError("\n".join(problems))
            write_agent_outcomes(workspace, warehouse)
            write_zone_offsets(workspace, warehouse, as_of)
        arguments = [command, *_common_arguments(workspace, as_of)]
        arguments += ["--select", select] if select else []
        left_out = [*exclude, *unread_outboxes(workspace)]
        arguments += ["--exclude", *left_out] if left_out else []
        # Unit tests are for the models' authors; a company runs the tests of its data.
        arguments += ["--exclude-resource-type", "unit_test"] if command == "build" else []
        with workspace.warehouse_let_go(), _environment(workspace):
            results = _invoke(workspace, manifest, arguments, progress)
    return _totals(results)


def unread_outboxes(workspace: Workspace) -> list[str]:
    """Outboxes that nobody would read: of kinds without a destination, of tasks nobody makes."""
    kinds = {d.kind for d in workspace.project.destinations.values()}
    others = [f"outbox_{kind}__*" for kind in SHIPPED if kind not in kinds]
    return others if _task_agents(workspace) else [*others, "outbox_*__tasks"]


def _task_agents(workspace: Workspace) -> list[str]:
    return [name for name, agent in workspace.agents.items() if agent.crm_task]


def missing_sources(workspace: Workspace, warehouse: Warehouse) -> list[str]:
    """A line for every table that nextmove.yml lists under `sources` and that does not exist."""
    schema = workspace.project.warehouse.raw_schema
    return [
        f"nextmove.yml: sources: table {schema}.{name} does not exist in the warehouse;"
        " load it or take it off the list"
        for name in workspace.project.sources
        if warehouse.columns(f"{schema}.{name}") is None
    ]


def write_agent_outcomes(workspace: Workspace, warehouse: Warehouse) -> None:
    """Tell dbt what each agent counts as an outcome, its weight and its window."""
    rows = [
        {
            "agent": agent.agent,
            "event": o.event,
            "weight": weight,
            "per": o.per,
            "window_hours": hours(o.window),
            "sequence_credit": agent.sequence_credit,
            "spent_on": spent_on or None,
        }
        for agent in workspace.agents.values()
        for o in agent.outcomes
        for spent_on, weight in weights_of(o, workspace.project)
    ]
    table = workspace.engine("agent_outcomes")
    with warehouse.transaction():
        warehouse.rows(f"delete from {table}")
        warehouse.append(table, pa.Table.from_pylist(rows, schema=AGENT_OUTCOMES))


def weights_of(outcome: Outcome, project: Project) -> list[tuple[str, float]]:
    """What an outcome weighs; for what we spend, by what it is spent on (channel, incentive)."""
    cents: dict[str, float]
    if outcome.event == "message":
        cents = {c: project.message_cents.get(c, 0.0) for c in project.channels}
    elif outcome.event == "incentive":
        cents = {i.incentive: float(i.cost_cents) for i in project.incentives}
    else:
        return [("", outcome.weight)]
    by_dollar = outcome.per == "dollar"
    return [(n, outcome.weight * (c / 100 if by_dollar else 1.0)) for n, c in sorted(cents.items())]


ANY_MOMENT = datetime(2000, 1, 1)
"""What dbt parses as of: it would parse anew each time if that changed. It runs as of now."""

_manifests: dict[Path, Any] = {}


def prepare(workspace: Workspace) -> Any:
    """The parsed dbt project; parsed at the first call, then kept for the next ones.

    Before anything else: what is wrong with dbt's files is told while nothing is changed yet.
    ConfigurationError when dbt cannot read them, LockedError while another process reads them.
    """
    # Importing dbt costs seconds: only the commands that need it pay.
    from dbt.cli.main import dbtRunner

    folder = workspace.root / "dbt"
    if folder not in _manifests:
        output_of(folder, workspace.warehouse_kind)
        # Installing a package takes away the one that another process is reading.
        with workspace.alone("parse"), _environment(workspace):
            _install_package(folder)
            parsed = dbtRunner().invoke(["parse", *_common_arguments(workspace, ANY_MOMENT)])
        if not parsed.success:
            raise _unreadable(workspace, parsed.exception)
        _manifests[folder] = parsed.result
    return _manifests[folder]


def _invoke(
    workspace: Workspace, manifest: Any, arguments: Sequence[str], progress: Progress
) -> Any:
    """One dbt invocation in this process."""
    from dbt.cli.main import dbtRunner

    try:
        runner = dbtRunner(manifest=manifest, callbacks=[_reporter(progress)])
        outcome = runner.invoke(list(arguments))
    finally:
        _let_go_of_the_database()
    if outcome.exception is not None:
        _require_uninterrupted(outcome.exception)
        if is_about_profile(outcome.exception):
            raise _unreadable(workspace, outcome.exception)
        raise StepError(f"dbt stopped: {outcome.exception}")
    if not outcome.success:
        raise StepError("\n".join(_failures(outcome.result)) or "dbt failed")
    return outcome.result


def _unreadable(workspace: Workspace, error: BaseException | None) -> ConfigurationError:
    """Why dbt could not read the project; another try would find it the same."""
    _require_uninterrupted(error)
    if is_about_profile(error):
        output = output_of(workspace.root / "dbt", workspace.warehouse_kind)
        return profile_error(output, error)
    return ConfigurationError(f"dbt could not read the project: {' '.join(str(error).split())}")


def _require_uninterrupted(error: BaseException | None) -> None:
    """Dbt keeps Ctrl-C to itself, and may tell of what came of it instead."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt
        error = error.__context__


def _let_go_of_the_database() -> None:
    """Dbt keeps its DuckDB open for the life of the process, after a failure too."""
    if connections := sys.modules.get("dbt.adapters.duckdb.connections"):
        connections.DuckDBConnectionManager.close_all_connections()


def _install_package(folder: Path) -> None:
    from dbt.cli.main import dbtRunner

    if (folder / "dbt_packages" / "nextmove" / "dbt_project.yml").exists():
        return
    done = dbtRunner().invoke(["deps", "--quiet", "--project-dir", str(folder)])
    if not done.success:
        raise StepError(f"dbt deps failed: {done.exception}")


def _common_arguments(workspace: Workspace, as_of: datetime) -> list[str]:
    variables = {
        "as_of": as_of.strftime("%Y-%m-%d %H:%M:%S"),
        "nextmove_sources": list(workspace.project.sources),
        "nextmove_raw_schema": workspace.project.warehouse.raw_schema,
        "nextmove_engine_schema": workspace.project.warehouse.engine_schema,
        "nextmove_task_agents": _task_agents(workspace),
    }
    folder, state = workspace.root / "dbt", workspace.state_folder / "dbt"
    return [
        *("--project-dir", str(folder), "--profiles-dir", str(folder)),
        *("--target", workspace.warehouse_kind),
        *("--target-path", str(state / "target"), "--log-path", str(state / "logs")),
        *("--vars", json.dumps(variables)),
        *(
            "--log-level",
            "none",
            "--no-use-colors",
            "--no-write-json",
            "--no-send-anonymous-usage-stats",
        ),
    ]


def _reporter(progress: Progress) -> Callable[[Any], None]:
    def on_event(event: Any) -> None:
        if event.info.name == "LogModelResult":
            progress(str(event.data.node_info.node_name))

    return on_event


def _failures(result: Any) -> Iterator[str]:
    for r in result.results if result is not None else []:
        if str(r.status) in {"error", "fail", "runtime error"}:
            lines = [line.strip() for line in str(r.message).splitlines() if line.strip()]
            # The first line only repeats the name of the model.
            cause = lines[1] if len(lines) > 1 and "Error in" in lines[0] else lines[0]
            yield f"dbt {r.node.resource_type} {r.node.name}: {without_values(cause)}"


def without_values(cause: str) -> str:
    """A value that cannot be converted may be somebody's address: it is left out."""
    if not cause.startswith(("Conversion Error", "Invalid Input Error", "Out of Range Error")):
        return cause
    return re.sub(r"'.*'|\".*\"", "(a value)", cause)


def _totals(result: Any) -> BuildTotals:
    kinds = [str(r.node.resource_type) for r in result.results]
    warned = [r.node for r in result.results if str(r.status) == "warn"]
    return BuildTotals(
        models=kinds.count("model"),
        tests=kinds.count("test") + kinds.count("unit_test"),
        warnings=tuple(node.name for node in warned),
        failed_columns={
            column: f"dbt test {node.name}" for node in warned for column in _columns_of(node)
        },
    )


def _columns_of(node: Any) -> Iterator[str]:
    """The columns of profiles that a test is about.

    A test of such a column is about it; any test may name them itself, under `meta`.
    """
    named = node.config.meta.get("nextmove_columns", [])
    yield from map(str, named)
    if node.column_name and str(node.attached_node).endswith(f".{PROFILES}"):
        yield str(node.column_name)


@contextmanager
def _environment(workspace: Workspace) -> Iterator[None]:
    """What the project's profiles.yml and packages.yml read.

    The settings of the warehouse are there under the names that dbt's profile knows, whatever
    variables nextmove.yml takes them from.
    """
    prefix = f"NEXTMOVE_{workspace.warehouse_kind}".upper()
    settings = workspace.warehouse_settings.items()
    wanted = {
        **{f"{prefix}_{name.upper()}": value for name, value in settings},
        "NEXTMOVE_SCHEMA": workspace.project.warehouse.schema,
        "NEXTMOVE_DBT_PACKAGE": str(package_folder()),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
