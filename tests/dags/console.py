"""Airflow in a process of its own, which imports it once and then does what it is told.

`python -m tests.dags.console FD` reads a JSON line `[name, arguments]` from standard input for
each thing to do, and writes its answer as a JSON line to the file descriptor. What Airflow
prints goes to standard output and standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
HEAVY = ("dbt", "duckdb", "pandas", "numpy", "pyarrow", "decision_engine")


# ---- in the process ----


def cli(*arguments: str) -> int:
    """`airflow ...`; its exit code."""
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args(arguments)
    try:
        parsed.func(parsed)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def parse(folder: str) -> dict[str, Any]:
    """CPU seconds of importing Airflow, and of each DAG file after that; what was in them."""
    start = time.process_time()
    import airflow.sdk  # noqa: F401
    from airflow.dag_processing.dagbag import DagBag

    seconds = {"airflow": time.process_time() - start}
    dags, errors = {}, {}
    for path in sorted(Path(folder).glob("*.py")):
        start = time.process_time()
        bag = DagBag(dag_folder=str(path))
        seconds[path.name] = time.process_time() - start
        errors.update(bag.import_errors)
        dags.update(bag.dags)
    return {
        "seconds": seconds,
        "errors": errors,
        "heavy": [name for name in HEAVY if name in sys.modules],
        "dags": {name: described(dag) for name, dag in dags.items()},
    }


def described(dag: Any) -> dict[str, Any]:
    """What the rules are about."""
    return {
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "zone": str(dag.timezone),
        "tasks": {
            t.task_id: {
                "pool": t.pool,
                "retries": t.retries,
                "backoff": t.retry_exponential_backoff,
                "outlets": [o.name for o in t.outlets],
                "fields": list(t.template_fields),
            }
            for t in dag.tasks
        },
    }


def provider() -> dict[str, Any]:
    """What Airflow knows about the provider."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]
    hook = manager.hooks["nextmove"]
    assert hook
    return {
        "version": manager.providers["nextmove"].version,
        "info": dict(manager.providers["nextmove"].data),
        "hook": [hook.hook_class_name, hook.connection_type, hook.connection_id_attribute_name],
        "fields": [
            w.field_name
            for w in manager.connection_form_widgets.values()
            if w.package_name == "nextmove"
        ],
        "hidden": list(manager.field_behaviours["nextmove"]["hidden_fields"]),
    }


def execute(
    step: str, project: str | None = None, connection: str = "nextmove_default"
) -> dict[str, Any]:
    """Run the operator without a DAG; what it raised or returned."""
    from connectors.airflow.operator import NextmoveOperator

    task = NextmoveOperator(step=step, project=project, nextmove_conn_id=connection)
    try:
        totals = task.execute({})
    except Exception as error:
        return {"raised": type(error).__name__, "text": str(error)}
    return {"totals": totals}


def killed(step: str, marker: str) -> dict[str, Any]:
    """Run the operator and kill it, as Airflow would, once its child has made the marker."""
    from connectors.airflow import operator

    operator.GRACE_SECONDS = 0.5
    task = operator.NextmoveOperator(step=step)
    # What Airflow does when a task is to end.
    signal.signal(signal.SIGTERM, lambda *_: task.on_kill())

    def wait_and_kill() -> None:
        while not Path(marker).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_and_kill).start()
    try:
        task.execute({})
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return {"raised": raised, "child": task._child.poll() if task._child else None}


ACTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (cli, parse, provider, execute, killed)
}


def main() -> None:
    """Do what is told until the end of standard input."""
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            answers.write(json.dumps(ACTIONS[name](*arguments)) + "\n")
            answers.flush()
    sys.stdout.flush()
    # Airflow takes seconds to put its rooms in order, and they are thrown away.
    os._exit(0)


# ---- in the test ----


class Console:
    """The way to tell the process. What it prints is in the file `output`."""

    def __init__(self, stdin: IO[str], answers: IO[str], output: Path) -> None:
        self._stdin, self._answers, self.output = stdin, answers, output

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Have it do something; the answer."""
        self._stdin.write(json.dumps([name, arguments]) + "\n")
        self._stdin.flush()
        answer = self._answers.readline()
        assert answer, self.output.read_text()[-4000:]
        return json.loads(answer)


def environment(home: Path, dags: Path, **extras: dict[str, Any]) -> dict[str, str]:
    """Airflow's settings: a database in `home`, a connection for each id with its extra."""
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("AIRFLOW", "NEXTMOVE"))}
    connections = {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "nextmove", "extra": extra})
        for name, extra in extras.items()
    }
    return {
        **inherited,
        **connections,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        # Airflow's own warnings are not ours to fix, and not for the tests' log.
        "PYTHONWARNINGS": "ignore",
    }


@contextmanager
def console(home: Path, env: dict[str, str]) -> Iterator[Console]:
    """A running process; it ends with the block."""
    reading, writing = os.pipe()
    output = home / "console.log"
    home.mkdir(parents=True, exist_ok=True)
    with output.open("w") as log, os.fdopen(reading) as answers:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.dags.console", str(writing)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            cwd=ROOT,
            pass_fds=[writing],
        )
        os.close(writing)
        assert process.stdin is not None
        try:
            yield Console(process.stdin, answers, output)
        finally:
            process.stdin.close()
            process.wait(timeout=60)


if __name__ == "__main__":
    main()
