"""What guardrails look at, and the form of what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from decision_engine.columns import seen
from decision_engine.config import Agent, Project, Waivable
from decision_engine.errors import MissingColumnError
from decision_engine.legal_windows import Law, Place, law_at
from decision_engine.overrides import NO_OVERRIDES, Overrides
from decision_engine.rules import parsed
from decision_engine.send_times import SendTimes, send_times
from decision_engine.types import Bools, Catalog, Contexts, Epoch, Ints, Pair
from decision_engine.waiting import WAITING, Waiting, waiting_in
from decision_engine.waivers import is_waived


class Scene:
    """What the guardrails look at. `contexts` has n people, `catalog` k actions.

    `channel` is the only one that was asked for, or `ANY_DEVICE`; None when any will do.
    `overrides` are those that concern the agent.
    """

    def __init__(
        self,
        contexts: Contexts,
        catalog: Catalog,
        project: Project,
        epoch: Epoch,
        channel: str | None = None,
        agent: Agent | None = None,
        overrides: Overrides = NO_OVERRIDES,
    ) -> None:
        self.contexts, self.catalog, self.project, self.epoch = contexts, catalog, project, epoch
        self.channel, self.agent, self.overrides = channel, agent, overrides
        self.columns = seen(contexts)
        """For one person, scalars."""
        self._times: SendTimes | None = None
        self._waiting: Waiting | None = None
        self._places: tuple[tuple[Place, ...], Ints] | None = None

    @property
    def times(self) -> SendTimes:
        """When each action would reach each person."""
        if self._times is None:
            self._times = send_times(self.column("time_zone"), self.catalog, self.epoch)
        return self._times

    @property
    def waiting(self) -> Waiting:
        """The messages that are decided for them and have not left yet."""
        if self._waiting is None:
            self._waiting = waiting_in(self.column(WAITING))
        return self._waiting

    def law(self, channel: str) -> tuple[Law, Ints]:
        """What holds for promotions on a channel, by place, and each person's place (n,)."""
        if self._places is None:
            self._places = _places(self.column("country"), self.column("region"))
        places, codes = self._places
        return law_at(channel, places), codes

    def column(self, name: str) -> Pair:
        """A column that must have been read; scalars for one person."""
        try:
            return self.columns[name]
        except KeyError:
            raise MissingColumnError(name) from None

    def is_true(self, name: str) -> Bools:
        """(n,): known to be true."""
        values, valid = self.column(name)
        true: Bools = (values == np.True_) & valid
        return true

    def is_false(self, name: str) -> Bools:
        """(n,): known to be false."""
        values, valid = self.column(name)
        false: Bools = (values == np.False_) & valid
        return false

    def holds(self, rule: str) -> Bools:
        """(n,): the rule is known to be true."""
        return parsed(rule).truth(self.columns, len(self.contexts))

    def or_waived(self, guardrail: Waivable, people: Bools, known: Bools) -> Bools:
        """These people (n,), and of those that are `known`, whom the guardrail is waived for."""
        if guardrail not in self.project.waived:
            return people
        return people | (known & is_waived(self.project, guardrail, self.contexts.customer_ids))

    def nobody(self) -> Bools:
        """(n,) false."""
        return np.zeros(len(self.contexts), dtype=bool)


Ruling = tuple[Bools, Ints]
"""People (n,) and indices of actions: nobody but these people may get any of these actions.

For one person, a scalar will do.
"""

Guardrail = Callable[[Scene], Iterator[Ruling]]


def _places(country: Pair, region: Pair) -> tuple[tuple[Place, ...], Ints]:
    """The distinct places, and for each person (n,) which one is theirs."""
    index: dict[Place, int] = {}
    places = zip(_texts(country), _texts(region), strict=True)
    codes = [index.setdefault(place, len(index)) for place in places]
    return tuple(index), np.array(codes, dtype=np.int64)


def _texts(column: Pair) -> list[str]:
    """The texts, '' for NULL."""
    texts, known = column
    if not isinstance(texts, np.ndarray):
        return [texts if known else ""]
    pairs = zip(texts.tolist(), known.tolist(), strict=True)
    return [text if is_known else "" for text, is_known in pairs]
