"""make bench-decide-one: what one decision for one person costs, step by step.

One agent, 32 features, about 20 guardrail checks, a profile of the columns that these read, as in
the service. Every call is another event: another person, another moment. The propensity is left
for later.
CPU microseconds of one thread; a busy machine adds to them, most of all to the 99th percentile, so
beside it stands that of the calmest thousand calls in a row, and what the machine does to a loop
that computes nothing but sums. Fails when a goal is missed; `--json` prints the figures as JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from decision_engine import config
from decision_engine.across_agents import decide_batch
from decision_engine.agent_in_epoch import AgentInEpoch
from decision_engine.catalog import catalog_of
from decision_engine.choose import choose
from decision_engine.config import AgentAction, ContextFeature, Creative, Incentive
from decision_engine.decide import AgentPlan
from decision_engine.features import all_needed_columns, design, feature_names
from decision_engine.guardrails import columns_of, reasons, send_at
from decision_engine.keys import customer_keys, decision_keys
from decision_engine.learn import Rewards, learn
from decision_engine.policies import linear_thompson
from decision_engine.record import rows_of
from decision_engine.row import Layout
from decision_engine.rules import parsed
from decision_engine.types import Catalog, Epoch, Floats, seconds_of
from decision_engine.waiting import WAITING
from tests.goals import Cost, Goal, judge, measure, table_to
from tests.rewards import closed

CALLS, STEP_CALLS, PEOPLE = 20_000, 4_000, 300
CHOICES_A_CALL = 5
"""So many times as often the choice is timed: it is short, and a machine is not calm for long."""
GROUP = 32
AS_OF = datetime(2026, 3, 2, 16)
PROFILES = Path(__file__).resolve().parents[2] / "dbt_project/models/marts/_marts__models.yml"
LIVE = (
    "page_views_24h", "price_visits_24h", "price_visits_7d", "cart_visits_24h", "opens_2d",
    "opens_14d", "clicks_2d", "clicks_14d", "engagement_velocity", "ad_clicks_7d", "chats_7d",
    "forms_7d", "cross_channel_intent", "sends_1d", "last_page_class",
)  # fmt: skip
NUMBERS = (*LIVE[:-1], "days_since_signup", "orders_count", "revenue_cents", "avg_order_cents",
    "onboarding_steps", "features_used_30d", "email_click_rate", "push_click_rate",
    "sms_click_rate", "sends_7d")  # fmt: skip
CHOICES = {
    "tier": ("silver", "gold"),
    "preferred_channel": ("email", "push", "sms"),
    "lifecycle_stage": ("lead", "customer", "lapsed"),
}
TEXTS = {
    **CHOICES,
    "time_zone": ("America/New_York", "America/Chicago", "Europe/London", "Asia/Kolkata"),
    "country": ("US", "GB", "IN"),
    "last_page_class": ("home", "price", "cart"),
}
MOSTLY_TRUE = ("has_e", "has_p", "consent", "service_consent")
MICROS_OF_WAITING = int((seconds_of(AS_OF) + 7_200) * 1e6)
RULES = (
    "onboarding_steps < 3", "cart_visits_24h > 0 OR price_visits_24h > 0", "tier = 'gold'",
    "lower(country) IN ('us', 'gb')", "coalesce(days_since_last_order, 999) >= 5",
    "last_page_class = 'price' AND revenue_cents / 100 > 1",
)  # fmt: skip
CHANNELS: tuple[config.Channel, ...] = ("email", "push", "sms")
CAPS = (
    config.Cap(2, 1), config.Cap(4, 7), config.Cap(9, 30), config.Cap(2, 7, "sms"),
    config.Cap(3, 7, "email"),
)  # fmt: skip
TOGETHER = f"whole, {GROUP} together"
WHOLES = ("choice alone", "decide_batch", "whole decision")
MEDIANS = {(TOGETHER, 100): 200.0 * GROUP}
P99S = {("choice alone", 10): 60.0, ("choice alone", 500): 350.0, ("whole decision", 100): 1_000.0}
"""Goals, microseconds."""


@dataclass
class Bench:
    """One agent with k actions and people to decide about."""

    project: config.Project
    agent: AgentInEpoch
    types: dict[str, str]
    people: list[dict[str, Any]]


def make(k: int) -> Bench:
    """A project with one agent of k actions that has learned from random rewards."""
    incentives = ("none", "ten_percent", "free_shipping")
    creatives = {
        name: Creative(name, channel, name, name, promotional=promotional, resolution=resolution)
        for name, channel, promotional, resolution in (
            (f"c{i}", CHANNELS[i % 3], i % 4 != 3, i == 11) for i in range(k // 7 + 2)
        )
    }
    actions = tuple(
        AgentAction(
            name,
            incentives,
            (9, 13, 19) if i % 5 else (),
            eligible_if=RULES[i] if i < len(RULES) else None,
        )
        for i, name in enumerate(creatives)
    )
    project = config.Project(
        "bench", "a salt for the benchmark", config.DuckDBWarehouse(), (),
        dict.fromkeys(CHANNELS, "mailer"),
        {"mailer": config.Destination("braze", "http://x", "KEY")},
        (config.Group("treatment", 1.0),),
        tuple(Incentive(i, i) for i in incentives[1:]), CAPS,
    )  # fmt: skip
    context = (
        *(ContextFeature(c, "log1p") for c in NUMBERS),
        *(ContextFeature(c, "one_of", options) for c, options in CHOICES.items()),
    )
    agent = config.Agent(
        "bench", "Measure", "NOT is_suppressed AND orders_count >= 0",
        (config.Outcome("order", 1.0),), actions, context,
    )  # fmt: skip
    catalog = Catalog(catalog_of(agent, creatives, project.incentives).actions[:k])
    state = learn(
        None, [random_rewards(k, len(feature_names(context)))], agent="bench",
        policy="linear_thompson", actions=catalog.keys, features=feature_names(context),
        as_of=10 * 86_400.0,
    )  # fmt: skip
    facts = set(CHOICES) | columns_of(catalog, project)
    plan = AgentPlan("bench", catalog, {"treatment": agent.policy}, state)
    frozen = AgentInEpoch(agent, plan, state, project.groups, project.salt, tuple(sorted(facts)))
    types, needed = profile_types(), all_needed_columns([(agent, catalog)], project)
    people = list(random_people(types))
    return Bench(project, frozen, {c: types[c] for c in needed}, people)


def random_rewards(k: int, d: int, n: int = 4_000) -> Rewards:
    """Closed decisions with rewards that depend on nothing."""
    rng = np.random.default_rng(k)
    x, action, reward = rng.normal(size=(n, d)), rng.integers(0, k, n), rng.random(n) < 0.1
    return closed(x, action, reward, rng.uniform(0, 10 * 86_400, n))


def profile_types() -> dict[str, str]:
    """The columns of the profiles, as dbt's contract has them."""
    models = yaml.safe_load(PROFILES.read_text(encoding="utf-8"))["models"]
    (model,) = (m for m in models if m["name"] == "dim_customer_features")
    return {c["name"]: c["data_type"] for c in model["columns"]}


