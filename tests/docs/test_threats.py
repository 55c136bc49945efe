"""Every threat of the page has tests, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.docs.reference import ROOT

PAGE = ROOT / "docs" / "reference" / "threats.md"
EXPECTED = [*range(1, 9), *range(12, 17), *range(26, 35), 41]


def rows() -> dict[int, list[str]]:
    """The tests by the number of the threat."""
    found = re.findall(r"^\| T(\d+) \|.*\| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)
    return {int(number): re.findall(r"`([^`]+)`", tests) for number, tests in found}


@cache
def functions(path: str) -> set[str]:
    """The tests of a file, those in classes too."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@cache
def unit_tests() -> set[str]:
    """Those of the dbt project."""
    files = (ROOT / "dbt_project" / "models").rglob("*unit_tests.yml")
    return {n for file in files for n in re.findall(r"^  - name: (\S+)$", file.read_text(), re.M)}


def exists(test: str) -> bool:
    path, _, name = test.rpartition("::")
    return name in (functions(path) if path else unit_tests())


def test_every_threat_is_on_the_page_with_a_test() -> None:
    assert {number: bool(tests) for number, tests in rows().items()} == dict.fromkeys(
        EXPECTED, True
    )


def test_every_test_that_the_page_names_exists() -> None:
    assert [test for tests in rows().values() for test in tests if not exists(test)] == []
