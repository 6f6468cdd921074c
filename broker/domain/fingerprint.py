"""Stable hashes of values: equal values have equal fingerprints in every process and on every host."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any


def canonical(value: object) -> str:
    """A text form in which equal values are equal and different types differ; sets and mappings are sorted."""
    kind: type[Any] = type(value)
    if kind is str:
        return repr(value)
    names = _fields(kind)  # type: ignore[arg-type] # a class is hashable, whatever its instances are
    if names is not None:
        inner = ",".join([f"{name}={canonical(getattr(value, name))}" for name in names])
        return f"{kind.__name__}({inner})"
    match value:
        case None | bool() | int() | float():
            return repr(value)
        case Enum():
            return canonical(value.value)
        case str():
            return repr(value)
        case Decimal():
            return f"D{value.normalize()}"
        case datetime() | date():
            return f"T{value.isoformat()}"
        case tuple() | list():
            return "(" + ",".join(canonical(v) for v in value) + ")"
        case Mapping():
            return "{" + ",".join(sorted(f"{canonical(k)}:{canonical(v)}" for k, v in value.items())) + "}"
        case AbstractSet():
            return "{" + ",".join(sorted(canonical(v) for v in value)) + "}"
        case _:
            raise TypeError(f"no canonical form for {kind.__name__}")


@cache
def _fields(kind: type[Any]) -> tuple[str, ...] | None:
    """The names of a dataclass' fields; None for other types."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def fingerprint(*values: object) -> str:
    """Thirty-two hexadecimal digits over the canonical forms (BLAKE2b, 16 bytes)."""
    return hashlib.blake2b("\x1f".join(map(canonical, values)).encode(), digest_size=16).hexdigest()
