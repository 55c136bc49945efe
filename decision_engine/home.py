"""Which project folder a warehouse belongs to.

A server lets several folders in, perhaps on several machines. The delivery journal in a folder
is the truth about what was sent: a second journal would send everything a second time.
"""

from __future__ import annotations

import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.errors import StepError
from decision_engine.tables import HOME


def require_home(warehouse: Warehouse, table: str, folder: Path) -> None:
    """The warehouse belongs to this folder, from its first visit on. StepError otherwise."""
    warehouse.ensure(table, HOME, ["name"])
    found = warehouse.rows(f"select folder, host, since from {table}")
    if not found:
        row = {
            "name": "project",
            "folder": _identity(folder),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).replace(tzinfo=None),
        }
        with warehouse.transaction():
            warehouse.insert_absent(table, pa.Table.from_pylist([row], schema=HOME), ["name"])
        found = warehouse.rows(f"select folder, host, since from {table}")
    owner, host, since = found[0]
    if owner != _identity(folder):
        raise StepError(
            f"this warehouse belongs to another project folder, on {host} since {since:%Y-%m-%d}:"
            " its journal knows what was sent. Run there, or bring that folder here; only if it"
            f" is gone for good, empty {table}"
        )


def _identity(folder: Path) -> str:
    """A name of the folder that goes with it when it is moved."""
    path = folder / "folder_id"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(16))
    return path.read_text()
