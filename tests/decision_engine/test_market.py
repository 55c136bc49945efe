from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors.warehouses.duckdb import sql_type
from decision_engine.market import ActionView, Market
from decision_engine.types import Bools, Floats, Ints
from tests.dbt_project.warehouse import RAW_TABLES

START = date(2026, 3, 2)
INCENTIVES = {"ten_percent": 6.0, "free_shipping": 4.5}
WEIGHTS = {"order": 1.0, "click": 0.1, "unsubscribe": -1.0, "complaint": -1.5}
NO_ACTION = ActionView("", "")
ACTIONS = (
    NO_ACTION,
    *(ActionView("email", f"mail_{i}", "none", hour) for i in range(4) for hour in (9, 19)),
    ActionView("email", "mail_4", "ten_percent", 19),
    *(ActionView("push", f"push_{i}", "none", hour) for i in range(2) for hour in (9, 19)),
    ActionView("push", "push_2", "free_shipping", 19),
    ActionView("sms", "text_0", "none", 19),
    ActionView("sms", "text_1", "ten_percent", 19),
)
Tables = dict[str, pa.Table]


def new_market(customers: int = 300, seed: int = 1, **options: float) -> Market:
    return Market(customers, seed, START, incentives=INCENTIVES, **options)


def begun(customers: int = 300, seed: int = 1, **options: float) -> Market:
    market = new_market(customers, seed, **options)
    market.reference()
    return market


def emails(market: Market) -> list[str]:
    found: list[str] = market.known.email.to_pylist()
    return found


def message(market: Market, who: int, view: ActionView, hours: float = 12.0, n: int = 0) -> Any:
    at = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(hours=hours)
    return {
        "vendor": "iterable",
        "message_id": f"m-{who}-{n}",
        "email": emails(market)[who],
        "channel": view.channel,
        "at": at.isoformat().replace("+00:00", "Z"),
        "properties": {"creative": view.creative, "incentive": view.incentive},
    }


def messages(market: Market, people: Sequence[int], view: ActionView) -> list[Any]:
    template, addresses = message(market, 0, view), emails(market)
    return [{**template, "message_id": f"m-{w}", "email": addresses[w]} for w in people]


def moments(market: Market, n: int, hours: float = 12.0) -> Floats:
    return np.full(n, market.start + hours * 3600)


def everybody(market: Market) -> Ints:
    return np.arange(market.people.customers)


def values(market: Market, actions: Sequence[ActionView], hours: float = 12.0) -> Floats:
    who = everybody(market)
    return market.expected_reward(who, actions, moments(market, len(who), hours), WEIGHTS)


# --- what the tables look like ------------------------------------------------------------------


@cache
def lived() -> tuple[Market, Tables, tuple[Tables, ...]]:
    """A market whose people all got a message on day 0; to be read only."""
    market = new_market(600)
    reference = market.reference()
    market.receive(messages(market, range(600), ActionView("email", "mail_1")))
    return market, reference, tuple(market.day(d) for d in range(4))


def test_tables_have_the_columns_and_types_of_the_raw_schema() -> None:
    _, reference, days = lived()
    assert set(reference) == set(RAW_TABLES)
    short = {"text": "varchar", "int": "integer"}
    for name, declared in RAW_TABLES.items():
        columns = [c.split() for c in declared.split(", ")]
        wanted = [(column, short.get(kind, kind)) for column, kind in columns]
        for tables in (reference, *days):
            if name in tables:
                assert [(f.name, sql_type(f.type)) for f in tables[name].schema] == wanted


def test_ids_are_unique() -> None:
    _, reference, days = lived()
    for table, column in {
        "segment_events": "message_id",
        "esp_events": "event_id",
        "crm_contacts": "contact_id",
        "support_tickets": "ticket_id",
        "orders": "order_id",
        "ad_clicks": "click_id",
        "chats": "chat_id",
        "form_submissions": "form_id",
        "consents": "consent_id",
    }.items():
        found = [i for t in (reference, *days) if table in t for i in t[table][column].to_pylist()]
        assert None not in found
        assert len(found) == len(set(found)), table


def test_rows_are_in_time_order_and_of_their_day() -> None:
    _, reference, days = lived()
    midnight = datetime(2026, 3, 2)
    for table, column in (("segment_events", "occurred_at"), ("orders", "ordered_at")):
        assert max(reference[table][column].to_pylist()) < midnight + timedelta(minutes=5)
        for number, tables in enumerate(days):
            at = tables[table][column].to_pylist()
            assert at == sorted(at)
            assert at[0] >= midnight + timedelta(days=number)
            assert at[-1] < midnight + timedelta(days=number + 1, minutes=5)


