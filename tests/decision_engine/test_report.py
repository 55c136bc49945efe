"""The figures of the report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from connectors.warehouses.duckdb import DuckDB
from decision_engine.report import rewards_by_group
from decision_engine.workspace import Workspace


def test_reward_by_group_does_not_depend_on_the_order_of_rows(tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    customer = rng.integers(0, 3_000, n)
    rows = pa.table(
        {
            "group_name": np.where(customer % 3 == 0, "holdout", "treatment"),
            "customer_id": customer.astype(str),
            "reward": np.round(rng.gamma(0.1, 300, n), 2) / 100 - 0.1,
            "is_closed": rng.random(n) < 0.9,
        }
    )
    workspace = cast(Workspace, SimpleNamespace(model=lambda name: f"nextmove.{name}"))
    found = []
    for i in range(4):
        warehouse = DuckDB(tmp_path / f"{i}.duckdb")
        warehouse.ensure("nextmove.fct_decision_rewards", rows.schema)
        warehouse.append("nextmove.fct_decision_rewards", rows.take(rng.permutation(n)))
        found.append(rewards_by_group(workspace, warehouse))
        warehouse.close()

    assert found[0] == found[1] == found[2] == found[3]
    frame = rows.to_pandas()
    sums = frame[frame.is_closed].groupby(["group_name", "customer_id"]).reward.sum()
    for name, group in found[0].items():
        assert group.n == len(sums[name])
        assert group.mean == pytest.approx(sums[name].mean())
        assert group.variance == pytest.approx(sums[name].var())
