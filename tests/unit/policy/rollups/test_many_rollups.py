"""Several rollups: which of them take part, and what they are told when they are not enough."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from broker.domain.plan import Scan
from broker.domain.query import Grain
from broker.domain.rollup import ALWAYS, Coverage, Rule, Segment, SegmentFile, Span, Storage, micros
from broker.policy.rollups.costs import Costs
from tests.support.rollup_scans import ROLLUP, covered, day, scan, segment, span
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


def test_where_an_exact_and_a_late_rollup_cost_the_same_the_exact_one_is_read() -> None:
    rollups = [replace(ROLLUP, name=name) for name in "az"]
    late = Coverage("a", kept((day(5), day(10), 9), (day(10), day(20), 9)), (), lateness=1.0)
    exact = Coverage("z", kept((day(1), day(5), 9), (day(5), day(10), 9)), ())
    found = parts(find((late, exact), rollups=rollups))
    assert found == {"z": (span(day(1), day(10)),), "a": (span(day(10), day(20)),)}


def test_what_lies_outside_of_the_extent_costs_nothing() -> None:
    found = find((), costs=Costs.predicted(10.0, span(day(5), day(7))), rollups=(ROLLUP,))
    assert found.cost == pytest.approx(10.0, rel=1e-4)


HALVES = Span(ALWAYS.lo, micros(day(9))), Span(micros(day(9)), ALWAYS.hi)


@pytest.mark.parametrize(
    ("held", "dirty", "rule"),
    [
        (ALWAYS, True, Rule.COVER),
        (HALVES[0], False, Rule.NULL),
        (HALVES[1], False, Rule.NULL),
        (span(day(1), day(20)), False, Rule.NULL),
    ],
)
def test_rows_without_a_time_are_missed_where_nothing_holds_all_time(
    held: Span, dirty: bool, rule: Rule
) -> None:
    """A hole in what holds all time is another reason."""
    hole = (span(day(5), day(6)),) if dirty else ()
    coverage = covered(replace(segment(1, day(1), day(2)), span=held), dirty=hole)
    (found,) = find(coverage, scan(time="", bounds=None), live=False).rejected
    assert found.rules == (rule,)
