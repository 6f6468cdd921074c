"""What a partition of a rollup is built from: an ordinary scan of the dataset, between the partition's ends.

Partitions are the buckets of the rollup's partition grain. Where one would begin inside a bucket of the base grain it
begins with that bucket, so that every stored bucket lies in one partition.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from broker.domain.measures import leaves, order_keys, result_type, states
from broker.domain.model import Dataset, Dimension
from broker.domain.plan import Finish, Leaf, Output, Scan
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import EPOCH, Rollup, Span, micros
from broker.domain.timegrid import TimeGrid, build
from broker.domain.values import Column, ColumnRole, DataType

_WIDTHS = {Grain.MINUTE: 60_000_000, Grain.FIFTEEN_MINUTES: 900_000_000, Grain.HOUR: 3_600_000_000}


def zone_of(dataset: Dataset, rollup: Rollup, grain: Grain) -> str:
    """The zone in which buckets of a grain begin: an hour or less in UTC, like dates, which have no zone."""
    dated = _time(dataset, rollup).type is DataType.DATE
    return rollup.zone if grain.calendar and not dated else "UTC"


def partitions(dataset: Dataset, rollup: Rollup, extent: Span) -> tuple[Span, ...]:
    """The partitions that hold an interval, which is finite and not empty, ascending and without gaps.

    Raises:
        TooManyBucketsError: The interval holds more partitions than a grid may have buckets.
    """
    zone = zone_of(dataset, rollup, rollup.partition)
    grid = build(_range(extent), rollup.partition, zone)
    starts = sorted({_base_start(dataset, rollup, start) for start in grid.starts})
    end = _base_start(dataset, rollup, grid.end)
    if (
        end < extent.hi
    ):  # the last partition ended inside a bucket of the base; that bucket begins the next one
        following = build(_range(Span(micros(grid.end), micros(grid.end) + 1)), rollup.partition, zone).end
        starts.append(end)
        end = _base_start(dataset, rollup, following)
    found = (Span(lo, hi) for lo, hi in zip(starts, [*starts[1:], end], strict=True))
    return tuple(span for span in found if span.lo < span.hi and span.hi > extent.lo)


def partition_scan(dataset: Dataset, rollup: Rollup, span: Span) -> tuple[Scan, Finish]:
    """The scan that reads the states of a partition, of all rows whoever may see them, and what its frame holds."""
    dimensions = tuple(dataset.dimensions[name] for name in rollup.dimensions)
    time, owned = _time(dataset, rollup), leaves(dataset, rollup.measures)
    bounds = _range(span)
    zone = zone_of(dataset, rollup, rollup.base)
    grid = build(bounds, rollup.base, zone)
    keys = (
        Column(time.name, time.type, ColumnRole.TIME_BUCKET, zone=zone),
        *(Column(d.name, d.type, ColumnRole.DIMENSION, scale=d.scale) for d in dimensions),
    )
    outputs = []
    for measure in owned:
        kind, scale = result_type(measure)
        outputs.append(Output(Column(measure.name, kind, ColumnRole.MEASURE, scale=scale)))
    scan = Scan(dataset, dimensions, owned, time, bounds, grid, rollup.filter)
    finish = Finish(
        columns=(*keys, *(output.column for output in outputs)),
        keys=keys,
        leaves=tuple(Leaf(measure, states(measure, order_keys(dataset))) for measure in owned),
        outputs=tuple(outputs),
        grid=grid,
    )
    return scan, finish


def whole_buckets(spans: Iterable[Span], grid: TimeGrid, most: int) -> tuple[Span, ...]:
    """The buckets of a grid that spans touch, as at most so many spans; the nearest ones are joined until they fit."""
    starts = [micros(start) for start in grid.starts]
    ends = [*starts[1:], micros(grid.end)]
    found: list[Span] = []
    for span in sorted(spans):
        lo, hi = max(span.lo, starts[0]), min(span.hi, ends[-1])
        if lo >= hi:
            continue
        touched = Span(starts[bisect_right(starts, lo) - 1], ends[bisect_left(ends, hi)])
        if found and touched.lo <= found[-1].hi:
            found[-1] = Span(found[-1].lo, max(found[-1].hi, touched.hi))
        else:
            found.append(touched)
    if len(found) <= most:
        return tuple(found)
    gaps = sorted(range(1, len(found)), key=lambda i: found[i].lo - found[i - 1].hi, reverse=True)
    firsts = [0, *sorted(gaps[: most - 1])]
    lasts = [*(i - 1 for i in firsts[1:]), len(found) - 1]
    return tuple(Span(found[a].lo, found[b].hi) for a, b in zip(firsts, lasts, strict=True))


def halved(spans: Sequence[Span], grid: TimeGrid) -> tuple[tuple[Span, ...], tuple[Span, ...]] | None:
    """Spans of whole buckets as two halves with about as many buckets each; None for a single bucket."""
    starts = [micros(start) for start in grid.starts]
    counts = [bisect_left(starts, hi) - bisect_left(starts, lo) for lo, hi in spans]
    if (left := sum(counts) // 2) == 0:
        return None
    first: list[Span] = []
    for position, (span, count) in enumerate(zip(spans, counts, strict=True)):
        if left < count:
            cut = starts[bisect_left(starts, span.lo) + left]
            before = [Span(span.lo, cut)] if left else []
            return (*first, *before), (Span(cut, span.hi), *spans[position + 1 :])
        first.append(span)
        left -= count
    raise AssertionError("half of the buckets are not all of them")


def _time(dataset: Dataset, rollup: Rollup) -> Dimension:
    return dataset.dimensions[rollup.time]


def _base_start(dataset: Dataset, rollup: Rollup, at: datetime) -> int:
    """Where the bucket of the base grain begins that holds the instant."""
    width = _WIDTHS.get(rollup.base)
    if width is not None:  # in UTC, where a bucket begins at every multiple
        return micros(at) - micros(at) % width
    zone = zone_of(dataset, rollup, rollup.base)
    moment = AbsoluteRange(at, at + timedelta(microseconds=1))
    return micros(build(moment, rollup.base, zone).starts[0])


def _range(span: Span) -> AbsoluteRange:
    ends = (EPOCH + timedelta(microseconds=at) for at in span)
    return AbsoluteRange(*(end.astimezone(UTC) for end in ends))
