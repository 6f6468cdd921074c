"""Partitions hold whole buckets, meet without gaps, and are read by an ordinary scan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.query import Condition, Grain, Operator
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Rollup, Span, instant, micros
from broker.domain.timegrid import TooManyBucketsError
from broker.domain.values import DataType
from broker.policy.rollups.scan import halved, partition_scan, partitions, whole_buckets

DATASET = Dataset(
    "visits",
    "visits",
    {
        "at": Dimension("at", "visits.at", DataType.TIMESTAMP, ("visits",), time=True),
        "day": Dimension("day", "visits.day", DataType.DATE, ("visits",), time=True),
        "site": Dimension("site", "visits.site", DataType.STRING, ("visits",)),
    },
    {"visits": Measure("visits", MeasureKind.COUNT), "mean": Measure("mean", MeasureKind.AVG, "visits.x")},
    default_time="at",
)
HOUR = 3_600_000_000


def rollup(base: Grain, partition: Grain, zone: str = "UTC", time: str = "at") -> Rollup:
    where = Condition("site", Operator.EQ, ("a",))
    return Rollup("r", "visits", time, ("site",), ("visits", "mean"), (base,), zone, partition, where)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([Grain.MINUTE, Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY, Grain.WEEK]),
    st.sampled_from([Grain.DAY, Grain.WEEK, Grain.MONTH, Grain.QUARTER]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"]),
    st.datetimes(datetime(2010, 1, 1), datetime(2029, 1, 1)),  # noqa: DTZ001 - the zone is given next
    st.timedeltas(timedelta(microseconds=1), timedelta(days=40)),
)
def test_partitions_hold_whole_buckets_and_meet(
    base: Grain, partition: Grain, zone: str, start: datetime, length: timedelta
) -> None:
    if (base, partition) in {(Grain.WEEK, Grain.DAY), (Grain.MINUTE, Grain.QUARTER)}:
        partition = Grain.MONTH  # one finer than its buckets, or with too many of them, is refused before
    kept, lo = rollup(base, partition, zone), micros(start.replace(tzinfo=UTC))
    extent = Span(lo, lo + length // timedelta(microseconds=1))
    spans = partitions(DATASET, kept, extent)
    assert spans[0].lo <= extent.lo < spans[0].hi
    assert spans[-1].lo < extent.hi <= spans[-1].hi
    assert all(one.hi == other.lo for one, other in pairwise(spans))
    for span in spans[:2]:
        scan, _ = partition_scan(DATASET, kept, span)
        assert scan.grid is not None
        assert (micros(scan.grid.starts[0]), micros(scan.grid.end)) == span
    assert partitions(DATASET, kept, spans[0]) == spans[:1], "a partition is the same whoever looks"


def test_a_scan_reads_the_rows_of_everybody_under_the_filter_of_the_rollup() -> None:
    kept = rollup(Grain.FIFTEEN_MINUTES, Grain.DAY)
    span = Span(micros(datetime(2024, 5, 1, tzinfo=UTC)), micros(datetime(2024, 5, 2, tzinfo=UTC)))
    scan, finish = partition_scan(DATASET, kept, span)
    assert scan.filter == kept.filter
    assert scan.policies == ()
    assert [d.name for d in scan.dimensions] == ["site"]
    assert scan.grid is not None
    assert len(scan.grid.starts) == 96
    assert [[s.name for s in leaf.states] for leaf in finish.leaves] == [["n"], ["n", "s"]]
    assert not finish.pushed_down
    assert [column.name for column in finish.columns] == ["at", "site", "visits", "mean"]
    assert [output.column.name for output in finish.outputs] == ["visits", "mean"]


def test_a_bucket_over_the_end_of_a_partition_begins_the_next_one() -> None:
    first, last = (micros(datetime(2024, 1, day, tzinfo=UTC)) for day in (30, 31))
    monday, following = (micros(datetime(2024, *day, tzinfo=UTC)) for day in ((1, 29), (2, 26)))
    found = partitions(DATASET, rollup(Grain.WEEK, Grain.MONTH), Span(first, last))
    assert found == (Span(monday, following),), "its month ends on a Thursday"


def test_dates_have_partitions_in_utc() -> None:
    kept = rollup(Grain.DAY, Grain.MONTH, "Asia/Tokyo", "day")
    (span,) = partitions(DATASET, kept, Span(HOUR, HOUR + 1))
    assert instant(span.lo) == datetime(1970, 1, 1, tzinfo=UTC)


def test_too_many_partitions_are_an_error() -> None:
    with pytest.raises(TooManyBucketsError):
        partitions(DATASET, rollup(Grain.HOUR, Grain.DAY), Span(0, HOUR * 24 * 365 * 300))


def spans(*ends: int) -> tuple[Span, ...]:
    return tuple(Span(lo * HOUR // 4, hi * HOUR // 4) for lo, hi in zip(ends[::2], ends[1::2], strict=True))


@pytest.mark.parametrize(
    ("dirty", "most", "wanted"),
    [
        ((), 4, ()),
        (spans(1, 2), 4, spans(0, 4)),
        (spans(0, 4, 4, 5), 4, spans(0, 8)),
        (spans(1, 2, 9, 11), 4, spans(0, 4, 8, 12)),
        (spans(9, 11, 1, 2), 4, spans(0, 4, 8, 12)),
        (spans(1, 2, 9, 11, 40, 41), 2, spans(0, 12, 40, 44)),
        (spans(1, 2, 9, 11, 40, 41), 1, spans(0, 44)),
        (spans(-8, 2, 94, 200), 4, spans(0, 4, 92, 96)),
        (spans(-8, 0, 96, 100), 4, ()),
        (spans(-8, 0, 1, 2), 4, spans(0, 4)),
        (spans(1, 2, 61, 62, 70, 71), 2, spans(0, 4, 60, 72)),
        ((Span(FAR_PAST, FAR_FUTURE),), 4, spans(0, 96)),
    ],
)
def test_what_is_read_again_are_whole_buckets(
    dirty: tuple[Span, ...], most: int, wanted: tuple[Span, ...]
) -> None:
    kept = rollup(Grain.HOUR, Grain.DAY)
    scan, _ = partition_scan(DATASET, kept, Span(0, 24 * HOUR))
    assert scan.grid is not None
    assert whole_buckets(dirty, scan.grid, most) == wanted


@pytest.mark.parametrize(
    ("whole", "halves"),
    [
        (spans(0, 96), (spans(0, 48), spans(48, 96))),
        (spans(0, 12), (spans(0, 4), spans(4, 12))),
        (spans(0, 4, 8, 12), (spans(0, 4), spans(8, 12))),
        (spans(0, 4, 8, 20), (spans(0, 4, 8, 12), spans(12, 20))),
        (spans(0, 12, 16, 20), (spans(0, 8), spans(8, 12, 16, 20))),
        (spans(4, 8), None),
    ],
)
def test_halves_hold_as_many_buckets(
    whole: tuple[Span, ...], halves: tuple[tuple[Span, ...], ...] | None
) -> None:
    scan, _ = partition_scan(DATASET, rollup(Grain.HOUR, Grain.DAY), Span(0, 24 * HOUR))
    assert scan.grid is not None
    assert halved(whole, scan.grid) == halves
