"""What people write: the project file, the agents and the creatives, as frozen data.

These types are also the published JSON Schema (docs/reference/*.schema.json).
`load.py` reads the YAML and turns every problem into file, line, field and fix.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="lower-case snake case")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Hour = Annotated[int, Meta(ge=0, le=23)]
WaitDays = Annotated[int, Meta(ge=0, le=14, description="0 to 14 days")]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+[hd]$", description="hours or days: 36h, 7d")]
Rule = Annotated[str, Meta(min_length=1, description="restricted SQL boolean expression")]
Variable = Annotated[
    str, Meta(pattern=r"^[A-Z][A-Z0-9_]*$", description="name of an environment variable")
]
Channel = Literal["email", "push", "sms", "rep"]
Waivable = Literal["frequency_cap", "quiet_hours", "blackout"]
PageClass = Literal["home", "category", "product", "cart", "checkout", "price", "help", "account"]


class Frozen(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all configuration: immutable, unknown fields are errors."""


class Outcome(Frozen, frozen=True):
    """One thing that may happen after a decision and what it is worth.

    reward = weight x (1 per event, or dollars for `per: dollar`), when it happens
    within `window` of the decision. Two events are what we spend: `message`, a message that has
    left (dollars: `message_cents`), and `incentive`, one that was given and followed by an order
    (dollars: its `cost_cents`). Their weight is negative. `retained` is an activity (a visit, an
    order, a use of a feature) in the second half of the window. What has weight 0 is measured only.
    """

    event: Name
    weight: float
    window: Duration = "72h"
    per: Literal["event", "dollar"] = "event"


class ContextFeature(Frozen, frozen=True):
    """One column of dim_customer_features as model input."""

    column: Name
    transform: Literal["identity", "log1p", "one_of"] = "identity"
    one_of: tuple[str, ...] = ()


class AgentAction(Frozen, frozen=True):
    """A creative with the incentives, send hours and waits it may be combined with.

    `wait_days` are days on the customer's own calendar from the decision to the message, which
    then leaves at its send hour, or without one at the same time of day; 0 is today.
    `ramp` is the share of customers that a new creative is open to at first, 0.02 say. It grows
    with what is learned of it, and after 200 decisions it is open to all.
    """

    creative: Name
    incentives: tuple[Name, ...] = ("none",)
    send_hours: tuple[Hour, ...] = ()
    wait_days: tuple[WaitDays, ...] = (0,)
    eligible_if: Rule | None = None
    ramp: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None


class UniformPolicy(Frozen, frozen=True, tag="uniform", tag_field="kind"):
    """Every eligible action with the same probability."""


class FixedPolicy(Frozen, frozen=True, tag="fixed", tag_field="kind"):
    """The first eligible action of the list; no_action when none is eligible."""

    actions: tuple[str, ...] = ("no_action",)


class WeightedThompson(Frozen, frozen=True, tag="weighted_thompson", tag_field="kind"):
    """Beta-Bernoulli Thompson sampling per action, without context."""

    floor: Annotated[float, Meta(ge=0.0, le=0.2)] = 0.005
    half_life_days: Annotated[float, Meta(gt=0)] | None = None


class LinearThompson(Frozen, frozen=True, tag="linear_thompson", tag_field="kind"):
    """Disjoint linear Thompson sampling: one Bayesian linear model per action.

    `context_precision: auto` chooses the prior precision of the context weights by
    marginal likelihood at each learn (docs/concepts/learning.md).
    """

    floor: Annotated[float, Meta(ge=0.0, le=0.2)] = 0.005
    context_precision: Annotated[float, Meta(gt=0)] | Literal["auto"] = "auto"
    half_life_days: Annotated[float, Meta(gt=0)] | None = None


class FactoredLinearThompson(Frozen, frozen=True, tag="factored_linear_thompson", tag_field="kind"):
    """Linear Thompson sampling over combinations that learn from each other by what they share.

    Shared are channel, incentive, send_hour, wait_days and the `attributes` of creatives, and the
    `pairs` of these whose combination may matter beyond its parts.
    """

    floor: Annotated[float, Meta(ge=0.0, le=0.2)] = 0.005
    half_life_days: Annotated[float, Meta(gt=0)] | None = None
    pairs: tuple[tuple[str, str], ...] = (("channel", "send_hour"),)


Policy = UniformPolicy | FixedPolicy | WeightedThompson | LinearThompson | FactoredLinearThompson


class Group(Frozen, frozen=True):
    """A fixed share of customers (by salted hash) with a policy of its own."""

    name: Name
    share: Share
    policy: Policy | None = None


class Trigger(Frozen, frozen=True):
    """A decision at once, when an event comes.

    `on` is a rule over the event (type, event, page_class, platform, ticket_kind); `when`
    one over the profile with that event worked in, and may be left out.
    """

    on: Rule
    when: Rule | None = None


