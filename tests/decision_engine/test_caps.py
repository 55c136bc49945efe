"""Frequency caps hold around the moment at which a message leaves, now or in some days."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import numpy as np
import pytest

from decision_engine.config import Cap, Channel
from decision_engine.guardrails import REASON_NAMES, judge
from decision_engine.scene import Scene
from decision_engine.types import Action, Catalog, Reason, seconds_of
from decision_engine.waiting import without
from tests.decision_engine.test_guardrails import NONE, NOON, epoch, people, project

DAY = 86_400.0
NOW = seconds_of(NOON)
CHANNELS = ("email", "push", "sms")
WINDOWS: tuple[Literal[1, 7, 30], ...] = (1, 7, 30)
LIMITED: tuple[Channel | None, ...] = (None, "email", "push", "sms")
WAITS = (0, 1, 2, 5, 7, 9)
CATALOG = Catalog((NONE, *(Action(f"{c}{w}", c, wait_days=w) for c in CHANNELS for w in WAITS)))
Send = tuple[float, str]
"""When, in seconds, and on which channel."""


def row(sent: Sequence[Send], waiting: Sequence[Send] = ()) -> dict[str, object]:
    """What the profile says of them."""
    counts = {
        f"{prefix}sends_{days}d": sum(
            at > NOW - days * DAY and prefix in ("", f"{channel}_") for at, channel in sent
        )
        for prefix in ("", *(f"{c}_" for c in CHANNELS))
        for days in WINDOWS
    }
    texts = (f"{round(at * 1e6)} {channel}" for at, channel in waiting)
    service = {f"service_consent_{c}": True for c in CHANNELS}
    return {**counts, **service, "messages_waiting": ",".join(texts)}


def verdicts(rows: Sequence[dict[str, object]], caps: tuple[Cap, ...]) -> list[dict[str, str]]:
    """The verdict on each message, for each person."""
    contexts = people(*rows, more=row([]))
    found = judge(Scene(contexts, CATALOG, project(caps=caps), epoch()))
    return [dict(zip(CATALOG.keys, (REASON_NAMES[c] for c in of), strict=True)) for of in found]


def test_messages_of_stopped_decisions_count_as_if_they_had_never_been() -> None:
    rng = random.Random(4)
    cap = Cap(max=1, days=7)
    for _ in range(50):
        sends = [(NOW + rng.uniform(0, 9) * DAY, rng.choice(CHANNELS)) for _ in range(3)]
        stopped = {f"d{i}" for i in range(3) if rng.random() < 0.5}
        entries = [f"{round(at * 1e6)} {channel} d{i}" for i, (at, channel) in enumerate(sends)]
        listed = {**row([]), "messages_waiting": ",".join(entries)}
        contexts = without(people(listed, more=row([])), stopped)
        left = row([], [send for i, send in enumerate(sends) if f"d{i}" not in stopped])
        found = judge(Scene(contexts, CATALOG, project(caps=(cap,)), epoch()))[0]
        expected = judge(Scene(people(left, more=row([])), CATALOG, project(caps=(cap,)), epoch()))
        assert found.tolist() == expected[0].tolist()
        assert (contexts.columns["messages_waiting"].values[0] == "") == (len(stopped) == 3)


def fits(cap: Cap, sends: Sequence[Send], at: float, channel: str) -> bool:
    """Whether no window of the cap that a message at this moment falls into is too full."""
    if cap.channel not in (None, channel):
        return True
    all_of = sorted([*(a for a, c in sends if cap.channel in (None, c)), at])
    windows = [end for end in all_of if at <= end < at + cap.days * DAY]
    return all(sum(end - cap.days * DAY < a <= end for a in all_of) <= cap.max for end in windows)


def test_no_message_is_possible_that_breaks_a_cap_when_it_leaves() -> None:
    draw = random.Random(7)

    def sends(first: float, last: float, most: int) -> list[Send]:
        n = draw.randrange(most + 1)
        return [(NOW + DAY * draw.uniform(first, last), draw.choice(CHANNELS)) for _ in range(n)]

    possible = capped = 0
    for _ in range(100):
        caps = tuple(
            Cap(draw.randrange(1, 5), draw.choice(WINDOWS), draw.choice(LIMITED)) for _ in range(2)
        )
        drawn = [(sends(-35, 0, 6), sends(-0.2, 14, 2)) for _ in range(20)]
        found = verdicts([row(*both) for both in drawn], caps)
        for (sent, waiting), verdict in zip(drawn, found, strict=True):
            for action in CATALOG.actions[1:]:
                at = NOW + action.wait_days * DAY
                if verdict[action.key] == "eligible":
                    assert all(fits(c, [*sent, *waiting], at, action.channel) for c in caps)
                    possible += 1
                capped += verdict[action.key] == "frequency_cap"
    assert possible > 5_000
    assert capped > 5_000


@pytest.mark.parametrize(
    ("cap", "sent", "waiting", "expected"),
    [
        # What was sent yesterday is no obstacle to a message in two days, where a day is the limit.
        (Cap(1, 1), [-0.5], [], {0: False, 1: True, 2: True}),
        (Cap(1, 7), [-0.5], [], {0: False, 5: False, 7: True}),
        (Cap(1, 7), [-3.0], [], {0: False, 5: False, 7: True, 9: True}),
        # What is to leave in two days counts for what leaves then, before or after.
        (Cap(1, 1), [], [2.1], {0: True, 1: True, 2: False, 5: True}),
        (Cap(1, 7), [], [2.1], {0: False, 1: False, 2: False, 7: False, 9: False}),
        (Cap(2, 7), [-0.5], [2.1], {0: False, 5: False, 7: True}),
        (Cap(0, 30), [], [], dict.fromkeys(WAITS, False)),
    ],
)
def test_a_cap_looks_at_the_day_a_message_leaves(
    cap: Cap, sent: list[float], waiting: list[float], expected: dict[int, bool]
) -> None:
    past, later = ([(NOW + d * DAY, "email") for d in days] for days in (sent, waiting))
    (found,) = verdicts([row(past, later)], (cap,))
    assert {w: found[f"push{w}"] == "eligible" for w in expected} == expected


def test_what_waits_counts_for_messages_that_leave_at_once() -> None:
    """Tomorrow's send hour too, of an agent without waits."""
    at_once = Catalog((NONE, Action("a", "email"), Action("later", "email", send_hour=19)))
    tomorrow = row([], [(NOW + 0.9 * DAY, "email")])
    contexts = people(tomorrow, {"messages_waiting": None}, {}, more=row([]))
    found = judge(Scene(contexts, at_once, project(caps=(Cap(1, 1),)), epoch()))
    blocked = (found == Reason.FREQUENCY_CAP).tolist()
    assert blocked == [[False, True, True], [False, True, True], [False, False, False]]


def test_a_channel_has_what_waits_on_it() -> None:
    waiting = row([], [(NOW + 2 * DAY, "sms")])
    (found,) = verdicts([waiting], (Cap(1, 1, "sms"),))
    assert (found["sms2"], found["email2"]) == ("frequency_cap", "eligible")


def test_the_law_of_a_place_looks_at_the_day_a_message_leaves() -> None:
    promotion = Catalog((NONE, *(Action(f"s{w}", "sms", wait_days=w, is_promotional=True)
                                 for w in (0, 2))))  # fmt: skip
    florida = {"country": "US", "region": "FL", "time_zone": "America/New_York"}
    afternoon = epoch(NOON + timedelta(hours=6))
    recent = [(NOW, "sms")] * 3
    contexts = people({**row(recent), **florida}, more=row([]))
    found = judge(Scene(contexts, promotion, project(caps=()), afternoon))
    assert [REASON_NAMES[c] for c in found[0]] == ["eligible", "frequency_cap", "eligible"]
    assert np.isfinite(Scene(contexts, promotion, project(), afternoon).times.send_at[0, 1:]).all()
