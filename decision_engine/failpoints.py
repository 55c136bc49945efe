"""Where a test can make the loop die: the names that this package passes to `failpoint.hit`."""

from __future__ import annotations

FAILPOINTS = (
    "learn.store.before_commit",
    "learn.store.after_commit",
    "decide.epoch.after_commit",
    "decide.batch.before_commit",
    "decide.batch.after_commit",
    "decide.epoch.after_finish",
    "outbox.doubt.after_commit",
    "outbox.keep.before_commit",
    "outbox.keep.after_commit",
    "project.receipts.before_commit",
    "project.receipts.after_commit",
    "load.chunk.after_insert",
    "load.segment.before_commit",
    "load.segment.after_commit",
)
