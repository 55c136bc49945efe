"""The published JSON Schemas of what people write, made from the types that check it.

`python -m decision_engine.schema docs/reference` writes them anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from decision_engine.config import Agent, Creative, Project

SHAPES: dict[str, Any] = {
    "project": Project,
    "agent": Agent,
    "creatives": tuple[Creative, ...],
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """File name -> JSON text, for the project file, an agent file and a creatives file."""
    return {f"{kind}.schema.json": _text(kind, shape) for kind, shape in SHAPES.items()}


def write_schemas(folder: Path) -> list[Path]:
    """Write them into a folder; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in schemas()]


def _text(kind: str, shape: Any) -> str:
    schema = {"$schema": DIALECT, "title": f"nextmove {kind}", **msgspec.json.schema(shape)}
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
