"""What a cover takes from rollups and from the tables, and why it passes rollups over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import permutations
from math import inf
from typing import Any

import pytest

from broker.domain.plan import Scan
from broker.domain.query import Grain, Operator
from broker.domain.rollup import (
    ALWAYS,
    Cover,
    Coverage,
    Piece,
    Rejection,
    Rollup,
    Rule,
    Segment,
    Span,
    Storage,
    micros,
)
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.cover import cover
from tests.support.rollup_scans import HOUR, ROLLUP, covered, day, is_, scan, segment, span

WHOLE = span(day(1), day(20))
FULL = covered(segment(1, day(1), day(10)), segment(2, day(10), day(20)))
SLOW = Costs.predicted(10.0)
BASE_ONLY = replace(ROLLUP, grains=(Grain.FIFTEEN_MINUTES,))


def find(
    coverage: Coverage | Sequence[Coverage],
    asked: Scan | None = None,
    costs: Costs = SLOW,
    rollups: Sequence[Rollup] = (ROLLUP,),
    **terms: Any,
) -> Cover:
    given = [coverage] if isinstance(coverage, Coverage) else coverage
    found = asked if asked is not None else scan(*rollups)
    return cover(found, rollups, {each.rollup: each for each in given}, costs, **terms)


def parts(found: Cover) -> dict[str, tuple[Span, ...]]:
    return {piece.rollup: piece.spans for piece in found.pieces}


def reasons(found: Cover) -> dict[str, tuple[Rule, ...]]:
    return {each.rollup: each.rules for each in found.rejected}


def test_what_is_covered_comes_from_the_rollup_alone() -> None:
    found = find(FULL)
    assert found.pieces == (Piece("r", (WHOLE,)),)
    assert found.live == ()
    assert not found.rejected
    assert 0 < found.cost < 0.01


def test_unaligned_ends_are_read_live() -> None:
    found = find(FULL, scan(ROLLUP, bounds=(day(2, 0, 7), day(9, 5, 1))))
    assert parts(found) == {
        "": (span(day(2, 0, 7), day(2, 0, 15)), span(day(9, 5), day(9, 5, 1))),
        "r": (span(day(2, 0, 15), day(9, 5)),),
    }


def test_an_end_comes_from_a_finer_rollup_rather_than_live() -> None:
    daily = replace(ROLLUP, name="daily", grains=(Grain.DAY,))
    cheap = replace(
        FULL, rollup="daily", segments=tuple(replace(s, row_count=10, files=()) for s in FULL.segments)
    )
    dear = replace(FULL, segments=tuple(replace(s, row_count=9_000_000, files=()) for s in FULL.segments))
    asked = scan(bounds=(day(2, 6), day(9)))
    found = find((cheap, dear), asked, rollups=(daily, BASE_ONLY))
    assert parts(found) == {"r": (span(day(2, 6), day(3)),), "daily": (span(day(3), day(9)),)}


def test_changed_buckets_and_holes_are_read_live() -> None:
    dirty = (Span(WHOLE.lo + HOUR + 1, WHOLE.lo + HOUR + 2), span(day(5), day(5, 1)))
    found = find(covered(segment(1, day(1), day(10)), segment(2, day(12), day(20)), dirty=dirty))
    first = Span(WHOLE.lo + HOUR, WHOLE.lo + HOUR + HOUR // 4)
    assert parts(found)[""] == (first, dirty[1], span(day(10), day(12)))


def test_a_range_without_bounds_reads_its_ends_live() -> None:
    found = find(FULL, scan(time="", bounds=None))
    assert parts(found) == {"": (Span(ALWAYS.lo, WHOLE.lo), Span(WHOLE.hi, ALWAYS.hi)), "r": (WHOLE,)}


def test_conditions_on_the_time_bound_what_is_read() -> None:
    found = find(FULL, scan(time="", bounds=None, where=is_("at", Operator.LT, day(4))))
    assert parts(found) == {"": (Span(ALWAYS.lo, WHOLE.lo),), "r": (span(day(1), day(4)),)}


@pytest.mark.parametrize(
    ("coverage", "rule"),
    [
        (covered(), Rule.COVER),
        (replace(covered(), lateness=60.0), Rule.COVER),
        (replace(covered(), unusable=Rule.DEF), Rule.DEF),
        (covered(segment(1, day(21), day(25))), Rule.COVER),
        (covered(*FULL.segments, dirty=(ALWAYS,)), Rule.LOG),
        (replace(FULL, unusable=Rule.DEF, message="a column is gone"), Rule.DEF),
        (replace(FULL, unusable=Rule.QUARANTINE), Rule.QUARANTINE),
        (replace(FULL, lateness=60.0), Rule.STALE),
        (replace(FULL, lateness=inf), Rule.NOTRIG),
    ],
)
def test_a_rollup_that_cannot_be_used_is_passed_over(coverage: Coverage, rule: Rule) -> None:
    found = find(coverage, lateness_allowed=10.0)
    assert found.pieces == (Piece("", (WHOLE,)),)
    assert reasons(found) == {"r": (rule,)}
    assert found.cost == pytest.approx(SLOW.live_seconds, rel=0.01)
    required = find(coverage, lateness_allowed=10.0, require=True)
    assert required.pieces == ()
    assert reasons(required) == {"r": (rule,)}


def test_lateness_within_what_is_allowed_is_used() -> None:
    for lateness, allowed in ((None, 0.0), (0.0, 0.0), (10.0, 10.0), (inf, None)):
        assert find(replace(FULL, lateness=lateness), lateness_allowed=allowed).rollups


def test_a_rollup_whose_coverage_is_not_known_is_passed_over() -> None:
    assert reasons(find(())) == {"r": (Rule.COVER,)}


def test_a_rollup_with_nothing_but_ends_is_passed_over() -> None:
    daily = replace(ROLLUP, grains=(Grain.DAY,))
    found = find(FULL, scan(daily, bounds=(day(2, 6), day(3, 6))), rollups=(daily,))
    assert reasons(found) == {"r": (Rule.EDGE,)}


def test_the_tables_answer_when_they_are_cheaper_unless_a_rollup_is_required() -> None:
    quick = Costs.predicted(0.0005)
    found = find(FULL, costs=quick)
    assert found.pieces == (Piece("", (WHOLE,)),)
    assert reasons(found) == {"r": (Rule.COST,)}
    assert find(FULL, costs=quick, require=True).pieces == (Piece("r", (WHOLE,)),)


def test_required_rollups_leave_to_the_tables_only_what_they_lack() -> None:
    dirty = tuple(Span(WHOLE.lo + i * 8 * HOUR, WHOLE.lo + i * 8 * HOUR + 1) for i in range(12))
    found = find(replace(FULL, dirty=dirty), costs=Costs.predicted(0.0005), require=True)
    assert parts(found)[""] == tuple(Span(s.lo, s.lo + HOUR // 4) for s in dirty)


def test_without_the_tables_everything_must_be_held() -> None:
    assert find(FULL, live=False).pieces == (Piece("r", (WHOLE,)),)
    hole = find(covered(segment(1, day(1), day(10))), live=False)
    assert (hole.pieces, reasons(hole)) == ((), {"r": (Rule.COVER,)})
    nulls = find(FULL, scan(time="", bounds=None), live=False)
    assert (nulls.pieces, reasons(nulls)) == ((), {"r": (Rule.NULL,)})
    known = scan(time="", bounds=None, where=is_("at", Operator.IS_NOT_NULL))
    assert reasons(find(FULL, known, live=False)) == {"r": (Rule.COVER,)}


def test_sealed_parts_are_never_read_live() -> None:
    sealed = segment(1, day(1), day(10), 50_000_000, sealed=True)
    found = find(covered(sealed, segment(2, day(10), day(20)), dirty=(WHOLE,)), costs=Costs.predicted(0.001))
    assert parts(found) == {"r": (span(day(1), day(10)),), "": (span(day(10), day(20)),)}


def test_edges_in_a_sealed_part_make_a_cover_impossible() -> None:
    sealed = covered(segment(1, day(1), day(10), sealed=True), segment(2, day(10), day(20)))
    found = find(sealed, scan(bounds=(day(2, 0, 7), day(15))))
    assert (found.pieces, reasons(found)) == ((), {"r": (Rule.SEAL,)})
    assert find(sealed, scan(bounds=(day(2), day(15, 0, 7)))).pieces


def test_where_one_rollup_is_sealed_another_that_is_not_is_not_trusted() -> None:
    sealed = replace(covered(segment(1, day(1), day(10), sealed=True)), rollup="old")
    old = replace(ROLLUP, name="old")
    found = find((sealed, covered(segment(2, day(1), day(20), 1))), rollups=(ROLLUP, old))
    assert parts(found) == {"old": (span(day(1), day(10)),), "r": (span(day(10), day(20)),)}


def test_live_spans_are_few() -> None:
    """Two of the segments' middle parts are given up: the smallest ones, between the nearest changes."""
    dirty = tuple(Span(at, at + 1) for at in (WHOLE.lo + hours * HOUR for hours in (1, 2, 50, 52, 100)))
    costs = replace(SLOW, max_live_spans=3)
    found = find(replace(FULL, dirty=dirty), costs=costs)
    quarter = HOUR // 4
    assert parts(found)[""] == (
        Span(dirty[0].lo, dirty[1].lo + quarter),
        Span(dirty[2].lo, dirty[3].lo + quarter),
        Span(dirty[4].lo, dirty[4].lo + quarter),
    )