def test_orders_are_the_sum_of_their_lines_and_dearer_than_their_discount() -> None:
    _, reference, _ = lived()
    lines: Counter[str] = Counter()
    for row in reference["order_items"].to_pylist():
        lines[row["order_id"]] += row["quantity"] * row["price_cents"]
    for order in reference["orders"].to_pylist():
        assert lines[order["order_id"]] == order["amount_cents"] > order["discount_cents"] >= 0


def test_contacts_are_fictional() -> None:
    _, reference, days = lived()
    phone = re.compile(r"\+1[2-9][0-8]\d55501\d\d|\+44(7700900|1\d\d4960|207946\d|191498\d)\d{3}|"
                       r"\+44(289649[6]|2920180|1632960)\d{3}")  # fmt: skip
    for tables in (reference, *days):
        for table in tables.values():
            for name in {"email", "requester_email"} & set(table.schema.names):
                present = [e for e in table[name].to_pylist() if e]
                assert all(re.fullmatch(r"[^@ ]+@example\.(com|net)", e) for e in present)
            if "phone" in table.schema.names:
                present = [p.replace(" ", "") for p in table["phone"].to_pylist() if p]
                assert all(phone.fullmatch(p) for p in present), present[:3]


def test_the_population_has_an_audience_for_every_agent() -> None:
    market = new_market(5000)
    people, n = market.people, 5000
    assert abs((people.orders[:n] == 0).mean() - 0.40) < 0.03
    assert abs((people.orders[:n] == 1).mean() - 0.25) < 0.03
    several = people.orders[:n] > 1
    assert abs((people.order_age[:n] > 60)[several].mean() - 0.5) < 0.05
    shares = (people.consent[:n] == 1).mean(axis=0)
    assert np.abs(shares - [0.85, 0.50, 0.48]).max() < 0.04
    assert abs((~people.zone_is_known).mean() - 0.01) < 0.005
    assert Counter(people.signup_day.tolist())[7] == 20


# --- randomness ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_market() -> None:
    def life(seed: int) -> list[Any]:
        market = new_market(150, seed)
        tables = [market.reference()]
        told = market.receive(messages(market, range(150), ACTIONS[1]))
        tables += [market.day(0), market.day(1)]
        return [told, *({k: t.to_pydict() for k, t in part.items()} for part in tables)]

    assert life(3) == life(3)
    assert life(3) != life(4)


def test_what_one_person_gets_changes_nothing_for_anybody_else() -> None:
    quiet, loud = begun(), begun()
    written = range(40)
    loud.receive(messages(loud, written, ActionView("email", "mail_1")))
    loud.receive(messages(loud, range(20), ActionView("sms", "text_0")))
    devices = set(devices_of(quiet, np.arange(40)))
    shoppers = set(quiet.known.shop_customer_id.to_pylist()[:40])
    for day in range(5):
        ours, theirs = quiet.day(day), loud.day(day)
        for table, column, touched in (
            ("segment_events", "anonymous_id", devices),
            ("orders", "shop_customer_id", shoppers),
        ):
            rest = [
                [row for row in tables[table].to_pylist() if row[column] not in touched]
                for tables in (ours, theirs)
            ]
            assert rest[0] == rest[1] != []


def devices_of(market: Market, who: Ints) -> list[str]:
    found = [market.known.anonymous_id(who, np.full(len(who), d)).to_pylist() for d in range(3)]
    return [i for ids in found for i in ids]


def test_ids_that_vendors_give_do_not_matter_to_people() -> None:
    views = (ActionView("email", "mail_1"), ActionView("push", "push_1"))

    def told(ids: Sequence[str]) -> list[Any]:
        market = begun()
        of_id = dict(zip(ids, views, strict=True))
        both = [
            {**m, "message_id": f"{i}-{m['message_id']}"}
            for i, view in of_id.items()
            for m in messages(market, range(300), view)
        ]
        engagements = market.receive(both)
        for e in engagements:
            e["message_id"] = e["message_id"].replace(f"{e['message_id'][0]}-", "", 1) + (
                of_id[e["message_id"][0]].channel
            )
        return sorted(engagements, key=str)

    assert told("ab") == told("ba")


