"""Rows as serialized ``querybroker.v1`` messages, with typed columns or Arrow inside.

``Table`` and ``RowBatch`` carry the row count and the rows in the same fields. A test reads every message back with the
generated code and finds the bytes that it would have written itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from pyarrow import compute

from broker.aggregation import packing, wire
from broker.aggregation.arrow import array, ipc_stream
from broker.aggregation.schema import (
    DICTIONARY,
    INDICES,
    ROW_COUNT,
    ROWS,
    VALIDITY,
    VALUE_FIELDS,
    VALUES,
    schema,
)
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.values import Column, DataType, ResultFormat

MAX_MESSAGE = 2**31 - 1
"""Protobuf's own limit."""


def table(frame: pl.DataFrame, columns: Sequence[Column], encoding: ResultFormat) -> bytes:
    """A ``Table``.

    Raises:
        BrokerError: RESULT_TOO_LARGE when it passes protobuf's limit.
    """
    return _joined([*schema(columns), *_body(frame, columns, encoding)])


def row_batch(frame: pl.DataFrame, columns: Sequence[Column], encoding: ResultFormat) -> bytes:
    """A ``RowBatch`` without ``first_row``, which is appended when batches are put in order.

    Raises:
        BrokerError: RESULT_TOO_LARGE when it passes protobuf's limit.
    """
    return _joined(_body(frame, columns, encoding))


def _body(frame: pl.DataFrame, columns: Sequence[Column], encoding: ResultFormat) -> wire.Parts:
    count = wire.number(ROW_COUNT, frame.height)
    if encoding is ResultFormat.ARROW:
        return [*count, *wire.message(ROWS[encoding], [ipc_stream(frame, columns)])]
    encoded: wire.Parts = []
    for series, column in zip(frame.get_columns(), columns, strict=True):
        encoded += wire.message(1, _column(series, column))
    return [*count, *wire.message(ROWS[encoding], encoded)]


def _column(series: pl.Series, column: Column) -> wire.Parts:
    validity: wire.Parts = []
    if series.null_count():
        bits = np.packbits(series.is_not_null().to_numpy(), bitorder="little")
        validity = wire.message(VALIDITY, [bits.tobytes()])
    return [*validity, *wire.message(VALUE_FIELDS[column.type], _values(series, column))]


def _values(series: pl.Series, column: Column) -> wire.Parts:
    match column.type:
        case DataType.INT64 | DataType.TIMESTAMP | DataType.DATE:
            numbers = series.fill_null(0).to_numpy()
            return wire.packed(VALUES, packing.varints(packing.zigzag(numbers)))
        case DataType.DOUBLE:
            return wire.packed(VALUES, series.fill_null(0.0).to_numpy().astype("<f8", copy=False).tobytes())
        case DataType.BOOL:
            return wire.packed(VALUES, series.fill_null(value=False).to_numpy().astype(np.uint8).tobytes())
        case DataType.DECIMAL:
            return [_strings(VALUES, series.cast(pl.String).fill_null(""))]
        case DataType.STRING:
            return _dictionary(series)


def _dictionary(series: pl.Series) -> wire.Parts:
    encoded = compute.dictionary_encode(array(series, _TEXT))
    indices = encoded.indices
    _, data = indices.buffers()  # `to_numpy` and `fill_null` would import pandas, where it is installed
    codes = np.frombuffer(data, np.int32)[indices.offset : indices.offset + len(indices)]
    if series.null_count():
        codes = np.where(series.is_not_null().to_numpy(), codes, 0)
    words = pl.Series(encoded.dictionary, dtype=pl.String())
    return [_strings(DICTIONARY, words), *wire.packed(INDICES, packing.varints(codes.astype(np.uint64)))]


_TEXT = Column("", DataType.STRING)


def _strings(field: int, series: pl.Series) -> bytes:
    text = array(series, _TEXT)
    _, offsets, data = text.buffers()
    ends: npt.NDArray[np.int32] = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    characters = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return packing.string_column(field, ends.astype(np.int64), characters)


def _joined(parts: wire.Parts) -> bytes:
    size = sum(map(len, parts))
    if size > MAX_MESSAGE:
        text = (
            f"The result takes {size} bytes in one message, and {MAX_MESSAGE} are possible. "
            "Narrow the query, or stream it with Explore."
        )
        limits = {"value": str(size), "limit": str(MAX_MESSAGE)}
        raise BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=limits)
    return b"".join(parts)
