"""Killed under load: nothing acknowledged is lost, nothing is loaded twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.storm_hotpath import storm


@pytest.mark.timeout(600)
def test_ten_kills(tmp_path: Path) -> None:
    counts = storm(tmp_path, kills=10, seed=3)

    assert counts["service_kills"] >= 10
    assert counts["acknowledged"] > 100
    assert counts["loader_failures"] == 0
