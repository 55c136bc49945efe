"""After each decide, and every ten minutes for messages whose hour has come."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable

from connectors.airflow.operator import NextmoveOperator

with DAG(
    dag_id="deliver",
    description=__doc__,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
        assets=[Asset("nextmove_decisions")],
    ),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["nextmove"],
):
    NextmoveOperator(step="deliver")
