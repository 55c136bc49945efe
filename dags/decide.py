"""After each learning: one decision per customer and date (UTC); a date is decided once."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Asset

from connectors.airflow.operator import NextmoveOperator

with DAG(
    dag_id="decide",
    description=__doc__,
    schedule=[Asset("nextmove_policies")],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["nextmove"],
):
    NextmoveOperator(step="decide", outlets=[Asset("nextmove_decisions")])
