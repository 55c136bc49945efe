"""`nextmove init`: write a new project folder from the template that the package carries."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from connectors.errors import ConfigurationError
from decision_engine.schema import write_schemas

HIDDEN = "dot_"
"""Template files whose name begins so get a leading dot: tools must not heed them in here."""

TOLERATED = frozenset({".git", ".nextmove"})
"""What a folder may hold and still count as empty."""


def init(folder: Path, name: str, salt: str | None = None) -> list[Path]:
    """Write a working project called `name` into `folder`; the paths written, sorted.

    `salt` is drawn at random unless given. Raises ConfigurationError, and writes nothing,
    when the name is not lower-case snake case or the folder holds something already.
    """
    _check(folder, name)
    values = {"{{ project }}": name, "{{ salt }}": salt or secrets.token_hex(16)}
    written = []
    for relative, text in _template(files("decision_engine") / "template", Path()):
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return sorted(written + write_schemas(folder / "schemas"))


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
