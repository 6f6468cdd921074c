"""What is remembered of segments: where they are, their rows, and for how long it is kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from broker.domain.query import Grain
from broker.domain.rollup import Coverage, SegmentFile, Span
from broker.policy.rollups.boundaries import Boundaries
from broker.policy.rollups.stored import Memory, Places, Stored
from broker.policy.rollups.ways import Ways
from tests.support.rollup_scans import HOUR, ROLLUP, day, scan, segment

ONE, TWO = segment(1, day(1), day(2), 100), segment(2, day(2), day(3), 300)
MOST_PLACES = 1024


@pytest.mark.parametrize("ends", [(2, 6, 6, 8, 11, 12), (3, 9), ()])
def test_the_share_of_segments_is_counted_out(ends: tuple[int, ...]) -> None:
    spans = tuple(Span(lo, hi) for lo, hi in zip(ends[::2], ends[1::2], strict=True))
    places = Places(spans)
    for lo, hi in combinations(range(15), 2):
        touched = [i for i, each in enumerate(spans) if each.lo < hi and lo < each.hi]
        first, last, part, held = places.share(Span(lo, hi))
        assert list(range(first, last)) == touched
        width = sum(spans[i].hi - spans[i].lo for i in touched)
        inside = sum(1 for at in range(lo, hi) if any(each.lo <= at < each.hi for each in spans))
        assert (part, held) == (inside / width if touched else 0.0, inside)
        if not touched:
            assert (first, last) == (0, 0)


def test_whole_buckets_are_found_once_for_each_grain_and_zone() -> None:
    places = Places((Span(HOUR // 2, 3 * HOUR), Span(3 * HOUR, 30 * HOUR)))
    hours, days = Boundaries(Grain.HOUR, "UTC"), Boundaries(Grain.DAY, "UTC")
    found = places.whole(hours)
    assert found == [Span(HOUR, 3 * HOUR), Span(3 * HOUR, 30 * HOUR)]
    assert places.whole(hours) is found
    assert places.whole(days) == [Span(24 * HOUR, 0), Span(24 * HOUR, 24 * HOUR)]


def test_rows_are_those_of_the_file_of_a_grain_or_else_of_the_base() -> None:
    hourly = replace(TWO, files=(SegmentFile(Grain.HOUR, 40, 0, ""),))
    stored = Stored((ONE, hourly), Places((ONE.span, TWO.span)))
    assert stored.counts(Grain.DAY) == [2, 300]
    assert stored.counts(Grain.HOUR) == [100, 40]
    assert stored.counts(None) == [100, 300]
    assert [*stored.sums(None)] == [0, 100, 400]
    assert [*stored.sums(Grain.DAY)] == [0, 2, 302]
    assert stored.sums(None) is stored.sums(None)
    assert stored.counts(None) is stored.counts(None)


def test_one_sealed_segment_makes_a_rollup_sealed() -> None:
    places = Places((ONE.span, TWO.span))
    assert not Stored((ONE, TWO), places).sealed
    assert Stored((ONE, replace(TWO, sealed=True)), places).sealed


def test_segments_are_known_while_they_are_the_same_tuple() -> None:
    memory, coverage = Memory(), Coverage("r", (ONE, TWO), ())
    known = memory.of(coverage)
    assert memory.of(replace(coverage, dirty=(ONE.span,))) is known
    again = memory.of(replace(coverage, segments=(ONE, replace(TWO, row_count=7))))
    assert again is not known
    assert again.counts(None) == [100, 7]
    assert memory.of(Coverage("s", (ONE,), ())).places is not known.places
    assert again.places is known.places is memory.of(Coverage("t", (ONE, TWO), ())).places
    assert memory.of(coverage) is not known


def test_all_that_have_segments_are_known() -> None:
    memory = Memory()
    none, some, more = (
        Coverage("none", (), ()),
        Coverage("some", (ONE,), ()),
        Coverage("more", (ONE, TWO), ()),
    )
    first = memory.of_all({each.rollup: each for each in (none, some, more)})
    assert {name: each.segments for name, each in first.items()} == {"some": (ONE,), "more": (ONE, TWO)}
    changed = replace(some, segments=(TWO,))
    second = memory.of_all({each.rollup: each for each in (changed, none, more)})
    assert second["more"] is first["more"]
    assert second["some"].segments == (TWO,)
    assert memory.of_all({"some": replace(some, segments=())}) == {}


def test_the_oldest_are_forgotten() -> None:
    memory, rollups = Memory(size=2), [Coverage(name, (ONE,), ()) for name in "abc"]
    first, second, third = [memory.of(each) for each in rollups]
    assert (memory.of(rollups[1]), memory.of(rollups[2])) == (second, third)
    assert memory.of(rollups[0]) is not first
    for i in range(2 * MOST_PLACES + 1):
        memory.of(Coverage("a", (replace(ONE, span=Span(0, i + 1)),), ()))
        assert len(memory._places) <= MOST_PLACES
    assert memory.of(rollups[2]).places is third.places
    known = memory.boundaries(Grain.DAY, "UTC")
    assert memory.boundaries(Grain.DAY, "UTC") is known
    assert memory.boundaries(Grain.DAY, "Europe/Berlin") is not known


def test_runs_of_sealed_segments_are_not_those_of_another_rollup() -> None:
    """What changed concerns no segment that is sealed, and which ones are differs between rollups in one place."""
    memory, edges = Memory(), Boundaries(Grain.DAY, "UTC")
    ways, inner = Ways(scan(ROLLUP), (), memory), Span(ONE.span.lo, TWO.span.hi)
    first, second = replace(ONE, sealed=True), replace(TWO, sealed=True)
    found = [
        ways.runs(memory.of(coverage), coverage, inner, edges)
        for coverage in (
            Coverage("r", segments, (ONE.span, TWO.span))
            for segments in ((first, TWO), (ONE, second), (ONE, TWO))
        )
    ]
    assert found == [((ONE.span, 0),), ((TWO.span, 1),), ()]
