"""make bench-replay: a hundred thousand logged decisions, made again by another process.

A project with agents of every learning policy, each with a state learned from random rewards,
decides for 500,000 customers on DuckDB. Then `nextmove replay`, a process of its own that has
nothing but the warehouse, makes 100,000 of the decisions again: from the record alone, and the
posterior from the policy state. Fails when an action differs, or a propensity by more than 1e-12,
or the last bit of a posterior.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from decision_engine.batch import decide_all
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace
from tests.end_to_end.bench_decide import AS_OF, PROFILES, teach

CUSTOMERS, REPLAYED = 500_000, 100_000
POLICIES = ("linear_thompson", "weighted_thompson", "factored_linear_thompson")


def main() -> None:
    """Decide here, make again there, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--sample", type=int, default=REPLAYED)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shop"
        init(root, "bench", salt="bench-salt-0123456789")
        for i, file in enumerate(sorted((root / "agents").glob("*.yml"))):
            policy = f"\npolicy: {{kind: {POLICIES[i % len(POLICIES)]}}}\n"
            file.write_text(file.read_text(encoding="utf-8") + policy, encoding="utf-8")
        workspace = Workspace.open(root)
        with workspace.warehouse() as warehouse:
            warehouse.rows("create schema nextmove")
            warehouse.rows(PROFILES.format(n=options.customers))
        teach(workspace)
        decided = decide_all(workspace, AS_OF)
        made = sum(a["decisions"] for a in decided["agents"].values())
        nextmove = str(Path(sys.executable).with_name("nextmove"))
        command = [nextmove, "replay", "--project", str(root)]
        begun = time.perf_counter()
        again = subprocess.run(
            [*command, "--json", "--sample", str(options.sample)], check=False, capture_output=True
        )
        seconds = time.perf_counter() - begun
    found = json.loads(again.stdout)
    print(f"{made:,} decisions logged; in a new process, in {seconds:.0f} s: {json.dumps(found)}")
    if again.returncode or found["decisions"] < min(options.sample, made):
        sys.exit("not every decision was made again as it was")


if __name__ == "__main__":
    main()
