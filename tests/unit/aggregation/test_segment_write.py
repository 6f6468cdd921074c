"""Writing segments: built at once or refreshed in any order, at any grains, it is the same partition."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import segment_file, segment_write
from broker.domain.errors import BrokerError
from broker.domain.measures import EARLIEST, LATEST, SKETCHES, states
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.plan import BUCKET, Leaf, Rows, ScanResult, key_name, state_name
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import Span, micros
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType
from tests.unit.aggregation.facts import START, Fact, facts
from tests.unit.aggregation.rolled import LEAVES, STORED, Layout, at, made, scanned, within
from tests.unit.aggregation.test_segments import BASE, LAYOUTS, SEEDS

NAMES = [dimension.name for dimension in STORED]
MONTH = Layout(Grain.MONTH, "UTC", (Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH))


@settings(max_examples=60, deadline=None)
@given(rows=SEEDS.map(facts), later=st.lists(SEEDS.map(facts), max_size=3), layout=LAYOUTS, chance=SEEDS)
def test_refreshes_make_what_one_build_makes(
    rows: list[Fact], later: list[list[Fact]], layout: Layout, chance: Random
) -> None:
    (span,) = layout.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    built = made(rows, span, layout)
    for number, fresh in enumerate(later, 1):
        dirty = some_spans(span, chance)
        moved = [replace(fact, id=fact.id + 1000 * number) for fact in within(fresh, dirty)]
        rows = [fact for fact in rows if fact not in within(rows, dirty)] + moved
        built = made(rows, span, layout, base=built.data[0], replaced=dirty)
    at_once = made(rows, span, layout)
    assert [file.grain for file in built.files] == [file.grain for file in at_once.files]
    for mine, theirs in zip(built.data, at_once.data, strict=True):
        assert segment_file.frame(mine, NAMES).equals(segment_file.frame(theirs, NAMES))


def some_spans(span: Span, chance: Random) -> tuple[Span, ...]:
    """Disjoint spans of whole base buckets, some of which reach beyond the partition."""
    count = (span.hi - span.lo) // BASE
    ends = sorted(chance.sample(range(-2, count + 3), 2 * chance.randint(0, 3)))
    return tuple(
        Span(span.lo + lo * BASE, span.lo + hi * BASE) for lo, hi in zip(ends[::2], ends[1::2], strict=True)
    )


@pytest.mark.parametrize("grain", [Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH])
@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Australia/Lord_Howe"])
def test_a_grain_holds_the_buckets_that_lie_wholly_within(grain: Grain, zone: str) -> None:
    """Partitions are months of a zone whose offset is no whole hour, or changes by less than one."""
    layout = Layout(Grain.MONTH, zone, (Grain.FIFTEEN_MINUTES, grain))
    (span,) = layout.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    rows = facts(Random(3))
    built = made(rows, span, layout)
    bounds = AbsoluteRange(at(span.lo), at(span.hi))
    grid = build(bounds, grain, zone if grain.calendar else "UTC")
    ends = [micros(end) for end in (*grid.starts, grid.end)]
    whole = [Span(*pair) for pair in pairwise(ends) if span.lo <= pair[0] and pair[1] <= span.hi]
    _, buckets = segment_file.decode(built.data[-1])
    assert list(zip(buckets.starts.tolist(), buckets.ends.tolist(), strict=True)) == whole
    held = segment_file.frame(built.data[-1], NAMES)
    keys = {(lo, f.name, f.flag) for lo, hi in whole for f in within(rows, [Span(lo, hi)])}
    assert sorted(map(str, keys)) == sorted(map(str, held.select("t", "k0", "k1").rows()))
    counts = held.group_by("t").agg(pl.col("rows.n").sum()).rows()
    expected = [(lo, len(within(rows, [Span(lo, hi)]))) for lo, hi in whole]
    assert sorted(counts) == [pair for pair in expected if pair[1]]


def test_rows_are_sorted_and_dictionaries_too() -> None:
    (span,) = MONTH.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    built = made(facts(Random(5)), span, MONTH)
    for file, data in zip(built.files, built.data, strict=True):
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.byte_count == len(data)
        frame = segment_file.frame(data, NAMES)
        assert frame.height == file.row_count > 0
        assert frame.equals(frame.sort("t", "k0", "k1", nulls_last=False))
        batch, _ = segment_file.decode(data)
        words = batch.column(1).dictionary.to_pylist()
        assert words[0] is None
        assert words[1:] == sorted(words[1:])


def test_a_file_may_be_given_by_its_path(tmp_path: Path) -> None:
    (span,) = MONTH.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    rows = facts(Random(5))
    built = made(rows, span, MONTH)
    path = tmp_path / "base.arrow"
    path.write_bytes(built.data[0])
    dirty = (Span(span.lo, span.lo + 40 * BASE),)
    again = made(rows, span, MONTH, base=str(path), replaced=dirty)
    assert segment_file.frame(again.data[-1], NAMES).equals(segment_file.frame(built.data[-1], NAMES))


def test_what_does_not_fit_together_is_refused() -> None:
    (span,) = MONTH.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    rows = facts(Random(5))
    base = made(rows, span, MONTH).data[0]
    with pytest.raises(ValueError, match="ends inside a bucket"):
        made(rows, span, MONTH, base=base, replaced=(Span(span.lo, span.lo + 1),))
    wanted = partition(span, base=base, replaced=(Span(span.lo, span.lo + BASE),))
    with pytest.raises(ValueError, match="outside of the replaced spans"):
        segment_write.build(scanned(within(rows, [span]), wanted), wanted)
    with pytest.raises(ValueError, match="the grid is from"):
        segment_write.build(ScanResult(()), replace(wanted, span=Span(span.lo, span.hi - BASE)))
    with pytest.raises(ValueError, match="not a segment file"):
        made(rows, span, MONTH, base=b"nothing", replaced=(span,))
    wanted = replace(partition(span, base=base, replaced=(span,)), leaves=LEAVES[:3])
    with pytest.raises(ValueError, match="the old file holds"):
        segment_write.build(scanned(within(rows, [span]), wanted), wanted)


def test_a_grain_whose_sums_leave_their_range_is_left_out() -> None:
    day = Span(micros(START), micros(START + timedelta(days=1)))
    measure = Measure("big", MeasureKind.SUM, "x", DataType.INT64)
    wanted = replace(
        partition(day, Layout(Grain.DAY, "UTC", (Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY))),
        stored=(),
        leaves=(Leaf(measure, states(measure)),),
    )
    columns = (Column(BUCKET, DataType.INT64), Column("big.s", DataType.INT64))
    built = segment_write.build(ScanResult((Rows(columns, ((0, 2**62), (90, 2**62))),)), wanted)
    assert [file.grain for file in built.files] == [Grain.FIFTEEN_MINUTES, Grain.HOUR]
    twice = ScanResult((Rows(columns, ((0, 2**62), (0, 2**62))),))
    with pytest.raises(BrokerError, match="leaves the range"):
        segment_write.build(twice, wanted)


def partition(
    span: Span, layout: Layout = MONTH, base: bytes = b"", replaced: tuple[Span, ...] = ()
) -> SegmentBuild:
    grid = build(AbsoluteRange(at(span.lo), at(span.hi)), layout.grains[0], "UTC")
    return SegmentBuild(span, grid, STORED, LEAVES, layout.grains, layout.zone, base, replaced)


def test_a_table_gets_rows_as_copy_reads_them() -> None:
    kinds = [
        ("s", DataType.STRING, 0), ("n", DataType.DECIMAL, 2), ("b", DataType.BOOL, 0), ("d", DataType.DATE, 0),
    ]  # fmt: skip
    stored = tuple(Dimension(name, name, kind, (), scale=scale) for name, kind, scale in kinds)
    measures = (
        Measure("rows", MeasureKind.COUNT),
        Measure("real", MeasureKind.SUM, "x", DataType.DOUBLE),
        Measure("latest", MeasureKind.MAX, "x", DataType.TIMESTAMP),
    )
    leaves = tuple(Leaf(measure, states(measure)) for measure in measures)
    day = Span(micros(START), micros(START + timedelta(days=1)))
    wanted = replace(partition(day), stored=stored, leaves=leaves, table=True)
    columns = (
        Column(BUCKET, DataType.INT64),
        *(Column(key_name(i), kind, scale=scale) for i, (_, kind, scale) in enumerate(kinds)),
        *(Column(state_name(f.measure.name, s.name), s.type) for f in leaves for s in f.states),
    )
    late = (datetime(2024, 3, 29, 1, 2, 3, 4, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )
    days = (date(2024, 2, 29) - date(1970, 1, 1)).days
    rows = (
        (1, 'a"b', Decimal("1.50"), True, days, 3, 0.1, late),
        (2, None, None, None, None, 0, float("nan"), None),
        (3, "", Decimal("-0.25"), False, 0, 1, float("-inf"), 0),
        (4, None, None, None, None, 1, None, LATEST),
        (5, None, None, None, None, 1, None, EARLIEST),
    )
    lines = (
        b'"2024-03-29 00:15:00.000000+00","a""b",1.50,"t","2024-02-29",3,0.1,"2024-03-29 01:02:03.000004+00"\n'
        b'"2024-03-29 00:30:00.000000+00",,,,,0,NaN,\n'
        b'"2024-03-29 00:45:00.000000+00","",-0.25,"f","1970-01-01",1,-inf,"1970-01-01 00:00:00.000000+00"\n'
        b'"2024-03-29 01:00:00.000000+00",,,,,1,,"infinity"\n'
        b'"2024-03-29 01:15:00.000000+00",,,,,1,,"-infinity"\n'
    )
    built = segment_write.build(ScanResult((Rows(columns, rows),)), wanted)
    assert built == BuiltFiles(5, rows=(lines,))
    assert segment_write.build(ScanResult(()), wanted) == BuiltFiles(0)


def test_a_table_holds_no_sketches() -> None:
    (span,) = MONTH.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    wanted = replace(partition(span), table=True)
    assert any(leaf.measure.kind in SKETCHES for leaf in wanted.leaves)
    with pytest.raises(ValueError, match="no sketches"):
        segment_write.build(scanned(facts(Random(5)), wanted), wanted)
