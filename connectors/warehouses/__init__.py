"""Warehouses: one file each, behind the `Warehouse` protocol."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from connectors.base import Warehouse
from connectors.errors import ConfigurationError

WAREHOUSES: Mapping[str, tuple[str, str]] = {
    "duckdb": ("connectors.warehouses.duckdb", "DuckDB"),
    "postgres": ("connectors.warehouses.postgres", "Postgres"),
    "snowflake": ("connectors.warehouses.snowflake", "Snowflake"),
}
"""By the `kind` of the project file: module and class. A driver is imported when it is used."""


def open_warehouse(kind: str, settings: Mapping[str, str], *, read_only: bool = False) -> Warehouse:
    """The warehouse of a kind. ConfigurationError when its driver is missing, or it is.

    `settings` are the arguments of its class.
    """
    module, name = WAREHOUSES[kind]
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"a {kind} warehouse needs {error.name}, which is not installed",
            f"pip install 'nextmove[{kind}]'",
        ) from error
    opened: Warehouse = found(**settings, read_only=read_only)
    return opened
