"""make bench-decide: a million customers through the whole batch decide, on DuckDB.

Prints time, rate and peak memory for 250 thousand, 500 thousand and a million customers, each in
a fresh process, and fails when memory passes 2 GiB or time grows faster than the rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from decision_engine.batch import decide_all
from decision_engine.scaffold import init
from decision_engine.workspace import Workspace

AS_OF = datetime(2026, 3, 2, 6)
SIZES = (250_000, 500_000, 1_000_000)
LIMIT_GIB = 2.0

PROFILES = """
create table nextmove.dim_customer_features as
with people as (
    select i, hash(i, 1) / 18446744073709551616.0 as u, hash(i, 2) / 18446744073709551616.0 as v,
        hash(i, 3) / 18446744073709551616.0 as w
    from range({n}) t(i)
)
select 'c_' || md5(i::varchar) as customer_id, timestamp '2026-03-02 06:00:00' as as_of,
    'bench' as profile_build,
    (case when u < .4 then 0 when u < .65 then 1 else 1 + floor(-ln(v + 1e-9) * 3) end)::integer
        as orders_count,
    case when u < .4 then null else 2 + 200 * w end as days_since_last_order,
    1 + 300 * v as days_since_signup, (1000 * u * v * 90)::bigint as revenue_cents,
    case when u < .4 then null else 2000 + 9000 * v end as avg_order_cents,
    (2 * w)::integer as orders_90d, 30 * v as days_since_last_visit,
    (5 * w)::integer as onboarding_steps, (9 * v)::integer as features_used_30d,
    (12 * w * v)::integer as page_views_24h, null::varchar as pages_24h,
    null::varchar as last_page_class, (3 * v * w)::integer as price_visits_24h,
    (5 * v * w)::integer as price_visits_7d, (3 * w * u)::integer as cart_visits_24h,
    (3 * v)::integer as opens_2d, (9 * v)::integer as opens_14d, (2 * w)::integer as clicks_2d,
    (4 * w)::integer as clicks_14d, v - w as engagement_velocity, (3 * w)::integer as ad_clicks_7d,
    0 as chats_7d, (2 * v)::integer as forms_7d, v + w as cross_channel_intent,
    ['email', 'push', 'sms'][1 + (3 * w)::integer % 3] as preferred_channel,
    v / 5 as email_click_rate, w / 5 as push_click_rate, u / 5 as sms_click_rate,
    u < .01 as has_open_complaint, null::double as days_since_complaint,
    null::double as complaint_sentiment, null::varchar as last_action,
    null::varchar as last_channel, null::varchar as last_incentive,
    null::double as days_since_last_decision, null::double as days_since_last_send, 0 as step,
    (1.2 * v)::integer as sends_1d, (3 * v)::integer as sends_7d, (8 * v)::integer as sends_30d,
    0 as email_sends_1d, 0 as email_sends_7d, 0 as email_sends_30d, 0 as push_sends_1d,
    0 as push_sends_7d, 0 as push_sends_30d, 0 as sms_sends_1d, (1.1 * w)::integer as sms_sends_7d,
    0 as sms_sends_30d, u > .995 as is_suppressed, v < .85 as consent_email,
    w < .5 as consent_push, u < .4 as consent_sms, true as has_email, w < .7 as has_phone,
    v < .6 as has_push, ['bronze', 'silver', 'gold'][1 + (3 * v)::integer % 3] as tier,
    case when u < .4 then 'lead' else 'customer' end as lifecycle_stage, 'US' as country,
    ['CA', 'FL', 'TX', 'NY'][1 + (4 * v)::integer % 4] as region,
    v < .85 as service_consent_email, w < .5 as service_consent_push,
    u < .4 as service_consent_sms,
    ['America/New_York', 'America/Chicago', 'America/Los_Angeles', 'Europe/London'][
        1 + (4 * w)::integer % 4] as time_zone, 0 as open_deals, 0 as account_deals_won,
    null::integer as account_employees, (6 * u)::integer % 6 as turn
from people
"""


def measure(n: int) -> dict[str, float]:
    """One decide over n customers in this process."""
    with tempfile.TemporaryDirectory() as folder:
        init(Path(folder) / "shop", "bench", salt="bench-salt-0123456789")
        workspace = Workspace.open(Path(folder) / "shop")
        with workspace.warehouse() as warehouse:
            warehouse.rows("create schema nextmove")
            warehouse.rows(PROFILES.format(n=n))
        wall, cpu = time.perf_counter(), time.process_time()
        totals = decide_all(workspace, AS_OF)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    decisions = sum(a["decisions"] for a in totals["agents"].values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"customers": n, "decisions": decisions, "wall_s": wall, "cpu_s": cpu, "peak_gib": peak}


def main() -> None:
    """Measure each size in a process of its own and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int, help="measure one size and print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    results = []
    print(
        f"{'customers':>10} {'decisions':>10} {'wall s':>8} {'CPU s':>8} {'rows/s':>9} {'GiB':>6}"
    )
    for n in SIZES:
        command = [sys.executable, "-m", "tests.end_to_end.bench_decide", "--one", str(n)]
        r = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        results.append(r)
        print(
            f"{r['customers']:>10,} {r['decisions']:>10,} {r['wall_s']:>8.1f} {r['cpu_s']:>8.1f}"
            f" {r['customers'] / r['wall_s']:>9,.0f} {r['peak_gib']:>6.2f}",
            flush=True,
        )
    growth = results[-1]["cpu_s"] / results[0]["cpu_s"]
    rows = SIZES[-1] / SIZES[0]
    print(f"CPU time grew {growth:.1f}x for {rows:.0f}x the rows")
    if growth > 1.25 * rows or results[-1]["peak_gib"] > LIMIT_GIB:
        sys.exit("not linear, or more than 2 GiB")


if __name__ == "__main__":
    main()
