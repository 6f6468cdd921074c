"""Costs of intervals with their tie-breakers, what is left of segments beside changes, the choice at equal costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from broker.domain.query import Grain
from broker.domain.rollup import Segment, Span
from broker.policy.rollups.boundaries import Boundaries
from broker.policy.rollups.cheapest import LIVE, NEVER, Problem, cheapest
from broker.policy.rollups.intervals import (
    MAX_HOLES,
    Held,
    Runs,
    holes_of,
    integer,
    joined_spans,
    late,
    live_costs,
    merged,
    parts_of,
    pieces,
    runs_of,
    seconds,
    shares_of,
    stored_costs,
    summed,
)
from broker.policy.rollups.stored import Places, Stored
from tests.support.rollup_scans import HOUR, ROLLUP, day, span

HOURS = Boundaries(Grain.HOUR, "UTC")


def stored(segments: Sequence[Span]) -> Stored:
    made = tuple(Segment(i, each, 1, day(31), 10 * (i + 1), 0) for i, each in enumerate(segments))
    return Stored(made, Places(tuple(segments)))


def runs(segments: Sequence[Span], inner: Span, blocked: Sequence[Span] = ()) -> Runs | None:
    return runs_of(stored(segments), inner, HOURS, blocked)


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


def test_of_a_part_the_coarsest_grains_that_fit_are_read_and_finer_ones_at_its_ends() -> None:
    """Half a day, a day and then a month; and an hour of the next, with a quarter that only the base has."""
    usable = [(grain, Boundaries(grain, "UTC")) for grain in (Grain.MONTH, Grain.DAY, Grain.HOUR)]
    asked = span(day(30, 12), datetime(2024, 5, 1, 1, 15, tzinfo=UTC))
    found = shares_of(*asked, 1000 * HOUR, usable)
    wanted = ((Grain.MONTH, 30 * 24), (Grain.DAY, 24), (Grain.HOUR, 12), (Grain.HOUR, 1), (None, 0.25))
    assert found == tuple((grain, count / 1000) for grain, count in wanted)


def test_of_a_segment_that_is_no_whole_buckets_only_those_within_are_read() -> None:
    """The second segment is whole hours, and all of it is read, however it is divided."""
    held = Held(ROLLUP, stored([hours(0.5, 2.5), hours(3, 5)]), ((hours(1, 2), 0), (hours(3, 5), 1)))
    cuts = [each * HOUR for each in (1, 2, 3, 5)]
    found = parts_of(held, cuts, {cut: i for i, cut in enumerate(cuts)}, [(Grain.HOUR, HOURS)])
    assert found == {Grain.HOUR: [(0, 0, 0.5), (2, 1, 1.0)], None: []}
    cuts.insert(3, 4 * HOUR)
    found = parts_of(held, cuts, {cut: i for i, cut in enumerate(cuts)}, [(Grain.HOUR, HOURS)])
    assert found == {Grain.HOUR: [(0, 0, 0.5), (2, 1, 0.5), (3, 1, 0.5)], None: []}


def test_what_is_read_of_a_rollup_costs_by_its_rows_and_what_it_lacks_is_never_to_be_had() -> None:
    held = Held(ROLLUP, stored([hours(0, 4), hours(4, 8)]), ())
    costs = stored_costs(held, {Grain.DAY: [(2, 0, 0.1)], None: [(0, 0, 1.0), (2, 1, 0.5)]}, 4, 0.25)
    assert [cost if cost == NEVER else seconds(cost) for cost in costs] == [2.5, NEVER, 2.75, NEVER]


def test_of_equal_costs_the_fresher_source_is_cheaper_and_what_it_lacks_stays_so() -> None:
    cost, weights = integer(1.0), [86_400, 60]
    fresh, old = late([cost, NEVER], weights, 1), late([cost, NEVER], weights, 2)
    assert cost < fresh[0] < old[0] < integer(1.0 + 1e-9)
    assert fresh[1] == old[1] == NEVER


def test_neighbours_are_joined_where_nothing_tells_them_apart() -> None:
    """Not where another source is cheaper, nor where a rollup begins to be there, nor where only it may be entered."""
    live, held = [5, 5, 5, 5, 5, 5], [3, 3, 7, 7, NEVER, NEVER]
    everywhere, cuts = [True] * 7, [0, 1, 2, 3, 4, 5, 6]
    assert merged([held], live, [everywhere], cuts) == ([0, 2, 4], [0, 2, 4, 6])
    assert summed(held, [0, 2, 4]) == [6, 14, NEVER]
    assert summed([1, NEVER], [0]) == [NEVER]
    only_there = [True, False, False, True, False, False, True]
    assert merged([held], live, [only_there], cuts) == ([0, 2, 3, 4], [0, 2, 3, 4, 6])


def test_neighbours_of_one_source_are_one_span() -> None:
    found = pieces(["a", "a", "", "a", ""], [0, 1, 2, 4, 7, 9])
    assert [(piece.rollup, piece.spans) for piece in found] == [
        ("a", (Span(0, 2), Span(4, 7))),
        ("", (Span(2, 4), Span(7, 9))),
    ]
