"""YAML files as plain data that remembers its lines. Safe types only; duplicate keys refused."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Where = tuple[str | int, ...]
"""Path of a value in a file: ("actions", 2, "incentives", 0)."""

MAX_VALUES = 100_000
"""More than any project needs; a few anchors can spell out to billions."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null")}
_DATE = f"{_TAG}timestamp"


@dataclass
class Document:
    """One file read. `lines` has the 1-based line of every value."""

    name: str
    data: Any = None
    lines: dict[Where, int] = field(default_factory=lambda: {(): 1})
    problems: list[str] = field(default_factory=list)

    def report(self, where: Where, message: str) -> None:
        """Add a problem: `agents/win_back.yml:14: actions[2].creative: ...`."""
        known = next(where[:n] for n in range(len(where), -1, -1) if where[:n] in self.lines)
        name = f" {field_name(where)}:" if where else ""
        self.problems.append(f"{self.name}:{self.lines[known]}:{name} {message}")


def field_name(where: Where) -> str:
    """`actions[2].incentives[0]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return "".join(parts).lstrip(".")


def read_document(path: Path, name: str) -> Document:
    """The file as data; what is wrong with it as YAML is in `problems`, and data is then None."""
    document = Document(name)
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        data = _Reader(loader, document).read()
    except OSError as error:
        document.report((), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        document.report((), "is not a UTF-8 text file; save it as UTF-8")
    except yaml.YAMLError as error:
        _report_yaml(document, error)
    except RecursionError:
        document.report((), "is nested too deeply")
    else:
        document.data = data if not document.problems else None
    return document


def _report_yaml(document: Document, error: yaml.YAMLError) -> None:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        document.lines[()] = mark.line + 1
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    document.report((), f"is not valid YAML: {what}")


class _Reader:
    """Turns composed nodes into dict, list, str, int, float, bool and None."""

    def __init__(self, loader: yaml.SafeLoader, document: Document) -> None:
        self.loader = loader
        self.document = document
        self.count = 0
        self.inside: set[int] = set()

    def read(self) -> Any:
        node = self.loader.get_single_node()
        return None if node is None else self._value(node, ())

    def _value(self, node: yaml.Node, where: Where) -> Any:
        self.document.lines.setdefault(where, node.start_mark.line + 1)
        self.count += 1
        if self.count > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        if id(node) in self.inside:
            raise yaml.YAMLError("an anchor contains itself")
        self.inside.add(id(node))
        try:
            return self._collection(node, where)
        finally:
            self.inside.discard(id(node))

    def _collection(self, node: yaml.Node, where: Where) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._value(item, (*where, i)) for i, item in enumerate(node.value)]
        return self._refuse(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        self._check_keys(node, where)
        self.loader.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            place = (*where, key.value)
            self.document.lines[place] = key.start_mark.line + 1
            found[key.value] = self._value(value, place)
        return found

    def _check_keys(self, node: yaml.MappingNode, where: Where) -> None:
        first: dict[Hashable, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key must be text", problem_mark=key.start_mark
                )
            place = (*where, key.value)
            if key.value in first:
                self.document.lines[place] = line
                self.document.report(place, f"is there twice, first on line {first[key.value]}")
            first.setdefault(key.value, line)

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        if node.tag == _DATE:
            return node.value
        if node.tag not in _SCALARS:
            return self._refuse(node, where)
        try:
            value = self.loader.construct_object(node)
        except ValueError:
            return self.document.report(where, f"{node.value!r} is not a number")
        if isinstance(value, float) and not math.isfinite(value):
            return self.document.report(where, f"{node.value!r} is not a finite number")
        return value

    def _refuse(self, node: yaml.Node, where: Where) -> None:
        self.document.report(
            where, f"{node.tag.replace(_TAG, '!!')} is not allowed; plain YAML only"
        )
