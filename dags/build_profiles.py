"""Once a day: load what came in, then dbt builds and tests profiles, outcomes and outboxes."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Asset, CronTriggerTimetable

from connectors.airflow.operator import NextmoveOperator

with DAG(
    dag_id="build_profiles",
    description=__doc__,
    schedule=CronTriggerTimetable("0 5 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["nextmove"],
):
    # dbt is one task: a task per model would cost seconds each to start.
    NextmoveOperator(step="build", outlets=[Asset("nextmove_profiles")])
