"""Reading segments: which buckets are taken, what filters mean, what sums may do, and files that are not right."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import frames, segment_filter, segment_shelf, segment_write, segments
from broker.aggregation.segment_file import Buckets, Positions
from broker.aggregation.segment_pick import pick
from broker.aggregation.segment_shelf import Lexicon, OpenFile
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.measures import states
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.plan import BUCKET, Leaf, LocalFile, Rows, ScanResult, SegmentBlock, key_name
from broker.domain.query import AbsoluteRange, Condition, Grain, Not, Operator
from broker.domain.rollup import Span, micros
from broker.domain.segment import SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType
from tests.unit.aggregation import reference
from tests.unit.aggregation.facts import START, rank
from tests.unit.aggregation.questions import VALUES

HOUR = 3_600_000_000
DAY_SPAN = Span(micros(START), micros(START) + 24 * HOUR)


class Held:
    """A stand-in for an open file: buckets with as many rows as they are hours long."""

    def __init__(self, edges: Sequence[int]) -> None:
        ends = np.array(edges, np.int64)
        rows = np.append(0, np.cumsum(np.diff(ends))) if len(ends) else np.zeros(1, np.int64)
        self.buckets = Buckets(ends[:-1], ends[1:], rows)


edges_of = st.lists(st.integers(0, 48), min_size=2, max_size=20, unique=True).map(sorted)


@settings(max_examples=500, deadline=None)
@given(
    partitions=st.lists(st.integers(1, 47), max_size=4, unique=True).map(sorted),
    coarse=st.lists(st.sets(st.integers(0, 48)), max_size=3),
    cuts=st.sets(st.integers(0, 48)),
    grid=st.sets(st.integers(1, 47)),
)
def test_every_hour_is_taken_once_in_the_coarsest_bucket_that_fits(
    partitions: list[int], coarse: list[set[int]], cuts: set[int], grid: set[int]
) -> None:
    grains = [Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH]
    held: dict[str, Any] = {}
    files = []
    for lo, hi in pairwise([0, *partitions, 48]):
        levels = [range(lo, hi + 1), *(sorted(e for e in edges if lo <= e <= hi) for edges in coarse)]
        for grain, edges in zip(grains, levels, strict=False):
            path = f"{lo}.{grain}"
            held[path] = Held(list(edges))
            files.append(LocalFile(path, grain, "UTC", Span(lo, hi)))
    spans = [Span(*pair) for pair in pairwise(sorted(cuts))][::2]
    starts = np.array(sorted({0, *grid}), np.int64)
    opened: list[str] = []

    def open_file(file: LocalFile) -> OpenFile:
        opened.append(file.path)
        found: OpenFile = held[file.path]
        return found

    picked = pick(files, spans, starts, open_file)
    taken = [
        (int(at.buckets.starts[i]), int(at.buckets.ends[i]), int(position))
        for number, first, position in zip(picked.file, picked.first, picked.position, strict=True)
        for at in [picked.files[number]]
        for i in [int(np.searchsorted(at.buckets.rows, first))]
    ]
    free = {hour for lo, hi in spans for hour in range(lo, hi)}
    expected = []
    for grain in reversed(grains):
        for file in files:
            edges = held[file.path].buckets
            for lo, hi in zip(edges.starts.tolist(), edges.ends.tolist(), strict=True):
                within = any(x <= lo and hi <= y for x, y in spans)
                if (
                    file.grain is grain
                    and within
                    and free >= set(range(lo, hi))
                    and not set(range(lo + 1, hi)) & grid
                ):
                    free -= set(range(lo, hi))
                    expected.append((lo, hi, sum(start <= lo for start in grid)))
    assert not free
    assert taken == sorted(expected)
    assert len(opened) == len(set(opened))


def test_spans_that_no_file_holds_are_refused() -> None:
    file = LocalFile("x", Grain.HOUR, "UTC", Span(0, 4))
    held: Any = Held([0, 1, 2, 3, 4])
    gap: Any = Held([0, 1, 3, 4])
    none: Positions = np.empty(0, np.int64)
    with pytest.raises(ValueError, match="beyond the files"):
        pick([file], [Span(0, 5)], none, lambda _: held)
    with pytest.raises(ValueError, match="overlap"):
        pick([file], [Span(0, 3), Span(2, 4)], none, lambda _: held)
    with pytest.raises(ValueError, match="before the grid"):
        pick([file], [Span(0, 4)], np.array([1]), lambda _: held)
    late: Any = Held([6, 7, 8])
    both = [file, replace(file, span=Span(6, 8))]
    with pytest.raises(ValueError, match="no file holds"):
        pick(both, [Span(0, 7)], none, lambda f: late if f.span.lo else held)
    with pytest.raises(BrokerError, match="buckets are missing") as raised:
        pick([file], [Span(0, 2)], none, lambda _: gap)
    assert raised.value.metadata["segment"] == "x"


KINDS = [DataType.STRING, DataType.BOOL, DataType.INT64, DataType.DOUBLE, DataType.DECIMAL]
OPERATORS = [Operator.EQ, Operator.NE, Operator.IN, Operator.NOT_IN, Operator.IS_NULL, Operator.IS_NOT_NULL]
ORDERED = [Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN]
TEXT = [Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH]
HOLDS: dict[DataType, list[Any]] = {
    DataType.STRING: [None, "", "a", "é", "zz", "B", "a.c"],
    DataType.BOOL: [None, True, False],
    DataType.INT64: [None, -5, 0, 7, 2**63 - 1],
    DataType.DOUBLE: [None, -1.25, 0.0, float("inf"), float("nan")],
    DataType.DECIMAL: [None, Decimal("-2.25"), Decimal("0.00"), Decimal("1.50")],
}
COUNTS = {
    Operator.IS_NULL: 0,
    Operator.IS_NOT_NULL: 0,
    Operator.BETWEEN: 2,
    Operator.IN: 3,
    Operator.NOT_IN: 2,
}


@pytest.mark.parametrize("few", [0, 512])
@settings(max_examples=150, deadline=None)
@given(chance=st.integers(0, 2**32).map(Random), kind=st.sampled_from(KINDS), negated=st.booleans())
def test_a_filter_means_what_sql_means(few: int, chance: Random, kind: DataType, negated: bool) -> None:
    operators = [
        *OPERATORS,
        *(ORDERED if kind is not DataType.BOOL else []),
        *(TEXT if kind is DataType.STRING else []),
    ]
    operator = chance.choice(operators)
    values = [VALUES[kind](chance) for _ in range(COUNTS.get(operator, 1))]
    if operator is Operator.BETWEEN:
        values.sort(key=rank)
    node = Condition("d", operator, tuple(values))
    asked = Not(node) if negated else node
    lexicon = Lexicon()
    lexicon.numbered(pl.Series("d", HOLDS[kind], frames.dtype(kind, 2)))
    dimension = Dimension("d", "d", kind, (), scale=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_filter, "_FEW", few)
        test = segment_filter.compiled(asked, {"d": dimension}, {"d": lexicon})
    codes = np.array([chance.randrange(len(lexicon)) for _ in range(20)], np.int32)
    found = segment_filter.passing(test, {"d": codes}, len(codes)).tolist()
    held = [{"d": HOLDS[kind][code]} for code in codes]
    assert found == [i for i, record in enumerate(held) if reference.truth(asked, record) is True]


RNG = np.random.default_rng(7)
LEAVES = tuple(
    Leaf(measure, states(measure))
    for measure in (
        Measure("n", MeasureKind.COUNT),
        Measure("whole", MeasureKind.SUM, "x", DataType.INT64),
        Measure("real", MeasureKind.AVG, "x", DataType.DOUBLE),
        Measure("most", MeasureKind.MAX, "x", DataType.INT64),
    )
)
PLACE = Dimension("place", "place", DataType.STRING, ())
STATES = ["n.n", "whole.s", "real.n", "real.s", "most.v"]


def day(
    directory: Path,
    rows: Sequence[tuple[object, ...]],
    grains: tuple[Grain, ...] = (Grain.FIFTEEN_MINUTES, Grain.DAY),
) -> list[LocalFile]:
    """A day's files from rows of (bucket, place, states)."""
    grid = build(AbsoluteRange(START, START + timedelta(days=1)), Grain.FIFTEEN_MINUTES, "UTC")
    columns = (
        Column(BUCKET, DataType.INT64),
        Column(key_name(0), DataType.STRING),
        *(Column(name, DataType.DOUBLE if name == "real.s" else DataType.INT64) for name in STATES),
    )
    wanted = SegmentBuild(DAY_SPAN, grid, (PLACE,), LEAVES, grains)
    made = segment_write.build(ScanResult((Rows(columns, tuple(rows)),)), wanted)
    found = []
    for file, data in zip(made.files, made.data, strict=True):
        path = directory / f"{file.sha256[:8]}.{file.grain}.arrow"
        path.write_bytes(data)
        found.append(LocalFile(str(path), file.grain, "UTC", DAY_SPAN, file.sha256))
    return found


