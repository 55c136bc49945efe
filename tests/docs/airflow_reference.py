"""docs/reference/airflow.md, made from the provider and the DAG files without importing Airflow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.airflow.provider import get_provider_info

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "connectors" / "airflow"

PARAMETERS = {
    "step": "`load`, `build`, `learn`, `decide`, `deliver` or `run`",
    "task_id": "the step's name when not given",
    "nextmove_conn_id": "the connection with project and secrets",
    "project": "the project's folder, when it is not that of the connection; a template",
    "as_of": "the moment to work as of, ISO 8601, UTC; the present when not given; a template. Only"
    " a sandbox can be delivered to as of another time. `load` takes none",
    "pool": "`NEXTMOVE_POOL`, else `nextmove`: one slot for DuckDB",
    "retries": "tries after the first",
    "retry_delay": "the wait before the second try",
    "retry_exponential_backoff": "how much longer each wait is",
    "max_retry_delay": "the longest wait",
}

CONNECTION = {
    "project": "the folder with nextmove.yml, as the workers see it; without it, the environment"
    " variable `NEXTMOVE_PROJECT` of the worker",
    "secrets": "an object: name of an environment variable -> its value. Given to the step's"
    " process and to nothing else, masked everywhere",
}

HEAD = """<!-- Made by `python -m tests.docs.reference`; do not edit. -->
# Airflow

How to set it up: [run it with Airflow](../how_to/run_with_airflow.md). Why it is so: [ADR 0011](../adr/0011-airflow-calls-the-command-line.md).
"""  # noqa: E501


def airflow_page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *operator_lines(), *connection_lines(), *dag_lines()]) + "\n"


def operator_lines() -> Iterator[str]:
    """The operator with its parameters."""
    tree = ast.parse((ROOM / "operator.py").read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    init = next(n for n in found.body if getattr(n, "name", "") == "__init__")
    assert isinstance(init, ast.FunctionDef)
    defaults = dict(zip((a.arg for a in init.args.kwonlyargs), init.args.kw_defaults, strict=True))
    if defaults.keys() != PARAMETERS.keys():
        raise ValueError("`PARAMETERS` must name exactly the operator's parameters")
    yield from (f"## {found.name}", "", f"`from connectors.airflow.operator import {found.name}`")
    yield from ("", ast.get_docstring(found) or "", "")
    yield from ("| parameter | default | meaning |", "|---|---|---|")
    for name, meaning in PARAMETERS.items():
        default = defaults[name]
        yield f"| `{name}` | {f'`{ast.unparse(default)}`' if default else 'needed'} | {meaning} |"
    yield from ("", "Everything else is that of Airflow's `BaseOperator`.", "")


def connection_lines() -> Iterator[str]:
    """The connection type and what its extra holds."""
    (kind,) = get_provider_info()["connection-types"]
    yield from (f"## Connection type `{kind['connection-type']}`", "")
    yield "The fields of its extra; host, login, password and port are not used."
    yield from ("", "| field | meaning |", "|---|---|")
    yield from (f"| `{name}` | {meaning} |" for name, meaning in CONNECTION.items())
    yield ""


def dag_lines() -> Iterator[str]:
    """The DAG files, with their own words."""
    yield from ("## DAGs", "", "| DAG | what it is for | schedule | updates |", "|---|---|---|---|")
    for path in sorted((ROOT / "dags").glob("*.py")):
        tree = ast.parse(path.read_text())
        given = {k.arg: k.value for k in keywords(tree)}
        outlets = [f"`{n.value}`" for n in constants(given.get("outlets"))]
        about = " ".join((ast.get_docstring(tree) or "").split())
        schedule = " ".join(ast.unparse(given["schedule"]).split())
        yield f"| `{path.stem}` | {about} | `{schedule}` | {', '.join(outlets)} |"


def keywords(tree: ast.AST) -> Iterator[ast.keyword]:
    """Every named argument in a file."""
    return (n for n in ast.walk(tree) if isinstance(n, ast.keyword))


def constants(tree: ast.AST | None) -> Iterator[Any]:
    """Every literal below a node."""
    return (n for n in ast.walk(tree) if isinstance(n, ast.Constant)) if tree else iter(())
