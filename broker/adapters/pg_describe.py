"""The columns of a statement that PostgreSQL has read but not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.values import Column, DataType

DECIMAL_SCALE: Final = 12
"""Decimal digits of a numeric column that is not cast to a number of them: PostgreSQL would vary them by row."""

_NAMELESS: Final = "?column?"
"""What PostgreSQL calls an expression without a name."""

# As asyncpg names them (pg_type.typname).
_TYPES: Final[Mapping[str, DataType]] = MappingProxyType({
    "int2": DataType.INT64, "int4": DataType.INT64, "int8": DataType.INT64,
    "float4": DataType.DOUBLE, "float8": DataType.DOUBLE, "numeric": DataType.DECIMAL,
    "bool": DataType.BOOL, "text": DataType.STRING, "varchar": DataType.STRING, "bpchar": DataType.STRING,
    "date": DataType.DATE, "timestamptz": DataType.TIMESTAMP,
})  # fmt: skip
_ADVICE: Final[Mapping[str, str]] = MappingProxyType({
    "timestamp": "; say in which zone it is with AT TIME ZONE, or cast it to date or text",
    "interval": "; use extract(epoch from ...), or cast it to text",
})  # fmt: skip
# Classes of SQLSTATE by which PostgreSQL refuses to read a statement: syntax, names and types; values in literals;
# features that it lacks; limits such as the depth of its stack.
_UNREADABLE: Final = ("42", "22", "0A", "54")


def columns_of(described: Sequence[tuple[str, str]], scales: Mapping[int, int]) -> tuple[Column, ...]:
    """The columns of a result by name and PostgreSQL type; ``scales`` has the digits of decimals that declare them.

    Raises:
        BrokerError: INVALID_REQUEST naming every column whose type cannot be returned or whose name is taken.
    """
    found: list[Column] = []
    violations: list[Violation] = []
    for i, (given, pg_type) in enumerate(described):
        name = f"column_{i + 1}" if given == _NAMELESS else given
        kind = _TYPES.get(pg_type)
        if kind is None:
            text = f"column {i + 1} ({name!r}) is of type {pg_type}, which cannot be returned"
            violations.append(Violation("text", text + _ADVICE.get(pg_type, "; cast it"), "SQL_TYPE"))
            continue
        if any(column.name == name for column in found):
            text = f"column {i + 1} has the name {name!r}, as one before it; name it with AS"
            violations.append(Violation("text", text, "SQL_COLUMN"))
        scale = scales.get(i, DECIMAL_SCALE) if kind is DataType.DECIMAL else 0
        found.append(Column(name, kind, scale=scale))
    if not described:
        violations.append(Violation("text", "select at least one column", "SQL_COLUMN"))
    if violations:
        raise invalid(violations)
    return tuple(found)


def as_violation(error: BrokerError) -> BrokerError:
    """The same error, or INVALID_REQUEST when the statement itself is at fault."""
    state = error.metadata.get("sqlstate", "")
    if error.reason is not ErrorReason.STORE_REJECTED or not state.startswith(_UNREADABLE):
        return error
    text = f"PostgreSQL does not accept the statement: {error.metadata['condition']} ({state})"
    return invalid([Violation("text", text, "SQL_REJECTED")])
