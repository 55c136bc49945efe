"""Contexts as numbers: the raw basis x (n, d) that policies learn in.

The basis is raw on purpose: learned sums in it add up across workers and time. Centring and
scaling belong to the policy's frozen transform, fitted by `learn`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    blocks = [np.empty((len(contexts), 0))]
    blocks += [_block(_column(contexts, f.column), f) for f in context]
    return np.concatenate(blocks, axis=1)


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
    if name not in contexts.columns:
        raise MissingColumnError(name)
    return contexts.columns[name]


def _block(column: Column, feature: ContextFeature) -> Floats:
    """(n, 1), or (n, number of options)."""
    if feature.transform == "one_of":
        hits = [(column.values == option) & column.valid for option in feature.one_of]
        return np.stack(hits, axis=1).astype(np.float64)
    numbers = _numbers(column)
    if feature.transform == "log1p":
        numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    return numbers[:, np.newaxis]


def _numbers(column: Column) -> Floats:
    known: NDArray[Any] = np.where(column.valid, column.values, 0).astype(np.float64)
    return np.where(np.isfinite(known), known, 0.0)
