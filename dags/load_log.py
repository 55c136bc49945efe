"""Every ten minutes: what the receiver has logged goes into the warehouse, each event once."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Asset, CronTriggerTimetable

from connectors.airflow.operator import NextmoveOperator

with DAG(
    dag_id="load_log",
    description=__doc__,
    schedule=CronTriggerTimetable("5/10 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["nextmove"],
):
    NextmoveOperator(step="load", outlets=[Asset("nextmove_inbound_events")])
