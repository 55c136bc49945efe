from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import framed
from connectors.errors import CorruptLogError, LockedError, LogError
from connectors.framed import (
    MAX_PAYLOAD,
    FramedLog,
    closed_segments,
    frame_at,
    frames,
    number,
    read,
    segments,
)


def write(directory: Path, payloads: list[bytes]) -> Path:
    with FramedLog(directory) as log:
        log.append(payloads)
        log.sync()
        return log.path


def content(segment: Path) -> list[bytes]:
    return [payload for _, payload in frames(segment)]


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with FramedLog(tmp_path) as log:
        offsets = log.append([b"one", b"two" * 5_000]) + log.append([b"three"])
        log.sync()
        assert log.rotate() == tmp_path / "00000001.log"
        log.append([b"four"])
    assert [p.name for p in segments(tmp_path)] == ["00000001.log", "00000002.log"]
    (closed,) = closed_segments(tmp_path)
    assert number(closed) == 1
    assert list(read(closed)) == [b"one", b"two" * 5_000, b"three"]
    assert [offset for offset, _ in frames(closed)] == offsets
    assert list(frames(closed, offsets[2])) == [(offsets[2], b"three")]
    with closed.open("rb") as file:
        assert [frame_at(file.fileno(), o) for o in offsets] == list(read(closed))


def test_an_empty_log_has_one_open_segment_that_is_not_closed_twice(tmp_path: Path) -> None:
    with FramedLog(tmp_path) as log:
        assert log.rotate() is None
    assert closed_segments(tmp_path) == []


def test_the_tail_is_cut_wherever_the_power_failed(tmp_path: Path) -> None:
    whole = write(tmp_path, [b"first", b"second"]).read_bytes()
    ends = [0, 13, 27]
    for cut in range(len(whole) + 1):
        (tmp_path / "00000001.log").write_bytes(whole[:cut])
        with FramedLog(tmp_path) as log:
            kept = sum(cut >= end for end in ends[1:])
            assert content(log.path) == [b"first", b"second"][:kept]
            assert log.cut_bytes == cut - ends[kept]
            log.append([b"next"])
        assert content(segments(tmp_path)[0])[-1] == b"next"


@settings(max_examples=80, deadline=None)
@given(garbage=st.binary(min_size=1, max_size=60), zeros=st.integers(0, 64))
def test_garbage_and_zeros_behind_the_last_frame_are_cut(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, zeros: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    segment = write(directory, [b"kept"])
    with segment.open("ab") as file:
        file.write(bytes(zeros) + garbage)
    with FramedLog(directory) as log:
        assert content(log.path) == [b"kept"]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_closed_segment_is_an_error_that_says_where(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("log")
    with FramedLog(directory) as log:
        offsets = log.append([b"first", b"second", b"third"])
        log.rotate()
    (segment,) = closed_segments(directory)
    raw = bytearray(segment.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    segment.write_bytes(raw)
    with pytest.raises(CorruptLogError) as caught:
        list(read(segment))
    assert caught.value.path == segment
    assert caught.value.offset == max(o for o in offsets if o <= at)
    assert str(caught.value.offset) in str(caught.value)


def test_only_one_writer(tmp_path: Path) -> None:
    with FramedLog(tmp_path), pytest.raises(LockedError, match="in use"):
        FramedLog(tmp_path)
    FramedLog(tmp_path).close()


def test_a_closed_log_refuses_work_and_closes_twice(tmp_path: Path) -> None:
    log = FramedLog(tmp_path)
    log.close()
    log.close()
    with pytest.raises(LogError):
        log.append([b"late"])


@pytest.mark.parametrize("payload", [b"", bytes(MAX_PAYLOAD + 1)])
def test_payloads_that_could_not_be_read_back_are_refused(tmp_path: Path, payload: bytes) -> None:
    with FramedLog(tmp_path) as log:
        with pytest.raises(ValueError, match="payloads"):
            log.append([b"fine", payload])
        assert log.size == 0


def failing(after: int) -> Callable[[int, bytes], int]:
    """A disk with room for `after` more bytes."""
    real, left = os.write, [after]

    def write_some(descriptor: int, data: bytes) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(descriptor, data[: left[0]])
        left[0] -= done
        return done

    return write_some


@pytest.mark.parametrize("room", range(0, 25, 3))
def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with FramedLog(tmp_path) as log:
        log.append([b"before"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing(room))
            with pytest.raises(OSError, match="No space"):
                log.append([b"one", b"two", b"three"])
        log.append([b"after"])
        assert content(log.path) == [b"before", b"after"]


def test_after_a_failed_sync_nothing_is_promised_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with FramedLog(tmp_path) as log:
        log.append([b"maybe"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(OSError, match="Input/output"):
                log.sync()
        for work in (log.sync, log.rotate, lambda: log.append([b"more"])):
            with pytest.raises(LogError):
                work()


def test_a_segment_that_cannot_be_begun_leaves_the_old_one_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise readers would take it for closed, and miss what is still written to it."""

    def fail(_: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with FramedLog(tmp_path) as log:
        log.append([b"one"])
        with monkeypatch.context() as patch:
            patch.setattr(framed, "_sync_directory", fail)
            with pytest.raises(OSError, match="Too many"):
                log.rotate()
        assert framed.closed_segments(tmp_path) == []
        log.append([b"two"])
        assert log.rotate() == tmp_path / "00000001.log"
    assert list(framed.read(tmp_path / "00000001.log")) == [b"one", b"two"]


def test_files_are_private(tmp_path: Path) -> None:
    assert write(tmp_path, [b"x"]).stat().st_mode & 0o077 == 0