def test_very_many_changes_are_taken_together() -> None:
    dirty = tuple(Span(WHOLE.lo + i * HOUR, WHOLE.lo + i * HOUR + 1) for i in range(0, 400, 2))
    found = find(replace(FULL, dirty=dirty))
    assert 1 <= len(found.live) <= SLOW.max_live_spans
    assert all(any(s.lo <= d.lo and d.hi <= s.hi for s in found.live) for d in dirty)


def test_coarser_grains_make_a_rollup_cheaper_where_they_fit() -> None:
    by_day = find(FULL, scan(grain=Grain.DAY)).cost
    by_hour = find(FULL, scan(grain=Grain.HOUR)).cost
    elsewhere = find(FULL, scan(grain=Grain.DAY, zone="Europe/Berlin")).cost
    assert by_day < by_hour
    assert by_day < elsewhere


def test_a_table_is_cheaper_for_equality_with_its_first_dimension() -> None:
    table = replace(ROLLUP, name="t", storage=Storage.TABLE)
    big = tuple(replace(s, row_count=1_000_000, files=()) for s in FULL.segments)
    coverage = (replace(FULL, segments=big), replace(FULL, segments=big, rollup="t"))
    some = replace(SLOW, equality=1e-4)
    rollups = (BASE_ONLY, table)
    assert list(parts(find(coverage, costs=some, rollups=rollups))) == ["r"]
    asked = scan(where=is_("city", Operator.EQ, "Rome"))
    assert list(parts(find(coverage, asked, costs=some, rollups=rollups))) == ["t"]


