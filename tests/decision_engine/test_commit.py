"""One way into the log for everything: durable, then applied in the order of the log, then done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors import framed
from connectors.framed import MAX_PAYLOAD, FramedLog
from decision_engine.service.app import LogUnavailableError, Receiver
from decision_engine.service.commit import Place
from decision_engine.service.records import Event, Record, records

AT = "2026-03-02T10:00:00"


def event(number: int, properties: str | None = None) -> Event:
    return Event(f"m-{number}", "page", AT, AT, properties=properties)


def test_applied_in_the_order_of_the_log_with_its_places(tmp_path: Path) -> None:
    heard: list[tuple[Sequence[Record], Place]] = []
    done: list[int] = []

    async def commit(receiver: Receiver, number: int) -> None:
        await receiver.commit([event(number), event(-number)])
        assert any(event(number) in durable for durable, _ in heard), "done before applied"
        done.append(number)

    async def run() -> None:
        with FramedLog(tmp_path) as log:
            receiver = Receiver(log)
            receiver.listen(lambda durable, place: heard.append((durable, place)))
            await asyncio.gather(*(commit(receiver, i) for i in range(1, 30)))
            log.rotate()
            await asyncio.gather(*(commit(receiver, i) for i in range(30, 40)))

    asyncio.run(run())
    stored = [
        (list(records(payload)), Place(framed.number(path), at, framed.frame_end(at, payload)))
        for path in framed.segments(tmp_path)
        for at, payload in framed.frames(path)
    ]
    assert heard == stored
    assert [p.segment for _, p in heard] == [1] * 29 + [2] * 10
    assert sorted(done) == list(range(1, 40))


def test_what_goes_wrong_for_one_call_is_its_own(tmp_path: Path) -> None:
    def applied(durable: Sequence[Record], _: Place) -> None:
        if event(3) in durable:
            raise RuntimeError("a bug")

    async def run() -> list[BaseException | None]:
        with FramedLog(tmp_path) as log:
            receiver = Receiver(log)
            receiver.listen(applied)
            huge = event(5, "x" * MAX_PAYLOAD)
            calls = [*([event(i)] for i in range(5)), [huge], []]
            return await asyncio.gather(*map(receiver.commit, calls), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [type(o) for o in outcomes] == [
        *[type(None)] * 3,
        RuntimeError,
        type(None),
        ValueError,
        type(None),
    ]
    assert len(list(framed.read(tmp_path / "00000001.log"))) == 5


def test_what_cannot_be_written_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        with FramedLog(tmp_path) as log:
            receiver = Receiver(log)
            receiver.listen(lambda durable, _: heard.append(durable))
            with monkeypatch.context() as patch:
                patch.setattr(log, "place", full)
                both = asyncio.gather(*(receiver.commit([event(i)]) for i in range(2)))
                with pytest.raises(LogUnavailableError):
                    await both
            assert not receiver.is_healthy
            await receiver.commit([event(9)])
            assert receiver.is_healthy

    asyncio.run(run())
    assert heard == [[event(9)]]
