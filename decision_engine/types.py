"""The nouns of the pure core, as plain data.

Symbols used everywhere: n rows (customers), k actions, d features.
Nothing in this module does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Keys = NDArray[np.uint64]
Reasons = NDArray[np.uint8]

NO_ACTION = "no_action"

REP = "rep"
"""The channel on which a customer is handed over to a sales rep: a message to a colleague."""

ANY_DEVICE = "any_device"
"""Asked for instead of a channel: any one that reaches the customer, and no rep."""

TREATMENT = "treatment"
"""The group that follows the agents' own policies; what it earns is compared to the others."""

Family = Literal["gaussian", "beta", "samples", "uniform", "fixed"]
"""How (mean, sd) are turned into a draw: the law the policy's posterior follows.

`samples` draws from `share` instead, the share of frozen posterior samples each action wins."""


class Reason(IntEnum):
    """Why an action was not possible for a person.

    A code stays what it is for as long as there are logs; the order of the guardrails is that of
    `guardrails.GUARDRAILS`.
    """

    ELIGIBLE = 0
    KILL_SWITCH = 1
    STALE_PROFILE = 2
    SUPPRESSED = 3
    NO_CONSENT = 4
    UNREACHABLE = 5
    OPEN_COMPLAINT = 6
    NOT_ELIGIBLE = 7
    UNKNOWN_ZONE = 8
    QUIET_HOURS = 9
    FREQUENCY_CAP = 10
    OTHER_CHANNEL = 11
    LEGAL_WINDOW = 12
    BLACKOUT = 13
    PROJECT_RULE = 14
    AGENT_RULE = 15
    EXCLUDED = 16
    PAUSED = 17
    FROZEN = 18
    SMALL_LIST = 19
    PINNED = 20
    BUDGET = 21
    BAD_DATA = 22
    RAMP = 23


class Column(NamedTuple):
    """One column of n values with its NULLs: `values` (n,) and `valid` (n,) bool.

    `values` is float64, bool or object (str); entries where `valid` is False are meaningless.
    Timestamps are float64 seconds since the Unix epoch, UTC.
    """

    values: NDArray[Any]
    valid: Bools


Pair = tuple[Any, Any]
"""A column, or one that is computed: values and validity, arrays (n,) or scalars for one person."""


@dataclass(frozen=True)
class Contexts:
    """What is known of n customers at decision time.

    `customer_ids` (n,) object array of str, strictly increasing within a scan.
    `columns` has the columns of `dim_customer_features` that the agents use, by name.
    """

    customer_ids: NDArray[Any]
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.customer_ids)

    def take(self, rows: NDArray[Any]) -> Contexts:
        """The given rows (index or bool array); a column is taken when it is first asked for."""
        if rows.dtype == bool:
            if np.count_nonzero(rows) == len(rows):
                return self
            rows = rows.nonzero()[0]
        return Contexts(self.customer_ids[rows], _Taken(self.columns, rows))


class _Taken(Mapping[str, Column]):
    """Some rows of other columns."""

    def __init__(self, columns: Mapping[str, Column], rows: Ints) -> None:
        self._columns, self._rows = columns, rows
        self._taken: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._taken:
            values, valid = self._columns[name]
            self._taken[name] = Column(values[self._rows], valid[self._rows])
        return self._taken[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True)
class Action:
    """One entry of a catalog: something we may do to a customer.

    `send_hour` is the local hour (0-23) the message is meant for, None for any; `wait_days` how
    many days after the decision, on the customer's calendar, 0 for as soon as that hour is.
    `attributes` are the creative's, as (name, value), sorted. `ramp` is the share of customers
    that it is open to at first, None for all.
    """

    key: str
    channel: str = ""
    creative: str = ""
    incentive: str = "none"
    send_hour: int | None = None
    wait_days: int = 0
    is_promotional: bool = False
    is_resolution: bool = False
    eligible_if: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    ramp: float | None = None


