"""Contexts as numbers: the raw basis x (n, d) that policies learn in.

The basis is raw on purpose: learned sums in it add up across workers and time. Centring and
scaling belong to the policy's frozen transform, fitted by `learn`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

from decision_engine.config import Agent, ContextFeature, Project
from decision_engine.errors import MissingColumnError
from decision_engine.guardrails import columns_of
from decision_engine.rules import parsed
from decision_engine.types import Catalog, Column, Contexts, Floats


def feature_names(context: Sequence[ContextFeature]) -> tuple[str, ...]:
    """The d names of the basis: `orders_count`, `log1p(visits)`, `tier=gold`."""
    return tuple(name for feature in context for name in _names(feature))


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
        self.numbers = [f.column for f in numbers]
        self.at = np.array([first[f] for f in numbers], dtype=np.int64)
        self.log1p = np.array([f.transform == "log1p" for f in numbers], dtype=bool).nonzero()[0]
        self.choices = [
            (f.column, {option: first[f] + i for i, option in enumerate(f.one_of)})
            for f in context
            if f.transform == "one_of"
        ]

    def x(self, contexts: Contexts) -> Floats:
        """As `design`."""
        out = np.zeros((len(contexts), self.d))
        if self.numbers:
            out[:, self.at] = self._numbers(contexts).T
        for name, places in self.choices:
            values, valid = _column(contexts, name)
            place = np.array([places.get(v, -1) for v in values.tolist()], dtype=np.int64)
            rows = (valid & (place >= 0)).nonzero()[0]
            out[rows, place[rows]] = 1.0
        return out

    def _numbers(self, contexts: Contexts) -> Floats:
        columns = [_column(contexts, name) for name in self.numbers]
        values = np.concatenate([c.values for c in columns], dtype=np.float64, casting="unsafe")
        known = np.concatenate([c.valid for c in columns])
        known &= np.isfinite(values)
        values[~known] = 0.0
        values = values.reshape(len(columns), -1)
        if len(self.log1p):
            logs = values[self.log1p]
            values[self.log1p] = np.sign(logs) * np.log1p(np.abs(logs))
        return values


def _width(feature: ContextFeature) -> int:
    return len(feature.one_of) if feature.transform == "one_of" else 1


_basis = lru_cache(maxsize=256)(_Basis)


def needed_columns(agent: Agent, catalog: Catalog, project: Project) -> tuple[str, ...]:
    """Columns of dim_customer_features that deciding for this agent reads, sorted."""
    rules = [agent.audience, *(t.when for t in agent.triggers if t.when)]
    of_rules = {column for text in rules for column in parsed(text).columns}
    of_context = {feature.column for feature in agent.context}
    return tuple(sorted(of_rules | of_context | columns_of(catalog, project)))


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


def _column(contexts: Contexts, name: str) -> Column:
    try:
        return contexts.columns[name]
    except KeyError:
        raise MissingColumnError(name) from None
