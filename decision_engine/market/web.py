"""Visits to the web site and the app, page by page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from decision_engine.market.identifiers import Identifiers
from decision_engine.market.people import DAY, NEVER, People, generator
from decision_engine.market.response import utc_offsets
from decision_engine.market.schemas import Rows, ids, only, pick, times
from decision_engine.types import Bools, Floats, Ints

PATHS: tuple[tuple[str, ...], ...] = (
    ("home",),
    ("product",),
    ("home", "category"),
    ("category", "product", "product"),
    ("home", "category", "product"),
    ("home", "product", "product", "cart"),
    ("account", "help"),
    ("help",),
    ("price",),
    ("home", "price"),
    ("category", "product", "price"),
    ("price", "product", "cart"),
    ("cart", "checkout"),
    ("product", "cart", "checkout"),
)
_PLAIN = np.array([14, 16, 14, 14, 14, 6, 4, 4, 2, 2, 3, 1, 3, 3], dtype=np.float64)
_THRIFTY = np.array([8, 8, 8, 8, 8, 5, 3, 4, 14, 14, 10, 6, 2, 2], dtype=np.float64)
CLICKED = (1, 4, 5)
"""Paths that a click on a message may start."""
ORDERED = 13
"""The path that ends in an order."""

_CLASSES = tuple(sorted({page for path in PATHS for page in path}))
_LENGTHS = np.array([len(path) for path in PATHS])
_STARTS = np.concatenate([[0], np.cumsum(_LENGTHS)[:-1]])
_PAGES = np.array([_CLASSES.index(page) for path in PATHS for page in path])
_TRACKED = {"product": "Product Viewed", "cart": "Product Added"}
_SECONDS_A_PAGE = 40.0
_LONGEST = 300.0
_BEFORE_SIGNUP = 6


@dataclass(frozen=True)
class Sessions:
    """n visits: who, on which device, from when (Unix seconds), along which of PATHS.

    `is_app` a screen of the app rather than a web page; `is_known` the user id is on the rows;
    `name` (n,) the session ids.
    """

    who: Ints
    device: Ints
    at: Floats
    path: Ints
    is_app: Bools
    is_known: Bools
    name: pa.Array

    def __len__(self) -> int:
        return len(self.who)


def organic_sessions(people: People, day: int, midnight: float, seed: int) -> Sessions:
    """What people visit of themselves on a day; nothing of it depends on any message."""
    rng = generator(seed, day, "visits")
    visits = rng.poisson(np.where(_is_about(people, day), people.activity, 0.0))
    who = np.repeat(np.arange(len(people)), visits)
    n = len(who)
    hour = people.peak_hour[who] + rng.normal(0, 3, n)
    local = (hour * 3600 - utc_offsets(people.zone, np.full(len(people), midnight))[who]) % DAY
    is_app = people.has_channel[who, 1] & (rng.random(n) < 0.5)
    is_known = (people.signup_day[who] < day) & (is_app | (rng.random(n) < 0.3))
    return Sessions(
        who=who,
        device=np.where(is_app, 0, (rng.random(n) * people.devices[who]).astype(np.int64)),
        at=midnight + local % (DAY - _LONGEST),
        path=_organic_paths(people.thrift[who], rng),
        is_app=is_app,
        is_known=is_known,
        name=ids("v", np.full(n, day + 10_000), np.arange(n)),
    )


def _is_about(people: People, day: int) -> Bools:
    anonymous = people.signup_day == NEVER
    is_about: Bools = anonymous | (people.signup_day - _BEFORE_SIGNUP <= day)
    return is_about


def _organic_paths(thrift: Floats, rng: np.random.Generator) -> Ints:
    """Thrifty people look at prices."""
    is_thrifty = rng.random(len(thrift)) < 1 / (1 + np.exp(0.7 - 1.3 * thrift))
    drawn = rng.random(len(thrift))
    plain = np.searchsorted(np.cumsum(_PLAIN / _PLAIN.sum())[:-1], drawn)
    thrifty = np.searchsorted(np.cumsum(_THRIFTY / _THRIFTY.sum())[:-1], drawn)
    return np.where(is_thrifty, thrifty, plain).astype(np.int64)


def add_pages(rows: Rows, known: Identifiers, visits: Sessions) -> None:
    """The pages of visits, and what was looked at or put into the cart on them."""
    lengths = _LENGTHS[visits.path]
    visit = np.repeat(np.arange(len(visits)), lengths)
    step = np.arange(len(visit)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    page = _PAGES[_STARTS[visits.path[visit]] + step]
    at = visits.at[visit] + _SECONDS_A_PAGE * step
    app = visits.is_app[visit]
    classes = pick(_CLASSES, page)
    common = _common(known, visits, visit)
    rows.add(
        "segment_events",
        len(visit),
        message_id=ids("p", visits.name.take(pa.array(visit)), step),
        type=pick(("page", "screen"), app.astype(np.int64)),
        page_path=pick([f"/{c}" for c in _CLASSES], page),
        page_class=classes,
        occurred_at=times(at),
        received_at=times(at + 2),
        **common,
    )
    for page_class, event in _TRACKED.items():
        _add_tracked(rows, event, page == _CLASSES.index(page_class), common, visits, visit, step)


def _common(known: Identifiers, visits: Sessions, visit: Ints) -> dict[str, pa.Array]:
    who = visits.who[visit]
    return {
        "anonymous_id": known.anonymous_id(who, visits.device[visit]),
        "user_id": only(visits.is_known[visit], known.user_id.take(pa.array(who))),
        "platform": pick(("web", "app"), visits.is_app[visit].astype(np.int64)),
        "session_id": visits.name.take(pa.array(visit)),
    }


def _add_tracked(
    rows: Rows, event: str, mask: Bools, common: dict[str, pa.Array], visits: Sessions,
    visit: Ints, step: Ints,
) -> None:  # fmt: skip
    at = visits.at[visit][mask] + _SECONDS_A_PAGE * step[mask] + 5
    name = visits.name.take(pa.array(visit[mask]))
    rows.add(
        "segment_events",
        len(at),
        message_id=ids("t", name, step[mask]),
        type="track",
        event=event,
        occurred_at=times(at),
        received_at=times(at + 2),
        **{column: values.filter(pa.array(mask)) for column, values in common.items()},
    )
