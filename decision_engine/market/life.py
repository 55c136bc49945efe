"""What people do of themselves: sign up, set up, use the app, get in touch, complain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from decision_engine.market.identifiers import Identifiers
from decision_engine.market.people import (
    CHANNELS,
    COUNTRIES,
    DAY,
    REGIONS,
    STEPS,
    TIERS,
    ZONES,
    People,
    generator,
)
from decision_engine.market.schemas import Rows, ids, only, pick, times
from decision_engine.market.state import State
from decision_engine.market.web import Sessions
from decision_engine.types import Bools, Floats, Ints

REPS = 8
STAGES = ("lead", "customer", "active", "lapsed")
_STEPS_A_DAY = 0.04
_FEATURES_A_VISIT = 0.6
_COMPLAINTS_A_DAY = 0.02 / 30
_QUESTIONS_A_DAY = 0.03 / 30
_AD, _CHAT, _FORM = 0.12, 0.015, 0.02
_SUBJECTS = {"complaint": ("Damaged on arrival", "Wrong size", "Still waiting", "Charged twice"),
             "question": ("Which size", "Where is it made", "Gift wrap"),
             "request": ("Change my address", "Send an invoice")}  # fmt: skip


def add_signups(
    rows: Rows, known: Identifiers, who: Ints, at: Floats, stage: Ints, account: pa.Array
) -> None:
    """Everything that the tools learn when people sign up at `at`, sales included."""
    _add_moments(rows, known, who, at, "Signed Up")
    _add_identifies(rows, known, who, at + 1)
    has_app = known.people.has_channel[who, 1]
    _add_moments(rows, known, who[has_app], at[has_app] + 60, "Push Token Registered", "app")
    _add_contacts(rows, known, who, at + 120, stage, account)
    for channel in range(3):
        _add_consents(rows, known, who, at + 30, channel)
    _add_links(rows, known, who, at + 90)


def _add_moments(
    rows: Rows, known: Identifiers, who: Ints, at: Floats, event: str, platform: str = "web"
) -> None:
    """One track call per person; its id is made of event, person and second."""
    number = known.number[who]
    rows.add(
        "segment_events",
        len(who),
        message_id=ids(event[:3].lower(), number, at.astype(np.int64)),
        type="track",
        event=event,
        anonymous_id=known.anonymous_id(who, np.zeros_like(who)),
        user_id=known.user_id.take(pa.array(who)),
        platform=platform,
        occurred_at=times(at),
        received_at=times(at + 2),
    )


def _add_identifies(rows: Rows, known: Identifiers, who: Ints, at: Floats) -> None:
    person = pa.array(who)
    gives_phone = known.links_by_phone[who]
    rows.add(
        "segment_events",
        len(who),
        message_id=ids("id", known.number[who]),
        type="identify",
        anonymous_id=known.anonymous_id(who, np.zeros_like(who)),
        user_id=known.user_id.take(person),
        email=known.email.take(person),
        phone=only(gives_phone, known.phone.take(person)),
        platform="web",
        occurred_at=times(at),
        received_at=times(at + 2),
    )


def _add_contacts(
    rows: Rows, known: Identifiers, who: Ints, at: Floats, stage: Ints, account: pa.Array
) -> None:
    people, person = known.people, pa.array(who)
    rows.add(
        "crm_contacts",
        len(who),
        contact_id=known.contact_id.take(person),
        email=known.crm_email.take(person),
        phone=known.crm_phone.take(person),
        first_name=known.first_name.take(person),
        last_name=known.last_name.take(person),
        account_id=account,
        owner_rep_id=ids("rep", known.number[who] % REPS),
        time_zone=only(people.zone_is_known[who], pick(ZONES, people.zone[who])),
        country=pick(COUNTRIES, people.zone[who]),
        region=pick(REGIONS, people.zone[who]),
        lifecycle_stage=pick(STAGES, stage),
        tier=pick(TIERS, people.tier[who]),
        created_at=times(at),
        updated_at=times(at),
    )


def _add_consents(rows: Rows, known: Identifiers, who: Ints, at: Floats, channel: int) -> None:
    """Each channel knows people by its own address."""
    asked = known.people.consent[who, channel] >= 0
    asked &= known.people.has_channel[who, channel]
    who, at = who[asked], at[asked]
    column = ("email", "user_id", "phone")[channel]
    rows.add(
        "consents",
        len(who),
        consent_id=ids(f"consent-{CHANNELS[channel]}", known.number[who]),
        channel=CHANNELS[channel],
        purpose="marketing",
        status=pick(("withdrawn", "granted"), known.people.consent[who, channel]),
        source="signup_form",
        occurred_at=times(at),
        **{column: getattr(known, column).take(pa.array(who))},
    )


def _add_links(rows: Rows, known: Identifiers, who: Ints, at: Floats) -> None:
    """People whom sales knows by another address give that one, too, in their account."""
    other = known.has_other_crm_email[who] & ~known.links_by_phone[who]
    other &= known.people.consent[who, 0] >= 0
    who, at = who[other], at[other]
    person = pa.array(who)
    rows.add(
        "consents",
        len(who),
        consent_id=ids("consent-account", known.number[who]),
        email=known.crm_email.take(person),
        user_id=known.user_id.take(person),
        channel="email",
        purpose="marketing",
        status=pick(("withdrawn", "granted"), known.people.consent[who, 0]),
        source="account_page",
        occurred_at=times(at),
    )


def newcomers(people: People, day: int, midnight: float, seed: int) -> tuple[Ints, Floats]:
    """Who signs up on a day, and when."""
    who = np.flatnonzero(people.signup_day == day)
    return who, midnight + generator(seed, day, "signups").random(len(who)) * (DAY - 300)


def add_steps(rows: Rows, known: Identifiers, who: Ints, at: Floats) -> None:
    """An onboarding step of each of these people at `at`."""
    _add_moments(rows, known, who, at, "Onboarding Step Completed", "app")


def organic_steps(people: People, state: State, day: int, midnight: float, seed: int) -> Ints:
    """Who does an onboarding step of themselves on a day, in the first two months."""
    drawn = generator(seed, day, "steps").random(len(people))
    fresh = (people.signup_day < day) & (midnight - state.signed_up < 60 * DAY)
    return np.flatnonzero(fresh & (state.steps < STEPS) & (drawn < _STEPS_A_DAY))


def add_touches(rows: Rows, known: Identifiers, visits: Sessions, day: int, seed: int) -> None:
    """What goes with visits: the advertisement before, the chat or form in them, app features."""
    drawn = generator(seed, day, "touches").random((len(visits), 4))
    anonymous = known.anonymous_id(visits.who, visits.device)
    email = only(visits.is_known, known.email.take(pa.array(visits.who)))
    _add_ads(rows, visits, anonymous, (drawn[:, 0] < _AD) & ~visits.is_app)
    chats = np.flatnonzero(drawn[:, 1] < _CHAT)
    rows.add(
        "chats",
        len(chats),
        chat_id=ids("chat", visits.name.take(pa.array(chats))),
        email=email.take(pa.array(chats)),
        anonymous_id=anonymous.take(pa.array(chats)),
        topic="help choosing",
        started_at=times(visits.at[chats] + 100),
        ended_at=times(visits.at[chats] + 400),
    )
    forms = np.flatnonzero(drawn[:, 2] < _FORM)
    rows.add(
        "form_submissions",
        len(forms),
        form_id=ids("form", visits.name.take(pa.array(forms))),
        form_name="size_guide",
        email=email.take(pa.array(forms)),
        anonymous_id=anonymous.take(pa.array(forms)),
        submitted_at=times(visits.at[forms] + 90),
    )
    used = visits.is_app & visits.is_known & (drawn[:, 3] < _FEATURES_A_VISIT)
    _add_moments(rows, known, visits.who[used], visits.at[used] + 20, "Feature Used", "app")


def _add_ads(rows: Rows, visits: Sessions, anonymous: pa.Array, mask: Bools) -> None:
    at = np.flatnonzero(mask)
    rows.add(
        "ad_clicks",
        len(at),
        click_id=ids("ad", visits.name.take(pa.array(at))),
        anonymous_id=anonymous.take(pa.array(at)),
        channel=pick(("search", "social", "display"), at % 3),
        campaign=pick(("brand", "spring", "shoes", "bags"), at % 4),
        cost_cents=30 + at % 50,
        clicked_at=times(visits.at[at] - 3),
    )


def add_tickets(
    rows: Rows, known: Identifiers, state: State, day: int, midnight: float, seed: int
) -> None:
    """Complaints, questions and requests of a day; complaints change people's mood."""
    rng = generator(seed, day, "tickets")
    t = len(known.people)
    drawn, seconds, sad, patience = rng.random((4, t))
    signed_up = known.people.signup_day < day
    complains = signed_up & (drawn < _COMPLAINTS_A_DAY)
    asks = signed_up & ~complains & (drawn < _COMPLAINTS_A_DAY + _QUESTIONS_A_DAY)
    at, days = midnight + seconds * DAY, 1 + 9 * patience
    # One in ten is never solved.
    until = np.where(patience > 0.9, np.inf, at + days * DAY)
    state.complained[complains], state.calmed[complains] = at[complains], until[complains]
    kinds = {
        "complaint": (complains, -0.3 - 0.7 * sad),
        "question": (asks & (sad < 0.6), 0.4 * sad),
        "request": (asks & (sad >= 0.6), 0.2 - 0.2 * sad),
    }
    for kind, (mask, sentiment) in kinds.items():
        _add_tickets(rows, known, kind, np.flatnonzero(mask), {"at": at, "until": until,
                                                              "sentiment": sentiment})  # fmt: skip


def _add_tickets(
    rows: Rows, known: Identifiers, kind: str, who: Ints, facts: Mapping[str, Floats]
) -> None:
    """A ticket is written down once, with the moment at which it will be solved."""
    at, until = facts["at"][who], facts["until"][who]
    rows.add(
        "support_tickets",
        len(who),
        ticket_id=ids("ticket", known.number[who], at.astype(np.int64)),
        requester_email=known.email.take(pa.array(who)),
        subject=pick(_SUBJECTS[kind], known.number[who] % len(_SUBJECTS[kind])),
        kind=kind,
        sentiment=facts["sentiment"][who],
        status=pick(("open", "solved"), np.isfinite(until).astype(np.int64)),
        created_at=times(at),
        solved_at=times(until),
    )
