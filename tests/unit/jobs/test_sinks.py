"""Files of rows: which columns of Parquet have a dictionary."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from broker.aggregation.frames import dtype
from broker.domain.job import ExportFormat
from broker.domain.values import Column, ColumnRole, DataType
from broker.jobs.sinks import REPEATS, HashingFile, open_sink

ROWS = 4_000


def value(kind: DataType, i: int) -> object:
    match kind:
        case DataType.STRING:
            return f"text {i}"
        case DataType.BOOL:
            return i % 2 == 0
        case DataType.DECIMAL:
            return Decimal(i) / 100
        case DataType.DOUBLE:
            return i / 3
        case _:
            return i


def series(kind: DataType, distinct: int) -> pl.Series:
    values = [None if i % 5 == 0 else value(kind, i % distinct) for i in range(ROWS)]
    return pl.Series("", values, dtype(kind, 2 if kind is DataType.DECIMAL else 0))


def written(path: Path, columns: list[Column], frames: list[pl.DataFrame]) -> pq.ParquetFile:
    file = HashingFile(path)
    sink = open_sink(ExportFormat.PARQUET, tuple(columns), file)
    for frame in frames:
        sink.write(frame)
    sink.close()
    file.sync()
    return pq.ParquetFile(io.BytesIO(path.read_bytes()))


def with_dictionary(file: pq.ParquetFile) -> list[bool]:
    group = file.metadata.row_group(0)
    return ["RLE_DICTIONARY" in group.column(i).encodings for i in range(group.num_columns)]


@pytest.mark.parametrize("kind", list(DataType))
def test_columns_that_repeat_themselves_have_a_dictionary(kind: DataType, tmp_path: Path) -> None:
    scale = 2 if kind is DataType.DECIMAL else 0
    columns = [Column(name, kind, ColumnRole.DIMENSION, scale=scale) for name in ("often", "a.seldom")]
    frame = pl.DataFrame([series(kind, ROWS // REPEATS - 1).alias("a"), series(kind, ROWS).alias("b")])
    file = written(tmp_path / "file", columns, [frame])
    often = kind is not DataType.BOOL
    assert with_dictionary(file) == [often, False]
    table = file.read()
    assert [table.num_rows, table["often"].null_count] == [ROWS, ROWS // 5]
    if kind in {DataType.STRING, DataType.INT64, DataType.DOUBLE, DataType.BOOL, DataType.DECIMAL}:
        assert table["a.seldom"].to_pylist() == frame["b"].to_list()


def test_names_may_repeat_and_rows_may_be_missing(tmp_path: Path) -> None:
    columns = [Column("same", DataType.INT64, ColumnRole.DIMENSION) for _ in range(2)]
    frame = pl.DataFrame([series(DataType.INT64, ROWS).alias(name) for name in "ab"])
    assert with_dictionary(written(tmp_path / "same", columns, [frame])) == [True, True]
    empty = written(tmp_path / "none", columns, [])
    assert (empty.metadata.num_rows, empty.schema_arrow.names) == (0, ["same", "same"])
