"""Guardrails of the clock and the calendar: when a message would reach a person.

All of them look at the moment it would leave, on the person's own clock and calendar. What a rep
is told reaches a colleague: no hour is wrong for that.
"""

from __future__ import annotations

from collections.abc import Iterator

from decision_engine.legal_windows import regulated
from decision_engine.scene import Ruling, Scene
from decision_engine.send_times import day_number


def unknown_zone(scene: Scene) -> Iterator[Ruling]:
    """Nobody is written to whose clock we do not know."""
    yield scene.times.zone_known, scene.catalog.by_their_clock


def quiet_hours(scene: Scene) -> Iterator[Ruling]:
    """Messages leave when start <= hour < end on the person's own clock."""
    quiet, hour = scene.project.quiet_hours, scene.times.local_hour.T
    awake = (hour >= quiet.start) & (hour < quiet.end)
    for slot, actions in scene.catalog.to_devices_by_slot:
        yield scene.or_waived("quiet_hours", awake[slot], scene.times.zone_known), actions


def legal_window(scene: Scene) -> Iterator[Ruling]:
    """Promotions reach a person only in the hours that the law of their place allows."""
    for channel, by_slot in scene.catalog.promotions_by_slot.items():
        if channel in regulated():
            law, place = scene.law(channel)
            hour = scene.times.hour_of_week.T
            alone = len(law.allowed) == 1
            allowed = law.allowed[0][hour] if alone else law.allowed[place, hour]
            yield from ((allowed[slot], actions) for slot, actions in by_slot)


def blackout(scene: Scene) -> Iterator[Ruling]:
    """Promotions rest on the days that the project names.

    A day before and after them too, for those whose calendar is not known.
    """
    unsure = ~scene.times.zone_known
    for rest in scene.project.blackouts:
        first, last = day_number(rest.first), day_number(rest.last)
        day = scene.times.local_day.T
        outside = (day < first - unsure) | (day > last + unsure)
        for channel, by_slot in scene.catalog.promotions_by_slot.items():
            if rest.channel in (None, channel):
                for slot, actions in by_slot:
                    yield (
                        scene.or_waived("blackout", outside[slot], scene.times.zone_known),
                        actions,
                    )
