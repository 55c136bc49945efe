"""Guardrails that people set while the system runs: excluded people, paused agents, frozen actions.

They come after all others, so that the reason of what they rule out says: nothing else was in the
way. What would have been chosen without them can be computed from the record (`override_labels`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from decision_engine.config import SmallList
from decision_engine.overrides import actions_of, settled
from decision_engine.rules import parsed
from decision_engine.scene import Ruling, Scene
from decision_engine.types import Catalog, Contexts, Reason, Reasons


def excluded(scene: Scene) -> Iterator[Ruling]:
    """No message for people of an excluded segment, or who may be of it."""
    for override in scene.overrides.on("exclude", scene.epoch.as_of):
        holds, known = parsed(override.rule or "true").evaluate(
            scene.contexts.columns, len(scene.contexts)
        )
        yield known & ~holds, scene.catalog.on[None]


def paused(scene: Scene) -> Iterator[Ruling]:
    """No message of a paused agent; none at all when it cannot be known what is paused."""
    if not scene.overrides.is_known or scene.overrides.on("pause", scene.epoch.as_of):
        yield scene.nobody(), scene.catalog.on[None]


def frozen(scene: Scene) -> Iterator[Ruling]:
    """No frozen action."""
    for override in scene.overrides.on("freeze", scene.epoch.as_of):
        yield (
            scene.nobody(),
            np.intersect1d(actions_of(override, scene.catalog), scene.catalog.on[None]),
        )


def with_lists(
    reasons: Reasons, lists: tuple[SmallList, ...], catalog: Catalog, contexts: Contexts
) -> Reasons:
    """The reasons (n, k) after the small lists.

    Who is on several follows the first: it leaves one action, and nothing to settle for others.
    """
    for small in lists:
        wanted = [catalog.keys.index(key) for key in small.actions]
        members = parsed(small.members).holds(contexts)
        reasons = settled(reasons, [*wanted, 0], members, Reason.SMALL_LIST)
    return reasons
