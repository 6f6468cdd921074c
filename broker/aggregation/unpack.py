"""Encoded tables as frames again: the way back of :mod:`broker.aggregation.encode`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from broker.aggregation import frames
from broker.aggregation.schema import DICTIONARY, INDICES, ROW_COUNT, ROWS, VALIDITY, VALUE_FIELDS, VALUES
from broker.aggregation.wire import LENGTH_DELIMITED, MORE
from broker.domain.values import Column, DataType, ResultFormat

_VARINT = 0


def table(data: bytes, encoding: ResultFormat, columns: Sequence[Column]) -> pl.DataFrame:
    """The rows of an encoded ``Table``, by the names of its columns, in the types of :mod:`broker.aggregation.frames`.

    Raises:
        ValueError: The bytes are no table of these columns.
    """
    count, rows = 0, memoryview(b"")
    for field, value in _fields(memoryview(data)):
        if field == ROW_COUNT and isinstance(value, int):
            count = value
        elif field == ROWS[encoding] and isinstance(value, memoryview):
            rows = value
    if encoding is ResultFormat.ARROW:
        return _arrow(rows, columns)
    parts = [value for _, value in _fields(rows) if isinstance(value, memoryview)]
    if len(parts) != len(columns):
        raise ValueError(f"a table of {len(parts)} columns, not {len(columns)}")
    return pl.DataFrame([_column(part, column, count) for part, column in zip(parts, columns, strict=True)])


def varints(data: memoryview) -> npt.NDArray[np.uint64]:
    """Numbers that were packed one after the other."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < MORE)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1)) if len(ends) else ends
    sizes = ends - starts + 1
    found = np.zeros(len(ends), np.uint64)
    for j in range(int(sizes.max(initial=0))):
        own = sizes > j
        low = octets[starts[own] + j].astype(np.uint64) & np.uint64(MORE - 1)
        found[own] |= low << np.uint64(7 * j)
    return found


def _column(data: memoryview, column: Column, count: int) -> pl.Series:
    fields = {field: value for field, value in _fields(data) if isinstance(value, memoryview)}
    values = fields.get(VALUE_FIELDS[column.type], memoryview(b""))
    found = _values(values, column)
    if len(found) != count:
        raise ValueError(f"{len(found)} values in {column.name!r}, not {count}")
    if VALIDITY not in fields:
        return found
    bits = np.unpackbits(np.frombuffer(fields[VALIDITY], np.uint8), count=count, bitorder="little")
    valid = pl.Series("!", bits.astype(np.bool_))
    return found.to_frame().select(pl.when(valid).then(pl.col(column.name))).to_series()


def _values(data: memoryview, column: Column) -> pl.Series:
    name, kind = column.name, frames.dtype(column.type, column.scale)
    parts = [(field, value) for field, value in _fields(data) if isinstance(value, memoryview)]
    match column.type:
        case DataType.STRING:
            words = pl.Series(
                name, [str(value, "utf-8") for field, value in parts if field == DICTIONARY], kind
            )
            numbers = next(
                (varints(value) for field, value in parts if field == INDICES), np.empty(0, np.uint64)
            )
            if words.is_empty():  # every row is null
                return pl.Series(name, [None] * len(numbers), kind)
            return words.gather(pl.Series(numbers.astype(np.uint32)))
        case DataType.DECIMAL:
            texts = pl.Series(name, [str(value, "utf-8") or None for _, value in parts], pl.String())
            return texts.cast(kind)
        case _:
            packed = next((value for field, value in parts if field == VALUES), memoryview(b""))
            return pl.Series(name, _numbers(packed, column.type), kind)


def _numbers(data: memoryview, kind: DataType) -> npt.NDArray[np.generic]:
    match kind:
        case DataType.DOUBLE:
            return np.frombuffer(data, "<f8")
        case DataType.BOOL:
            return np.frombuffer(data, np.bool_)
        case _:
            unsigned = varints(data)
            return (unsigned >> np.uint64(1)).view(np.int64) ^ -(unsigned & np.uint64(1)).view(np.int64)


def _arrow(data: memoryview, columns: Sequence[Column]) -> pl.DataFrame:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        found = reader.read_all()
    held = []
    for column, chunks in zip(columns, found.columns, strict=True):
        array = chunks.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        if column.type is DataType.DATE:
            array = array.view(pa.int32())
        elif column.type is DataType.TIMESTAMP:
            array = array.view(pa.int64())
        held.append(pl.Series(column.name, array).cast(frames.dtype(column.type, column.scale)))
    return pl.DataFrame(held)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in order: numbers, and bytes of everything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == LENGTH_DELIMITED:
            if at + value > len(data):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, data[at : at + value]
            at += value
        elif tag & 7 == _VARINT:
            yield tag >> 3, value
        else:
            raise ValueError(f"no table has fields of wire type {tag & 7}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("a message ends inside a number")
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < MORE:
            return value, at
