"""The append-only file format of the delivery journal and of the inbound event log.

A log is a directory of segments `<8 digits>.log`; the highest number is open, all others
are closed and never change. A segment is a run of frames

    [u32 length][u32 crc32 of the payload][payload]      (little endian, 1 <= length <= 16 MiB)

An empty payload is not a frame: eight zero bytes, which a power cut can leave in a file,
would otherwise pass as one. Bytes after the last whole frame of the open segment were never
synced, so nobody was told they are safe: they are cut off on open. A closed segment was
synced before its successor was made; anything but whole frames in it is damage.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from connectors import failpoint
from connectors.errors import CorruptLogError, LockedError, LogError

MAX_PAYLOAD = 16 << 20
_HEAD = struct.Struct("<II")
_READ = 1 << 20


def segments(directory: Path) -> list[Path]:
    """All segments of a log in order; the last one is the open one."""
    return sorted(p for p in directory.glob("????????.log") if p.stem.isdigit())


def closed_segments(directory: Path) -> list[Path]:
    """The segments that will never change again, in order."""
    return segments(directory)[:-1]


def frame_at(descriptor: int, offset: int) -> bytes:
    """The payload of the frame at `offset` of an open file, for a place `append` returned."""
    start = os.pread(descriptor, 4096, offset)
    length: int = _HEAD.unpack_from(start)[0]
    payload = start[_HEAD.size : _HEAD.size + length]
    if len(payload) < length:
        payload += os.pread(descriptor, length - len(payload), offset + len(start))
    return payload


def payload_at(directory: Path, segment: int, offset: int) -> bytes | None:
    """The payload of a frame of a log, for a place `place` returned; None if it is deleted."""
    try:
        descriptor = os.open(_path(directory, segment), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return frame_at(descriptor, offset)
    finally:
        os.close(descriptor)


def frame_end(offset: int, payload: bytes) -> int:
    """The offset behind the frame of `payload` at `offset`."""
    return offset + _HEAD.size + len(payload)


def _path(directory: Path, number: int) -> Path:
    return directory / f"{number:08}.log"


def number(segment: Path) -> int:
    """The number in a segment's name."""
    return int(segment.stem)


def read(segment: Path) -> Iterator[bytes]:
    """The payloads of a closed segment. Raises CorruptLogError at anything but whole frames."""
    for _, payload in frames(segment, is_closed=True):
        yield payload


def frames(
    segment: Path, start: int = 0, *, is_closed: bool = False
) -> Iterator[tuple[int, bytes]]:
    """(offset, payload) of the whole frames of a segment, from the frame at `start` on.

    At the first frame that is not whole it ends silently, for a writer may be at work there;
    with `is_closed` it raises CorruptLogError.
    """
    end = start
    for offset, payload in _whole_frames(segment, start):
        end = frame_end(offset, payload)
        yield offset, payload
    if is_closed and end != segment.stat().st_size:
        raise CorruptLogError(segment, end)


def _whole_frames(segment: Path, start: int) -> Iterator[tuple[int, bytes]]:
    with segment.open("rb") as file:
        file.seek(start)
        buffer, at, offset = b"", 0, start
        while True:
            frame = _frame(buffer, at)
            if frame is None:
                more = file.read(max(_READ, _wanted(buffer, at)))
                if not more:
                    return
                buffer, at = buffer[at:] + more, 0
                continue
            if frame == b"":
                return
            yield offset, frame
            at += _HEAD.size + len(frame)
            offset += _HEAD.size + len(frame)


def _frame(buffer: bytes, at: int) -> bytes | None:
    """The payload at `at`; None when bytes are missing, empty when the frame is bad."""
    if len(buffer) - at < _HEAD.size:
        return None
    length, crc = _HEAD.unpack_from(buffer, at)
    if not 0 < length <= MAX_PAYLOAD:
        return b""
    if len(buffer) - at < _HEAD.size + length:
        return None
    payload = buffer[at + _HEAD.size : at + _HEAD.size + length]
    return payload if zlib.crc32(payload) == crc else b""


def _wanted(buffer: bytes, at: int) -> int:
    """How many bytes the frame begun at `at` needs at most."""
    if len(buffer) - at < _HEAD.size:
        return _HEAD.size
    length: int = _HEAD.unpack_from(buffer, at)[0]
    return _HEAD.size + min(length, MAX_PAYLOAD)