def test_a_message_is_received_once_and_a_second_send_is_a_second_message() -> None:
    market, twin = begun(), begun()
    view = ActionView("email", "mail_1")
    once = messages(market, range(300), view)
    first = market.receive(once)
    assert first
    assert market.receive(once) == []
    halves = twin.receive(once[100:]) + twin.receive(once[:100])
    assert sorted(halves, key=str) == sorted(first, key=str)
    assert market.state.send_count.max() == 1
    again = market.receive([{**m, "message_id": m["message_id"] + "-again"} for m in once])
    assert {e["message_id"] for e in again} - {e["message_id"] for e in first}
    assert market.state.send_count.max() == 2


# --- truth --------------------------------------------------------------------------------------


def test_what_people_do_has_the_expectation_that_is_claimed() -> None:
    """Each event is a sum of independent Bernoulli draws: 4.5 standard deviations of it."""
    market, twin = begun(6000), begun(6000)
    views = [ActionView("email", "mail_1", "ten_percent"), ActionView("push", "push_0"),
             ActionView("sms", "text_1"), ActionView("email", "mail_3")]  # fmt: skip
    told, chances = [], defaultdict(list)
    events = ("click", "open", "order", "onboarding_step", "unsubscribe", "complaint", "bounce")
    for first, view in enumerate(views):
        who = without_scanner(market, np.arange(first, 6000, 4))
        for event in events:
            at = moments(market, len(who))
            chances[event].append(market.expected_reward(who, [view], at, {event: 1.0})[:, 0])
        told += market.receive(messages(market, who.tolist(), view))
    seen = Counter(e["type"] for e in told if not e["is_machine"])
    for day in range(3):
        ours, theirs = market.day(day), twin.day(day)
        seen["order"] += sum(i.startswith("om-") for i in ours["orders"]["order_id"].to_pylist())
        seen["onboarding_step"] += len(steps(ours) - steps(theirs))
    for event in events:
        p = np.concatenate(chances[event])
        assert seen[event] > 0
        assert abs(seen[event] - p.sum()) <= 4.5 * np.sqrt((p * (1 - p)).sum()), event


def without_scanner(market: Market, who: Ints) -> Ints:
    """Those whose clicks are all their own, or flagged."""
    return who[~market.people.has_scanner[who]]


def test_the_timing_of_scanners_is_that_of_programs() -> None:
    """Without effect nobody clicks: all clicks that no vendor flags are theirs."""
    market = begun(3000, effect=0.0)
    sent = messages(market, range(3000), ActionView("email", "mail_1"))
    left = {m["message_id"]: datetime.fromisoformat(m["at"]).replace(tzinfo=None) for m in sent}
    clicks = defaultdict(list)
    for told in market.receive(sent):
        if told["type"] == "click" and not told["is_machine"]:
            after = datetime.fromisoformat(told["at"]) - left[told["message_id"]]
            clicks[told["message_id"]].append(after.total_seconds())
    assert 0.02 < len(clicks) / market.people.has_channel[:3000, 0].sum() < 0.04
    assert {len(times) for times in clicks.values()} == {1, 4}
    for at_once, *later in clicks.values():
        assert 0 < at_once < 10
        assert not later or (later[0] >= 60 and later[2] - later[0] == 2)


def steps(tables: Tables) -> set[str]:
    rows = tables["segment_events"].select(["message_id", "event"]).to_pylist()
    return {r["message_id"] for r in rows if r["event"] == "Onboarding Step Completed"}


def test_expected_reward_is_the_sum_of_the_weighted_events() -> None:
    market = begun()
    who, at = everybody(market), moments(market, 300)
    parts = [
        weight * market.expected_reward(who, ACTIONS, at, {event: 1.0})
        for event, weight in WEIGHTS.items()
    ]
    assert np.allclose(sum(parts), values(market, ACTIONS), rtol=0, atol=1e-12)
    assert not market.expected_reward(who, ACTIONS, at, {"feature_use": 5.0}).any()


def test_a_send_hour_is_worth_what_a_message_at_that_hour_is() -> None:
    market = begun()
    who = np.flatnonzero(market.people.zone[:300] == 3)  # London, on UTC in early March
    at = moments(market, len(who), hours=19)
    now = market.expected_reward(who, [ActionView("email", "mail_1")], at, WEIGHTS)
    then = market.expected_reward(who, [ActionView("email", "mail_1", "none", 19)], at, WEIGHTS)
    assert np.array_equal(now, then)


