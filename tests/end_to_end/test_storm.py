"""Killed at every failpoint and at random: same decisions, all accounted for, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import failpoint
from decision_engine import failpoints
from tests.end_to_end.storm import Life, audit, life, storm, undisturbed

# Dozens of restarts of the whole loop: minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)

# In the order in which a round comes by, so that each restart dies at the next one.
IN_A_ROUND = (
    "decide.epoch.after_commit",
    "decide.batch.before_commit",
    "decide.batch.after_commit",
    "decide.epoch.after_finish",
    "framed.append.torn",
    "journal.intent.before_sync",
    "journal.intent.after_sync",
    "sync.call.before",
    "sync.call.after",
    "journal.sending.before_sync",
    "journal.sending.after_sync",
    "journal.recover.before_sync",
    "deliver.call.before",
    "journal.recover.after_sync",
    "deliver.call.after",
    "journal.receipt.before_sync",
    "journal.receipt.after_sync",
    "project.receipts.before_commit",
    "project.receipts.after_commit",
    "learn.store.before_commit",
    "learn.store.after_commit",
)
# A journal of 64 MiB, or one that is compacted: the journal's own tests reach these, the storm of
# deliveries those of outboxes. There is
# nothing to load here: the storm of the hot path reaches those.
ELSEWHERE = {
    "outbox.doubt.after_commit",
    "outbox.keep.before_commit",
    "outbox.keep.after_commit",
    "load.chunk.after_insert",
    "load.segment.before_commit",
    "load.segment.after_commit",
    "framed.rotate.after_sync",
    "framed.rotate.after_create",
    "journal.compact.before_sync",
    "journal.compact.after_sync",
    "journal.compact.between_unlinks",
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A project that dies at one failpoint after the other."""
    with life(tmp_path_factory.mktemp("failpoints")) as one:
        yield one


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The decisions of a project that nobody disturbs."""
    return undisturbed(tmp_path_factory.mktemp("calm"))


def test_every_failpoint(subject: Life, wanted: list[tuple[Any, ...]]) -> None:
    assert {*IN_A_ROUND, *ELSEWHERE} == {*failpoint.FAILPOINTS, *failpoints.FAILPOINTS}
    missed = [name for name in IN_A_ROUND if subject.once(failpoint=name)]

    assert missed == []
    assert subject.once()
    audit(subject, wanted)


def test_random_kills(tmp_path: Path, wanted: list[tuple[Any, ...]]) -> None:
    result = storm(tmp_path, kills=5, seed=3, wanted=wanted)

    assert result["kills"] >= 5
    assert result["accepted"] > 0
