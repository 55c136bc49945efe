"""How likely people are to react to a message: the truth that policies try to learn.

Everything a message does follows from one score per person and action. Its parts: what the
creative means to this person, the channel, the incentive, the hour, how much they have had
lately, and whether they are waiting for an answer to a complaint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from scipy.special import expit

from decision_engine.market.appeal import Appeal
from decision_engine.market.people import CHANNELS, DAY, STEPS, ZONES, People
from decision_engine.market.state import State
from decision_engine.types import Bools, Floats, Ints

RESOLUTION = "making_it_right"
"""The one creative that people with an open complaint want to get, and nobody else."""

_BASE = -0.75
_VISITED, _KEEN = 0.5, 0.25
_HOUR, _HOUR_WIDTH = 0.8, 3.0
_FATIGUE, _PILE = 0.30, 0.5
_COMPLAINT, _ANSWER = -2.5, 1.5
_INTRUSION = np.array([0.0, 0.1, 0.5])


@dataclass(frozen=True)
class ActionView:
    """An action as people see it. Channel "" is no message; no `send_hour` is at once.

    One with `wait_days` comes so many days later.
    """

    channel: str
    creative: str
    incentive: str = "none"
    send_hour: int | None = None
    wait_days: int = 0


@dataclass(frozen=True)
class Chances:
    """Probabilities (n, k) of what one message causes within three days, beside each other.

    An order needs a click; an opened e-mail may or may not be clicked.
    """

    click: Floats
    open: Floats
    order: Floats
    onboarding_step: Floats
    unsubscribe: Floats
    complaint: Floats
    bounce: Floats

    def reward(self, weights: Mapping[str, float]) -> Floats:
        """Expected sum of weights (n, k); what is not in `weights` counts nothing."""
        expected = {
            "click": self.click,
            "open": self.open,
            "order": self.order,
            "visit": self.click + self.order,
            "onboarding_step": self.onboarding_step,
            "unsubscribe": self.unsubscribe,
            "complaint": self.complaint,
            "bounce": self.bounce,
        }
        total = np.zeros_like(self.click)
        for event in sorted(expected.keys() & weights.keys()):
            total += weights[event] * expected[event]
        return total


@dataclass(frozen=True)
class Response:
    """The reactions of `people` in a market that began at `start` (Unix seconds)."""

    people: People
    appeal: Appeal
    incentives: Mapping[str, float]
    start: float
    effect: float

    def chances(
        self, state: State, who: Ints, actions: Sequence[ActionView], at: Floats
    ) -> Chances:
        """Chances (n, k) of n people `who` for k actions, sent at `at` (n,) or at their hour.

        Those of an action that waits are as of then, if nothing happens in the meantime.
        """
        if any(a.wait_days for a in actions):
            return self._later(state, who, actions, at)
        channel = np.array([CHANNELS.index(a.channel) if a.channel else 0 for a in actions])
        score = self._scores(state, who, actions, channel, at)
        arrives = self.arrives(state, who, channel) & [bool(a.channel) for a in actions]
        works = arrives & ~self._bounces(who, channel)
        click = np.where(works, np.minimum(0.9, self.effect * 0.65 * expit(score - 0.6)), 0.0)
        unsubscribe = self.effect * expit(-5.1 - 0.9 * score + _INTRUSION[channel])
        unsubscribe = np.where(works, np.minimum(unsubscribe, 0.5), 0.0)
        is_mail = channel == 0
        return Chances(
            click=click,
            open=np.where(is_mail, click + (1 - click) * np.minimum(click, 0.5), 0.0),
            order=click * 0.75 * expit(score - 0.2),
            onboarding_step=click * self._step_share(state, who)[:, None],
            unsubscribe=unsubscribe,
            complaint=np.where(is_mail, 0.12 * unsubscribe, 0.0),
            bounce=np.where(arrives & ~works, 1.0, 0.0),
        )

    def _later(self, state: State, who: Ints, actions: Sequence[ActionView], at: Floats) -> Chances:
        waits = np.array([a.wait_days for a in actions])
        out = {f.name: np.empty((len(who), len(actions))) for f in fields(Chances)}
        for days in np.unique(waits).tolist():
            of = np.flatnonzero(waits == days)
            views = [replace(a, wait_days=0) for a in actions if a.wait_days == days]
            found = self.chances(state, who, views, at + days * DAY)
            for name, values in out.items():
                values[:, of] = getattr(found, name)
        return Chances(**out)

    def _scores(
        self, state: State, who: Ints, actions: Sequence[ActionView], channel: Ints, at: Floats
    ) -> Floats:
        people = self.people
        days = (at - self.start) / DAY
        score = self.appeal.scores(
            traits(people, state, who, at), [a.creative for a in actions], days
        )
        score += _BASE + people.affinity[who][:, channel]
        score += self._incentive(who, actions) + self._hour_fit(who, actions, at)
        score += self._mood(state, who, at)[:, None]
        answers = np.array([a.creative == RESOLUTION for a in actions])
        waits = ((state.complained[who] <= at) & (at < state.calmed[who]))[:, None]
        total: Floats = score + np.where(
            waits & answers, _ANSWER, np.where(waits | answers, _COMPLAINT, 0.0)
        )
        return total

    def _mood(self, state: State, who: Ints, at: Floats) -> Floats:
        """What changes every score of a person alike."""
        week = state.sends_since(who, at - 7 * DAY, at)
        pile = state.sends_since(who, at - DAY, at)
        visited = at - state.last_visit[who] < DAY
        keen = np.log(self.people.activity[who] / 0.14)
        mood: Floats = _VISITED * visited + _KEEN * keen - _FATIGUE * week - _PILE * pile
        return mood

    def _incentive(self, who: Ints, actions: Sequence[ActionView]) -> Floats:
        """Thrifty people like to get something; for the others it cheapens the shop."""
        dollars = np.array([self.dollars(a.incentive) for a in actions])
        liking = 0.15 + 0.45 * self.people.thrift[who]
        return np.outer(liking, np.sqrt(dollars / 5.0))

    def dollars(self, incentive: str) -> float:
        """What an incentive is worth; ValueError for one that nobody has told the market of."""
        if incentive == "none":
            return 0.0
        if incentive not in self.incentives:
            raise ValueError(f"incentive {incentive!r} is not among `incentives`")
        return self.incentives[incentive]

    def _hour_fit(self, who: Ints, actions: Sequence[ActionView], at: Floats) -> Floats:
        now = local_hours(self.people.zone[who], at)
        hours = np.stack(
            [
                now if a.send_hour is None else np.full(len(who), float(a.send_hour))
                for a in actions
            ],
            axis=1,
        )
        apart = np.abs(hours - self.people.peak_hour[who][:, None]) % 24
        apart = np.minimum(apart, 24 - apart)
        fit: Floats = _HOUR * (np.exp(-0.5 * (apart / _HOUR_WIDTH) ** 2) - 0.5)
        return fit

    def arrives(self, state: State, who: Ints, channel: Ints | int) -> Bools:
        """Whether a message on each channel (one, or (k,)) would get to people: (n,) or (n, k)."""
        reachable: Bools = (self.people.has_channel[who] & ~state.left[who])[:, channel]
        return reachable

    def _bounces(self, who: Ints, channel: Ints) -> Bools:
        bounces: Bools = self.people.has_bad_address[who][:, None] & (channel == 0)
        return bounces

    def _step_share(self, state: State, who: Ints) -> Floats:
        """Share (n,) of clicks that lead to an onboarding step."""
        goes_on = (state.orders[who] == 0) & (state.steps[who] < STEPS)
        return np.where(goes_on, 0.5, 0.0)


def traits(people: People, state: State, who: Ints, at: Floats) -> Floats:
    """(n, 9): what effects hang on, in the order of `appeal.TRAITS`, about unit scale."""
    last = np.maximum(state.last_order[who], state.signed_up[who])
    recency = (np.log1p(np.maximum(at - last, 0.0) / DAY) - 3.7) / 0.9
    orders = state.orders[who]
    # Before the first order it is how far people have got that sets them apart, not prices.
    is_new = orders == 0
    experience = np.where(is_new, (state.steps[who] - 1.5) / 0.65, np.log(orders + 1.0) - 1.0)
    columns = [
        np.ones(len(who)),
        people.tier[who] == 2,
        people.tier[who] == 1,
        people.thrift[who] * np.where(is_new, 0.5, 1.0),
        recency,
        at - state.last_visit[who] < DAY,
        experience,
        people.taste[who],
        people.pair[who],
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def local_hours(zone: Ints, at: Floats) -> Floats:
    """The hour (0 to 24, with its fraction) on the clocks of people at `at` (n,)."""
    hours: Floats = ((at + utc_offsets(zone, at)) % DAY) / 3600
    return hours


def utc_offsets(zone: Ints, at: Floats) -> Floats:
    """Seconds (n,) that local clocks are ahead of UTC; looked up once per zone and hour."""
    hours, hour_of = np.unique(np.floor(at / 3600), return_inverse=True)
    table = np.array([[_offset(name, hour * 3600) for hour in hours] for name in ZONES])
    offsets: Floats = table.reshape(len(ZONES), -1)[zone, hour_of.reshape(-1)]
    return offsets


def _offset(zone: str, at: float) -> float:
    offset = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    return offset.total_seconds() if offset else 0.0
