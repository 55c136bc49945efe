"""Killed at every failpoint and at random: same decisions, all accounted for, nothing twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import failpoint
from decision_engine import failpoints
from tests.end_to_end.storm import Life, audit, decisions, life, storm

NOT_IN_A_ROUND = {
    # A journal of 64 MiB, or one that is compacted: tests of the journal itself reach these.
    "framed.rotate.after_sync",
    "framed.rotate.after_create",
    "journal.compact.before_sync",
    "journal.compact.after_sync",
    "journal.compact.between_unlinks",
}
NAMES = sorted({*failpoint.FAILPOINTS, *failpoints.FAILPOINTS} - NOT_IN_A_ROUND)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A project that dies at one failpoint after the other."""
    with life(tmp_path_factory.mktemp("failpoints")) as one:
        yield one


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The decisions of a project that nobody disturbs."""
    with life(tmp_path_factory.mktemp("calm")) as calm:
        assert calm.once()
        made = decisions(calm.workspace)
        audit(calm, made)
        return made


def test_every_failpoint(subject: Life, undisturbed: list[tuple[Any, ...]]) -> None:
    order = list(NAMES)
    random.Random(5).shuffle(order)
    reached = [name for name in order if not subject.once(failpoint=name)]
    while not subject.once():
        pass

    audit(subject, undisturbed)
    # Each place is passed by some round; one that comes too late in its day is met by the next.
    assert len(reached) >= len(NAMES) - 3, sorted(set(NAMES) - set(reached))


def test_random_kills(tmp_path: Path) -> None:
    result = storm(tmp_path, kills=20, seed=3)

    assert result["kills"] >= 20
    assert result["accepted"] > 0
