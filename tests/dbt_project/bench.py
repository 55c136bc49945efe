"""make bench-build: the dbt project on synthetic customers, with time by model and memory.

Two sizes, four times as many customers in the second, each built in a process of its own: a whole
build with all tests of data, then a daily refresh. One model at a time, so that its CPU seconds are
its own, and DuckDB may take no more memory than the goal allows nor put it off to the disk: a join
that compares everything with everything stops with the name of the model. Fails when a goal is
missed. `--json` prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.dbt_project.conftest import PACKAGE, DbtError, folders, invoke, variables_of
from tests.dbt_project.synthetic import fill
from tests.dbt_project.warehouse import AS_OF, create_warehouse
from tests.goals import Goal, judge, table_to

SIZES = (10_000, 40_000)
DECISIONS = 8
"""Of a customer."""
GIB = 2
"""What DuckDB may take."""
PATIENCE = 600
"""Seconds until a step of a size is taken to be lost."""
PROFILE = """
nextmove:
  target: duckdb
  outputs:
    duckdb:
      type: duckdb
      path: "{path}"
      schema: nextmove
      threads: 1
      settings:
        TimeZone: UTC
        memory_limit: {gib}GiB
        max_temp_directory_size: 0GiB
"""


class Meter:
    """CPU seconds of each model, told by dbt when it starts and when it ends.

    Of this process and not by the clock: other work on the machine does not count.
    """

    def __init__(self) -> None:
        self.models: dict[str, float] = {}
        self._start = 0.0

    def __call__(self, event: Any) -> None:
        if event.info.name == "NodeStart":
            self._start = time.process_time()
        elif event.info.name == "NodeFinished":
            node = event.data.node_info
            if node.resource_type == "model":
                self.models[node.node_name] = time.process_time() - self._start


def measure(path: Path) -> dict[str, Any]:
    """Build in this process what is in the file, then refresh it."""
    scratch = path.parent
    profile = PROFILE.format(path=path, gib=GIB)
    (scratch / "profiles.yml").write_text(profile, encoding="utf-8")
    common = [*folders(PACKAGE, scratch), "--profiles-dir", str(scratch), "--no-write-json"]
    manifest = invoke(["parse", *common])
    idle = _peak_gib()
    meter, cpu = Meter(), time.process_time()
    build = ["build", "--exclude-resource-type", "unit_test"]
    invoke([*build, *common, *variables_of(AS_OF)], manifest, meter)
    cpu, peak = time.process_time() - cpu, _peak_gib()
    tomorrow = variables_of(AS_OF + timedelta(days=1))
    refreshed = time.process_time()
    invoke(["run", "--select", "tag:daily", *common, *tomorrow], manifest)
    return {
        "cpu_s": cpu,
        "refresh_cpu_s": time.process_time() - refreshed,
        "peak_gib": peak,
        "taken_gib": peak - idle,
        "models": meter.models,
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure each size in a process of its own and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fill", type=int, metavar="CUSTOMERS", help="fill the file at --path")
    parser.add_argument("--path", type=Path, help="measure this file and print JSON")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    if arguments.fill:
        create_warehouse(arguments.path)
        fill(arguments.path, arguments.fill, DECISIONS * arguments.fill)
    elif arguments.path:
        try:
            print(json.dumps(measure(arguments.path)))
        except DbtError as error:
            sys.exit(str(error))
    else:
        runs = [_run(n) for n in SIZES]
        _show(runs, arguments.json)
        judge(goals(*runs), arguments.json, runs=runs)


def _run(customers: int) -> dict[str, Any]:
    """One size. The rows come from another process, whose memory does not count."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "warehouse.duckdb")
        _in_a_process("--fill", str(customers), "--path", path)
        found: dict[str, Any] = json.loads(_in_a_process("--path", path))
    return {"customers": customers, **found}


def _in_a_process(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.dbt_project.bench", *arguments]
    try:
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE
        ).stdout
    except subprocess.CalledProcessError:
        sys.exit("the build failed: see above")
    except subprocess.TimeoutExpired:
        sys.exit(f"the build has not ended within {PATIENCE} s")


def _show(runs: list[dict[str, Any]], as_json: bool) -> None:
    """CPU seconds of each model, the slowest first, then of the build, with its memory."""
    shown = table_to(as_json)
    print(f"{'CPU seconds':<40}", *(f"{r['customers']:>11,}" for r in runs), file=shown)
    for model in sorted(runs[-1]["models"], key=lambda m: -runs[-1]["models"][m]):
        print(f"{model:<40}", *(f"{r['models'][model]:>11.2f}" for r in runs), file=shown)
    rows = {
        "the build": "cpu_s",
        "a daily refresh": "refresh_cpu_s",
        "peak GiB": "peak_gib",
    }
    for name, of in rows.items():
        print(f"{name:<40}", *(f"{r[of]:>11.2f}" for r in runs), file=shown)


def goals(least: dict[str, Any], most: dict[str, Any]) -> list[Goal]:
    """What the larger build has to keep, and what a customer may cost in it beside the smaller."""
    times = most["customers"] / least["customers"]
    slow = {m: s for m, s in most["models"].items() if s >= 1}
    model, growth = max(
        ((m, s / least["models"][m] / times) for m, s in slow.items()),
        key=lambda found: found[1],
        default=("no model", 0.0),
    )
    return [
        Goal("CPU seconds of the larger build", most["cpu_s"], 90),
        Goal("CPU seconds of the slowest model there", max(most["models"].values()), 10),
        Goal("peak memory there, GiB", most["peak_gib"], GIB),
        Goal("CPU of a customer there / in the smaller", most["cpu_s"] / least["cpu_s"] / times, 1),
        Goal(f"CPU of a customer, most grown: {model}"[:52], growth, 1.5),
        Goal("memory of a customer", most["taken_gib"] / least["taken_gib"] / times, 1.25),
    ]


if __name__ == "__main__":
    main()
