"""Frequency caps: how many messages there are around the moment at which one more would leave.

What was sent is counted by the profile, in windows that end when it is built. Of a message that
leaves later, part of these windows is over by then, so the shortest of them is taken that still
reaches back far enough; it may count a message too many, never one too few. What was decided and
has not left yet is listed by the profile with the moment it will, and counts on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from decision_engine.config import Project
from decision_engine.legal_windows import regulated
from decision_engine.scene import Ruling, Scene
from decision_engine.types import Bools, Catalog, Floats, Ints
from decision_engine.waiting import WAITING, Waiting

WINDOWS = (1, 7, 30)
"""Days that profiles count sends in."""

_DAY = 86_400.0


def frequency_caps(scene: Scene) -> Iterator[Ruling]:
    """No cap of the project, and none that the law of their place sets, is used up."""
    catalog = scene.catalog
    for cap in scene.project.caps:
        if cap.channel in catalog.on:
            messages = catalog.on[cap.channel], catalog.on_by_slot[cap.channel]
            for counted, known, actions in _counts(scene, cap.channel, cap.days, *messages):
                yield scene.or_waived("frequency_cap", known & (counted < cap.max), known), actions
    for channel, promotions in catalog.promotions_on.items():
        if channel in regulated():
            law, place = scene.law(channel)
            messages = promotions, catalog.promotions_by_slot[channel]
            for counted, known, actions in _counts(scene, channel, 1, *messages):
                # Where there is no limit too: that an unknown number blocks must not depend on who
                # else is asked about.
                yield known & (counted < law.max_24h[place]), actions


def columns_of_caps(catalog: Catalog, project: Project) -> set[str]:
    """The columns that `frequency_caps` reads for these actions."""
    caps: set[tuple[str | None, int]] = {(cap.channel, cap.days) for cap in project.caps}
    caps |= {(channel, 1) for channel in catalog.promotions_on.keys() & regulated()}
    columns = {sends_column(*cap) for cap in caps}
    if catalog.has_waits:
        columns |= {sends_column(c, w) for c, days in caps for w in WINDOWS if w < days}
    return columns | ({WAITING} if caps else set())


def sends_column(channel: str | None, days: int) -> str:
    """The column that counts sends of so many days: `sends_7d`, `email_sends_1d`."""
    return f"sends_{days}d" if channel is None else f"{channel}_sends_{days}d"


def _counts(
    scene: Scene,
    channel: str | None,
    days: int,
    messages: Ints,
    by_slot: Sequence[tuple[int, Ints]],
) -> Iterator[tuple[Floats, Bools, Ints]]:
    """What counts for a cap (n,), of whom it is known (n,), and for which of the messages."""
    counted, known = scene.column(sends_column(channel, days))
    waiting, told = scene.waiting, scene.column(WAITING)[1]
    if not scene.catalog.has_waits and not len(waiting.rows):
        yield counted, known & told, messages
        return
    for slot, actions in by_slot:
        at = scene.times.at_slot(slot)
        if scene.catalog.has_waits:
            counted, known = _sent(scene, channel, days, at)
        yield counted + _near(waiting, channel, at, days), known & told, actions


def _sent(scene: Scene, channel: str | None, days: int, at: Floats) -> tuple[Floats, Bools]:
    """The messages sent within so many days before the moments (n,), and of whom it is known."""
    counted, known = scene.column(sends_column(channel, days))
    # What of the window is not still to come.
    reach = days - (at - scene.epoch.seconds) / _DAY
    for window in reversed([w for w in WINDOWS if w < days]):
        fewer, told = scene.column(sends_column(channel, window))
        counted, known = np.where(reach <= window, fewer, counted), known & told
    return np.where(reach <= 0, 0.0, counted), known


def _near(waiting: Waiting, channel: str | None, at: Floats, days: int) -> Floats:
    """How many of the messages that wait leave within so many days of the moments (n,)."""
    if isinstance(at, float):  # one person
        of_one = zip(waiting.channels, waiting.at, strict=True)
        reach = days * _DAY
        return sum(abs(then - at) < reach and channel in (None, on) for on, then in of_one)
    near = np.abs(waiting.at - at[waiting.rows]) < days * _DAY
    if channel is not None:
        near &= waiting.channels == channel
    counts: Floats = np.bincount(waiting.rows[near], minlength=len(at)).astype(np.float64)
    return counts
