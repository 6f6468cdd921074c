"""Files of rows in Parquet, Arrow and CSV, hashed while they are written. Used in child processes only."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from broker.aggregation import arrow
from broker.domain.job import ExportFormat
from broker.domain.values import Column, DataType

ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 1 << 20
SAMPLE_ROWS = 1 << 14
"""Rows by which it is decided whether a column repeats itself."""
REPEATS = 4
"""How often a value has to come, on average, for a dictionary of the column to be worth its making."""


class Sink(Protocol):
    """Writes rows in one format."""

    def write(self, frame: pl.DataFrame) -> None:
        """Appends rows, in the columns' order."""
        ...

    def close(self) -> None:
        """Completes the file; the caller syncs it."""
        ...


class HashingFile(io.RawIOBase):
    """A new file that is hashed while it is written. Errors of the file system name it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._hash = hashlib.sha256()
        self._position = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self._position

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # the buffers that writers pass
        """Writes all of the data."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        rest = view
        with self._named():
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._position += len(view)
        return len(view)

    def sync(self) -> bytes:
        """Waits for the disk, closes, and gives the SHA-256."""
        with self._named():  # some file systems find out only now that they are full
            os.fsync(self._descriptor)
            os.close(self._descriptor)
        return self._hash.digest()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


class HashingEntry(io.RawIOBase):
    """A file within an archive, hashed while it is written; closing it leaves the archive open."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._hash = hashlib.sha256()
        self._position = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self._position

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # the buffers that writers pass
        """Writes all of the data."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self._inner.write(view)
        self._position += len(view)
        return len(view)

    def digest(self) -> bytes:
        """The SHA-256 of what was written."""
        return self._hash.digest()


def open_sink(format: ExportFormat, columns: tuple[Column, ...], file: io.RawIOBase) -> Sink:
    """The sink of a format."""
    match format:
        case ExportFormat.PARQUET:
            return _ParquetSink(columns, file)
        case ExportFormat.CSV:
            return _CsvSink(columns, file)
        case ExportFormat.ARROW:
            return _ArrowSink(columns, file)


def _batch(frame: pl.DataFrame, columns: tuple[Column, ...]) -> pa.RecordBatch:
    arrays = [
        arrow.array(series, column) for series, column in zip(frame.get_columns(), columns, strict=True)
    ]
    return pa.record_batch(arrays, schema=arrow.schema(columns))


class _ParquetSink:
    """Parquet with zstd; row groups of about 32 MB in memory.

    Columns whose first rows repeat their values are written as a dictionary. For the others the writer would make one
    and give it up when it is full, which takes a third of all its work and leaves a larger file.
    """

    def __init__(self, columns: tuple[Column, ...], file: io.RawIOBase) -> None:
        self._columns, self._file = columns, file
        self._writer: pq.ParquetWriter | None = None
        self._group: list[pa.RecordBatch] = []

    def write(self, frame: pl.DataFrame) -> None:
        self._group.append(_batch(frame, self._columns))
        full = sum(b.num_rows for b in self._group) >= ROW_GROUP_ROWS
        if full or sum(b.nbytes for b in self._group) >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._opened(pa.Table.from_batches([], arrow.schema(self._columns))).close()

    def _flush(self) -> None:
        if self._group:
            table = pa.Table.from_batches(self._group)
            self._opened(table).write_table(table, row_group_size=ROW_GROUP_ROWS)
            self._group = []

    def _opened(self, first: pa.Table) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._file,
                arrow.schema(self._columns),
                compression="zstd",
                use_dictionary=_repeating(first.slice(0, SAMPLE_ROWS)),
            )
        return self._writer


def _repeating(sample: pa.Table) -> list[str] | bool:
    """The columns that repeat their values; names may repeat as well, and then all columns are taken for such."""
    if len(set(sample.column_names)) < sample.num_columns:
        return True
    found = [
        name
        for name, column in zip(sample.column_names, sample.columns, strict=True)
        if not pa.types.is_boolean(column.type)  # the writer has no dictionaries of these
        and pc.count_distinct(column, mode="all").as_py() * REPEATS <= len(column)
    ]
    return found or False


class _ArrowSink:
    """An Arrow IPC file without compression, which every implementation reads and can map."""

    def __init__(self, columns: tuple[Column, ...], file: io.RawIOBase) -> None:
        self._columns = columns
        self._writer = pa.ipc.new_file(file, arrow.schema(columns))

    def write(self, frame: pl.DataFrame) -> None:
        self._writer.write_batch(_batch(frame, self._columns))

    def close(self) -> None:
        self._writer.close()


def _written(series: pl.Series, column: Column) -> pl.Series:
    """A column as CSV has it."""
    if column.type is DataType.DATE:
        return series.cast(pl.Date)
    if column.type is DataType.TIMESTAMP:
        instants = series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return instants if column.zone in ("", "UTC") else instants.dt.convert_time_zone(column.zone)
    return series


class _CsvSink:
    """CSV after RFC 4180: null is nothing at all, an empty text is ``""``; instants after RFC 3339, with offset."""

    def __init__(self, columns: tuple[Column, ...], file: io.RawIOBase) -> None:
        self._columns = columns
        self._file = file
        header = io.StringIO()
        csv.writer(header, lineterminator="\r\n").writerow([column.name for column in columns])
        file.write(header.getvalue().encode())

    def write(self, frame: pl.DataFrame) -> None:
        # Instants and dates are numbers in frames; everything else is written as it is.
        typed = pl.DataFrame(
            [
                _written(series, column)
                for series, column in zip(frame.get_columns(), self._columns, strict=True)
            ]
        )
        buffer = io.BytesIO()
        typed.write_csv(
            buffer, include_header=False, line_terminator="\r\n", datetime_format="%Y-%m-%dT%H:%M:%S%.f%:z"
        )
        self._file.write(buffer.getbuffer())

    def close(self) -> None:
        pass
