"""Synthetic raw and engine tables of any size, made in DuckDB by hashing row numbers.

Spread as people are: over all zones of the world, most of them in a few, some in none that is
known; seen over half a year, some often and most a few times.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from decision_engine.zone_offsets import zone_offsets
from tests.dbt_project.warehouse import AS_OF


def _h(key: str, salt: str, n: int) -> str:
    """A whole number in [0, n), fixed by the row and the salt."""
    return f"cast(hash(cast({key} as text) || '{salt}') % {n} as integer)"


def _ago(key: str, salt: str, minutes: int) -> str:
    return f"timestamp '2026-01-31 06:00:00' - to_minutes({_h(key, salt, minutes)})"


def _customer(key: str, salt: str, n: int) -> str:
    return _h(key, "customer" + salt, n)


def _skewed(key: str, salt: str, n: str, power: float) -> str:
    """A whole number in [0, n): the higher the power, the more often a low one."""
    share = f"hash(cast({key} as text) || '{salt}') % 1000000 / 1000000.0"
    return f"cast(floor({n} * pow({share}, {power})) as integer)"


def fill(path: Path, customers: int, decisions: int) -> None:
    """Fill the tables of `create_warehouse`: 20 web events, 6 messages, 2 orders a customer."""
    n = customers
    with duckdb.connect(str(path)) as db:
        clocks = zone_offsets(AS_OF)
        db.register("clocks", clocks)
        db.execute("insert into nextmove_engine.zone_offsets by name select * from clocks")
        for statement in _raw(n) + _engine(n, decisions):
            db.execute(statement)


def _raw(n: int) -> list[str]:
    day = 24 * 60
    return [
        f"""insert into raw.crm_contacts by name
            with zones as (
                select list(distinct time_zone order by hash(time_zone)) as names
                from nextmove_engine.zone_offsets
            )
            select 'k' || i as contact_id, 'p' || i || '@example.com' as email,
                'Ann' as first_name, 'gold' as tier,
                case when {_h("i", "zone known", 10)} > 0
                    then names[1 + {_skewed("i", "zone", "len(names)", 4)}] end as time_zone,
                timestamp '2024-01-01' as created_at, created_at as updated_at
            from range({n}) r(i), zones""",
        f"""insert into raw.segment_events by name
            select 'm' || i as message_id,
                case {_h("i", "kind", 10)} when 0 then 'track' when 1 then 'identify'
                    else 'page' end as type,
                case when type = 'track' then 'Feature Used' end as event,
                'a' || c || '_' || {_h("i", "device", 3)} as anonymous_id,
                case when {_h("i", "known", 3)} = 0 then 'u' || c end as user_id,
                case when type = 'identify' then 'p' || c || '@example.com' end as email,
                'web' as platform,
                ['home', 'product', 'cart', 'price'][1 + {_h("i", "class", 4)}] as page_class,
                's' || (i // 4) as session_id,
                {_ago("i", "seen", 180 * day)} as occurred_at, occurred_at as received_at
            from (
                select i, {_skewed("i // 4", "web", str(n), 1.5)} as c from range({20 * n}) r(i)
            )""",
        f"""insert into raw.esp_events by name
            select 'e' || i as event_id, 'braze' as vendor,
                ['delivered', 'open', 'click'][1 + {_h("i", "type", 3)}] as event_type,
                'u' || {_customer("i", "esp", n)} as external_id, 'email' as channel,
                false as is_machine, {_ago("i", "esp_at", 180 * day)} as occurred_at
            from range({6 * n}) r(i)""",
        f"""insert into raw.orders by name
            select 'o' || i as order_id, 'sc' || c as shop_customer_id,
                'p' || c || '@example.com' as email, 'USD' as currency,
                1000 + {_h("i", "amount", 9000)} as amount_cents, 0 as discount_cents,
                'paid' as status, {_ago("i", "order_at", 200 * day)} as ordered_at
            from (select i, {_customer("i", "order", n)} as c from range({2 * n}) r(i))""",
        f"""insert into raw.consents by name
            select 'g' || i as consent_id, 'p' || i || '@example.com' as email,
                'email' as channel, 'marketing' as purpose, 'granted' as status,
                timestamp '2025-12-01' as occurred_at
            from range({n}) r(i)""",
        f"""insert into raw.support_tickets by name
            select 't' || i as ticket_id, 'p' || i || '@example.com' as requester_email,
                'complaint' as kind, -0.5 as sentiment, 'open' as status,
                {_ago("i", "ticket", 60 * day)} as created_at
            from range({n // 50}) r(i)""",
    ]


def _engine(n: int, decisions: int) -> list[str]:
    days = max(1, decisions // n)
    return [
        """insert into nextmove_engine.agent_outcomes
            (agent, event, weight, per, window_hours) values
            ('growth', 'order', 1.0, 'dollar', 72), ('growth', 'click', 0.1, 'event', 72),
            ('growth', 'visit', 0.05, 'event', 72)""",
        f"""insert into nextmove_engine.decisions by name
            select 'd' || i as decision_id, 'ep' || (i // {n}) as epoch_id,
                cast(i // {n} as text) as slot, 'growth' as agent,
                'c_' || md5('contact_id:k' || (i % {n})) as customer_id,
                timestamp '2026-01-31 05:00:00' - to_days(cast({days} - i // {n} as integer))
                    as decided_at,
                'treatment' as group_name, 'linear_thompson' as policy, '1' as policy_version,
                case when i % 2 = 0 then 'no_action' else 'hello' end as action,
                case when i % 2 = 0 then '' else 'email' end as channel, 'hello' as creative,
                'none' as incentive, true as is_promotional, 'delivery' as carried_out_by,
                decided_at as send_at, decided_at + to_days(1) as expires_at,
                1.0 as p_agent, 0.5 as p_action, 0.5 as propensity, 0.01 as floor,
                2 as n_actions, 2 as n_eligible,
                [0.0, 0.0] as mean, [1.0, 1.0] as sd, [0, 0] as reasons, [1.0] as x, '{{}}' as facts
            from range({decisions}) r(i)""",
        """insert into nextmove_engine.receipts by name
            select 'k' || decision_id as send_key, decision_id, 'braze' as destination,
                'messages' as stream, customer_id, 1 as attempt, 'accepted' as status,
                '' as reason, 200 as http_status, 'v' || decision_id as vendor_ref,
                decided_at as "at"
            from nextmove_engine.decisions where action <> 'no_action'""",
        """insert into nextmove_engine.inbound_events by name
            select 'i' || decision_id as event_id, 'braze' as vendor, 'click' as event_type,
                'u1' as external_id, 'email' as channel, decision_id, false as is_machine,
                decided_at + to_hours(5) as occurred_at, occurred_at as received_at
            from nextmove_engine.decisions where action <> 'no_action' and hash(decision_id) % 5 = 0
        """,
    ]
