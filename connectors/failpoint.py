"""Places where a test can make the process die, as a power cut or `kill -9` would.

`NEXTMOVE_FAILPOINT=name` kills at the first hit of that place, `name:3` at the third.
Without the variable `hit` costs one comparison.
"""

from __future__ import annotations

import os
import signal

FAILPOINTS = (
    "framed.append.torn",
    "framed.rotate.after_sync",
    "framed.rotate.after_create",
    "journal.intent.before_sync",
    "journal.intent.after_sync",
    "journal.sending.before_sync",
    "journal.sending.after_sync",
    "journal.receipt.before_sync",
    "journal.receipt.after_sync",
    "journal.recover.before_sync",
    "journal.recover.after_sync",
    "journal.compact.before_sync",
    "journal.compact.after_sync",
    "journal.compact.between_unlinks",
    "deliver.call.before",
    "deliver.call.after",
    "sync.call.before",
    "sync.call.after",
)
"""Every name that `hit` is called with in this package."""

_name, _, _count = os.environ.get("NEXTMOVE_FAILPOINT", "").partition(":")
_left = int(_count or 1)


def arm(name: str, count: int = 1) -> None:
    """Kill this process at the given hit of a place, whatever the environment says."""
    global _name, _left
    _name, _left = name, count


def armed(name: str) -> bool:
    """Whether the next `hit(name)` is the one that kills."""
    return name == _name and _left == 1


def hit(name: str) -> None:
    """Die here if the environment says so."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
