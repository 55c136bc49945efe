"""A slice of `make bench-deliver`: a quarter of an hour with an outage, in simulated time."""

from __future__ import annotations

import pytest

from tests.connectors.bench_deliver import DOCUMENTED, check, pools, salesforce_share

BY_NAME = {pool.name: pool for pool in pools()}


@pytest.mark.parametrize("name", ["iterable users.bulkUpdate", "slack chat.postMessage"])
def test_limits_are_kept_and_used_and_an_outage_is_outlived(name: str) -> None:
    assert check(BY_NAME[name]) == []


def test_every_documented_limit_is_of_a_pool_that_there_is() -> None:
    assert {f"{destination} {pool}" for destination, pool in DOCUMENTED} <= set(BY_NAME)


def test_a_run_stops_at_its_share_of_the_day() -> None:
    made, allowed = salesforce_share(0.03)
    assert made == allowed == 450