def test_without_effect_no_message_does_anything() -> None:
    market, twin = begun(effect=0.0), begun(effect=0.0)
    assert not values(market, ACTIONS).any()
    people = without_scanner(market, np.arange(300)).tolist()
    told = market.receive(messages(market, people, ActionView("email", "mail_1")))
    assert {e["type"] for e in told if not e["is_machine"]} <= {"bounce"}
    for day in range(3):
        ours, theirs = market.day(day), twin.day(day)
        assert all(ours[name].equals(theirs[name]) for name in theirs)
        assert theirs["orders"].num_rows > 0


def test_no_action_is_worth_nothing_and_often_beats_a_random_message() -> None:
    market = begun(3000)
    value, possible = values(market, ACTIONS), eligible(market, ACTIONS)
    assert not value[:, 0].any()
    sends = value[:, 1:][possible[:, 1:]]
    assert 0.15 < (sends < 0).mean() < 0.5
    assert sends.mean() > 0.02


def eligible(market: Market, actions: Sequence[ActionView]) -> Bools:
    people, n = market.people, market.people.customers
    may = (people.consent[:n] == 1) & people.has_channel[:n]
    index = {"email": 0, "push": 1, "sms": 2}
    columns = [may[:, index[a.channel]] if a.channel else np.ones(n, bool) for a in actions]
    return np.stack(columns, axis=1)


def test_what_there_is_to_learn() -> None:
    """Shares of the gap between chance and the oracle, averaged over five markets."""
    shares = np.array([gap_shares(begun(4000, seed)) for seed in range(1, 6)])
    by_mean, by_columns = shares.mean(axis=0)
    assert 0.30 < by_mean < 0.55
    assert 0.50 < by_columns < 0.78
    assert (shares < 1).all()
    assert (shares[:, 1] > shares[:, 0]).all()


def gap_shares(market: Market) -> tuple[float, float]:
    """Of the best actions by their means, and by linear models on what columns show."""
    value, may = values(market, ACTIONS), eligible(market, ACTIONS)
    x = observable(market)
    means, models = np.zeros_like(value), np.zeros_like(value)
    for k in range(value.shape[1]):
        rows = may[:, k]
        means[:, k] = value[rows, k].mean()
        models[:, k] = x @ np.linalg.lstsq(x[rows], value[rows, k], rcond=None)[0]
    chance = ((value * may).sum(axis=1) / may.sum(axis=1)).mean()
    oracle = np.where(may, value, -np.inf).max(axis=1).mean()
    reached = [of_choice(value, may, score) for score in (means, models)]
    assert chance < min(reached) <= max(reached) < oracle
    by_mean, by_columns = ((r - chance) / (oracle - chance) for r in reached)
    return by_mean, by_columns


def of_choice(value: Floats, may: Bools, score: Floats) -> float:
    chosen = np.where(may, score, -np.inf).argmax(axis=1)
    return float(value[np.arange(len(value)), chosen].mean())


