"""Typed columns of the contract as lists of Python values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from querybroker.v1.answer_pb2 import Column, ColumnBatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO = date(1970, 1, 1).toordinal()


def decode_columns(batch: ColumnBatch) -> list[list[object]]:
    """The values of each column; None where there is none."""
    return [decode_column(column) for column in batch.columns]


def decode_column(column: Column) -> list[object]:
    """The values: int, float, bool, str, Decimal, datetime in UTC, date, or None."""
    values = list(_values(column))
    validity = column.validity
    if not validity:
        return values
    return [v if validity[i >> 3] >> (i & 7) & 1 else None for i, v in enumerate(values)]


def _values(column: Column) -> Iterable[object]:
    match column.WhichOneof("values"):
        case "int64_values":
            return column.int64_values.values
        case "double_values":
            return column.double_values.values
        case "bool_values":
            return column.bool_values.values
        case "string_values":
            words: Sequence[str] = column.string_values.dictionary or ("",)  # no word when all rows are null
            return (words[i] for i in column.string_values.indices)
        case "decimal_values":
            return (Decimal(text or 0) for text in column.decimal_values.values)  # null rows hold no digits
        case "timestamp_values":
            return (_EPOCH + timedelta(microseconds=n) for n in column.timestamp_values.unix_micros)
        case "date_values":
            return (date.fromordinal(_DAY_ZERO + n) for n in column.date_values.unix_days)
        case _:
            return ()