class SmallList(Frozen, frozen=True):
    """People for whom a person decides, not the model: the first possible of `actions`.

    None of them possible: nothing is sent. It holds in every group.
    """

    name: Name
    members: Rule
    actions: Annotated[tuple[str, ...], Meta(min_length=1)]


class Agent(Frozen, frozen=True):
    """One use case.

    Messages are only for those of the audience for whom `eligible_if` holds. With
    `approval: each` a message is held until a person approves its decision. So is every message
    of an agent whose decisions have a `significant_effect` on people, legal or alike: credit,
    insurance, work, housing, health, an individual price (GDPR, article 22). `owner` is who
    answers for the file, by the name that `--by` has; anybody else may approve.
    `time_to_live` counts from the moment a message is meant to leave; later it is skipped.
    An agent with `triggers` decides when one of them fires or when it is asked, not daily.
    `sequence_credit` is the share of what a decision earns that the agent's decision before it,
    for the same customer, is credited with too; the one before that gets that share of it.
    With `crm_task` each move for somebody with a CRM contact is a task of that contact's owner.
    With `pause_weak` a creative is frozen by `learn` when the agent certainly earns more without
    it, at most one at a time.
    """

    agent: Name
    goal: str
    audience: Rule
    outcomes: Annotated[tuple[Outcome, ...], Meta(min_length=1)]
    actions: Annotated[tuple[AgentAction, ...], Meta(min_length=1)]
    context: tuple[ContextFeature, ...] = ()
    policy: Policy = msgspec.field(default_factory=LinearThompson)
    groups: tuple[Group, ...] | None = None
    eligible_if: Rule | None = None
    lists: tuple[SmallList, ...] = ()
    approval: Literal["none", "each"] = "none"
    significant_effect: bool = False
    owner: Annotated[str, Meta(min_length=1)] | None = None
    time_to_live: Duration = "6h"
    triggers: tuple[Trigger, ...] = ()
    sequence_credit: Share = 0.0
    crm_task: bool = False
    pause_weak: bool = False


class Creative(Frozen, frozen=True):
    """A message version that lives in the ESP, by campaign id.

    On the channel `rep` the customer is handed over to a sales rep: `subject` and `body` are what
    the rep is told, and `campaign_id` is the id of the channel where Slack brings it.
    `attributes` say what it has in common with others (tone: urgent); factored policies learn
    by them. `stream` is the stream of the channel's destination that sends it.
    """

    creative: Name
    channel: Channel
    campaign_id: str
    subject: str
    body: str = ""
    promotional: bool = True
    resolution: bool = False
    attributes: dict[str, str] = {}
    stream: Name = "messages"


class Incentive(Frozen, frozen=True):
    """What is given away, and what it costs us when it is used (USD cents)."""

    incentive: Name
    description: str
    cost_cents: Annotated[int, Meta(ge=0)] = 0


class Cap(Frozen, frozen=True):
    """At most `max` messages in a rolling window; all channels when `channel` is absent."""

    max: Annotated[int, Meta(ge=0)]
    days: Literal[1, 7, 30]
    channel: Channel | None = None


class QuietHours(Frozen, frozen=True):
    """Messages may leave when start <= local hour < end in the person's own zone."""

    start: Hour = 8
    end: Annotated[int, Meta(ge=1, le=24)] = 21


class Blackout(Frozen, frozen=True):
    """Days on which promotions rest, `first` and `last` included, on the person's own calendar.

    On all channels when `channel` is absent.
    """

    first: date
    last: date
    why: str
    channel: Channel | None = None


class Limit(Frozen, frozen=True):
    """What there is of something that messages use up: money, stock, the time of sales reps.

    A message uses it up when its incentive, creative and channel are among those that are named;
    what is not named is all of them. It uses one unit, or the cost of its incentive for
    `unit: cents`. `max` is for a rolling window of `days`, for good when `days` is null;
    `rep_capacity` is the daily capacity of all available reps of the CRM.
    """

    limit: Name
    max: Annotated[int, Meta(ge=0)] | Literal["rep_capacity"]
    unit: Literal["messages", "cents"] = "messages"
    days: Literal[1, 7, 30] | None = 1
    incentives: tuple[Name, ...] = ()
    creatives: tuple[Name, ...] = ()
    channels: tuple[Channel, ...] = ()


class Schemas(Frozen, frozen=True):
    """Where in a warehouse the tables are: yours, those of dbt, those of the loop."""

    raw_schema: Name = "raw"
    schema: Name = "nextmove"
    engine_schema: Name = "nextmove_engine"


class DuckDBWarehouse(Schemas, frozen=True, tag="duckdb", tag_field="kind"):
    """The embedded warehouse: a file in the project folder."""

    path: str = "warehouse.duckdb"


class PostgresWarehouse(Schemas, frozen=True, tag="postgres", tag_field="kind"):
    """A PostgreSQL database. Each field names the environment variable that holds the value.

    The variables of `port_env` (5432) and `password_env` may be left unset.
    """

    host_env: Variable = "NEXTMOVE_POSTGRES_HOST"
    port_env: Variable = "NEXTMOVE_POSTGRES_PORT"
    database_env: Variable = "NEXTMOVE_POSTGRES_DATABASE"
    user_env: Variable = "NEXTMOVE_POSTGRES_USER"
    password_env: Variable = "NEXTMOVE_POSTGRES_PASSWORD"  # noqa: S105 - a name


