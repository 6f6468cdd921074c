"""Durations and sizes as people write them, as types of the schema."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MIB = 1 << 20
GIB = 1 << 30
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_duration(value: object) -> float:
    """Seconds of ``30``, ``"250ms"``, ``"5m"`` or ``"1.5h"``."""
    return _parse(
        value, SECONDS, "duration", "a number of seconds, or a text such as 250ms, 30s, 5m, 12h, 7d"
    )


def parse_size(value: object) -> int:
    """Bytes of ``1048576``, ``"64MiB"`` or ``"2GB"``."""
    return int(_parse(value, BYTES, "size", "a number of bytes, or a text such as 64KiB, 16MB, 2GiB"))


def show_duration(seconds: float) -> str:
    """The shortest exact text for seconds, in one unit."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def show_size(count: float) -> str:
    """The shortest exact text for bytes, in one unit."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % BYTES[unit] == 0:
            return f"{count / BYTES[unit]:g}{unit}"
    return f"{count:g}B"


def _parse(value: object, units: dict[str, float] | dict[str, int], what: str, grammar: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is not None and match[2] in ("", *units):
        return float(match[1]) * (units[match[2]] if match[2] else 1)
    raise PydanticCustomError(what, "must be {grammar}", {"grammar": grammar})


def _schema(units: dict[str, float] | dict[str, int]) -> WithJsonSchema:
    pattern = rf"^\s*\d+(\.\d+)?\s*({'|'.join(units)})?\s*$"
    return WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}]}
    )


Duration = Annotated[
    float, BeforeValidator(parse_duration), Field(ge=0, le=10 * 365 * 86400), _schema(SECONDS)
]
"""Seconds."""

Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0), _schema(BYTES)]
"""Bytes."""
