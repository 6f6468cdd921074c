"""Queries, and what answers hold, as JSON and back: objects that name their kind and hold what is not a default."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from broker.domain import query as q
from broker.domain.held import Content

_KIND = "is"
_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        q.Query, q.TimeSelection, q.AbsoluteRange, q.DateRange, q.RelativeRange, q.Condition, q.AllOf, q.AnyOf, q.Not,
        q.OrderKey, q.CompareTo, q.ShareOfTotal, q.RollingWindow, q.TopN, q.Calculations,
        Content,
    )
}  # fmt: skip


def encode(value: object) -> object:
    """What ``json.dumps`` takes, without NaN and infinities."""
    match value:
        case Enum():
            return value.value
        case datetime():
            return {_KIND: "instant", "value": value.isoformat()}
        case date():
            return {_KIND: "date", "value": value.isoformat()}
        case Decimal():
            return {_KIND: "decimal", "value": str(value)}
        case float() if not math.isfinite(value):
            return {_KIND: "double", "value": str(value)}
        case tuple():
            return [encode(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            found: dict[str, object] = {_KIND: type(value).__name__}
            for field in dataclasses.fields(value):
                inner = getattr(value, field.name)
                if inner != _default(field):
                    found[field.name] = encode(inner)
            return found
        case _:
            return value


def decode(value: object) -> Any:
    """The value that :func:`encode` was given.

    Raises:
        ValueError: It was not made by it, or by another version.
    """
    try:
        return _decoded(value, None)
    except (KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(f"not a query: {error!r}") from error


def _decoded(value: object, hint: Any) -> Any:
    match value:
        case list():
            inner = get_args(hint)[0] if get_origin(hint) is tuple else None
            return tuple(_decoded(item, inner) for item in value)
        case {"is": "instant", "value": str(text)}:
            return datetime.fromisoformat(text)
        case {"is": "date", "value": str(text)}:
            return date.fromisoformat(text)
        case {"is": "decimal", "value": str(text)}:
            return Decimal(text)
        case {"is": "double", "value": str(text)}:
            return float(text)
        case {"is": str(name), **given}:
            kind, fields = _KINDS[name], {str(key): inner for key, inner in given.items()}
            hints = _hints(kind)  # type: ignore[arg-type] # a class is hashable, whatever its instances are
            return kind(**{key: _decoded(inner, hints[key]) for key, inner in fields.items()})
        case str() if (known := _enum(hint)) is not None:
            return known(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"{type(value).__name__} has no meaning here")


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _enum(hint: Any) -> type[Enum] | None:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, Enum)), None)


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
