"""make bench-decide: a million customers x 20 actions through the whole batch decide, on DuckDB.

One agent that has learned, with 20 actions and everybody in its audience: profiles are read,
guardrails judge, actions are drawn, propensities integrated and decisions written with all that
was known. 250 thousand, 500 thousand and a million customers, each in a fresh process.
Fails when a goal is missed. `--json` prints the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import yaml

from decision_engine.batch import decide_all
from decision_engine.features import feature_names
from decision_engine.learn import learn_anew
from decision_engine.policies import kind_of, shared_units
from decision_engine.scaffold import init
from decision_engine.training import make_current
from decision_engine.workspace import Workspace
from tests.goals import Goal, judge, table_to
from tests.rewards import closed

AS_OF = datetime(2026, 3, 2, 6)
SIZES = (250_000, 500_000, 1_000_000)
ACTIONS, TAUGHT, DAY = 20, 4_000, 86_400.0
NUMBERS = (
    "days_since_signup", "days_since_last_order", "days_since_last_visit", "orders_count",
    "orders_90d", "revenue_cents", "avg_order_cents", "onboarding_steps", "features_used_30d",
    "page_views_24h", "price_visits_24h", "price_visits_7d", "cart_visits_24h", "opens_2d",
    "opens_14d", "clicks_2d", "clicks_14d", "ad_clicks_7d", "forms_7d", "cross_channel_intent",
    "email_click_rate", "push_click_rate", "sms_click_rate", "sends_7d", "sends_30d",
)  # fmt: skip
CHOICES = {
    "tier": ["silver", "gold"],
    "preferred_channel": ["email", "push", "sms"],
    "lifecycle_stage": ["lead", "customer"],
}
CONTEXT = [
    *({"column": name, "transform": "log1p"} for name in NUMBERS),
    *({"column": c, "transform": "one_of", "one_of": options} for c, options in CHOICES.items()),
]
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
    v * w as seen_midday, w * w as seen_evening,
    ['email', 'push', 'sms'][1 + (3 * w)::integer % 3] as preferred_channel,
    v / 5 as email_click_rate, w / 5 as push_click_rate, u / 5 as sms_click_rate,
    u < .01 as has_open_complaint, null::double as days_since_complaint,
    null::double as complaint_sentiment, null::varchar as last_action,
    null::varchar as last_channel, null::varchar as last_incentive,
    null::double as days_since_last_decision, null::double as days_since_last_send, 0 as step,
    (1.2 * v)::integer as sends_1d, (3 * v)::integer as sends_7d, (8 * v)::integer as sends_30d,
    0 as email_sends_1d, 0 as email_sends_7d, 0 as email_sends_30d, 0 as push_sends_1d,
    0 as push_sends_7d, 0 as push_sends_30d, 0 as sms_sends_1d, (1.1 * w)::integer as sms_sends_7d,
    0 as sms_sends_30d, '' as messages_waiting, u > .995 as is_suppressed, v < .85 as consent_email,
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


def make_project(folder: Path) -> Workspace:
    """A new project whose only agent may do 20 things, among them nothing, to everybody.

    Its guardrails are those of a new project, its messages those of an agent of the template.
    """
    init(folder, "bench", salt="bench-salt-0123456789")
    agents, project = folder / "agents", folder / "nextmove.yml"
    agent = yaml.safe_load((agents / "first_to_second_purchase.yml").read_text(encoding="utf-8"))
    for file in agents.iterdir():
        file.unlink()
    agent |= {"agent": "bench", "audience": "orders_count >= 0", "context": CONTEXT}
    for action in agent["actions"][1:3]:
        action["send_hours"] = [9, 13, 19]
    (agents / "bench.yml").write_text(yaml.safe_dump(agent), encoding="utf-8")
    config = yaml.safe_load(project.read_text(encoding="utf-8"))
    config["groups"] = [{"name": "treatment", "share": 1.0}]
    project.write_text(yaml.safe_dump(config), encoding="utf-8")
    return Workspace.open(folder)


def teach(workspace: Workspace) -> None:
    """A learned state for each agent, from rewards that depend on nothing."""
    moment = AS_OF - timedelta(hours=1)
    with workspace.warehouse() as warehouse:
        for i, (name, agent) in enumerate(sorted(workspace.agents.items())):
            catalog, features = workspace.catalog(name), feature_names(agent.context)
            rng = np.random.default_rng(i)
            rows = closed(
                rng.gamma(2.0, size=(TAUGHT, len(features))),
                rng.integers(0, len(catalog), TAUGHT),
                rng.random(TAUGHT) < 0.1,
                moment.timestamp() - DAY,
            )
            state = learn_anew(
                [rows],
                policy=kind_of(agent.policy),
                agent=name,
                actions=catalog.keys,
                features=features,
                as_of=moment.timestamp(),
                units=shared_units(agent.policy, catalog.actions),
            )
            with warehouse.transaction():
                make_current(workspace, warehouse, state, moment, [])


def measure(n: int) -> dict[str, float]:
    """One decide over n customers in this process."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_project(Path(folder) / "shop")
        with workspace.warehouse() as warehouse:
            warehouse.rows("create schema nextmove")
            warehouse.rows(PROFILES.format(n=n))
        teach(workspace)
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
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    shown = table_to(arguments.json)
    head = ("customers", "decisions", "wall s", "CPU s", "rows/s", "us of CPU", "GiB")
    print("".join(f"{name:>11}" for name in head), file=shown)
    runs = []
    for n in SIZES:
        command = [sys.executable, "-m", "tests.end_to_end.bench_decide", "--one", str(n)]
        r = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        runs.append(r)
        print(
            f"{n:>11,}{r['decisions']:>11,}{r['wall_s']:>11.1f}{r['cpu_s']:>11.1f}"
            f"{n / r['wall_s']:>11,.0f}{r['cpu_s'] / n * 1e6:>11.1f}{r['peak_gib']:>11.2f}",
            file=shown,
            flush=True,
        )
    judge(goals(runs), arguments.json, runs=runs)


def goals(runs: list[dict[str, float]]) -> list[Goal]:
    """What the largest run has to keep, and what a row may cost in it beside the smallest."""
    least, most = runs[0], runs[-1]

    def growth(of: str) -> float:
        return (most[of] / most["customers"]) / (least[of] / least["customers"])

    return [
        Goal("wall seconds of the largest", most["wall_s"], 60),
        Goal("peak memory of the largest, GiB", most["peak_gib"], 4),
        Goal("CPU of a row there / of a row in the smallest", growth("cpu_s"), 1.25),
        Goal("wall time of a row there / in the smallest", growth("wall_s"), 1.25),
    ]


if __name__ == "__main__":
    main()
