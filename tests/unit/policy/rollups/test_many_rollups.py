"""Of more rollups than can be combined, those that beside the tables alone cost least take part."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from broker.domain.plan import Scan
from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Segment, SegmentFile, Storage
from tests.support.rollup_scans import ROLLUP, day, scan, segment, span
from tests.unit.policy.rollups.test_cover import find, parts

Kept = tuple[Segment, ...]


def kept(*rows: tuple[datetime, datetime, int], daily: int | None = None) -> Kept:
    """Segments with so many rows, and in days so many."""
    files = () if daily is None else (SegmentFile(Grain.DAY, daily, 0, ""),)
    return tuple(
        replace(segment(i, first, last), row_count=count, files=files)
        for i, (first, last, count) in enumerate(rows)
    )


@pytest.mark.parametrize(
    ("others", "best", "asked"),
    [
        (kept((day(1), day(20), 200_000_000)), kept((day(1), day(20), 100_000_000)), scan()),
        (kept((day(1), day(2), 1)), kept((day(1), day(20), 100_000_000)), scan()),
        (
            kept((day(1), day(20), 10_000_000)),
            kept((day(1), day(20), 900_000_000), daily=10),
            scan(grain=Grain.DAY),
        ),
        (
            kept((day(1), day(10), 160_000_000), (day(10), day(20), 1)),
            kept((day(1), day(20), 300_000_000)),
            scan(bounds=(day(1), day(10))),
        ),
        (
            kept((day(1), day(10), 1), (day(10), day(20), 100_000_000)),
            kept((day(1), day(10), 900_000_000), (day(10), day(20), 10_000_000)),
            scan(bounds=(day(10), day(20))),
        ),
    ],
    ids=["rows", "what is left to the tables", "a coarser grain", "part of a segment", "other segments"],
)
def test_of_many_rollups_the_cheapest_is_among_those_that_take_part(
    others: Kept, best: Kept, asked: Scan
) -> None:
    rollups = [replace(ROLLUP, name=name) for name in "abcdefz"]
    coverage = [Coverage(each.name, best if each.name == "z" else others, ()) for each in rollups]
    found = find(coverage, asked, rollups=rollups)
    assert "z" in parts(found)
    assert parts(find(coverage[::-1], asked, rollups=rollups[::-1])) == parts(found)


def test_of_many_rollups_storage_counts_too() -> None:
    rollups = [
        *(replace(ROLLUP, name=name, storage=Storage.TABLE) for name in "abcdef"),
        replace(ROLLUP, name="z"),
    ]
    others, best = kept((day(1), day(20), 10_000_000)), kept((day(1), day(20), 100_000_000))
    coverage = [Coverage(each.name, best if each.name == "z" else others, ()) for each in rollups]
    assert list(parts(find(coverage, scan(), rollups=rollups))) == ["z"]


@pytest.mark.parametrize(("names", "combined"), [("abcdez", True), ("abcdefz", False)])
def test_at_most_six_rollups_are_combined(names: str, combined: bool) -> None:
    rollups = [replace(ROLLUP, name=name) for name in names]
    first, rest = kept((day(1), day(2), 1)), kept((day(2), day(20), 1))
    coverage = [Coverage(name, first if name == "z" else rest, ()) for name in names]
    found = parts(find(coverage, scan(), rollups=rollups))
    assert found == {"z" if combined else "": (span(day(1), day(2)),), "a": (span(day(2), day(20)),)}
