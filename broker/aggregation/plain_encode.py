"""Tables and batches in plain Python, a few values at a time; the twin of :mod:`broker.aggregation.encode`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from broker.aggregation import wire
from broker.aggregation.schema import (
    DICTIONARY,
    INDICES,
    ROW_COUNT,
    ROWS,
    VALIDITY,
    VALUE_FIELDS,
    VALUES,
    heading,
)
from broker.domain.values import Column, DataType, ResultFormat

Values = Sequence[Any]
_DECIMAL_DIGITS = 38


def table(values: Sequence[Values], columns: Sequence[Column]) -> tuple[int, bytes] | None:
    """Row count and serialized ``Table``; None when a value does not fit its column's type."""
    body = _body(values, columns)
    return None if body is None else (len(values[0]), b"".join([heading(tuple(columns)), *body]))


def row_batch(values: Sequence[Values], columns: Sequence[Column]) -> tuple[int, bytes] | None:
    """Row count and serialized ``RowBatch``; None when a value does not fit its column's type."""
    body = _body(values, columns)
    return None if body is None else (len(values[0]), b"".join(body))


def _body(values: Sequence[Values], columns: Sequence[Column]) -> wire.Parts | None:
    encoded: wire.Parts = []
    for column_values, column in zip(values, columns, strict=True):
        nulls = None in column_values
        parts = _values(column_values, column, nulls)
        if parts is None:
            return None
        valid = wire.message(VALIDITY, [_bits(column_values)]) if nulls else []
        encoded += wire.message(1, [*valid, *wire.message(VALUE_FIELDS[column.type], parts)])
    return [*wire.number(ROW_COUNT, len(values[0])), *wire.message(ROWS[ResultFormat.COLUMNS], encoded)]


def _bits(values: Values) -> bytes:
    """Bit ``i``, counted from the lowest of the first byte, is 1 when value ``i`` is not null."""
    bits = sum(1 << i for i, value in enumerate(values) if value is not None)
    return bits.to_bytes((len(values) + 7) // 8, "little")


def _values(values: Values, column: Column, nulls: bool) -> wire.Parts | None:
    match column.type:
        case DataType.INT64 | DataType.TIMESTAMP | DataType.DATE:
            numbers = [0 if v is None else v for v in values] if nulls else values
            least = min(numbers, default=0)
            if not (least >= -(1 << 63) and max(numbers, default=0) < 1 << 63):
                return None
            zigzag = [v << 1 for v in numbers] if least >= 0 else [v << 1 ^ v >> 63 for v in numbers]
            return wire.packed(VALUES, wire.varints(zigzag))
        case DataType.DOUBLE:
            doubles = [0.0 if v is None else v for v in values] if nulls else values
            return wire.packed(VALUES, struct.pack(f"<{len(values)}d", *doubles))
        case DataType.BOOL:
            return wire.packed(VALUES, bytes(bool(v) for v in values))
        case DataType.STRING:
            codes: dict[str, int] = {}
            indices = [0 if v is None else codes.setdefault(v, len(codes)) for v in values]
            return [wire.strings(DICTIONARY, codes), *wire.packed(INDICES, wire.varints(indices))]
        case DataType.DECIMAL:
            texts = [_plain(v, column.scale) for v in values]
            return None if None in texts else [wire.strings(VALUES, [t for t in texts if t is not None])]


def _plain(value: Decimal | None, scale: int) -> str | None:
    """Plain notation with exactly ``scale`` digits after the point; None when 38 digits do not hold the value."""
    if value is None:
        return ""
    if not value.is_finite() or value.adjusted() + 1 + scale > _DECIMAL_DIGITS:
        return None
    text = format(value, f".{scale}f")
    return text if text.strip("-0.") else text.lstrip("-")
