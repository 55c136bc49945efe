"""The market: people, what they do of themselves, and how they react to messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from decision_engine.keys import uniforms
from decision_engine.market.appeal import Appeal
from decision_engine.market.history import add_history
from decision_engine.market.identifiers import Identifiers
from decision_engine.market.life import (
    add_signups,
    add_steps,
    add_tickets,
    add_touches,
    newcomers,
    organic_steps,
)
from decision_engine.market.people import CHANNELS, DAY, STEPS, draw_people
from decision_engine.market.reactions import (
    LEAVE,
    ORDER,
    STEP,
    VISIT,
    Effects,
    Message,
    Reactions,
    person_keys,
)
from decision_engine.market.response import ActionView, Response
from decision_engine.market.schemas import Rows, ids, pick, times
from decision_engine.market.shop import DRAWS, add_orders, organic_draws, organic_orders
from decision_engine.market.state import first_state
from decision_engine.market.web import CLICKED, ORDERED, Sessions, add_pages, organic_sessions
from decision_engine.types import Floats, Ints

_BASKET = np.arange(1, DRAWS + 2, dtype=np.uint64)
"""Stream numbers of the draws of an order or visit that a message caused."""

CHECKOUT = 100.0
"""Seconds from the first page of a visit that ends in an order to the order."""


class Market:
    """`customers` at day 0 (1 or more) and, from `start` on, newcomers every day.

    `effect` scales how likely messages are to have any consequence, good or bad: 0 none.
    `drift` is how far the appeal of creatives turns to another one, in radians a day.
    `incentives` has the worth in dollars of everything that messages may give away.
    Raises ValueError for a number out of its range.

    Call `reference` first, then `day` for 0, 1, 2, ... once each, with `receive` in between.
    """

    def __init__(
        self, customers: int, seed: int, start: date, effect: float = 1.0, drift: float = 0.0,
        incentives: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        for name, value, least in (("customers", customers, 1), ("seed", seed, 0),
                                   ("effect", effect, 0), ("drift", drift, 0)):  # fmt: skip
            if not value >= least:
                raise ValueError(f"`{name}` must be at least {least}, not {value}")
        self.seed = seed
        self.start = datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()
        self.people = draw_people(customers, seed)
        self.known = Identifiers(self.people, seed)
        self.people.has_channel[:, 2] &= self.known.has_phone
        self.state = first_state(self.people, self.start)
        appeal = Appeal(seed, drift)
        self.response = Response(self.people, appeal, incentives or {}, self.start, effect)
        self._reactions = Reactions(self.response, self.state, seed)
        self._next_day = -1

    def reference(self) -> dict[str, pa.Table]:
        """Raw rows from before day 0: tables by name. To be called once, before anything else."""
        self._turn(-1)
        rows = Rows()
        add_history(rows, self.known, self.state, self.start, self.seed)
        return rows.tables()

    def day(self, day: int) -> dict[str, pa.Table]:
        """Raw rows that come into being on a day (0-based), in time order: tables by name.

        What messages caused is among them when it happened before the end of the day.
        Raises ValueError unless it is the turn of that day.
        """
        self._turn(day)
        rows = Rows()
        midnight = self.start + day * DAY
        effects = self._reactions.due(midnight + DAY)
        self._live(rows, day, midnight)
        self._add_consequences(rows, effects)
        return rows.tables()

    def receive(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What people do with messages that a vendor delivered to them, in time order.

        `messages` are the vendors' ledger entries: vendor, message_id, email, channel, at (ISO),
        properties with creative and incentive. A message_id seen before and an address that
        nobody has are passed over. Returns engagements: vendor, message_id, type (open, click,
        unsubscribe, complaint, bounce), at (ISO, UTC without a zone), is_machine.
        """
        return self._reactions.receive(list(self._addressed(messages)))

    def expected_reward(
        self, people: Ints, actions: Sequence[ActionView], at: Floats, weights: Mapping[str, float]
    ) -> Floats:
        """What each action (k) adds to the reward of each of n people: (n, k).

        The expectation of the weights of all events that the message would cause, given where
        the person stands, hidden traits included; what they do anyway is not part of it, so
        no action is worth 0. `at` (n,) Unix seconds is the moment the message arrives, for the
        hour of the day only where an action has no `send_hour`.
        """
        return self.response.chances(self.state, people, actions, at).reward(weights)

    def person_of_email(self, email: str) -> int | None:
        """The person behind an address, whichever of their addresses it is."""
        return self.known.person_of(email)

    def _turn(self, day: int) -> None:
        if day != self._next_day:
            wanted = "reference" if self._next_day < 0 else f"day {self._next_day}"
            raise ValueError(f"it is the turn of {wanted}")
        self._next_day += 1

    def _addressed(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
        for entry in messages:
            who = self.person_of_email(entry["email"])
            if who is None:
                continue
            properties = entry["properties"]
            view = ActionView(
                entry["channel"], properties["creative"], properties.get("incentive") or "none"
            )
            yield Message(who, _seconds(entry["at"]), entry["vendor"], entry["message_id"], view)

    def _live(self, rows: Rows, day: int, midnight: float) -> None:
        """What everybody does of themselves."""
        people, known, state, seed = self.people, self.known, self.state, self.seed
        visits = organic_sessions(people, day, midnight, seed)
        add_pages(rows, known, visits)
        add_touches(rows, known, visits, day, seed)
        add_tickets(rows, known, state, day, midnight, seed)
        steps = organic_steps(people, state, day, midnight, seed)
        add_steps(rows, known, steps, midnight + 3600.0 + people.peak_hour[steps] * 3000)
        state.steps[steps] += 1
        self._buy(rows, day, midnight)
        joined, at = newcomers(people, day, midnight, seed)
        no_account = pa.nulls(len(joined), pa.string())
        add_signups(rows, known, joined, at, np.zeros_like(joined), no_account)
        state.signed_up[joined] = at
        state.remember_visits(visits.who, visits.at)

    def _buy(self, rows: Rows, day: int, midnight: float) -> None:
        draws = organic_draws(self.people, day, self.seed)
        who = organic_orders(self.people, self.state, day, midnight, self.seed)
        at = midnight + 100.0 + (DAY - 200) * draws[who, 6]
        name = ids("o", np.full(len(who), day), self.known.number[who])
        paid = add_orders(rows, self.known, who, at, name, draws[who])
        self.state.remember_orders(who[paid], at[paid])

    def _add_consequences(self, rows: Rows, effects: Effects) -> None:
        self._add_caused_visits(rows, effects[effects["kind"] == VISIT], ordered=False)
        orders = effects[effects["kind"] == ORDER]
        self._add_caused_visits(rows, orders, ordered=True)
        who, at = orders["who"], orders["at"] + CHECKOUT
        add_orders(
            rows, self.known, who, at, ids("om", self.known.number[who], orders["send"]),
            self._draws(orders)[:, 1:], orders["dollars"],
        )  # fmt: skip
        self.state.remember_orders(who, at)
        steps = effects[(effects["kind"] == STEP) & (self.state.steps[effects["who"]] < STEPS)]
        add_steps(rows, self.known, steps["who"], steps["at"])
        np.add.at(self.state.steps, steps["who"], 1)
        self._add_leavers(rows, effects[effects["kind"] == LEAVE])

    def _add_caused_visits(self, rows: Rows, effects: Effects, *, ordered: bool) -> None:
        who, u = effects["who"], self._draws(effects)[:, 0]
        clicked = np.array(CLICKED)[(len(CLICKED) * u).astype(np.int64)]
        is_app = effects["channel"] == 1
        visits = Sessions(
            who=who,
            device=np.zeros_like(who),
            at=effects["at"],
            path=np.full(len(who), ORDERED) if ordered else clicked,
            is_app=is_app,
            is_known=is_app | ordered | (u < 0.5),
            name=ids("vo" if ordered else "vm", self.known.number[who], effects["send"]),
        )
        add_pages(rows, self.known, visits)
        self.state.remember_visits(who, visits.at)

    def _draws(self, effects: Effects) -> Floats:
        """Uniform (n, DRAWS + 1), of the person and message of each consequence."""
        return uniforms(person_keys(self.seed, effects["who"], effects["send"]), _BASKET)

    def _add_leavers(self, rows: Rows, effects: Effects) -> None:
        """Whoever unsubscribed at the vendor, or complained there, has withdrawn consent."""
        who, channel = effects["who"], effects["channel"]
        person = pa.array(who)
        rows.add(
            "consents",
            len(who),
            consent_id=ids("consent-left", self.known.number[who], effects["send"]),
            email=self.known.email.take(person),
            user_id=self.known.user_id.take(person),
            channel=pick(CHANNELS, channel),
            purpose="marketing",
            status="withdrawn",
            source="vendor",
            occurred_at=times(effects["at"]),
        )
        self.state.left[who, channel] = True


def _seconds(text: str) -> float:
    """Unix seconds of ISO 8601 text; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
