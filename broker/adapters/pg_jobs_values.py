"""Values of the domain as JSON and back, for columns of type ``jsonb``.

Written by the type annotations of the dataclasses. Fields that hold their default are left out, unknown ones are
ignored when reading: processes of neighbouring versions share one database while they are being replaced.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def dump(value: object) -> str:
    """A value as JSON text."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def load(of: type[T], text: str) -> T:
    """The value that ``dump`` wrote."""
    value = _typed(of, json.loads(text))
    assert isinstance(value, of)
    return value


def load_mapping(text: str) -> dict[str, str]:
    """A mapping of texts."""
    if text == "{}":  # of most jobs
        return {}
    return {str(key): str(value) for key, value in json.loads(text).items()}


def _plain(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case AbstractSet():
            return sorted((_plain(item) for item in value), key=repr)
        case tuple() | list():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {
                f.name: _plain(getattr(value, f.name))
                for f in dataclasses.fields(value)
                if not _is_default(f, getattr(value, f.name))
            }
        case _:
            raise TypeError(f"no JSON form for {type(value).__name__}")


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return False


def _typed(of: Any, value: Any) -> Any:
    return None if value is None else _reader(of)(value)


@cache
def _reader(of: Any) -> Callable[[Any], Any]:
    """What makes values of a type from JSON values other than null; found out once for each type."""
    origin, arguments = get_origin(of), get_args(of)
    if origin in (Union, types.UnionType):  # every union of the domain's stored values is "or None"
        (inner,) = (a for a in arguments if a is not type(None))
        return _reader(inner)
    if origin in (tuple, frozenset):
        return lambda value: origin([_typed(arguments[0], item) for item in value])
    if origin is Mapping:
        return lambda value: {key: _typed(arguments[1], item) for key, item in value.items()}
    if of is datetime:
        return datetime.fromisoformat
    if of is bytes:
        return base64.b64decode
    if of is float:
        return float
    if isinstance(of, type) and dataclasses.is_dataclass(of):
        return _record(of)
    if isinstance(of, type) and issubclass(of, Enum):
        return of
    return _same


def _record(of: type) -> Callable[[Any], Any]:
    hints = get_type_hints(of)
    known: dict[str, Callable[[Any], Any]] = {}  # by field, as fields are met

    def read(value: Any) -> Any:
        fields = {}
        for name, item in value.items():
            if (reader := known.get(name)) is None:
                if name not in hints:
                    continue
                reader = known[name] = _reader(hints[name])
            fields[name] = item if item is None else reader(item)
        return of(**fields)

    return read


def _same(value: Any) -> Any:
    return value