@dataclass(frozen=True)
class Catalog:
    """The actions of one agent; index 0 is always `no_action`.

    What guardrails speak of are the indices of messages, the actions that have a channel.
    """

    actions: tuple[Action, ...]

    def __post_init__(self) -> None:
        if not self.actions or self.actions[0].key != NO_ACTION:
            raise ValueError("`actions[0]` must be no_action")
        if len(set(self.keys)) != len(self.actions):
            raise ValueError("`actions` must have distinct keys")

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The k action keys, in order."""
        return tuple(a.key for a in self.actions)

    @cached_property
    def on(self) -> Mapping[str | None, Ints]:
        """The messages on each channel, by name; all of them under None."""
        channels = sorted({a.channel for a in self.actions if a.channel})
        by_channel: dict[str | None, list[int]] = {None: [], **{c: [] for c in channels}}
        for i, action in enumerate(self.actions):
            if action.channel:
                by_channel[None].append(i)
                by_channel[action.channel].append(i)
        return {c: np.array(indices, dtype=np.int64) for c, indices in by_channel.items()}

    @cached_property
    def on_by_slot(self) -> Mapping[str | None, Sequence[tuple[int, Ints]]]:
        """The same, by the place of their time in `by_time` as well."""
        return {channel: self.by_slot(actions) for channel, actions in self.on.items()}

    @cached_property
    def promotions(self) -> Ints:
        """The messages that promote."""
        return self._messages("is_promotional", True)

    @cached_property
    def promotions_on(self) -> Mapping[str, Ints]:
        """The messages that promote, by channel."""
        found = {c: np.intersect1d(a, self.promotions) for c, a in self.on.items() if c is not None}
        return {channel: actions for channel, actions in found.items() if len(actions)}

    @cached_property
    def services_on(self) -> Mapping[str, Ints]:
        """The messages that do not promote, by channel."""
        found = {c: np.setdiff1d(a, self.promotions) for c, a in self.on.items() if c is not None}
        return {channel: actions for channel, actions in found.items() if len(actions)}

    @cached_property
    def promotions_by_slot(self) -> Mapping[str, Sequence[tuple[int, Ints]]]:
        """The messages that promote, by channel and place of their time in `by_time`."""
        return {channel: self.by_slot(a) for channel, a in self.promotions_on.items()}

    @cached_property
    def to_devices(self) -> Ints:
        """The messages that reach the customer's own device."""
        return np.setdiff1d(self.on[None], self.on.get(REP, []))

    @cached_property
    def to_devices_by_slot(self) -> Sequence[tuple[int, Ints]]:
        """The same, by the place of their time in `by_time`."""
        return self.by_slot(self.to_devices)

    @cached_property
    def by_their_clock(self) -> Ints:
        """The messages whose moment depends on the customer's clock: but for a rep told at once."""
        return np.array([i for i in self.on[None] if not _is_at_once(self.actions[i])], int)

    @cached_property
    def resolutions(self) -> Ints:
        """The messages that answer a complaint."""
        return self._messages("is_resolution", True)

    @cached_property
    def ruled(self) -> Mapping[str, Ints]:
        """The messages that a rule of their own belongs to, by rule."""
        rules = dict.fromkeys(a.eligible_if for a in self.actions if a.channel)
        return {rule: self._messages("eligible_if", rule) for rule in rules if rule}

    @cached_property
    def by_time(self) -> Mapping[tuple[int | None, int], Ints]:
        """The messages of each of the s different (send hour, wait in days)."""
        times = dict.fromkeys(_time(a) for a in self.actions if a.channel)
        of_action = [_time(a) if a.channel else None for a in self.actions]
        return {t: np.array([i for i, at in enumerate(of_action) if at == t]) for t in times}

    @cached_property
    def times(self) -> tuple[tuple[int | None, int], ...]:
        """The s times of `by_time`."""
        return tuple(self.by_time)

    @cached_property
    def slots(self) -> Ints:
        """(k,): the place of each action's time in `by_time`; s for what sends nothing."""
        place = {time: i for i, time in enumerate(self.by_time)}
        return np.array([place[_time(a)] if a.channel else len(place) for a in self.actions])

    @cached_property
    def has_waits(self) -> bool:
        """Whether a message may leave days after its decision."""
        return any(a.wait_days for a in self.actions)

    def by_slot(self, messages: Ints) -> Sequence[tuple[int, Ints]]:
        """The given messages by the place of their time in `by_time`."""
        slots = self.slots[messages]
        return [(int(slot), messages[slots == slot]) for slot in np.unique(slots)]

    def _messages(self, field: str, value: object) -> Ints:
        return np.array([i for i in self.on[None] if getattr(self.actions[i], field) == value], int)

    def __len__(self) -> int:
        return len(self.actions)


