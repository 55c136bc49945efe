"""After each build: what decisions have earned becomes the next version of each policy."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Asset

from connectors.airflow.operator import NextmoveOperator

with DAG(
    dag_id="learn",
    description=__doc__,
    schedule=[Asset("nextmove_profiles")],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["nextmove"],
):
    NextmoveOperator(step="learn", outlets=[Asset("nextmove_policies")])
