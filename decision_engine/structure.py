"""Does data have the shape of a configuration type? Every difference, not only the first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from decision_engine.errors import unknown
from decision_engine.yaml_source import Where

Problem = tuple[Where, str]


def problems(value: Any, shape: Any, where: Where = ()) -> list[Problem]:
    """Where `value` (plain data) does not fit `shape` (a msgspec type), and what would."""
    found = list(_own_problems(value, shape, where))
    for part, inner, inner_shape in _children(value, shape):
        found += problems(inner, inner_shape, (*where, part))
    if not found:
        found += _leaf_problem(value, shape, where)
    return found


def _leaf_problem(value: Any, shape: Any, where: Where) -> list[Problem]:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        return [(where, _message(str(error), value, shape))]
    return []


def _message(text: str, value: Any, shape: Any) -> str:
    text = re.sub(r" - at `.*`$", "", text).replace("`", "'")
    options = get_args(_plain(shape)) if get_origin(_plain(shape)) is Literal else ()
    if options:
        return unknown("value", str(value), map(str, options))
    if text.startswith("Invalid enum value"):
        return unknown("value", str(value), _texts(shape))
    if text.startswith("Expected 'str', got") and isinstance(value, bool | int | float):
        return f"{text}; put it in quotes"
    notes = [m.description for m in _meta(shape) if m.description]
    shown = f"{value!r}: " if isinstance(value, str | int | float) else ""
    return f"{shown}{text}{f' ({notes[0]})' if notes else ''}"


def _own_problems(value: Any, shape: Any, where: Where) -> Iterator[Problem]:
    structs = _structs(_plain(shape))
    if not structs or not isinstance(value, dict):
        return
    if len(structs) > 1 and _chosen(value, structs) is None:
        yield _unknown_kind(value, structs, where)
        return
    struct = _chosen(value, structs)
    fields = {f.name: f for f in msgspec.structs.fields(struct)} if struct else {}
    tag = {struct.__struct_config__.tag_field} if struct else set()
    strange = [name for name in value if name not in fields and name not in tag]
    for name in strange:
        yield (*where, name), unknown("field", name, fields)
    # A misspelt field is one problem, not a strange one and a missing one.
    meant = {near for name in strange for near in get_close_matches(str(name), fields, n=1)}
    for name, info in fields.items():
        if info.required and name not in value and name not in meant:
            yield where, f"field '{name}' is missing"


def _unknown_kind(value: dict[str, Any], structs: list[Any], where: Where) -> Problem:
    kinds = [str(s.__struct_config__.tag) for s in structs]
    if "kind" not in value:
        return where, f"field 'kind' is missing; one of {', '.join(kinds)}"
    return (*where, "kind"), unknown("kind", str(value["kind"]), kinds)


def _children(value: Any, shape: Any) -> Iterator[tuple[str | int, Any, Any]]:
    plain = _plain(shape)
    if isinstance(value, list) and get_origin(plain) is tuple:
        yield from ((i, item, get_args(plain)[0]) for i, item in enumerate(value))
    if isinstance(value, dict) and get_origin(plain) is dict:
        key_shape, item_shape = get_args(plain)
        yield from ((key, key, key_shape) for key in value)
        yield from ((key, item, item_shape) for key, item in value.items())
    struct = _chosen(value, _structs(plain)) if isinstance(value, dict) else None
    if struct is not None:
        hints = get_type_hints(struct, include_extras=True)
        yield from ((n, value[n], hints[n]) for n in struct.__struct_fields__ if n in value)


def _chosen(value: dict[str, Any], structs: list[Any]) -> Any:
    if len(structs) == 1:
        return structs[0]
    return next((s for s in structs if s.__struct_config__.tag == value.get("kind")), None)


def _structs(plain: Any) -> list[Any]:
    options = get_args(plain) if get_origin(plain) in (Union, UnionType) else (plain,)
    return [o for o in options if isinstance(o, type) and issubclass(o, msgspec.Struct)]


def _plain(shape: Any) -> Any:
    """The type without Annotated and without `| None`."""
    if get_origin(shape) is Annotated:
        return _plain(get_args(shape)[0])
    if get_origin(shape) in (Union, UnionType):
        options = [o for o in get_args(shape) if o is not NoneType]
        return _plain(options[0]) if len(options) == 1 else shape
    return shape


def _texts(shape: Any) -> list[str]:
    """The texts that a type takes beside numbers."""
    if get_origin(shape) is Literal:
        return [o for o in get_args(shape) if isinstance(o, str)]
    return [text for inner in get_args(shape) for text in _texts(inner)]


def _meta(shape: Any) -> list[msgspec.Meta]:
    found = [m for m in getattr(shape, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    inner = [o for o in get_args(shape) if get_origin(o) is Annotated]
    return found + [m for o in inner for m in _meta(o)]