def observable(market: Market) -> Floats:
    """Stands for dim_customer_features: no hidden traits, no hours."""
    people, n = market.people, market.people.customers
    noise = np.random.default_rng(0).normal(0, 0.5, (n, 2))
    orders = people.orders[:n]
    columns = [
        np.ones(n),
        people.tier[:n] == 1,
        people.tier[:n] == 2,
        orders == 0,
        np.log1p(orders),
        market.state.steps[:n],
        np.log1p(np.where(orders > 0, people.order_age[:n], -people.signup_day[:n])),
        market.start - market.state.last_visit[:n] < 86_400,
        people.thrift[:n] + noise[:, 0],
        np.log(people.activity[:n]) + noise[:, 1],
        *(people.favourite[:n] == c for c in range(3)),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def test_the_oracle_is_never_below_any_policy() -> None:
    market = begun(1000)
    value, may = values(market, ACTIONS), eligible(market, ACTIONS)
    oracle = np.where(may, value, -np.inf).max(axis=1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = np.where(may, rng.random(value.shape), -1).argmax(axis=1)
        assert (value[np.arange(len(value)), chosen] <= oracle).all()


# --- what changes people ------------------------------------------------------------------------


def test_messages_wear_people_out_for_a_week() -> None:
    market = begun()
    view = ActionView("email", "mail_1", "none", 19)
    before = market.expected_reward(everybody(market), [view], moments(market, 300), {"click": 1.0})
    market.receive(messages(market, range(300), view))
    later = [
        market.expected_reward(everybody(market), [view], moments(market, 300, h), {"click": 1.0})
        for h in (13, 12 + 3 * 24, 12 + 7 * 24)
    ]
    assert later[0].sum() < later[1].sum() < 0.9 * before.sum()
    assert later[2].sum() > 0.9 * before.sum()


def test_whoever_complains_wants_an_answer_and_nothing_else() -> None:
    market = begun()
    market.state.complained[:300] = market.start
    market.state.calmed[:300] = market.start + 5 * 86_400
    sale, answer = ActionView("email", "mail_1"), ActionView("email", "making_it_right")
    angry, calm = values(market, [sale, answer]), values(market, [sale, answer], hours=6 * 24)
    fine = market.people.has_channel[:300, 0] & ~market.people.has_bad_address[:300]
    assert (angry[fine, 1] > calm[fine, 1]).all()
    assert (angry[fine, 0] < 0).mean() > 0.8
    assert angry[:, 1].mean() > 0.1 > 0 > angry[:, 0].mean()


def test_whoever_unsubscribes_is_gone_from_that_channel() -> None:
    market = begun(2000)
    view = ActionView("email", "mail_0", "none", 9)
    told = market.receive(messages(market, range(2000), view))
    left = {e["message_id"] for e in told if e["type"] in ("unsubscribe", "complaint")}
    who = sorted(int(m.split("-")[1]) for m in left)
    rows = [r for d in range(2) for r in market.day(d)["consents"].to_pylist()]
    withdrawn = [r for r in rows if r["source"] == "vendor"]
    assert len(who) > 5
    assert {r["email"] for r in withdrawn} == {emails(market)[w] for w in who}
    assert {(r["channel"], r["status"]) for r in withdrawn} == {("email", "withdrawn")}
    gone = market.expected_reward(np.array(who), [view], moments(market, len(who)), WEIGHTS)
    assert not gone.any()


def test_orders_caused_by_messages_carry_the_incentive() -> None:
    market = begun(3000)
    view = ActionView("email", "mail_1", "free_shipping")
    market.receive(messages(market, range(3000), view))
    before = market.state.orders.copy()
    rows = [r for d in range(3) for r in market.day(d)["orders"].to_pylist()]
    caused = [r for r in rows if r["order_id"].startswith("om-")]
    paid = sum(r["status"] == "paid" for r in rows)
    assert caused
    assert {(r["discount_cents"], r["status"]) for r in caused} == {(450, "paid")}
    assert (market.state.orders - before).sum() == paid


def test_engagements_fit_the_channel_and_come_after_the_message_in_time_order() -> None:
    market = begun(1500)
    kinds = {"email": {"open", "click", "unsubscribe", "complaint", "bounce"},
             "push": {"click", "unsubscribe"}, "sms": {"click", "unsubscribe"}}  # fmt: skip
    for number, channel in enumerate(kinds):
        sent = messages(market, range(500 * number, 500 * number + 500), ActionView(channel, "x"))
        told = market.receive(sent)
        at = [datetime.fromisoformat(e["at"]) for e in told]
        assert {e["type"] for e in told} <= kinds[channel]
        assert at == sorted(at)
        assert datetime(2026, 3, 2, 12) < at[0]
        assert at[-1] < datetime(2026, 3, 4, 10)
        assert any(e["is_machine"] for e in told) == (channel == "email")


def test_creatives_keep_their_appeal_unless_it_drifts() -> None:
    fixed, drifting = begun(), begun(drift=0.05)
    assert np.array_equal(values(fixed, ACTIONS), values(begun(), ACTIONS))
    assert np.allclose(values(fixed, ACTIONS, 0), values(drifting, ACTIONS, 0), atol=1e-9)
    late = [values(market, ACTIONS, 24.0 * 30).mean(axis=0) for market in (fixed, drifting)]
    assert late[0].argmax() != late[1].argmax()


# --- identifiers --------------------------------------------------------------------------------


def clues(tables: Tables) -> Iterator[list[tuple[str, str]]]:
    """What is known together on a row, cleaned as a warehouse would."""
    kinds = ("email", "phone", "user_id", "anonymous_id", "contact_id", "shop_customer_id")
    for name, table in tables.items():
        if name in ("crm_reps", "crm_deals"):
            continue
        found = [k for k in kinds if k in table.schema.names]
        columns = [table[k].to_pylist() for k in found]
        for row in zip(*columns, strict=True):
            yield [
                (kind, value.strip().lower().replace(" ", ""))
                for kind, value in zip(found, row, strict=True)
                if value
            ]


def components(parts: Sequence[Tables]) -> dict[tuple[str, str], tuple[str, str]]:
    """Each identifier's representative."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for tables in parts:
        for row in clues(tables):
            for one, other in combinations(row, 2):
                parent[find(one)] = find(other)
    return {node: find(node) for node in list(parent)}


def test_people_are_scattered_over_the_tools_and_can_be_put_together() -> None:
    market = new_market(2000)
    parts = [market.reference(), market.day(0)]
    known, owner = market.known, components(parts)
    identifiers = [
        ("email", known.email),
        ("email", known.crm_email),
        ("user_id", known.user_id),
        ("contact_id", known.contact_id),
    ]
    texts = [(kind, [t.lower() for t in column.to_pylist()[:2000]]) for kind, column in identifiers]
    found = [{owner.get((kind, t[i])) for kind, t in texts} for i in range(2000)]
    whole = np.array([len(owners) == 1 for owners in found])
    assert 0.97 < whole.mean() < 1.0  # a few never gave sales and shop anything in common
    assert len({next(iter(o)) for o, w in zip(found, whole, strict=True) if w}) == whole.sum()
    crm, shop = known.crm_email.to_pylist()[:2000], known.email.to_pylist()[:2000]
    other = np.array([a != b for a, b in zip(crm, shop, strict=True)])
    assert abs(other.mean() - 0.25) < 0.03
    assert whole[other].mean() > 0.9


def test_visitors_without_a_name_stay_without_one() -> None:
    market, reference, _ = lived()
    events = reference["segment_events"].to_pylist()
    named = {r["anonymous_id"] for r in events if r["user_id"]}
    nameless = {r["anonymous_id"] for r in events} - named
    strangers = np.arange(market.people.customers, len(market.people))
    theirs = set(devices_of(market, strangers))
    assert theirs.isdisjoint(named)
    assert len(nameless & theirs) > 100


def test_people_are_found_by_any_of_their_addresses() -> None:
    market = begun()
    for column in (market.known.email, market.known.crm_email):
        for person, email in enumerate(column.to_pylist()[:50]):
            assert market.person_of_email(f" {email.upper()} ") == person
    assert market.person_of_email("nobody@example.com") is None
    assert market.person_of_email("") is None


def test_newcomers_sign_up_and_can_be_reached() -> None:
    market = begun(1000)
    contacts = market.day(0)["crm_contacts"].to_pylist()
    assert len(contacts) == 4
    for contact in contacts:
        person = market.person_of_email(contact["email"])
        assert person is not None
        assert person >= 1000
        told = market.receive([message(market, person, ActionView("email", "mail_1"), hours=30)])
        assert all(e["message_id"] == f"m-{person}-0" for e in told)


# --- limits -------------------------------------------------------------------------------------


def test_days_come_in_order() -> None:
    market = new_market(20)
    with pytest.raises(ValueError, match="turn of reference"):
        market.day(0)
    market.reference()
    with pytest.raises(ValueError, match="turn of day 0"):
        market.reference()
    market.day(0)
    with pytest.raises(ValueError, match="turn of day 1"):
        market.day(0)


@pytest.mark.parametrize(
    ("name", "value"), [("customers", 0), ("seed", -1), ("effect", -0.1), ("drift", float("nan"))]
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    arguments: dict[str, Any] = {"customers": 10, "seed": 1, "start": START, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be at least"):
        Market(**arguments)


def test_an_unknown_incentive_is_refused() -> None:
    with pytest.raises(ValueError, match="'a_pony' is not among `incentives`"):
        values(begun(20), [ActionView("email", "mail_1", "a_pony")])


@pytest.mark.parametrize("customers", [1, 2, 3, 7])
def test_very_small_markets_live(customers: int) -> None:
    market = begun(customers)
    market.receive(messages(market, range(customers), ActionView("sms", "text_0")))
    assert all(isinstance(market.day(day), dict) for day in range(3))


def test_a_day_of_five_thousand_customers_is_quick() -> None:
    market = begun(5000)
    actions = ACTIONS * 2
    started = time.process_time()
    values(market, actions)
    market.receive(messages(market, range(1500), ActionView("email", "mail_1")))
    market.day(0)
    assert time.process_time() - started < 0.6
