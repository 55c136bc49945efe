"""Our project as a local package in a customer's own dbt project."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.dbt_project.conftest import PACKAGE, folders, invoke, variables_of
from tests.dbt_project.warehouse import AS_OF, create_warehouse, insert, rows_of

PROJECT = """
name: shop_analytics
version: "1.0.0"
config-version: 2
profile: shop
model-paths: [models]
flags:
  send_anonymous_usage_stats: false
  # A model of ours is found before one of theirs that has the same name.
  require_ref_searches_node_package_before_root: true
vars:
  nextmove_raw_schema: landing
  nextmove_sources: [orders, crm_contacts]
"""
PACKAGES = """
packages:
  - local: "{{ env_var('NEXTMOVE_DBT_PACKAGE') }}"
"""
PROFILES = """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: "{{ env_var('NEXTMOVE_DUCKDB_PATH') }}"
      schema: analytics
      threads: 2
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "packages.yml").write_text(PACKAGES)
    (folder / "profiles.yml").write_text(PROFILES)
    (folder / "models" / "best_customers.sql").write_text(
        "select external_id, revenue_cents from {{ ref('dim_customer_features') }}"
    )
    # Their own model of a name that we use too, in a schema of its own.
    (folder / "models" / "dim_customers.sql").write_text(
        "{{ config(schema='theirs') }} select 1 as one"
    )
    monkeypatch.setenv("NEXTMOVE_DUCKDB_PATH", str(tmp_path / "shop.duckdb"))
    monkeypatch.setenv("NEXTMOVE_DBT_PACKAGE", str(PACKAGE))
    return folder


def test_builds_as_a_package_from_other_schemas(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    create_warehouse(path, raw_schema="landing")
    insert(
        path,
        "landing.orders",
        [
            {
                "order_id": "o1",
                "shop_customer_id": "s1",
                "email": " Ann@Example.com ",
                "user_id": "u1",
                "amount_cents": 2000,
                "discount_cents": 500,
                "status": "paid",
                "ordered_at": datetime(2026, 1, 2),
            }
        ],
    )
    insert(
        path,
        "landing.crm_contacts",
        [{"contact_id": "k1", "email": "ann@example.com", "created_at": datetime(2026, 1, 1)}],
    )
    common = [*folders(project, tmp_path / "dbt"), *variables_of(AS_OF)]
    invoke(["deps", "--quiet", "--project-dir", str(project), "--profiles-dir", str(project)])
    results = invoke(["build", *common]).results
    assert {r.node.schema for r in results if r.node.resource_type == "model"} == {
        "analytics",
        "analytics_theirs",
    }
    assert rows_of(path, "select * from analytics.best_customers") == [
        {"external_id": "u1", "revenue_cents": 1500}
    ]
    (row,) = rows_of(path, "select email, contact_id from analytics.dim_customers")
    assert row == {"email": "ann@example.com", "contact_id": "k1"}
