"""What the tools hold before day 0: the past that customers have left in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from scipy.special import expit

from decision_engine.market.identifiers import LAST_NAMES, Identifiers
from decision_engine.market.life import REPS, add_signups, add_steps, add_tickets, add_touches
from decision_engine.market.people import CHANNELS, DAY, STEPS, generator
from decision_engine.market.schemas import Rows, ids, only, pick, times
from decision_engine.market.shop import DRAWS, add_orders, add_products
from decision_engine.market.state import State
from decision_engine.market.web import add_pages, organic_sessions
from decision_engine.types import Bools, Floats, Ints

_WEB_DAYS, _TICKET_DAYS, _MAIL_DAYS = 14, 30, 90
_MAILINGS = (9, 7, 4)
_VENDORS = ("iterable", "braze", "braze")
_DAYS_BETWEEN_ORDERS = 25.0
_ACCOUNT_SHARE, _ACCOUNT_SIZE = 0.12, 3


def add_history(rows: Rows, known: Identifiers, state: State, start: float, seed: int) -> None:
    """All rows from before `start` (Unix seconds); the state is brought to that moment."""
    who = np.arange(known.people.customers)
    account = _accounts(rows, who, start, seed)
    _add_people(rows, known, state, who, account, seed)
    _add_deals(rows, known, account, start, seed)
    _add_suppressions(rows, known, who, start)
    _add_orders(rows, known, start, seed)
    _add_steps(rows, known, state, who, start, seed)
    _add_mailings(rows, known, state, start, seed)
    add_products(rows, seed, start - 200 * DAY)
    for day in range(-_TICKET_DAYS, 0):
        add_tickets(rows, known, state, day, start + day * DAY, seed)
    for day in range(-_WEB_DAYS, 0):
        visits = organic_sessions(known.people, day, start + day * DAY, seed)
        add_pages(rows, known, visits)
        add_touches(rows, known, visits, day, seed)
        state.remember_visits(visits.who, visits.at)


def _accounts(rows: Rows, who: Ints, start: float, seed: int) -> pa.Array:
    """The account (n,) that some customers belong to; the accounts and the sales team."""
    rng = generator(seed, 0, "accounts")
    count = max(1, round(len(who) * _ACCOUNT_SHARE / _ACCOUNT_SIZE))
    number = np.arange(count)
    rows.add(
        "crm_accounts",
        count,
        account_id=ids("acct", number),
        name=ids("Firm", pick(LAST_NAMES, number % len(LAST_NAMES)), number),
        industry=pick(("retail", "software", "travel", "health"), rng.integers(0, 4, count)),
        employees=np.exp(rng.normal(4, 1.2, count)).astype(np.int64) + 1,
        created_at=times(np.full(count, start - 400 * DAY)),
    )
    rep = np.arange(REPS)
    rows.add(
        "crm_reps",
        REPS,
        rep_id=ids("rep", rep),
        name=pick(LAST_NAMES, rep * 3),
        email=pa.array([f"rep{r}@example.com" for r in rep]),
        is_available=rng.random(REPS) < 0.8,
        capacity_per_day=rng.integers(5, 15, REPS),
    )
    belongs = rng.random(len(who)) < _ACCOUNT_SHARE
    return only(belongs, ids("acct", rng.integers(0, count, len(who))))


def _add_people(
    rows: Rows, known: Identifiers, state: State, who: Ints, account: pa.Array, seed: int
) -> None:
    """Everybody's sign-up; what sales knows of their stage is of the last day before day 0."""
    at = state.signed_up[who] + generator(seed, 0, "signup times").random(len(who)) * (DAY - 300)
    state.signed_up[who] = at
    people = known.people
    lapsed = (people.orders[who] > 0) & (people.order_age[who] > 60)
    stage = np.where(lapsed, 3, np.minimum(people.orders[who], 2))
    add_signups(rows, known, who, at, stage, account)


def _add_deals(rows: Rows, known: Identifiers, account: pa.Array, start: float, seed: int) -> None:
    rng = generator(seed, 0, "deals")
    members = np.flatnonzero(np.asarray(account.is_valid()))
    who = members[rng.random(len(members)) < 0.4]
    stage = rng.integers(0, 3, len(who))
    created = start - (5 + 100 * rng.random(len(who))) * DAY
    rows.add(
        "crm_deals",
        len(who),
        deal_id=ids("deal", known.number[who]),
        account_id=account.take(pa.array(who)),
        contact_id=known.contact_id.take(pa.array(who)),
        rep_id=ids("rep", known.number[who] % REPS),
        stage=pick(("open", "won", "lost"), stage),
        amount_cents=np.exp(rng.normal(13, 0.8, len(who))).astype(np.int64),
        created_at=times(created),
        closed_at=times(np.where(stage > 0, created + 4 * DAY, np.inf)),
    )