def test_of_equal_costs_the_fresher_one_then_the_first_by_name() -> None:
    names = ("a", "b", "c")
    rollups = [replace(ROLLUP, name=name) for name in names]
    for lateness, expected in (
        ((5.0, None, None), "b"),
        ((None, None, None), "a"),
        ((7.0, 5.0, 6.0), "b"),
        ((0.5, None, 0.0), "b"),
    ):
        coverage = [replace(FULL, rollup=n, lateness=late) for n, late in zip(names, lateness, strict=True)]
        for order in permutations(rollups):
            assert list(parts(find(coverage, rollups=order))) == [expected]


def test_reasons_of_the_caller_come_with_those_found_here() -> None:
    other = Rejection("other", (Rule.KEYS, Rule.ALG))
    dear = replace(ROLLUP, name="dear")
    big: tuple[Segment, ...] = tuple(replace(s, row_count=10**9, files=()) for s in FULL.segments)
    found = find(
        (FULL, replace(FULL, rollup="dear", segments=big)), rollups=(ROLLUP, dear), excluded=(other,)
    )
    assert found.rejected == (Rejection("dear", (Rule.COST,)), other)


def test_without_bounds_rows_are_taken_to_lie_where_segments_are() -> None:
    """Of nineteen days the tables are read for nine, in two parts."""
    other = replace(ROLLUP, name="s")
    own = covered(segment(1, day(1), day(3)), segment(2, day(3), day(5)), segment(3, day(9), day(10)))
    others = covered(segment(4, day(15), day(18)), segment(5, day(18), day(20)), rollup="s")
    found = find((own, others), scan(time="", bounds=None), rollups=(ROLLUP, other))
    assert parts(found) == {
        "r": (span(day(1), day(5)), span(day(9), day(10))),
        "s": (span(day(15), day(20)),),
        "": (
            Span(ALWAYS.lo, WHOLE.lo),
            span(day(5), day(9)),
            span(day(10), day(15)),
            Span(WHOLE.hi, ALWAYS.hi),
        ),
    }
    assert found.cost == pytest.approx(SLOW.live_seconds * 9 / 19, rel=0.01)


def test_a_segment_that_is_dearer_than_the_tables_is_read_live() -> None:
    for large in (0, 1):
        segments = [replace(each, row_count=1, files=()) for each in FULL.segments]
        segments[large] = replace(segments[large], row_count=800_000_000)
        found = find(replace(FULL, segments=tuple(segments)))
        assert parts(found) == {"": (segments[large].span,), "r": (segments[1 - large].span,)}


def test_what_there_is_no_cover_for_costs_nothing() -> None:
    hole, nothing = covered(segment(1, day(1), day(10))), Cover((), 0.0, ())
    assert replace(find(hole, live=False), rejected=()) == nothing
    assert replace(find((), require=True), rejected=()) == nothing


@pytest.mark.parametrize("first", [day(20), day(25)])
@pytest.mark.parametrize("terms", [{"live": False}, {"require": True}, {"sealed": (WHOLE,)}])
def test_of_an_empty_range_there_is_no_cover_but_by_the_tables(first: datetime, terms: Any) -> None:
    empty = scan(where=is_("at", Operator.GE, first))
    found = find(FULL, empty, **terms)
    assert reasons(found) == {"r": (Rule.EDGE,)}
    assert found.pieces == ((Piece("", (Span(micros(first), WHOLE.hi),)),) if "sealed" in terms else ())
    assert find(FULL, empty).live == (Span(micros(first), WHOLE.hi),)


def test_a_range_that_is_empty_is_left_to_the_tables() -> None:
    where = is_("at", Operator.GE, day(25))
    assert not find(FULL, scan(where=where)).rollups
