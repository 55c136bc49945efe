"""Read a project folder: nextmove.yml, agents/*.yml, creatives/*.yml.

Nothing is half accepted: all problems of all files are collected, one line each with file,
line, field, what is wrong and what would be right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from connectors.errors import ConfigurationError
from decision_engine import structure
from decision_engine.agent_check import agent_problems, creative_problems, is_reserved
from decision_engine.config import Agent, Creative, Project
from decision_engine.cross_check import Known, fixed_problems, project_problems
from decision_engine.structure import Problem
from decision_engine.yaml_source import Document, Where, read_document

PROJECT_FILE = "nextmove.yml"

T = TypeVar("T")
Creatives = tuple[Creative, ...]


@dataclass(frozen=True)
class _File(Generic[T]):
    """One file; `value` is None when it does not have the right shape."""

    document: Document
    value: T | None

    def report(self, problems: Iterable[Problem], inside: Where = ()) -> None:
        for where, message in problems:
            self.document.report((*inside, *where), message)


def load_project(
    folder: Path, columns: Mapping[str, str] | None = None
) -> tuple[Project, dict[str, Agent], dict[str, Creative]]:
    """The project, its agents and its creatives by name, in the order of file names.

    `columns` are those of dim_customer_features with their warehouse types; without them
    the names in rules and contexts are not checked. Raises ConfigurationError with one line
    per problem.
    """
    if not (folder / PROJECT_FILE).is_file():
        raise ConfigurationError(
            f"{PROJECT_FILE}: there is none in {folder}; `nextmove init` writes a project"
        )
    project = _read(folder, PROJECT_FILE, Project)
    agents = [_read(folder, name, Agent) for name in _names(folder, "agents")]
    creatives = [_read(folder, name, Creatives) for name in _names(folder, "creatives")]
    problems = _missing(agents, "agents") + _missing(creatives, "creatives")
    _check(project, agents, creatives, columns)
    for document in (f.document for f in [project, *agents, *creatives]):
        problems += document.problems
    if problems or project.value is None:
        raise ConfigurationError("\n".join(problems))
    return (
        project.value,
        {a.agent: a for a in _values(agents)},
        {c.creative: c for found in _values(creatives) for c in found},
    )


def config_digest(
    project: Project, agents: Mapping[str, Agent], creatives: Mapping[str, Creative]
) -> str:
    """SHA-256 (hex) of everything written that a decision can depend on.

    Where the warehouse and the destinations are is left out: moving them changes no decision.
    The order of files and names does not matter.
    """
    content = rules_of(project, agents, creatives)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def rules_of(
    project: Project, agents: Mapping[str, Agent], creatives: Mapping[str, Creative]
) -> dict[str, Any]:
    """Everything written that a decision can depend on, as data for JSON."""
    rules = msgspec.to_builtins(project)
    del rules["warehouse"], rules["destinations"]
    return {"project": rules, "agents": dict(agents), "creatives": dict(creatives)}


def _names(folder: Path, kind: str) -> list[str]:
    found = [p for p in (folder / kind).glob("*.y*ml") if p.suffix in (".yml", ".yaml")]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _missing(files: list[Any], kind: str) -> list[str]:
    return [] if files else [f"{kind}/: no .yml file; a project needs at least one"]


def _read(folder: Path, name: str, shape: Any) -> _File[Any]:
    document = read_document(folder / name, name)
    if document.problems:
        return _File(document, None)
    for where, message in structure.problems(document.data, shape):
        document.report(where, message)
    fits = not document.problems
    return _File(document, msgspec.convert(document.data, shape) if fits else None)


def _values(files: Iterable[_File[T]]) -> Iterator[T]:
    return (file.value for file in files if file.value is not None)


def _check(
    project: _File[Project],
    agents: list[_File[Agent]],
    creatives: list[_File[Creatives]],
    columns: Mapping[str, str] | None,
) -> None:
    all_read = all(file.value is not None for file in creatives)
    by_name = {c.creative: c for found in _values(creatives) for c in found}
    known = Known(project.value, by_name if all_read else None, columns)
    _check_names(agents, creatives)
    for file in creatives:
        for i, creative in enumerate(file.value or ()):
            file.report(creative_problems(creative, known), (i,))
    for agent in agents:
        if agent.value is not None:
            agent.report(agent_problems(agent.value, known))
    if project.value is not None:
        project.report(project_problems(project.value, known))
        if all(agent.value is not None for agent in agents):
            project.report(fixed_problems(project.value, _values(agents), known))


def _check_names(agents: list[_File[Agent]], creatives: list[_File[Creatives]]) -> None:
    """Agents and creatives have names of their own across all files."""
    first: dict[str, str] = {}
    for agent in agents:
        if agent.value is not None:
            _claim(first, agent, agent.value.agent, ("agent",))
    first = {}
    for file in creatives:
        for i, creative in enumerate(file.value or ()):
            _claim(first, file, creative.creative, (i, "creative"))


def _claim(first: dict[str, str], file: _File[Any], name: str, where: Where) -> None:
    if is_reserved(name):
        file.report([(where, f"'{name}' is reserved")])
    if name in first:
        file.report([(where, f"'{name}' is in {first[name]} already")])
    first.setdefault(name, file.document.name)
