"""How fields of the schema are shown to people: type, default, meaning."""

from __future__ import annotations

import json
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

import annotated_types
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from broker.config.units import parse_duration, parse_size, show_duration, show_size

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def table(lines: list[list[str]]) -> str:
    """A table of Markdown; the first line is its head."""
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows) + "\n"
    )


def meaning(field: FieldInfo) -> str:
    """The description on one line."""
    return " ".join((field.description or "").split())


def type_of(field: FieldInfo) -> str:
    """The type in words."""
    return _type(field.annotation, list(field.metadata))


def default_of(field: FieldInfo) -> str:
    """The default as it would be written; nothing when it is empty or derived."""
    if field.is_required():
        return "required"
    value, kind = field.get_default(call_default_factory=True), type_of(field)
    if value is None or value in ("", [], {}):
        return ""
    if kind == "duration":
        return f"`{show_duration(value)}`"
    if kind == "size":
        return f"`{show_size(value)}`"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value)}`"


def _type(annotation: object, metadata: list[object]) -> str:
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata += [
                m for part in more for m in (part.metadata if isinstance(part, FieldInfo) else [part])
            ]
        elif get_origin(annotation) in (Union, UnionType):
            annotation = next(part for part in get_args(annotation) if part is not NoneType)
        else:
            break
    parsers = [m.func for m in metadata if isinstance(m, BeforeValidator)]
    if get_origin(annotation) is list:
        return f"list of {_type(get_args(annotation)[0], [])}"
    if get_origin(annotation) is dict:
        return f"mapping of names to {_type(get_args(annotation)[1], [])}"
    assert isinstance(annotation, type)
    if issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if parse_duration in parsers:
        return "duration"
    if parse_size in parsers:
        return "size"
    return _WORDS[annotation] + _bounds(metadata)


def _bounds(metadata: list[object]) -> str:
    shown = []
    for m in metadata:
        match m:
            case annotated_types.Ge(ge=limit):
                shown.append(f"≥ {limit}")
            case annotated_types.Gt(gt=limit):
                shown.append(f"> {limit}")
            case annotated_types.Le(le=limit):
                shown.append(f"≤ {limit}")
            case annotated_types.Lt(lt=limit):
                shown.append(f"< {limit}")
            case _:
                pass
    return f" {', '.join(shown)}" if shown else ""
