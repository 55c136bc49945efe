"""A process that forks one child per line of work, lets it die, and says how it ended.

Forking a process that has everything imported makes a kill cost milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from connectors import failpoint
from connectors import journal as journal_module
from connectors.base import Record
from connectors.calls import connected
from connectors.deliver import deliver_sends
from connectors.journal import Journal
from connectors.sync import ProfileSync
from tests.connectors.sends import NOW, Plain, intent

IN_FLIGHT = 24
"""Messages that can be under way together, 4 in a request."""


def deliver(job: dict[str, Any]) -> None:
    """Add the intents that are not there yet and send what is due, as of `day`."""
    with Journal.open(Path(job["directory"])) as journal:
        journal.add(intent(i) for i in range(job["count"]))
        now = NOW + timedelta(days=job.get("day", 0))
        with connected(Plain(4), job["url"], "key") as target:
            targets = {"plain": target}
            run = deliver_sends(journal, targets, open_gate, lambda: now, in_flight=IN_FLIGHT)
        if run.stopped:
            raise RuntimeError(str(run.stopped))


def open_gate(_: object, __: datetime) -> str | None:
    """Let everything through."""
    return None


def compact(job: dict[str, Any]) -> None:
    """Forget what a journal of 40 days later need not know."""
    with Journal.open(Path(job["directory"])) as journal:
        journal.compact(NOW + timedelta(days=40), journal.end)


def sync(job: dict[str, Any]) -> None:
    """Bring all profiles over."""
    records = [Record(f"k{i}", {"external_id": f"u{i}"}, {}) for i in range(job["count"])]
    with connected(Plain(4), job["url"], "key") as target:
        for _ in ProfileSync(target, "users", records):
            pass


Work = Callable[[dict[str, Any]], None]


def work(job: dict[str, Any], works: Mapping[str, Work]) -> int:
    """In the child: the exit code."""
    try:
        failpoint.arm(job.get("failpoint", ""), job.get("hit", 1))
        works[job["work"]](job)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve(works: Mapping[str, Work], prepare: Work = lambda _: None) -> None:
    """Jobs in, one JSON line each; "killed" or "done" out. `prepare` is done before forking."""
    for line in sys.stdin:
        job = json.loads(line)
        prepare(job)
        child = os.fork()
        if child == 0:
            os._exit(work(job, works))
        if "kill_after" in job:
            time.sleep(job["kill_after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        ends = {0: "done", signal.SIGKILL: "killed"}
        print(ends.get(status, f"failed {status}"), flush=True)


if __name__ == "__main__":
    journal_module.SEGMENT_BYTES = 3_000
    serve({"deliver": deliver, "compact": compact, "sync": sync})
