"""Long files begin first, so that two workers end together."""

from __future__ import annotations

import pytest

LONG = (
    "test_demo.py", "test_storm.py", "test_warehouses.py", "test_dags.py", "test_docs.py",
    "test_build.py", "test_foreign_project.py", "test_hot_store.py", "test_bad_input.py",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After they were shuffled; the others stay as they are."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
