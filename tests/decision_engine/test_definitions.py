"""The moment's features: one text, the same answer in the warehouse and in the service."""

from __future__ import annotations

from itertools import product
from typing import Any

import duckdb
import pytest

from decision_engine.build import package_folder
from decision_engine.service import definitions
from decision_engine.service.definitions import Events

VALUES: dict[Events, dict[str, list[Any]]] = {
    "web": {
        "type": ["page", "screen", "track", "identify", None],
        "event": ["Signed Up", None],
        "page_class": ["price", "cart", "home", None],
        "platform": ["web", None],
    },
    "messages": {
        "event_type": ["open", "click", "delivered", None],
        "channel": ["email", None],
        "is_machine": [True, False, None],
    },
}


@pytest.mark.parametrize("events", VALUES)
def test_rules_count_the_same_events_in_the_warehouse(events: Events) -> None:
    counts = [*definitions.windowed_counts(), definitions.page_path()]
    names = [c.name for c in counts if c.events == events]
    wheres = ", ".join(f"coalesce({c.where.text}, false)" for c in counts if c.events == events)
    types = {"is_machine": "boolean"}
    inputs = ", ".join(f"?::{types.get(c, 'text')} as {c}" for c in VALUES[events])
    with duckdb.connect() as warehouse:
        for values in product(*VALUES[events].values()):
            truth = warehouse.execute(
                f"select {wheres} from (select {inputs})", list(values)
            ).fetchone()
            assert truth is not None
            event = dict(zip(VALUES[events], values, strict=True))
            wanted = tuple(n for n, is_in in zip(names, truth, strict=True) if is_in)
            assert definitions.counted_in(events, event) == wanted


def test_every_defined_feature_is_a_column_of_the_profiles() -> None:
    text = (package_folder() / "models/marts/_marts__models.yml").read_text(encoding="utf-8")
    for name in [c.name for c in definitions.windowed_counts()] + [definitions.page_path().name]:
        assert f"- name: {name}\n" in text


def test_velocity_is_the_recent_rate_less_the_usual_one() -> None:
    counts = {"opens_2d": 3, "clicks_2d": 1, "opens_14d": 5, "clicks_14d": 2}
    assert definitions.engagement_velocity(counts) == 2.0 - 0.5
