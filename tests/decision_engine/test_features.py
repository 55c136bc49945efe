"""Contexts as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from decision_engine.catalog import catalog_of
from decision_engine.config import (
    Agent,
    AgentAction,
    Cap,
    ContextFeature,
    Creative,
    Destination,
    DuckDBWarehouse,
    Group,
    Outcome,
    Project,
)
from decision_engine.errors import MissingColumnError
from decision_engine.features import all_needed_columns, design, feature_names, needed_columns
from decision_engine.types import Contexts, column_of

CONTEXT = (
    ContextFeature("orders"),
    ContextFeature("velocity", "log1p"),
    ContextFeature("has_email"),
    ContextFeature("tier", "one_of", ("silver", "gold")),
)


def contexts(**columns: Sequence[Any]) -> Contexts:
    n = len(next(iter(columns.values())))
    ids = np.array([f"c{i}" for i in range(n)], dtype=object)
    return Contexts(ids, {name: column_of(values) for name, values in columns.items()})


def test_names_are_those_of_the_columns() -> None:
    names = ("orders", "log1p(velocity)", "has_email", "tier=silver", "tier=gold")
    assert feature_names(CONTEXT) == names
    assert feature_names(()) == ()


def test_values() -> None:
    x = design(
        contexts(
            orders=[3, None],
            velocity=[-1.0, np.e - 1],
            has_email=[True, None],
            tier=["gold", "bronze"],
        ),
        CONTEXT,
    )
    assert x.dtype == np.float64
    assert x.tolist() == [[3, -np.log(2), 1, 0, 1], [0, 1, 0, 0, 0]]


def test_a_column_of_only_nulls_is_zero_whatever_its_kind() -> None:
    nothing: list[Any] = [None, None]
    x = design(contexts(orders=nothing, velocity=nothing, has_email=nothing, tier=nothing), CONTEXT)
    assert x.tolist() == [[0, 0, 0, 0, 0]] * 2


def test_what_is_not_finite_is_zero() -> None:
    assert design(contexts(orders=[np.inf, np.nan, 1.0]), CONTEXT[:1])[:, 0].tolist() == [0, 0, 1]


def test_one_row_is_the_row_of_many() -> None:
    many = contexts(
        orders=[1, 2, 3], velocity=[0.1, 2.5, -9], has_email=[True, False, None],
        tier=["gold", None, "silver"],
    )  # fmt: skip
    whole = design(many, CONTEXT)
    for i in range(3):
        assert (design(many.take(np.array([i])), CONTEXT) == whole[i]).all()


def test_nobody() -> None:
    assert design(contexts(orders=[]), CONTEXT[:1]).shape == (0, 1)
    assert design(contexts(orders=[1, 2]), ()).shape == (2, 0)


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(MissingColumnError, match="'tier'"):
        design(contexts(orders=[1], velocity=[1], has_email=[True]), CONTEXT)


def test_needed_columns_are_those_of_rules_context_and_guardrails() -> None:
    creatives = {"note": Creative("note", "push", "1", "A note")}
    agent = Agent(
        "hello", "Say hello", "orders = 1 AND lower(country) = 'us'", (Outcome("order", 1.0),),
        (AgentAction("note", eligible_if="visits > 1"),), (ContextFeature("velocity"),),
    )  # fmt: skip
    project = Project(
        "shop", "0123456789abcdef", DuckDBWarehouse(), (), {"push": "braze"},
        {"braze": Destination("braze", "http://x", "KEY")}, (Group("treatment", 1.0),),
        caps=(Cap(1, 7), Cap(1, 1, "push")),
    )  # fmt: skip
    catalog = catalog_of(agent, creatives, ())
    found = needed_columns(agent, catalog, project)
    assert found == (
        "as_of", "consent_push", "country", "has_open_complaint", "has_push", "is_suppressed",
        "messages_waiting", "orders", "push_sends_1d", "sends_7d", "time_zone", "velocity",
        "visits",
    )  # fmt: skip
    assert all_needed_columns([(agent, catalog), (agent, catalog)], project) == found
