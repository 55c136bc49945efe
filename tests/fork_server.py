"""A child that forks one process after the other, so that each need not import all anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def fork_server(module: str) -> Iterator[subprocess.Popen[str]]:
    """The module as a process that is told what to do line by line; it ends with its input."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()
