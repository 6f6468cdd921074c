"""Stable hashes of values: equal values have equal fingerprints in every process and on every host."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any

Form = Callable[[Any], str]


def canonical(value: object) -> str:
    """A text form in which equal values are equal and different types differ; sets and mappings are sorted."""
    kind: type[Any] = type(value)
    return repr(value) if kind is str else _form(kind)(value)  # type: ignore[arg-type] # a class is hashable


def _sequence(value: Any) -> str:
    return "(" + ",".join([canonical(v) for v in value]) + ")"


def _mapping(value: Any) -> str:
    return "{" + ",".join(sorted([f"{canonical(k)}:{canonical(v)}" for k, v in value.items()])) + "}"


def _set(value: Any) -> str:
    return "{" + ",".join(sorted(map(canonical, value))) + "}"


def _fields(kind: type[Any]) -> Form:
    """The form of a dataclass: its name, and its fields in order."""
    named = [(f"{field.name}=", field.name) for field in dataclasses.fields(kind)]

    def form(value: Any) -> str:
        return (
            f"{kind.__name__}({','.join([label + canonical(getattr(value, name)) for label, name in named])})"
        )

    return form


_FORMS: tuple[tuple[type[Any] | tuple[type[Any], ...], Form], ...] = (
    ((type(None), bool, int, float), repr),
    (Enum, lambda value: canonical(value.value)),
    (str, repr),
    (Decimal, lambda value: f"D{value.normalize()}"),
    ((datetime, date), lambda value: f"T{value.isoformat()}"),
    ((tuple, list), _sequence),
    (Mapping, _mapping),
    (AbstractSet, _set),
)
"""Forms by type; the first that fits."""


@cache
def _form(kind: type[Any]) -> Form:
    """The form of values of a type."""
    if dataclasses.is_dataclass(kind):
        return _fields(kind)
    for types, form in _FORMS:
        if issubclass(kind, types):
            return form
    raise TypeError(f"no canonical form for {kind.__name__}")


def fingerprint(*values: object) -> str:
    """Thirty-two hexadecimal digits over the canonical forms (BLAKE2b, 16 bytes)."""
    return digest(together(*values))


def together(*values: object) -> str:
    """The canonical forms of several values as one text."""
    return "\x1f".join([repr(v) if type(v) is str else _form(type(v))(v) for v in values])  # type: ignore[arg-type] # a class is hashable


def digest(text: str) -> str:
    """The fingerprint of values whose canonical forms are this text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
