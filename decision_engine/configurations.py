"""The configurations that decisions were made under, whole, kept beside the epochs.

An epoch names its configuration by a digest; from the text that is kept here a later one can be
compared with it (`nextmove plan`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from connectors.base import Warehouse
from decision_engine.config import Agent, Creative, Project
from decision_engine.errors import StepError
from decision_engine.load import rules_of
from decision_engine.tables import CONFIGURATIONS
from decision_engine.workspace import Workspace

OWN = ("salt", "warehouse", "destinations")
"""What is not kept. Who knows the salt can tell groups and draws; the others decide nothing."""


def keep(workspace: Workspace, warehouse: Warehouse, digest: str, since: datetime) -> None:
    """Write the project's configuration, once for each digest."""
    rules = rules_of(workspace.project, workspace.agents, workspace.creatives)
    del rules["project"]["salt"]
    content = msgspec.json.encode(rules, order="sorted").decode()
    row = {"config_digest": digest, "since": since, "content": content}
    warehouse.insert_absent(
        workspace.engine("configurations"),
        pa.Table.from_pylist([row], schema=CONFIGURATIONS),
        ["config_digest"],
    )


def read(workspace: Workspace, warehouse: Warehouse, digest: str) -> Workspace:
    """The project as it was under this digest; what was not kept is as it is now.

    StepError when it is not there, or in a form that this version does not read.
    """
    table = workspace.engine("configurations")
    found = (
        warehouse.rows(f"select content from {table} where config_digest = ?", [digest])
        if warehouse.columns(table) is not None
        else []
    )
    try:
        project, agents, creatives = _parsed(found[0][0], workspace.project)
    except (IndexError, msgspec.ValidationError):
        raise StepError(
            f"the configuration {digest[:12]} of the last epoch is not in {table} in a form this"
            " version reads; name another one to compare with (--against)"
        ) from None
    return Workspace(workspace.root, project, agents, creatives)


def _parsed(text: str, now: Project) -> tuple[Project, dict[str, Agent], dict[str, Creative]]:
    content: dict[str, Any] = msgspec.json.decode(text)
    own = {name: msgspec.to_builtins(getattr(now, name)) for name in OWN}
    return (
        msgspec.convert({**content["project"], **own}, Project),
        msgspec.convert(content["agents"], dict[str, Agent]),
        msgspec.convert(content["creatives"], dict[str, Creative]),
    )
