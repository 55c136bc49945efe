"""Braze's endpoints with their batch sizes and limits, as documented."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.base import Lane, Stream, Window

_TRACK = (Window(3_000, 3), Window(250_000, 3_600))
_IDENTITY = (Window(300, 1), Window(20_000, 60))
"""Deleting, aliasing, identifying and merging share one pool."""
_SUBSCRIPTIONS = (Window(80, 1), Window(5_000, 60))
_MESSAGES = (Window(500, 1), Window(250_000, 3_600))
_CATALOGS = (Window(250, 1), Window(16_000, 60))
_TRANSACTIONAL = (Window(100, 1), Window(6_000, 60))
"""No limit is stated; this is a pace of our own."""
_SAME_KEY_S = 23 * 3_600.0
"""Braze knows an external_send_id for 24 hours."""

_BATCH = 10
"""Of messages: the limit is 50, but one lost answer makes the whole batch unknown."""


def _profile(name: str, pool: str, windows: tuple[Window, ...], size: int = 50) -> Stream:
    return Stream(name, Lane.PROFILE, size, pool, windows, splits_on_400=True)


STREAMS: Mapping[str, Stream] = {
    stream.name: stream
    for stream in (
        _profile("users", "users.track", _TRACK, size=75),
        _profile("subscriptions", "subscriptions", _SUBSCRIPTIONS),
        _profile("aliases", "identity", _IDENTITY),
        _profile("identifications", "identity", _IDENTITY),
        _profile("merges", "identity", _IDENTITY),
        _profile("deletions", "identity", _IDENTITY),
        Stream(
            "catalog_items",
            Lane.PROFILE,
            50,
            "catalogs",
            _CATALOGS,
            splits_on_400=True,
            together=("catalog", "deleted"),
            whole_rows=True,
            deletes=True,
        ),
        Stream("messages", Lane.SEND, _BATCH, "messages", _MESSAGES, splits_on_400=True),
        Stream("canvas_messages", Lane.SEND, _BATCH, "messages", _MESSAGES, splits_on_400=True),
        Stream("direct_messages", Lane.SEND, 1, "messages", _MESSAGES),
        Stream(
            "transactional_messages",
            Lane.SEND,
            1,
            "transactional",
            _TRANSACTIONAL,
            repeat_s=_SAME_KEY_S,
        ),
    )
}
