"""`nextmove init`: write a new project folder from the template that the package carries."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from connectors.errors import ConfigurationError
from decision_engine.cross_check import SOURCES
from decision_engine.errors import unknown
from decision_engine.load import PROJECT_FILE
from decision_engine.schema import write_schemas

HIDDEN = "dot_"
"""Template files whose name begins so get a leading dot: tools must not heed them in here."""

TOLERATED = frozenset({".git", ".nextmove"})
"""What a folder may hold and still count as empty."""


def init(
    folder: Path, name: str, salt: str | None = None, sources: Sequence[str] = ()
) -> list[Path]:
    """Write a working project called `name` into `folder`; the paths written, sorted.

    `salt` is drawn at random unless given; `sources` are the raw tables there are, all when
    empty. Raises ConfigurationError, and writes nothing, when the name is not lower-case snake
    case, a source is unknown or the folder holds something already.
    """
    _check(folder, name)
    for source in sources:
        if source not in SOURCES:
            raise ConfigurationError(unknown("source", source, SOURCES))
    values = {"{{ project }}": name, "{{ salt }}": salt or secrets.token_hex(16)}
    written = []
    for relative, text in _template(files("decision_engine") / "template", Path()):
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        if sources and relative.name == PROJECT_FILE:
            text = _with_sources(text, sources)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return sorted(written + write_schemas(folder / "schemas"))


def _with_sources(text: str, sources: Sequence[str]) -> str:
    """The project file without the raw tables that are not there."""
    absent = set(SOURCES) - set(sources)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip().removeprefix("- ") not in absent)


def _check(folder: Path, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,50}", name):
        raise ConfigurationError(
            f"project name '{name}' must be lower-case letters, digits and underscores,"
            " beginning with a letter, at most 51; give one with --name"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file; choose another folder")
    found = {path.name for path in folder.iterdir()} - TOLERATED if folder.exists() else set()
    if found:
        raise ConfigurationError(
            f"{folder} is not empty (it has {min(found)}); choose a new folder"
        )


def _template(here: Traversable, relative: Path) -> Iterator[tuple[Path, str]]:
    for item in sorted(here.iterdir(), key=lambda i: i.name):
        name = item.name.replace(HIDDEN, ".", 1) if item.name.startswith(HIDDEN) else item.name
        if item.is_dir():
            yield from _template(item, relative / name)
        else:
            yield relative / name, item.read_text(encoding="utf-8")
