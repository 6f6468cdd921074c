"""What worker processes are asked to do. Pure functions of values; the executor names them by reference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from broker.aggregation import compare as comparing
from broker.aggregation import encode, inline, kernels, segment_write, segments
from broker.aggregation.framing import Encoded
from broker.domain.measures import states
from broker.domain.model import Dimension, Measure
from broker.domain.model import MeasureKind as K
from broker.domain.plan import (
    BUCKET,
    Block,
    CsvBlock,
    Finish,
    Leaf,
    LocalFile,
    Rows,
    ScanResult,
    SegmentBlock,
    key_name,
)
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator
from broker.domain.rollup import EPOCH, Span, micros
from broker.domain.segment import BuiltFiles, Comparison, SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType, ResultFormat

BATCH_BYTES = 1 << 20
"""Aim for the size of one batch, where nobody has another one."""
BATCH_ROWS = 1 << 16


def table(results: Sequence[ScanResult], finish: Finish, encoding: ResultFormat) -> tuple[Encoded, ...]:
    """The whole answer as one serialized ``Table``."""
    if finish.pushed_down:
        frame = kernels.answer(results, finish)
    else:
        scans = kernels.merged(results, finish)
        made = _plainly(scans, finish, encoding)
        if made is not None:
            return (made,)
        frame = kernels.finished(scans, finish)
    return (Encoded(frame.height, encode.table(frame, finish.columns, encoding)),)


def _plainly(scans: Sequence[pl.DataFrame], finish: Finish, encoding: ResultFormat) -> Encoded | None:
    """A tiny answer finished as the event loop would do it, in a fraction of the time that engines take to begin."""
    (main, *others) = scans
    if others or main.height * main.width > inline.MAX_CELLS:
        return None
    columns = tuple(Column(name, DataType.STRING) for name in main.columns)
    made = inline.table((ScanResult((Rows(columns, tuple(main.rows())),)),), finish, encoding)
    return None if made is None else Encoded(*made)


def batches(
    results: Sequence[ScanResult], finish: Finish, encoding: ResultFormat, size: int = BATCH_BYTES
) -> tuple[Encoded, ...]:
    """The whole answer as serialized ``RowBatch`` messages of about ``size`` bytes; none for no rows."""
    frame = kernels.answer(results, finish)
    if frame.is_empty():
        return ()
    width = max(1, int(frame.estimated_size()) // frame.height)
    step = max(1, min(BATCH_ROWS, size // width))
    parts: list[Encoded] = []
    for start in range(0, frame.height, step):
        parts += _bounded(frame.slice(start, step), finish.columns, encoding, 2 * size)
    return tuple(parts)


def batch(
    block: Block, finish: Finish | None, columns: Sequence[Column], encoding: ResultFormat
) -> tuple[Encoded, ...]:
    """One block of a pushed-down plan, or of SQL rows, as one serialized ``RowBatch``."""
    frame = kernels.rows(block, finish, columns)
    return (Encoded(frame.height, encode.row_batch(frame, columns, encoding)),)


def segment(result: ScanResult, build: SegmentBuild) -> BuiltFiles:
    """One partition of a rollup as files, or as rows of a table."""
    return segment_write.build(result, build)


def compare(left: Sequence[ScanResult], right: Sequence[ScanResult], finish: Finish) -> Comparison:
    """Compares every group of two answers before having, order, limit and calculations."""
    return comparing.compare(left, right, finish)


def warm_up() -> None:
    """Runs every engine once, so that no request pays for their first use."""
    columns = (Column("c0", DataType.INT64), Column("c1", DataType.STRING), Column("c2", DataType.DOUBLE))
    for encoding in ResultFormat:
        batch(CsvBlock(columns, b"1,a,0.5\n,,\n"), None, columns, encoding)
    frame = kernels.rows(Rows(columns, ((1, "a", 0.5),)), None, columns)
    frame.group_by("c0").agg(pl.col("c2").sum()).join(frame, on="c0", how="left", nulls_equal=True).sort("c0")
    _warm_up_segments()


def _warm_up_segments() -> None:
    """Builds a partition of one row and reads it from a file that is in memory only."""
    day = AbsoluteRange(EPOCH, EPOCH + timedelta(days=1))
    span, grid = Span(micros(day.start), micros(day.end)), build(day, Grain.DAY, "UTC")
    stored = (Dimension("d", "", DataType.STRING, ()),)
    leaves = tuple(Leaf(m, states(m)) for m in (Measure("n", K.COUNT), Measure("v", K.MAX, "v")))
    columns = (BUCKET, key_name(0), "n.n", "v.v")
    kinds = (DataType.INT64, DataType.STRING, DataType.INT64, DataType.INT64)
    result = ScanResult((Rows(tuple(map(Column, columns, kinds)), ((0, "a", 1, 1),)),))
    built = segment(result, SegmentBuild(span, grid, stored, leaves, (Grain.DAY,)))
    with os.fdopen(os.memfd_create("segment"), "wb") as file:
        file.write(built.data[0])
        file.flush()
        local = LocalFile(f"/proc/self/fd/{file.fileno()}", Grain.DAY, "UTC", span, built.files[0].sha256)
        wanted = Condition("d", Operator.EQ, ("a",))
        segments.read(SegmentBlock((local,), (span,), stored, ("d",), leaves, (), filter=wanted))


def _bounded(
    frame: pl.DataFrame, columns: Sequence[Column], encoding: ResultFormat, limit: int
) -> list[Encoded]:
    """The rows as one batch, or halved until batches are small; rows of very different size need that."""
    data = encode.row_batch(frame, columns, encoding)
    if len(data) <= limit or frame.height == 1:
        return [Encoded(frame.height, data)]
    half = frame.height // 2
    parts = (frame.head(half), frame.slice(half))
    return [batch for part in parts for batch in _bounded(part, columns, encoding, limit)]