def block(
    files: Sequence[LocalFile], keys: tuple[str, ...] = ("place",), *, hourly: bool = False
) -> SegmentBlock:
    grid = build(AbsoluteRange(START, START + timedelta(days=1)), Grain.HOUR, "UTC")
    starts = [micros(start) for start in grid.starts] if hourly else []
    packed = struct.pack(f"<{len(starts)}q", *starts)
    return SegmentBlock(tuple(files), (DAY_SPAN,), (PLACE,), keys, LEAVES, (), packed)


def rows_of(count: int, places: int) -> list[tuple[object, ...]]:
    chosen = RNG.choice(96 * places, count, replace=False)
    numbers = RNG.integers(-1000, 1000, (count, 3)).tolist()
    return [
        (int(key) % 96, f"p{int(key) // 96}" if int(key) // 96 else None, abs(n), *values(n, whole, most))
        for key, (n, whole, most) in zip(chosen, numbers, strict=True)
    ]


def values(n: int, whole: int, most: int) -> tuple[object, ...]:
    """The states of one row; half of them are of values that are all null."""
    return (None, 0, None, None) if n % 2 else (whole, abs(n), whole / 7, most)


@pytest.mark.parametrize("keys", [(), ("place",)])
@pytest.mark.parametrize("hourly", [False, True])
@pytest.mark.parametrize("portion", [1, 50, 1 << 17])
@pytest.mark.parametrize("dense", [True, False])
def test_rows_are_grouped_alike_in_any_portions_and_either_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: tuple[str, ...],
    hourly: bool,
    portion: int,
    dense: bool,
) -> None:
    rows = rows_of(600, 9)
    files = day(tmp_path, rows)[:1]
    monkeypatch.setattr(segments, "_PORTION", portion)
    if not dense:
        monkeypatch.setattr(segments, "_ROOM", -1_000_000)
    found = segments.read(block(files, keys, hourly=hourly))
    expected: dict[object, list[Any]] = {}
    for bucket, place, *numbers in rows:
        assert isinstance(bucket, int)
        key = (*([bucket // 4] if hourly else []), *([place] if keys else []))
        expected.setdefault(key, []).append(numbers)
    assert found.height == len(expected)
    for *values, n, whole, count, real, most in found.rows():
        held = expected[tuple(values)]
        known = [one for one in held if one[1] is not None]
        assert (n, count) == tuple(sum(one[i] for one in held) for i in (0, 2))
        assert (whole, most) == (
            (sum(one[1] for one in known), max(one[4] for one in known)) if known else (None, None)
        )
        assert real == (pytest.approx(sum(one[3] for one in known), rel=1e-12, abs=1e-12) if known else None)


def test_integers_past_doubles_stay_exact_and_never_wrap(tmp_path: Path) -> None:
    large = 2**61 + 1
    rows = [(i, "a", 1, large, 1, 0.5, i) for i in range(3)]
    found = segments.read(block(day(tmp_path, rows)[:1], ()))
    assert found.get_column("whole.s").to_list() == [3 * large]
    rows = [(i, "a", 1, large, 1, 0.5, i) for i in range(4)]
    with pytest.raises(BrokerError, match="leaves the range"):
        segments.read(block(day(tmp_path, rows)[:1], ()))


def test_nothing_is_one_row_without_keys_and_none_with_them(tmp_path: Path) -> None:
    files = day(tmp_path, [])
    assert segments.read(block(files, ())).rows() == [(0, None, 0, None, None)]
    assert segments.read(block(files)).rows() == []
    assert segments.read(replace(block(files, ()), spans=())).height == 1
    assert segments.read(replace(block([]), spans=())).height == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(flipped(path.read_bytes())),
    ],
)
@pytest.mark.parametrize("seen", [True, False])
def test_a_file_that_is_not_right_is_an_error_and_never_an_answer(
    tmp_path: Path, damage: Any, seen: bool
) -> None:
    files = day(tmp_path, rows_of(600, 9))
    if seen:
        segments.read(block(files))
    path = Path(files[1].path)
    before = path.read_bytes()
    damage(path)
    if path.exists():
        os.utime(path, ns=(1, 1))  # another version, however coarse the clock of the file system
    with pytest.raises(BrokerError) as raised:
        segments.read(block(files))
    assert raised.value.reason is ErrorReason.STORE_REJECTED
    assert raised.value.metadata["segment"] == str(path)
    path.write_bytes(before)
    assert segments.read(block(files)).height == 9


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    files = [replace(file, sha256="") for file in day(tmp_path, rows_of(10, 2))]
    other = Dimension("other", "other", DataType.STRING, ())
    with pytest.raises(BrokerError, match="is not other"):
        segments.read(replace(block(files), stored=(other,), keys=("other",)))
    for kind, problem in ((DataType.DOUBLE, "holds Int64"), (DataType.INT64, "no column new")):
        measure = Measure("whole" if problem.startswith("holds") else "new", MeasureKind.SUM, "x", kind)
        with pytest.raises(BrokerError, match=problem):
            segments.read(replace(block(files), leaves=(Leaf(measure, states(measure)),)))


def test_a_mapped_file_gives_what_a_small_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = day(tmp_path, rows_of(600, 9))
    small = segments.read(block(files, hourly=True))
    copies = [replace(file, path=f"{file.path}.copy") for file in files]
    for file, copy in zip(files, copies, strict=True):
        Path(copy.path).write_bytes(Path(file.path).read_bytes())
    monkeypatch.setattr(segment_shelf, "_MAPPED_BYTES", 0)
    assert segments.read(block(copies, hourly=True)).equals(small)


def test_the_shelf_stays_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_shelf, "_MAX_FILES", 2)
    monkeypatch.setattr(segment_shelf, "_MAX_WORDS", 30)
    shelf = segment_shelf.Shelf()
    for count in range(1, 30):
        (file, *_) = day(tmp_path, rows_of(5, 9), (Grain.FIFTEEN_MINUTES,))
        shelf.trim()
        held = shelf.open(file)
        held.codes(0, "place", shelf.lexicon(str(count // 3), "place"))
        assert shelf.open(file) is held
        assert len(shelf) <= 3
