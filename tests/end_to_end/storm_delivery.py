"""make storm: 10,000 crashes of deliveries; nothing lost, nothing wrong, nothing twice.

Both lanes, and vendors that ignore our keys, honour them, or honour them for a day. Half of the
crashes come when the vendor has accepted a call and nobody has heard its answer. More than a
thousand are real SIGKILLs of processes that talk to the sandbox over sockets; the others are
simulated in this process, disks that lose power, are full or fail to sync among them. After each
one the next run goes on, and everything is compared with the sandbox's own ledger:

- every message is accepted, or unknown and listed; every row ends as it is in its outbox;
- no message reached anybody twice, and none that is called accepted is missing;
- after a crash no more are unknown than were in flight.

Besides, 5,000 power cuts of the journal alone, and lives in which each of its writes, syncs and
openings of a file fails, or the disk is full (`storm_power`).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.connectors import storm_power, storm_sends
from tests.connectors.power import memory
from tests.end_to_end import storm_kills, storm_outbox

Storm = Callable[[int, int, Path], Counter[str]]
PARTS: tuple[tuple[str, Storm, int, str], ...] = (
    ("messages, SIGKILL", storm_kills.kill_sends, 900, "kills"),
    ("rows, SIGKILL", storm_kills.kill_outboxes, 200, "kills"),
    ("messages, simulated", storm_sends.storm, 6_400, "crashes"),
    ("rows, simulated", storm_outbox.storm, 2_500, "crashes"),
)
"""What, how, how many of 10,000, and how they are counted."""
CUTS = 5_000
"""Power cuts of the journal, for 10,000 crashes of the others."""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000, help="crashes of all kinds")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    crashes, unheard, kills = 0, 0, 0

    def lived(title: str, storm: Storm, share: int) -> Counter[str]:
        wanted = -(-share * arguments.points // 10_000)
        start, cpu = time.perf_counter(), time.process_time()
        with memory() as folder:
            counts = storm(wanted, arguments.seed, folder)
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        words = ", ".join(f"{what} {n:,}" for what, n in sorted(counts.items()))
        print(f"{title}: {words} ({wall:.0f} s, {used:.0f} of CPU here)", flush=True)
        return counts

    for title, storm, share, name in PARTS:
        counts = lived(title, storm, share)
        crashes += counts[name]
        unheard += counts["answer"]
        kills += counts["kills"]
    disk = lived("the journal's disk", storm_power.storm, CUTS)
    print(
        f"{disk['cut']:,} power cuts of the journal, {disk['write']} failed writes, {disk['fsync']}"
        f" failed syncs, {disk['open']} files not opened, {disk['full']} full disks: complete or"
        f" an error each time, and before {disk['calls looked at']:,} calls the intents on the disk"
    )
    print(
        f"{crashes:,} crashes, {kills:,} of them SIGKILLs; in {unheard:,} the vendor had accepted"
        " and its answer was lost: every row at its end, none wrong, nothing sent twice"
    )


if __name__ == "__main__":
    main()
