"""A command line that does as its step says: exit0 to exit77, sleep, sleep-deaf.

It tells all that it knows, its secret above all, and prints what a step may never print.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CANARY = "canary-of-the-pretended-0123456789"
COUNTS = {"records": 3, "share": 0.5, "deep": {"n": 1}}
"""The numbers in what it prints."""

CLI = """
import json, os, signal, sys, time
from pathlib import Path

step = sys.argv[2]
print("arguments:", *sys.argv[1:], file=sys.stderr)
print("inherited:", sorted(n for n in os.environ if "AIRFLOW" in n), file=sys.stderr)
print("by mistake:", os.environ["SECRET"], file=sys.stderr, flush=True)
if step.startswith("sleep"):
    if step == "sleep-deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(os.environ["MARKER"]).write_text(str(os.getpid()))
    time.sleep(600)
told = {"records": 3, "share": 0.5, "who": os.environ["SECRET"], "list": [1], "deep": {"n": 1}}
print(json.dumps(told))
sys.exit(int(step.removeprefix("exit")))
"""

DAG = """
from datetime import datetime, timedelta
from airflow.sdk import DAG
from connectors.airflow.operator import NextmoveOperator

for step, retries in (("exit0", 0), ("exit1", 1), ("exit2", 1), ("exit3", 0)):
    with DAG(dag_id=step, schedule=None, start_date=datetime(2026, 1, 1)):
        NextmoveOperator(
            step=step,
            nextmove_conn_id="pretended",
            project="/srv/{{ dag.dag_id }}",
            retries=retries,
            retry_delay=timedelta(0),
        )
"""


def pretended(folder: Path) -> dict[str, Any]:
    """Write it down; the extra of a connection that uses it. `folder`/marker has its pid."""
    package = folder / "fake" / "decision_engine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CLI)
    found = {"SECRET": CANARY, "PYTHONPATH": str(package.parent), "MARKER": str(folder / "marker")}
    return {"project": "/srv", "secrets": found}