class FramedLog:
    """The one writer of a log. Safe to use from several threads.

    `append` hands bytes to the system; they are safe after the next `sync`. A failed write
    is undone; after a failed `sync` the log refuses all work, because the system may have
    dropped what it could not write.
    """

    def __init__(self, directory: Path) -> None:
        """Open or create the log in `directory`. Raises LockedError when it has a writer."""
        self.directory = directory
        self._write_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._broken = False
        self._lock_fd = lock(directory)
        try:
            found = segments(directory)
            self.number = number(found[-1]) if found else 1
            self.cut_bytes = _cut_torn_tail(found[-1]) if found else 0
            self._fd = _open(self.path)
            self.size = os.fstat(self._fd).st_size
            _sync_directory(directory)
        except BaseException:
            os.close(self._lock_fd)
            raise

    @property
    def path(self) -> Path:
        """The open segment."""
        return _path(self.directory, self.number)

    def append(self, payloads: Sequence[bytes]) -> list[int]:
        """Write the frames behind one another; the offset of each in the open segment.

        All or nothing: when the disk is full the segment stays as it was and OSError is raised.
        """
        return self.place(payloads)[1]

    def place(self, payloads: Sequence[bytes]) -> tuple[int, list[int]]:
        """As `append`; the number of the segment, and the offset of each frame in it."""
        for payload in payloads:
            if not 0 < len(payload) <= MAX_PAYLOAD:
                raise ValueError(f"`payloads` must have 1 to {MAX_PAYLOAD} bytes each")
        data = b"".join(_HEAD.pack(len(p), zlib.crc32(p)) + p for p in payloads)
        with self._write_lock:
            self._check()
            if failpoint.armed("framed.append.torn"):
                os.write(self._fd, data[: len(data) // 2])
            failpoint.hit("framed.append.torn")
            segment, offset = self.number, self.size
            self._write(data)
        offsets = []
        for payload in payloads:
            offsets.append(offset)
            offset += _HEAD.size + len(payload)
        return segment, offsets

    def _write(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._broken = True
            os.ftruncate(self._fd, self.size)
            self._broken = False
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Return when everything appended before the call is on the disk."""
        with self._sync_lock:
            self._check()
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._broken = True
                raise

    def rotate(self) -> Path | None:
        """Close the open segment and begin the next; None when there is nothing to close."""
        with self._sync_lock, self._write_lock:
            self._check()
            if self.size == 0:
                return None
            os.fdatasync(self._fd)
            failpoint.hit("framed.rotate.after_sync")
            closed = self.path
            following = self._begin(_path(self.directory, self.number + 1))
            os.close(self._fd)
            self._fd, self.number, self.size = following, self.number + 1, 0
            return closed

    def _begin(self, segment: Path) -> int:
        """The next segment, open. When that fails it is not there: ours would pass for closed."""
        following = _open(segment)
        failpoint.hit("framed.rotate.after_create")
        try:
            _sync_directory(self.directory)
        except OSError:
            os.close(following)
            segment.unlink()
            raise
        return following

    def _check(self) -> None:
        if self._broken:
            raise LogError(
                f"{self.path} could not be written", "look at the disk, then start again"
            )

    def close(self) -> None:
        """Sync and let go of the files and of the lock."""
        if self._lock_fd < 0:
            return
        try:
            if not self._broken:
                self.sync()
        finally:
            os.close(self._fd)
            os.close(self._lock_fd)
            self._lock_fd = -1
            self._broken = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock(directory: Path) -> int:
    """A descriptor that holds the directory until it is closed. Raises LockedError if held."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LockedError(
            f"{directory} is in use by another process", "wait for it to end, or stop it"
        ) from None
    return descriptor


def _cut_torn_tail(segment: Path) -> int:
    """Cut everything after the last whole frame; how many bytes that was."""
    end = 0
    for offset, payload in frames(segment):
        end = frame_end(offset, payload)
    torn = segment.stat().st_size - end
    if torn:
        with segment.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return torn


def _open(segment: Path) -> int:
    """Ready to append. The file is private: payloads hold personal data."""
    return os.open(segment, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
