"""What the project is compared with: what was last in force, a folder, or a git revision."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import msgspec

from connectors.base import Warehouse
from connectors.errors import ConfigurationError
from decision_engine import configurations
from decision_engine.epochs import EVENTS
from decision_engine.errors import StepError
from decision_engine.load import PROJECT_FILE
from decision_engine.overrides import NO_OVERRIDES, Override, Overrides
from decision_engine.workspace import Workspace

FILES = (PROJECT_FILE, "agents", "creatives")
"""What of a project decides."""


@dataclass(frozen=True)
class Baseline:
    """A configuration to compare with.

    `name` says which in a few words · `versions` the policy state each agent used, None for the
    current ones · `is_stopped` and `overrides` what people had decreed · `is_whole` false when
    its salt was another one, which is not kept: it then decides with the salt of now.
    """

    name: str
    workspace: Workspace
    versions: Mapping[str, str] | None
    is_stopped: bool
    overrides: Overrides
    is_whole: bool = True


def baseline(workspace: Workspace, warehouse: Warehouse, against: str | None) -> Baseline:
    """What `against` names: a project folder, else a git revision; None for the last epoch."""
    if against is None:
        return _in_force(workspace, warehouse)
    if (Path(against) / PROJECT_FILE).is_file():
        other = Workspace.open(Path(against))
        name = f"the folder {against}"
    else:
        other, name = _of_revision(workspace.root, against), f"the git revision {against}"
    return Baseline(name, other, None, workspace.is_stopped, workspace.overrides())


def _in_force(workspace: Workspace, warehouse: Warehouse) -> Baseline:
    """What the last decided date was decided under; nothing at all before the first one."""
    table = workspace.engine("epochs")
    found = (
        warehouse.rows(
            f"select slot, config_digest, kill_switch, plan from {table} where slot <> ?"
            " order by as_of desc, epoch_id limit 1",
            [EVENTS],
        )
        if warehouse.columns(table) is not None
        else []
    )
    if not found:
        nothing = replace(workspace, agents={}, creatives={})
        return Baseline("nothing: no date was decided yet", nothing, {}, False, NO_OVERRIDES)
    slot, digest, is_stopped, text = found[0]
    plan = json.loads(text)
    then = configurations.read(workspace, warehouse, digest)
    versions = {name: a["policy_version"] for name, a in plan["agents"].items()}
    name = f"what was in force on {slot}"
    decreed = msgspec.convert(plan.get("overrides", []), list[Override])
    # Epochs do not freeze words on single decisions: of what waits now, they hold on both sides.
    words = [o for o in workspace.overrides().standing if o.decision_id is not None]
    overrides = Overrides((*decreed, *words))
    return Baseline(name, then, versions, bool(is_stopped), overrides, then.digest == digest)


def overrides_now(workspace: Workspace, base: Baseline) -> Overrides:
    """Those of the project folder; in a copy of it without a log, those that were in force."""
    has_log = (workspace.state_folder / "overrides").exists()
    return workspace.overrides() if has_log else base.overrides


def _of_revision(root: Path, revision: str) -> Workspace:
    """The project as git has it. ConfigurationError for what is neither folder nor revision."""
    if revision.startswith("-"):
        raise ConfigurationError(f"--against: {revision!r} is not a git revision")
    command = ["git", "-C", str(root), "archive", "--format=tar", revision, *FILES]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        raise StepError("--against: git is not installed, so only folders can be named") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigurationError(
            f"--against: {revision!r} is neither a project folder nor a git revision with"
            f" {', '.join(FILES)}: {said[-1] if said else 'git failed'}"
        ) from None
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
        tar.extractall(folder, filter="data")
        try:
            found = Workspace.open(Path(folder))
        except ConfigurationError as error:
            raise ConfigurationError(f"in {revision}:\n{error}") from None
    return replace(found, root=root)
