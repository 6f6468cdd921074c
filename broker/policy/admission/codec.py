"""Frozen dataclasses to plain JSON values and back, from their annotations: what a decision log is written with.

Fields that have their default are left out. Numbers survive bit for bit; an infinite one is the text "inf", because
JSON has none. Readers and writers are built once per type and hold no state.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

Reader = Callable[[Any], Any]
"""From a JSON value to a value of one type; raises ValueError, TypeError or KeyError for any other JSON value."""

Writer = Callable[[Any], Any]
"""From a value of one type to a JSON value."""


def reader(hint: Any) -> Reader:
    """The reader of a type: dataclasses, enums, numbers, texts, optional ones, tuples and mappings of them."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        [some] = [reader(option) for option in inner if option is not NoneType]
        return lambda value: None if value is None else some(value)
    if origin is tuple:
        each = reader(inner[0])
        return lambda value: tuple([each(item) for item in _instance(list, value)])
    if origin is Mapping:
        of_key, of_value = reader(inner[0]), reader(inner[1])
        return lambda value: {of_key(key): of_value(item) for key, item in _instance(dict, value).items()}
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(hint)
    if issubclass(hint, Enum):
        of_name: Reader = hint
        return of_name
    return float if hint is float else lambda value: _instance(hint, value)


def _instance(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {value!r:.40}")
    return value


def _dataclass_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    fields = {field.name: reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def read(value: Any) -> Any:
        return kind(**{name: fields[name](item) for name, item in _instance(dict, value).items()})

    return read


def writer(hint: Any) -> Writer:
    """The writer of a type, the inverse of its :func:`reader`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        [some] = [writer(option) for option in inner if option is not NoneType]
        return lambda value: None if value is None else some(value)
    if origin is tuple:
        each = writer(inner[0])
        return lambda value: [each(item) for item in value]
    if origin is Mapping:
        of_key, of_value = writer(inner[0]), writer(inner[1])
        return lambda value: {of_key(key): of_value(item) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return _dataclass_writer(hint)
    if issubclass(hint, Enum):
        return lambda value: value.value
    return _number if hint is float else lambda value: value


def _number(value: float) -> float | str:
    """Whole numbers too are written as floats, so that what was read is written as it was."""
    return float(value) if math.isfinite(value) else str(value)


def _dataclass_writer(kind: Any) -> Writer:
    hints = get_type_hints(kind)
    fields = [(field.name, _default(field), writer(hints[field.name])) for field in dataclasses.fields(kind)]

    def write(value: Any) -> dict[str, Any]:
        return {
            name: write_field(item)
            for name, default, write_field in fields
            if (item := getattr(value, name)) != default
        }

    return write


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
