"""Single values as text for people: grouped digits, rounded doubles, percentages, instants in their zone."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

from querybroker.v1 import answer_pb2
from querybroker.v1.answer_pb2 import ColumnSchema

NULL = "–"
OTHER_SUFFIX = "__other"
_LONG = 10
_PERCENT = ("__share", "__change_ratio")
_NUMBERS = frozenset({answer_pb2.DATA_TYPE_INT64, answer_pb2.DATA_TYPE_DOUBLE, answer_pb2.DATA_TYPE_DECIMAL})
_KEYS = frozenset({answer_pb2.COLUMN_ROLE_TIME_BUCKET, answer_pb2.COLUMN_ROLE_DIMENSION})


def formatter(column: ColumnSchema) -> Callable[[object], str]:
    """A function that writes the values of a column. It does not round what is exact, except in percentages."""
    if column.name.endswith(_PERCENT):
        return _or_null(_percent)
    if column.type == answer_pb2.DATA_TYPE_TIMESTAMP:
        zone = ZoneInfo(column.zone) if column.zone else UTC
        return _or_null(lambda value: _instant(value, zone))
    if column.type == answer_pb2.DATA_TYPE_DOUBLE:
        return _or_null(_double)
    if column.role not in _KEYS and column.type in _NUMBERS:
        return _or_null(lambda value: f"{value:,}")  # a key, such as a year, is a name rather than a quantity
    return _or_null(_plain)


def is_number(column: ColumnSchema) -> bool:
    """Whether the column is set to the right."""
    return column.type in _NUMBERS


def heading(column: ColumnSchema, *, narrow: bool = False) -> str:
    """The name of the column; what was calculated, and the unit, on a line of its own.

    ``narrow`` breaks a long name after the underscore nearest to its middle.
    """
    name, _, calculated = column.name.partition("__")
    unit = "%" if column.name.endswith(_PERCENT) else column.unit
    below = " ".join(filter(None, (calculated.removesuffix("_ratio"), unit)))
    if narrow and len(name) > _LONG and "_" in name:
        breaks = [i + 1 for i, letter in enumerate(name) if letter == "_"]
        middle = min(breaks, key=lambda i: abs(2 * i - len(name)))
        name = f"{name[:middle]}\n{name[middle:]}"
    return f"{name}\n{below}" if below else name


def duration_text(seconds: float) -> str:
    """A length of time with three digits, in the unit that suits it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.0995 else f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.2f} s" if seconds < 59.995 else f"{minutes} min {rest:02} s"


def size_text(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _or_null(write: Callable[[object], str]) -> Callable[[object], str]:
    return lambda value: NULL if value is None else write(value)


def _double(value: object) -> str:
    assert isinstance(value, float)
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) < 1:
        return f"{value:.4f}" if abs(value) >= 0.0001 else f"{value:.3g}"
    return f"{value:,.2f}"


def _percent(value: object) -> str:
    return f"{value * 100:,.1f}" if isinstance(value, float | Decimal) else _plain(value)


def _instant(value: object, zone: tzinfo) -> str:
    """The local time of the zone, without the parts that are zero; the offset where the clock shows it twice."""
    assert isinstance(value, datetime)
    local = value.astimezone(zone)
    if local.microsecond:
        return local.isoformat(sep=" ")
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    if not (local.hour or local.minute or local.second or twice):
        return local.date().isoformat()
    time = local.strftime("%H:%M:%S" if local.second else "%H:%M")
    return f"{local.date()} {time}{local.strftime('%z') if twice or zone is UTC else ''}"


def _plain(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case date():
            return value.isoformat()
        case _:
            return str(value)