def _is_at_once(action: Action) -> bool:
    return action.channel == REP and _time(action) == (None, 0)


def _time(action: Action) -> tuple[int | None, int]:
    return action.send_hour, action.wait_days


@dataclass(frozen=True)
class Epoch:
    """Everything a decision depends on besides its own context; committed before the first one.

    `as_of` is UTC. `slot` is the batch date (ISO), or that of all decisions that events and
    requests call for, each of which then has a slot of its own.
    """

    epoch_id: str
    slot: str
    as_of: datetime
    profile_build: str
    config_digest: str
    kill_switch: bool = False

    @property
    def seconds(self) -> float:
        """`as_of` in Unix seconds."""
        return seconds_of(self.as_of)


@dataclass(frozen=True)
class Decisions:
    """n decisions of one agent in one epoch, as arrays (struct of arrays).

    `slots`, `decision_ids`, `customer_ids` (n,) texts · `action` (n,) int64 index into the
    catalog · `propensity` (n,) = p_agent x p_action · `mean`, `sd` (n, k) float64 posterior of
    each action (empty (n, 0) for uniform and fixed) · `share` (n, k) of the frozen samples
    that each action wins, for the family `samples` ((n, 0) when no group has such a policy) ·
    `reasons` (n, k) uint8 `Reason` codes · `x` (n, d) raw features · `send_at` (n,) float64
    Unix seconds, NaN for no_action.
    """

    agent: str
    keys: Keys
    slots: NDArray[Any]
    decision_ids: NDArray[Any]
    customer_ids: NDArray[Any]
    group: NDArray[Any]
    policy: NDArray[Any]
    action: Ints
    p_agent: Floats
    p_action: Floats
    propensity: Floats
    mean: Floats
    sd: Floats
    share: Floats
    reasons: Reasons
    x: Floats
    send_at: Floats
    facts: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.customer_ids)


def seconds_of(moment: datetime) -> float:
    """Unix seconds of a moment; one without a zone is UTC."""
    if moment.tzinfo:
        return moment.timestamp()
    return (moment - _UNIX).total_seconds()


_UNIX = datetime(1970, 1, 1)


_PLAIN: Mapping[type, Callable[[Any], Any]] = {bool: bool, int: float, float: float}


def column_of(values: Sequence[Any]) -> Column:
    """A Column from Python values; None becomes invalid. Handy in tests and for one row."""
    if len(values) == 1 and type(values[0]) in _PLAIN:
        # The send boundary asks for each message by itself.
        return Column(np.array([_PLAIN[type(values[0])](values[0])]), np.array([True]))
    valid = np.array([v is not None for v in values], dtype=bool)
    present = [v for v in values if v is not None]
    if all(isinstance(v, bool) for v in present):
        data: NDArray[Any] = np.array([bool(v) for v in values], dtype=bool)
    elif present and all(isinstance(v, datetime) for v in present):
        data = np.array([0.0 if v is None else seconds_of(v) for v in values])
    elif all(isinstance(v, int | float) for v in present):
        data = np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
    else:
        data = np.array(["" if v is None else str(v) for v in values], dtype=object)
    return Column(data, valid)
