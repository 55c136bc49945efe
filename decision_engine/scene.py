"""What guardrails look at, and the form of what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_engine.config import Agent, Project, Waivable
from decision_engine.errors import MissingColumnError
from decision_engine.legal_windows import Law, Place, law_at
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.send_times import SendTimes, send_times
from decision_engine.types import Bools, Catalog, Column, Contexts, Epoch, Ints
from decision_engine.waiting import WAITING, Waiting, waiting_in
from decision_engine.waivers import is_waived


@dataclass(frozen=True, eq=False)
class Scene:
    """What the guardrails look at. `contexts` has n people, `catalog` k actions.

    `channel` is the only one that was asked for, or `ANY_DEVICE`; None when any will do.
    `overrides` are those that concern the agent.
    """

    contexts: Contexts
    catalog: Catalog
    project: Project
    epoch: Epoch
    channel: str | None = None
    agent: Agent | None = None
    overrides: Overrides = NO_OVERRIDES

    @cached_property
    def times(self) -> SendTimes:
        """When each action would reach each person."""
        return send_times(self.column("time_zone"), self.catalog, self.epoch)

    @cached_property
    def waiting(self) -> Waiting:
        """The messages that are decided for them and have not left yet."""
        return waiting_in(self.column(WAITING))

    @cached_property
    def _places(self) -> tuple[tuple[Place, ...], Ints]:
        """The distinct places, and for each person (n,) which one is theirs."""
        index: dict[Place, int] = {}
        places = zip(*map(_texts, (self.column("country"), self.column("region"))), strict=True)
        codes = [index.setdefault(place, len(index)) for place in places]
        return tuple(index), np.array(codes, dtype=np.int64)

    def law(self, channel: str) -> tuple[Law, Ints]:
        """What holds for promotions on a channel, by place, and each person's place (n,)."""
        places, codes = self._places
        return law_at(channel, places), codes

    def column(self, name: str) -> Column:
        """A column that must have been read."""
        try:
            return self.contexts.columns[name]
        except KeyError:
            raise MissingColumnError(name) from None

    def is_true(self, name: str) -> Bools:
        """(n,): known to be true."""
        values, valid = self.column(name)
        true: Bools = values.astype(bool, copy=False) & valid
        return true

    def is_false(self, name: str) -> Bools:
        """(n,): known to be false."""
        values, valid = self.column(name)
        false: Bools = ~values.astype(bool, copy=False) & valid
        return false

    def held_by(self, guardrail: Waivable, people: Bools, known: Bools) -> Bools:
        """Of these people (n,) those for whom the guardrail holds; where not `known`, for all."""
        if guardrail not in self.project.waived:
            return people
        waived = is_waived(self.project, guardrail, self.contexts.customer_ids)
        return people & ~(known & waived)

    def everybody(self) -> Bools:
        """(n,) true."""
        return np.ones(len(self.contexts), dtype=bool)


Ruling = tuple[Bools, Ints]
"""People (n,) and indices of actions: none of these actions for any of these people."""

Guardrail = Callable[[Scene], Iterator[Ruling]]


def _texts(column: Column) -> list[str]:
    """The texts, '' for NULL."""
    pairs = zip(column.values.tolist(), column.valid.tolist(), strict=True)
    return [text if known else "" for text, known in pairs]


@lru_cache(maxsize=256)
def number(value: float) -> NDArray[Any]:
    """As an array: for one person, a Python number would cost more than the comparison."""
    return np.array(value)
