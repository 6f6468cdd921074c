"""Costs of intervals with their tie-breakers, what is left of segments beside changes, the choice at equal costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.domain.query import Grain
from broker.domain.rollup import Segment, Span
from broker.policy.rollups.boundaries import Boundaries
from broker.policy.rollups.cheapest import LIVE, Problem, cheapest
from broker.policy.rollups.intervals import (
    MAX_HOLES,
    Runs,
    holes_of,
    integer,
    joined_spans,
    live_costs,
    runs_of,
    seconds,
)
from broker.policy.rollups.stored import Places, Stored
from tests.support.rollup_scans import HOUR, day

HOURS = Boundaries(Grain.HOUR, "UTC")


def runs(segments: Sequence[Span], inner: Span, blocked: Sequence[Span] = ()) -> Runs | None:
    made = tuple(Segment(i, each, 1, day(31), 10, 0) for i, each in enumerate(segments))
    return runs_of(Stored(made, Places(tuple(segments))), inner, HOURS, blocked)


def hours(lo: float, hi: float) -> Span:
    return Span(round(lo * HOUR), round(hi * HOUR))


def test_costs_are_seconds_and_of_equal_ones_fewer_spans_are_cheaper() -> None:
    assert seconds(integer(1.5)) == 1.5
    assert integer(0.5) + integer(0.25) > integer(0.75)
    assert integer(0.5) + integer(0.25) < integer(0.75 + 1e-9)


def test_reading_live_costs_by_the_width_within_the_extent() -> None:
    costs = live_costs([-5_000_000, 1_000_000, 2_000_000, 9_000_000], Span(0, 4_000_000), 0.5e-6)
    assert [seconds(cost) for cost in costs] == [0.5, 0.5, 1.0]


def test_spans_that_meet_are_one() -> None:
    assert joined_spans([Span(5, 9), Span(0, 1), Span(1, 2), Span(6, 7)]) == [Span(0, 2), Span(5, 9)]


@pytest.mark.parametrize("more", [0, 1, 5])
def test_of_many_holes_the_nearest_are_taken_as_one(more: int) -> None:
    """Holes of an hour, two hours between them; but before the last ``more`` of them there is only one."""
    dirty, at = [], 0
    for number in range(MAX_HOLES + more):
        at += 3 if number < MAX_HOLES else 2
        dirty.append(hours(at + 0.25, at + 0.5))
    found = holes_of(dirty, hours(0, 500), HOURS)
    first = 3 * MAX_HOLES
    wanted = [hours(3 * number, 3 * number + 1) for number in range(1, MAX_HOLES)]
    assert found == [*wanted, hours(first, first + 1 + 2 * more)]


@pytest.mark.parametrize(
    ("blocked", "left"),
    [
        ([hours(0, 1)], [(1, 9)]),
        ([hours(0, 1), hours(9, 10)], [(1, 9)]),
        ([hours(0, 2), hours(4, 5), hours(8, 10)], [(2, 4), (5, 8)]),
        ([hours(1, 9)], []),
    ],
)
def test_what_is_left_of_a_segment_has_no_changes_and_is_not_empty(
    blocked: list[Span], left: list[tuple[int, int]]
) -> None:
    """The segment begins and ends within buckets that belong to others as well."""
    found = runs([hours(0.5, 9.5)], hours(0, 10), blocked)
    assert found == tuple((hours(lo, hi), 0) for lo, hi in left)


def test_a_segment_without_a_whole_bucket_gives_nothing() -> None:
    assert runs([hours(0.5, 1.5)], hours(0, 9)) is None
    assert runs([hours(0.5, 1.5), hours(1.5, 4)], hours(0, 9)) == ((hours(2, 4), 1),)


def test_at_equal_costs_nothing_is_read_live() -> None:
    """To begin with the tables costs one more than to come back to them, which makes both ways the same."""
    equal = Problem([[5]], [5], [[True, True]], enter=[1], again=1, live_first=1, live_again=0)
    assert cheapest(equal, None) == (6, [0])
    cheaper = Problem([[5]], [4], [[True, True]], enter=[1], again=1, live_first=1, live_again=0)
    assert cheapest(cheaper, None) == (5, [LIVE])