def _add_suppressions(rows: Rows, known: Identifiers, who: Ints, start: float) -> None:
    who = who[known.people.is_suppressed[who]]
    by_mail = known.number[who] % 2 == 0
    rows.add(
        "suppressions",
        len(who),
        suppression_id=ids("supp", known.number[who]),
        email=only(by_mail, known.email.take(pa.array(who))),
        user_id=only(~by_mail, known.user_id.take(pa.array(who))),
        kind=pick(("erased", "objected"), known.number[who] // 2 % 2),
        occurred_at=times(np.full(len(who), start - DAY)),
    )


def _add_orders(rows: Rows, known: Identifiers, start: float, seed: int) -> None:
    """The paid orders of the past, back from the last one."""
    rng = generator(seed, 0, "order history")
    people = known.people
    who = np.repeat(np.arange(len(people)), people.orders)
    nth = _nth(people.orders)
    gaps = np.where(nth == 0, 0.0, 1 + rng.exponential(_DAYS_BETWEEN_ORDERS, len(who)))
    total = np.cumsum(gaps)
    first = np.repeat(total[nth == 0], people.orders[people.orders > 0])
    at = start - (people.order_age[who] + total - first) * DAY
    draws = rng.random((len(who), DRAWS))
    draws[:, 3] *= 0.95  # all of them paid
    add_orders(rows, known, who, at, ids("ord", known.number[who], nth), draws)


def _nth(counts: Ints) -> Ints:
    """0, 1, ... within each of runs of the given lengths."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def _add_steps(
    rows: Rows, known: Identifiers, state: State, who: Ints, start: float, seed: int
) -> None:
    """Onboarding so far, within the first month."""
    rng = generator(seed, 0, "step history")
    ease = np.where(known.people.orders[who] > 0, 0.6, 0.3)
    state.steps[who] = rng.binomial(STEPS, ease)
    people = np.repeat(who, state.steps[who])
    span = np.minimum(start - state.signed_up[people], 30 * DAY) - 300
    at = state.signed_up[people] + 200 + rng.random(len(people)) * np.maximum(span, 0)
    add_steps(rows, known, people, at)


def _add_mailings(rows: Rows, known: Identifiers, state: State, start: float, seed: int) -> None:
    """Engagement with what the marketing team sent before: it shows who likes which channel."""
    people = known.people
    for channel, campaigns in enumerate(_MAILINGS):
        rng = generator(seed, channel, "mailings")
        for campaign in range(campaigns):
            at = start - (_MAIL_DAYS - 10 * campaign - 3 * channel) * DAY
            drawn = rng.random((4, len(people)))
            got = (people.consent[:, channel] == 1) & people.has_channel[:, channel]
            got &= (state.signed_up < at) & ~people.is_suppressed
            likes = 0.30 * expit(1.6 * people.affinity[:, channel] - 0.2)
            for event, mask, later in _events(channel, drawn, likes, people.has_mail_proxy):
                _add_engagement(rows, known, np.flatnonzero(got & mask), channel, campaign, event,
                                at + later)  # fmt: skip


def _events(
    channel: int, drawn: Floats, likes: Floats, has_proxy: Bools
) -> Iterator[tuple[str, Bools, Floats]]:
    """(event, who, seconds after the send); `m` marks machines."""
    human = 600 + 20_000 * drawn[2]
    yield "delivered", np.ones(len(likes), dtype=bool), np.full(len(likes), 5.0)
    yield "click", drawn[0] < likes, human
    if channel == 0:
        yield "open", drawn[0] < 2.5 * likes + 0.05, human - 60
        yield "m-open", has_proxy, 60 + 300 * drawn[3]


def _add_engagement(
    rows: Rows, known: Identifiers, who: Ints, channel: int, campaign: int, event: str, at: Floats
) -> None:
    person, name = pa.array(who), CHANNELS[channel]
    rows.add(
        "esp_events",
        len(who),
        event_id=ids(f"{name}-{campaign}-{event}", known.number[who]),
        vendor=_VENDORS[channel],
        event_type=event.removeprefix("m-"),
        external_id=known.user_id.take(person),
        email=known.email.take(person),
        channel=name,
        campaign_id=f"newsletter-{name}-{campaign}",
        message_ref=ids(f"{name}-{campaign}", known.number[who]),
        is_machine=event.startswith("m-"),
        occurred_at=times(at[who]),
        received_at=times(at[who] + 30),
    )
