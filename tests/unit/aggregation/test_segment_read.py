"""Reading segments: how rows are grouped, what sums may do, and files that are not right."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from broker.aggregation import segment_shelf, segment_write, segments
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.measures import states
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.plan import BUCKET, Leaf, LocalFile, Rows, ScanResult, SegmentBlock, key_name
from broker.domain.query import AbsoluteRange, Condition, Filter, Grain, Operator
from broker.domain.rollup import Span, micros
from broker.domain.segment import SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType
from tests.unit.aggregation.facts import START

HOUR = 3_600_000_000
DAY_SPAN = Span(micros(START), micros(START) + 24 * HOUR)


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


@pytest.mark.parametrize("portion", [1, 50, 1 << 17])
@pytest.mark.parametrize("long", [0, 1 << 40])
@pytest.mark.parametrize("filter", [None, Condition("place", Operator.IN, ("p2", "p5"))])
def test_slices_are_merged_alike_where_they_lie_and_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int, long: int, filter: Filter | None
) -> None:
    asked = replace(block(day(tmp_path, rows_of(600, 9))[:1], (), hourly=True), filter=filter)
    whole = segments.read(asked)
    monkeypatch.setattr(segments, "_PORTION", portion)
    monkeypatch.setattr(segments, "_LONG", long)
    hours = [DAY_SPAN.lo + i * HOUR for i in range(0, 24, 3)]
    found = segments.read(replace(asked, spans=tuple(Span(hour, hour + 2 * HOUR) for hour in hours)))
    expected = whole.filter(pl.col(BUCKET) % 3 < 2)
    assert expected.height > 10
    assert_frame_equal(found, expected, rel_tol=1e-12)


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
