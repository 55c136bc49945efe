"""A slice of `make storm` in the profile lane; that of the send lane is with the journal."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.storm_outbox import KINDS, OTHERS, storm


def test_every_row_is_what_it_should_be_after_each_crash(tmp_path: Path) -> None:
    counts = storm(10, 1, tmp_path, rounds=4)

    assert all(counts[f"lives of a vendor that {kind}"] for kind in KINDS)
    assert all(counts[trouble] for trouble in ("answer", *OTHERS))
    assert counts["accepted, answer lost"] == counts["answer"] >= 5
