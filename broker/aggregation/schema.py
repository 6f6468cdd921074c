"""Numbers of fields and enums of ``answer.proto``, and the column schema of a table.

Apart from the encoders because the event loop uses them too, without Polars.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from broker.aggregation import wire
from broker.domain.values import Column, ColumnRole, DataType, ResultFormat

ROW_COUNT = 2
ROWS = {ResultFormat.COLUMNS: 3, ResultFormat.ARROW: 4}
VALIDITY = 1
VALUES = DICTIONARY = 1
INDICES = 2
VALUE_FIELDS = {
    DataType.INT64: 2,
    DataType.DOUBLE: 3,
    DataType.BOOL: 4,
    DataType.STRING: 5,
    DataType.DECIMAL: 6,
    DataType.TIMESTAMP: 7,
    DataType.DATE: 8,
}
TYPE_NUMBERS = {kind: number for number, kind in enumerate(DataType, 1)}
ROLE_NUMBERS = {
    ColumnRole.SQL: 0,
    ColumnRole.TIME_BUCKET: 1,
    ColumnRole.DIMENSION: 2,
    ColumnRole.MEASURE: 3,
    ColumnRole.CALCULATION: 4,
}


@lru_cache(maxsize=1 << 10)
def heading(columns: tuple[Column, ...]) -> bytes:
    """The field ``schema`` of a table as bytes. Questions of one shape have the same columns again and again."""
    return b"".join(schema(columns))


def schema(columns: Sequence[Column]) -> wire.Parts:
    """The field ``schema`` of a table."""
    parts: wire.Parts = []
    for column in columns:
        parts += wire.message(
            1,
            [
                *wire.text(1, column.name),
                *wire.number(2, TYPE_NUMBERS[column.type]),
                *wire.number(3, ROLE_NUMBERS[column.role]),
                *wire.number(4, column.scale),
                *wire.text(5, column.zone),
                *wire.text(6, column.unit),
            ],
        )
    return parts
