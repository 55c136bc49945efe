"""JSON objects in which a name is there twice: readers differ in which of the two they take.

What one program has checked may not be what the next one reads, so nothing is taken from them.
"""

from __future__ import annotations

import json
from typing import Any


def repeated_names(body: bytes) -> tuple[bool, bool]:
    """Whether any object of a JSON text has a name twice, and whether the outermost one has.

    Raises ValueError or RecursionError when it cannot be read.
    """
    found = [False, False]

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        found[1] = len(names) < len(pairs)  # the outermost one ends last
        found[0] |= found[1]
        return names

    is_object = isinstance(json.loads(body.decode(), object_pairs_hook=unique), dict)
    return found[0], found[1] and is_object