def random_people(types: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Profiles of people most of whom may get most messages; for a few one waits to leave."""
    rng = np.random.default_rng(1)
    for i in range(PEOPLE):
        person: dict[str, Any] = {"customer_id": f"c_{i:032x}", "as_of": AS_OF}
        person[WAITING] = "" if rng.random() < 0.9 else f"{MICROS_OF_WAITING} email d{i:063x}"
        for name, type_name in types.items():
            if name in TEXTS:
                person[name] = TEXTS[name][rng.integers(len(TEXTS[name]))]
            elif type_name == "boolean":
                person[name] = name.startswith(MOSTLY_TRUE) and rng.random() < 0.95
            elif name not in person:
                person[name] = None if type_name == "text" else float(rng.integers(0, 3))
        yield person


def epoch_of(i: int) -> Epoch:
    """The epoch of the i-th event, seven seconds after the one before."""
    moment = AS_OF + timedelta(seconds=7 * i)
    return Epoch(f"{i:016x}", f"message-{i:08x}", moment, "build", "digest")


def steps(bench: Bench) -> Iterator[tuple[str, Callable[[int], object]]]:
    """Every step by itself, on people and moments of its own; then the whole."""
    agent, project, plan = bench.agent, bench.project, bench.agent.plan
    layout = Layout(bench.types)
    epochs = [epoch_of(i) for i in range(PEOPLE)]
    contexts = [layout.contexts([p["customer_id"]], [p]) for p in bench.people]
    ids = [c.customer_ids for c in contexts]
    x = [design(c, agent.config.context) for c in contexts]
    made = [m for c, e in zip(contexts, epochs, strict=True) for m in decide(bench, c, e)]
    encode = msgspec.json.Encoder().encode
    records = [rows_of(m, agent, e)[0] for m, e in zip(made, epochs, strict=True)]

    def at(function: Callable[[int], object]) -> Callable[[int], object]:
        return lambda i: function(i % PEOPLE)

    yield (
        "profile to contexts",
        at(lambda i: layout.contexts([bench.people[i]["customer_id"]], [bench.people[i]])),
    )
    yield "audience", at(lambda i: parsed(agent.config.audience).holds(contexts[i]))
    yield "features", at(lambda i: design(contexts[i], agent.config.context))
    yield "guardrails", at(lambda i: reasons(contexts[i], plan.catalog, project, epochs[i]))
    yield "send times", at(lambda i: send_at(contexts[i], plan.catalog, epochs[i]))
    yield "keys and group", at(lambda i: keys_of_one(bench, ids[i], epochs[i]))
    yield "choice alone", choice(bench, x)
    yield "record as a row", at(lambda i: rows_of(made[i], agent, epochs[i]))
    yield "record as JSON", at(lambda i: encode(records[i]))
    yield "decide_batch", lambda i: decide(bench, contexts[i % PEOPLE], epoch_of(i))
    yield "whole decision", whole(bench, layout, 1, encode)
    yield TOGETHER, whole(bench, layout, GROUP, encode)


def keys_of_one(bench: Bench, ids: Any, epoch: Epoch) -> None:
    """The three keys of a decision."""
    salt = bench.project.salt
    customer_keys(salt, f"arbiter\x1f{epoch.slot}", ids)
    decision_keys(salt, bench.agent.name, epoch.slot, ids)
    bench.agent.group_of(ids)


def choice(bench: Bench, x: list[Floats]) -> Callable[[int], object]:
    """From features to the chosen action: posterior and draw, every action possible."""
    plan = bench.agent.plan
    actions, state = plan.catalog.keys, plan.state
    assert state is not None
    keys = decision_keys("salt", "bench", "slot", [str(i) for i in range(PEOPLE)])[0][:, None]
    every = np.ones((1, len(actions)), dtype=bool)

    def call(i: int) -> object:
        mean, sd = linear_thompson.posterior(state, actions, x[i % PEOPLE])
        return choose(keys[i % PEOPLE], mean, sd, every, 0.005, "gaussian", plan.draws)

    return call


def decide(bench: Bench, contexts: Any, epoch: Epoch) -> list[Any]:
    """decide_batch without the propensity, which is left for later."""
    found = decide_batch(contexts, [bench.agent], epoch, bench.project, with_propensity=False)
    return [made for _, made in found]


def whole(
    bench: Bench, layout: Layout, n: int, encode: Callable[[Any], bytes]
) -> Callable[[int], object]:
    """From the values of n people to the JSON of the records."""

    def call(i: int) -> object:
        people = [bench.people[(i * n + j) % PEOPLE] for j in range(n)]
        epoch = epoch_of(i)
        (made,) = decide(bench, layout.contexts([p["customer_id"] for p in people], people), epoch)
        return [encode(row) for row in rows_of(made, bench.agent, epoch)]

    return call


def goals(found: dict[tuple[str, int], Cost]) -> list[Goal]:
    """What has to hold."""
    medians = [
        Goal(f"{n}, k = {k}, median us", found[n, k].median, b) for (n, k), b in MEDIANS.items()
    ]
    return medians + [
        Goal(f"{n}, k = {k}, p99 us when calm", found[n, k].calm_p99, b)
        for (n, k), b in P99S.items()
    ]


def main() -> None:
    """Print the table and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS, help="of what has a goal for its p99")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    shown, found = table_to(options.json), {}
    print(f"{'step':<24}{'k':>4}{'median us':>10}{'p99 us':>10}{'calm p99':>10}", file=shown)
    print(f"{'sums, on this machine':<28}{measure(lambda _: sum(range(2_000)), CALLS)}", file=shown)
    for k in (100, 10, 500):
        for name, call in steps(make(k)):
            if k == 100 or name in WHOLES:
                calls = options.calls if (name, k) in P99S else min(options.calls, STEP_CALLS)
                calls *= CHOICES_A_CALL if name == WHOLES[0] else 1
                found[name, k] = measure(call, calls)
                print(f"{name:<24}{k:>4}{found[name, k]}", file=shown, flush=True)
    figures = [{"step": name, "k": k, **asdict(cost)} for (name, k), cost in found.items()]
    judge(goals(found), options.json, calls=figures)


if __name__ == "__main__":
    main()
