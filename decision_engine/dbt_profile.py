"""What is wrong with dbt/profiles.yml, without a word of what it says.

dbt quotes the lines around a mistake, and a value that it cannot use. Either may be a password, so
its words are never repeated: we say where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb

import yaml

from connectors.errors import ConfigurationError

NAME = "dbt/profiles.yml"
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What the parser raises; the last but one of a value that is not what its tag (`!!bool`) says."""
_HINT = (
    "what stands there may be secret and is not shown;"
    " `nextmove init` in another folder shows how the file was"
)


def output_of(folder: Path, target: str) -> yaml.Node:
    """The output `target` of the profile of the dbt project in `folder`.

    All of the file when the project does not say which profile it uses: dbt complains of that.
    ConfigurationError when the file is no YAML, or has no such profile or output, or one whose
    `type` is another than the target is called.
    """
    node = _read(folder / "profiles.yml")
    profile = _profile_name(folder)
    for name in (profile, "outputs", target) if profile else ():
        under = dict(_fields(node)).get(name)
        if under is None:
            raise _at(node.start_mark, f"`{name}` is missing here")
        node = under
    if profile:
        _check_type(node, target)
    return node


def _check_type(output: yaml.Node, target: str) -> None:
    """Outputs are called like their warehouse, which is what dbt calls its adapter too."""
    found = dict(_fields(output)).get("type")
    if found is None:
        raise _at(output.start_mark, f"`type` is missing here; it should be `{target}`")
    is_made_by_jinja = "{" in str(found.value)
    if found.value != target and not is_made_by_jinja:
        what = f"`type` is no adapter for this warehouse; did you mean `{target}`?"
        raise _at(found.start_mark, what)


def is_about_profile(error: BaseException | None) -> bool:
    """Whether dbt met the error while it read the profile."""
    return any(
        Path(frame.f_code.co_filename).parts[-3:] == ("dbt", "config", "profile.py")
        for each in _chain(error)
        for frame, _ in walk_tb(each.__traceback__)
    )


def profile_error(output: yaml.Node, error: BaseException | None) -> ConfigurationError:
    """Where in the output the error of dbt is."""
    chain = list(_chain(error))
    unset = {str(each.var) for each in chain if hasattr(each, "var")}
    fields = {str(part) for each in chain for part in getattr(each, "path", None) or ()}
    for name, value in _scalars("", output):
        if any(variable in value.value for variable in unset):
            return _at(value.start_mark, "takes an environment variable that is not set")
        if name in fields or any(f"Could not render {value.value}" in str(e) for e in chain):
            return _at(value.start_mark, "dbt cannot use this value")
    return _at(output.start_mark, "dbt cannot use this output")


def _read(path: Path) -> yaml.Node:
    try:
        text = path.read_text(encoding="utf-8-sig")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is not None:
            loader.construct_document(root)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{NAME}: is missing; `nextmove init` in another folder shows how it was"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{NAME}: cannot be read as UTF-8 text", _HINT) from None
    except yaml.reader.ReaderError as wrong:
        before = text[: wrong.position]
        column = len(before) - before.rfind("\n") - 1
        mark = yaml.Mark(NAME, wrong.position, before.count("\n"), column, None, 0)
        raise _at(mark, "is not valid YAML") from None
    except _NOT_YAML as wrong:
        raise _at(getattr(wrong, "problem_mark", None), "is not valid YAML") from None
    if root is None:
        raise _at(None, "is empty")
    return root


def _at(mark: yaml.Mark | None, what: str) -> ConfigurationError:
    where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    return ConfigurationError(f"{NAME}{where}: {what}", _HINT)


def _fields(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), value) for key, value in node.value)


def _scalars(name: str, node: yaml.Node) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Every single value under a node, with the name of its field."""
    if isinstance(node, yaml.ScalarNode):
        yield name, node
    for under, value in _fields(node):
        yield from _scalars(under, value)


def _profile_name(folder: Path) -> str:
    """Empty when it is not there or made by Jinja."""
    try:
        data = yaml.safe_load((folder / "dbt_project.yml").read_text(encoding="utf-8"))
    except (OSError, *_NOT_YAML):
        return ""
    name = data.get("profile") if isinstance(data, dict) else None
    return name if isinstance(name, str) and "{" not in name else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
