"""Steps through the schema by path, for suggestions, environment variables and the reference."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from broker.config.base import Section
from broker.config.document import Path


def unwrap(annotation: object) -> object:
    """The type without metadata and without None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        inner = [part for part in get_args(annotation) if part is not NoneType]
        return unwrap(inner[0]) if len(inner) == 1 else annotation
    return annotation


def section_of(annotation: object) -> type[Section] | None:
    """The section that a type is, if it is one."""
    bare = unwrap(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, Section) else None


def is_collection(annotation: object) -> bool:
    """Whether values of the type are mappings or lists."""
    return section_of(annotation) is not None or get_origin(unwrap(annotation)) in (dict, list)


def step(annotation: object, key: str | int) -> object | None:
    """The type below a key; None when there is none of that name."""
    section = section_of(annotation)
    if section is not None:
        field = section.model_fields.get(str(key))
        return field.annotation if field is not None else None
    bare = unwrap(annotation)
    if get_origin(bare) is dict and isinstance(key, str):
        inner: object = get_args(bare)[1]
        return inner
    if get_origin(bare) is list and isinstance(key, int):
        item: object = get_args(bare)[0]
        return item
    return None


def walk(root: object, path: Path) -> object | None:
    """The type at a path below a type; None when the path leads nowhere."""
    current: object | None = root
    for part in path:
        if current is None:
            return None
        current = step(current, part)
    return current
