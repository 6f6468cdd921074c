"""Rows as Arrow: every type as other languages expect it, strings with 32-bit offsets."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from broker.domain.values import Column, DataType

_OLDEST = pl.CompatLevel.oldest()


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type of a column; instants carry the zone of their buckets, or UTC."""
    match column.type:
        case DataType.INT64:
            return pa.int64()
        case DataType.DOUBLE:
            return pa.float64()
        case DataType.DECIMAL:
            return pa.decimal128(38, column.scale)
        case DataType.BOOL:
            return pa.bool_()
        case DataType.STRING:
            return pa.string()
        case DataType.TIMESTAMP:
            return pa.timestamp("us", tz=column.zone or "UTC")
        case DataType.DATE:
            return pa.date32()


def schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of an answer."""
    return pa.schema([pa.field(column.name, arrow_type(column)) for column in columns])


def array(series: pl.Series, column: Column) -> pa.Array:
    """One column; instants and dates are numbers in frames and change their type only."""
    found = series.rechunk().to_arrow(compat_level=_OLDEST)
    if column.type is DataType.DATE:
        found = found.cast(pa.int32())
    if column.type in (DataType.DATE, DataType.TIMESTAMP):
        return found.view(arrow_type(column))
    return found.cast(arrow_type(column))


def ipc_stream(frame: pl.DataFrame, columns: Sequence[Column]) -> bytes:
    """One IPC stream that can be read on its own: schema, one record batch, end mark."""
    arrays = [array(series, column) for series, column in zip(frame.get_columns(), columns, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema(columns)) as writer:
        if arrays:
            writer.write_batch(pa.record_batch(arrays, schema=schema(columns)))
    return bytes(sink.getvalue().to_pybytes())
