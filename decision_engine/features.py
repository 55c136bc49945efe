"""Contexts as numbers: the raw basis x (n, d) that policies learn in.

The basis is raw on purpose: learned sums in it add up across workers and time. Centring and
scaling belong to the policy's frozen transform, fitted by `learn`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np

from decision_engine.columns import stacked
from decision_engine.config import Agent, ContextFeature, Project
from decision_engine.guardrails import columns_of
from decision_engine.rules import parsed
from decision_engine.types import Bools, Catalog, Column, Contexts, Floats, Ints

Distrusted = Mapping[str, str]
"""Columns of profiles that failed a check, with what failed in words (`data_checks`)."""
ALL_TRUSTED: Distrusted = MappingProxyType({})

DROPPED, HELD = "data_dropped", "data_held"
"""The facts in a decision's record that name what failed: what the agent went on without, and
what made it hold."""


def text_of(failed: Distrusted) -> str:
    """The columns and what failed, as the record has them."""
    return "; ".join(f"{name}: {why}" for name, why in sorted(failed.items()))


def feature_names(context: Sequence[ContextFeature]) -> tuple[str, ...]:
    """The d names of the basis: `orders_count`, `log1p(visits)`, `tier=gold`."""
    return tuple(name for feature in context for name in _names(feature))


def source_of(feature: str) -> str:
    """The column that a feature of the basis is made of: that of `log1p(visits)` is `visits`."""
    column = feature.partition("=")[0]
    return column[len("log1p(") : -1] if column.startswith("log1p(") else column


def design(contexts: Contexts, context: Sequence[ContextFeature]) -> Floats:
    """The raw basis x, (n, d) float64, columns as in `feature_names`; the policy adds the 1.

    true and false are 1 and 0. A NULL (and a number that is not finite) is 0 in every
    column made of it: the weight of a feature then says nothing about people of whom it
    is not known, and no feature needs a second column. Raises MissingColumnError.
    """
    return _basis(tuple(context)).x(contexts)


class _Basis:
    """Where each feature goes, worked out once for a context."""

    def __init__(self, context: Sequence[ContextFeature]) -> None:
        first = dict(zip(context, accumulate(map(_width, context), initial=0), strict=False))
        self.d = sum(map(_width, context))
        numbers = [f for f in context if f.transform != "one_of"]
        self.numbers = tuple(f.column for f in numbers)
        self.at = _span([first[f] for f in numbers])
        self.log1p = _span([i for i, f in enumerate(numbers) if f.transform == "log1p"])
        choices = [f for f in context if f.transform == "one_of"]
        self.choices = tuple(f.column for f in choices)
        self.places = [{o: first[f] + i for i, o in enumerate(f.one_of)} for f in choices]

    def x(self, contexts: Contexts) -> Floats:
        """As `design`."""
        out = np.zeros((len(contexts), self.d))
        if self.numbers:
            out[:, self.at] = self._of_numbers(stacked(contexts.columns, self.numbers)).T
        if self.choices:
            place, chosen = self._of_choices(stacked(contexts.columns, self.choices))
            column, rows = chosen.nonzero()
            out[rows, place[column, rows]] = 1.0
        return out

    def _of_numbers(self, columns: Column) -> Floats:
        values = columns.values.astype(np.float64, copy=False)
        numbers: Floats = np.where(columns.valid & np.isfinite(values), values, _UNKNOWN)
        logs = numbers[self.log1p]
        numbers[self.log1p] = np.sign(logs) * np.log1p(np.abs(logs))
        return numbers

    def _of_choices(self, columns: Column) -> tuple[Ints, Bools]:
        """The feature of each value, and whether there is one: both (columns, n)."""
        pairs = zip(columns.values.tolist(), self.places, strict=True)
        place = np.array([[of.get(v, -1) for v in values] for values, of in pairs], np.int64)
        return place, columns.valid & (place >= _FIRST)


_FIRST, _UNKNOWN = np.array(0), np.array(0.0)


def _span(places: list[int]) -> Any:
    """An index for these places; a slice, which copies nothing, where they follow each other."""
    if places == list(range(len(places))):
        return slice(len(places))
    return np.array(places, dtype=np.int64)


def _width(feature: ContextFeature) -> int:
    return len(feature.one_of) if feature.transform == "one_of" else 1


_basis = lru_cache(maxsize=256)(_Basis)


def needed_columns(agent: Agent, catalog: Catalog, project: Project) -> tuple[str, ...]:
    """Columns of dim_customer_features that deciding for this agent reads, sorted."""
    of_context = {feature.column for feature in agent.context}
    return tuple(sorted(of_context | ruling_columns(agent, catalog, project)))


def ruling_columns(agent: Agent, catalog: Catalog, project: Project) -> set[str]:
    """Those by which it is settled for whom the agent may do what."""
    rules = [agent.audience, *(t.when for t in agent.triggers if t.when)]
    of_rules = {column for text in rules for column in parsed(text).columns}
    return of_rules | columns_of(catalog, project, agent)


def all_needed_columns(
    agents: Iterable[tuple[Agent, Catalog]], project: Project
) -> tuple[str, ...]:
    """The columns of one scan that serves several agents, sorted."""
    return tuple(
        sorted({c for agent, catalog in agents for c in needed_columns(agent, catalog, project)})
    )


def _names(feature: ContextFeature) -> Iterator[str]:
    if feature.transform == "one_of":
        yield from (f"{feature.column}={option}" for option in feature.one_of)
    elif feature.transform == "log1p":
        yield f"log1p({feature.column})"
    else:
        yield feature.column
