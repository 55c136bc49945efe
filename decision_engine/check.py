"""check: does everything that is written fit together, and does it fit the warehouse?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError, ConnectorError
from decision_engine.build import missing_sources
from decision_engine.config import needs_approval
from decision_engine.dbt_profile import output_of
from decision_engine.epochs import FEATURES
from decision_engine.load import load_project
from decision_engine.service.definitions import profile_types
from decision_engine.workspace import Workspace


def check(folder: Path) -> dict[str, Any]:
    """Read everything, change nothing; what was found.

    ConfigurationError with one line per problem: in the files, against the columns that profiles
    have (or shall have, before they are built), and against the raw tables; or when dbt's profile
    has no output for the warehouse.
    """
    workspace = Workspace.open(folder)
    try:
        with workspace.warehouse_to_read() as warehouse:
            columns = warehouse.columns(workspace.model(FEATURES))
            problems = missing_sources(workspace, warehouse)
    except ConnectorError:
        load_project(folder, profile_types())  # what is wrong in the files can be mended now
        raise
    load_project(folder, columns or profile_types())
    if problems:
        raise ConfigurationError("\n".join(problems))
    output_of(workspace.root / "dbt", workspace.warehouse_kind)
    held = [a.agent for a in workspace.agents.values() if needs_approval(a) and a.owner is None]
    return {
        "agents": len(workspace.agents),
        "actions": sum(len(workspace.catalog(name)) for name in workspace.agents),
        "creatives": len(workspace.creatives),
        "raw tables": len(workspace.project.sources),
        "profile columns": len(columns) if columns else "not built yet",
        "keys not set": ", ".join(unset_keys(workspace)) or "none",
        "kill switch": "ON, nothing is sent" if workspace.is_stopped else "off",
        **({"no `owner`, so nobody can approve": ", ".join(held)} if held else {}),
    }


def unset_keys(workspace: Workspace) -> list[str]:
    """The environment variables that deliver will ask for and that are not set."""
    names = [d.api_key_env for d in workspace.project.destinations.values()]
    return [name for name in names if not os.environ.get(name)]
