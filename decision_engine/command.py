"""What the commands have in common: options, errors, output."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from connectors import errors as connector_errors
from decision_engine.errors import MissingColumnError, RuleError, StepError

PROJECT = click.option(
    "--project",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="this folder",
    help="Project folder (the one with nextmove.yml).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")

CONFIGURATION_ERRORS = (
    MissingColumnError,
    RuleError,
    connector_errors.ConfigurationError,
)

REFUSED = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
)
"""What a file system says of a path that a person has to change. A missing one may be our fault."""

console = Console()
errors = Console(stderr=True)


class Moment(click.ParamType[datetime]):
    """A UTC time such as 2026-03-01 or 2026-03-01T06:00."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """Parse ISO 8601; without an offset it is UTC."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            # dbt takes whole seconds; the steps of one round must agree on the moment.
            return aware.astimezone(UTC).replace(tzinfo=None, microsecond=0)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time; write 2026-03-01 or 2026-03-01T06:00", param, ctx)


AS_OF = click.option(
    "--as-of",
    type=Moment(),
    default=lambda: datetime.now(UTC).replace(tzinfo=None, microsecond=0),
    show_default="now",
    help="The moment to work as of, UTC.",
)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Every expected failure is one clear line per problem and an exit code."""
    try:
        yield
    except CONFIGURATION_ERRORS as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except (StepError, connector_errors.ConnectorError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.filename and error.errno in REFUSED:
            said = f"{error.filename}: {error.strerror}"
            errors.print(said, style="red", markup=False, highlight=False, soft_wrap=True)
            sys.exit(1)
        # A file system says so by an errno, a warehouse in its own words around these.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        errors.print("the disk is full: make room, then do it again; it goes on", style="red")
        sys.exit(1)


def emit(result: Any, as_json: bool, render: Callable[[Any], Any]) -> None:
    """Print a result for machines or for people."""
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(result)).decode())
    else:
        console.print(render(result))


@contextmanager
def progress_line(as_json: bool, text: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the last thing done; silent for machines and when not a terminal.

    With `nextmove --progress` there is no spinner but a line for each thing done.
    """
    if click.get_current_context().find_root().params["progress"]:
        yield lambda done: click.echo(f"{text}: {done}", err=True)
        return
    if as_json or not errors.is_terminal:
        yield lambda _: None
        return
    with errors.status(text) as status:
        yield lambda done: status.update(f"{text}: {done}")


def open_workspace(folder: Path) -> Any:
    """The project in `folder`, read and checked."""
    from decision_engine.workspace import Workspace

    return Workspace.open(folder)
