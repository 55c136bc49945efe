"""How long dbt takes in process: a full build with all tests, then daily refreshes.

    python -m tests.dbt_project.bench --customers 5000 --decisions 40000

Prints wall and processor seconds. The target for the refresh at this size is 2.5 s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from tests.dbt_project.conftest import PACKAGE, folders, invoke, variables_of
from tests.dbt_project.synthetic import fill
from tests.dbt_project.warehouse import AS_OF, create_warehouse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--decisions", type=int, default=40_000)
    parser.add_argument("--refreshes", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "warehouse.duckdb"
        create_warehouse(path)
        fill(path, options.customers, options.decisions)
        _measure(path, Path(scratch), options.refreshes)


def _measure(path: Path, scratch: Path, refreshes: int) -> None:
    os.environ["NEXTMOVE_DUCKDB_PATH"] = str(path)
    common = [*folders(PACKAGE, scratch), "--no-write-json"]
    manifest = invoke(["parse", *common])
    commands = [["build"]] + refreshes * [["run", "--select", "tag:daily"]]
    for day, command in enumerate(commands):
        wall, processor = time.perf_counter(), time.process_time()
        moment = variables_of(AS_OF + timedelta(days=day))
        nodes = len(invoke([*command, *common, *moment], manifest).results)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"{' '.join(command)}: {nodes} nodes, {wall:.2f} s, processor {processor:.2f} s")


if __name__ == "__main__":
    main()