class SnowflakeWarehouse(Schemas, frozen=True, tag="snowflake", tag_field="kind"):
    """A Snowflake database. Each field names the environment variable that holds the value.

    The password may be a programmatic access token. The variable of `role_env` may be left
    unset, and that of `url_env`, which is for an account that is not reached at its usual
    address: a private link, an emulator.
    """

    account_env: Variable = "NEXTMOVE_SNOWFLAKE_ACCOUNT"
    user_env: Variable = "NEXTMOVE_SNOWFLAKE_USER"
    password_env: Variable = "NEXTMOVE_SNOWFLAKE_PASSWORD"  # noqa: S105 - a name
    database_env: Variable = "NEXTMOVE_SNOWFLAKE_DATABASE"
    warehouse_env: Variable = "NEXTMOVE_SNOWFLAKE_WAREHOUSE"
    role_env: Variable = "NEXTMOVE_SNOWFLAKE_ROLE"
    url_env: Variable = "NEXTMOVE_SNOWFLAKE_URL"


Warehouse = DuckDBWarehouse | PostgresWarehouse | SnowflakeWarehouse


class Destination(Frozen, frozen=True):
    """An outside system. `api_key_env` names the environment variable that holds the key.

    `kind` is one of ours or of an installed package; `nextmove check` lists them. `hot_store` is
    the service's own store: `url` is that of `nextmove serve`. Nothing more is sent when
    `daily_share` of the vendor's daily calls is used up, where the vendor tells.
    """

    kind: Name
    url: str
    api_key_env: Variable
    webhook_key_env: Variable | None = None
    daily_share: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.8


class Alerts(Frozen, frozen=True):
    """Who is told when a stream of deliveries changes its state.

    It stops, has rejected or unknown records, or is well again. `destination` is one of kind
    webhook, or of kind slack with the id of the channel. So many rejected or unknown records of a
    stream as are `tolerated` change nothing.
    """

    destination: Name
    slack_channel: str = ""
    only_stopped: bool = False
    tolerated: Annotated[int, Meta(ge=0)] = 0


class Service(Frozen, frozen=True):
    """The hot path, `nextmove serve`.

    The write key is what Segment's libraries send with events; it may be public. The API key
    opens decisions, content and publishing. `page_classes` maps a class of pages to the path
    prefixes that belong to it; the longest prefix wins. `webhooks` are those of vendors that are
    no destination: vendor to the variable with the secret or key its calls are checked with.
    `public_url` is where vendors and mailboxes reach the service. With it, e-mails get the
    address of a one-click opt-out, made with the unsubscribe key.
    """

    write_key_env: Variable = "NEXTMOVE_WRITE_KEY"
    api_key_env: Variable = "NEXTMOVE_API_KEY"
    public_url: str = ""
    unsubscribe_key_env: Variable = "NEXTMOVE_UNSUBSCRIBE_KEY"
    webhooks: dict[Name, Variable] = {}
    page_classes: dict[PageClass, tuple[str, ...]] = {}


class Project(Frozen, frozen=True):
    """nextmove.yml. Messages, whichever agent's, are only for whom `eligible_if` holds.

    `message_cents` is what one message costs on a channel, 0 where it is not named; agents pay it
    by their outcome `message`.
    `waived` is the share of customers for whom your own caps, quiet hours or days of rest do not
    hold, so that `nextmove evaluate` can measure what they cost; what the law says holds for all.
    """

    project: Name
    salt: Annotated[str, Meta(min_length=16)]
    warehouse: Warehouse
    sources: tuple[str, ...]
    channels: dict[Channel, Name]
    destinations: dict[Name, Destination]
    groups: tuple[Group, ...]
    incentives: tuple[Incentive, ...] = ()
    caps: tuple[Cap, ...] = ()
    quiet_hours: QuietHours = msgspec.field(default_factory=QuietHours)
    blackouts: tuple[Blackout, ...] = ()
    waived: dict[Waivable, Annotated[float, Meta(gt=0.0, le=0.1)]] = {}
    eligible_if: Rule | None = None
    limits: tuple[Limit, ...] = ()
    arbiter_explore: Share = 0.05
    service: Service | None = None
    alerts: Alerts | None = None
    message_cents: dict[Channel, Annotated[float, Meta(ge=0.0)]] = {}


def needs_approval(agent: Agent | None) -> bool:
    """Whether a person must approve each decision before its message leaves."""
    return agent is not None and (agent.approval == "each" or agent.significant_effect)


def hours(duration: str) -> int:
    """Hours in a duration: `36h` is 36, `7d` is 168."""
    value, unit = int(duration[:-1]), duration[-1]
    return value * (24 if unit == "d" else 1)
