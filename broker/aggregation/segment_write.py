"""One partition of a rollup from the result of a scan: sorted files, the base and coarser grains merged from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from broker.aggregation import gather, segment_file, states
from broker.aggregation.physical import EPOCH
from broker.aggregation.segment_file import START, Buckets, Mask, Positions, SegmentFrame
from broker.aggregation.segment_table import csv
from broker.domain.errors import BrokerError
from broker.domain.plan import BUCKET, ScanResult, key_name
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import SegmentFile, Span, instant
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.domain.timegrid import TimeGrid
from broker.domain.timegrid import build as build_grid
from broker.domain.values import DataType


def build(result: ScanResult, wanted: SegmentBuild) -> BuiltFiles:
    """The partition as files, or the rows of the scan as those of a table.

    Built at once or by refreshing spans, it holds the same: base states of a bucket always come from one scan, and
    coarser grains from all base states.

    Raises:
        BrokerError: STORE_REJECTED for values out of range.
        ValueError: What is given does not fit together: grid and span, old file, replaced spans and rows.
    """
    edges = _edges(wanted.grid)
    if (edges[0], edges[-1]) != wanted.span:
        raise ValueError(f"the grid is from {edges[0]} to {edges[-1]}, the partition {wanted.span}")
    fresh = _scanned(result, wanted, edges)
    if wanted.table:
        data = csv(fresh, wanted.stored, wanted.leaves)
        return BuiltFiles(fresh.height, rows=(data,) if fresh.height else ())
    segment = _sorted(_refreshed(fresh, wanted, edges), wanted, edges)
    made = [(wanted.grains[0], segment)]
    for grain in wanted.grains[1:]:
        try:
            coarser = _coarser(made, grain, wanted)
        except BrokerError:
            continue  # a sum out of range, which narrower queries need not meet
        if len(coarser.buckets.starts):
            made.append((grain, coarser))
    return _files(made, [dimension.name for dimension in wanted.stored])


def _edges(grid: TimeGrid) -> Positions:
    unit = timedelta(microseconds=1)
    return np.array([(start - EPOCH) // unit for start in (*grid.starts, grid.end)], np.int64)


def _scanned(result: ScanResult, wanted: SegmentBuild, edges: Positions) -> pl.DataFrame:
    """The scanned states with ``t`` in place of positions in the grid."""
    dimensions = [(key_name(i), d.type, d.scale) for i, d in enumerate(wanted.stored)]
    merged = gather.merged(result, [(BUCKET, DataType.INT64, 0), *dimensions], wanted.leaves)
    positions = merged.get_column(BUCKET).to_numpy()
    if len(positions) and not 0 <= positions.min() <= positions.max() < len(edges) - 1:
        raise ValueError("a scanned row lies outside of the partition")
    return merged.with_columns(pl.Series(BUCKET, edges[positions])).rename({BUCKET: START})


def _refreshed(fresh: pl.DataFrame, wanted: SegmentBuild, edges: Positions) -> pl.DataFrame:
    """The fresh rows, and those of the old file outside of the spans that they replace."""
    if not wanted.base:
        return fresh
    data = wanted.base if isinstance(wanted.base, bytes) else Path(wanted.base).read_bytes()
    old = segment_file.frame(data, [dimension.name for dimension in wanted.stored])
    if old.schema != fresh.schema:
        raise ValueError(f"the old file holds {old.schema}, and {fresh.schema} was scanned")
    spans = [Span(max(lo, wanted.span.lo), min(hi, wanted.span.hi)) for lo, hi in wanted.replaced]
    if not np.isin([end for span in spans if span.lo < span.hi for end in span], edges).all():
        raise ValueError(f"a replaced span ends inside a bucket: {wanted.replaced}")
    if not _within(fresh, spans).all():
        raise ValueError("a scanned row lies outside of the replaced spans")
    return pl.concat([old.filter(~_within(old, spans)), fresh])


def _within(frame: pl.DataFrame, spans: Sequence[Span]) -> pl.Series:
    times = frame.get_column(START).to_numpy()
    found = np.zeros(len(times), np.bool_)
    for lo, hi in spans:
        found |= (times >= lo) & (times < hi)
    return pl.Series(found)


def _sorted(frame: pl.DataFrame, wanted: SegmentBuild, edges: Positions) -> SegmentFrame:
    """Rows by time and dimensions, the dimensions as positions in ascending dictionaries that begin with null."""
    dictionaries = []
    for i in range(len(wanted.stored)):
        column = frame.get_column(key_name(i))
        values = column.drop_nulls().unique().sort()
        dictionary = pl.concat([pl.Series(column.name, [None], column.dtype), values])
        dictionaries.append(dictionary)
        numbered = pl.DataFrame([dictionary, pl.Series("!", np.arange(len(dictionary), dtype=np.int32))])
        found = column.to_frame().join(
            numbered, on=column.name, how="left", nulls_equal=True, maintain_order="left"
        )
        frame = frame.with_columns(found.get_column("!").alias(column.name))
    ordered = frame.sort(_keys(wanted))
    times = ordered.get_column(START).to_numpy()
    return SegmentFrame(ordered, tuple(dictionaries), Buckets.of(edges[:-1], edges[1:], times))


def _coarser(made: Sequence[tuple[Grain, SegmentFrame]], grain: Grain, wanted: SegmentBuild) -> SegmentFrame:
    """The buckets of a grain that lie wholly within the partition, merged from the coarsest grain that holds them."""
    base = made[0][1].buckets
    lo, hi = map(instant, wanted.span)
    assert lo is not None
    assert hi is not None
    zone = wanted.zone if grain.calendar else "UTC"
    edges = _edges(build_grid(AbsoluteRange(lo, hi), grain, zone))
    starts, ends = edges[:-1], edges[1:]
    whole = _begin(starts, base) & _end(ends, base)
    starts, ends = starts[whole], ends[whole]
    source = next(s for _, s in reversed(made) if _holds(s.buckets, starts, ends))
    first = source.buckets.rows[np.searchsorted(source.buckets.starts, starts)]
    last = source.buckets.rows[np.searchsorted(source.buckets.ends, ends) + 1]
    lengths = last - first
    taken = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)
    rows = source.frame[taken].with_columns(pl.Series(START, np.repeat(starts, lengths)))
    merged = states.merge(rows, _keys(wanted), wanted.leaves).sort(_keys(wanted))
    buckets = Buckets.of(starts, ends, merged.get_column(START).to_numpy())
    return SegmentFrame(merged, source.dictionaries, buckets)


def _holds(buckets: Buckets, starts: Positions, ends: Positions) -> bool:
    """Whether every span from a start to its end is made of whole buckets, none missing."""
    if not (_begin(starts, buckets).all() and _end(ends, buckets).all()):
        return False
    widths = np.append(0, np.cumsum(buckets.ends - buckets.starts))
    first, last = np.searchsorted(buckets.starts, starts), np.searchsorted(buckets.ends, ends)
    return bool((widths[last + 1] - widths[first] == ends - starts).all())


def _begin(starts: Positions, buckets: Buckets) -> Mask:
    return np.isin(starts, buckets.starts)


def _end(ends: Positions, buckets: Buckets) -> Mask:
    return np.isin(ends, buckets.ends)


def _keys(wanted: SegmentBuild) -> list[str]:
    return [START, *(key_name(i) for i in range(len(wanted.stored)))]


def _files(made: Sequence[tuple[Grain, SegmentFrame]], names: Sequence[str]) -> BuiltFiles:
    data = tuple(segment_file.encode(segment, names) for _, segment in made)
    files = tuple(
        SegmentFile(grain, segment.frame.height, len(content), hashlib.sha256(content).hexdigest())
        for (grain, segment), content in zip(made, data, strict=True)
    )
    return BuiltFiles(made[0][1].frame.height, files, data)
