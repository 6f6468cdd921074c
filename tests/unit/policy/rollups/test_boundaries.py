"""Where buckets begin, against the enumeration of a grid; and what fits into what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import ALWAYS, EPOCH, FAR_FUTURE, FAR_PAST, Rule, Span, micros
from broker.domain.timegrid import build
from broker.policy.rollups.boundaries import Boundaries, aligned, beginning, ending, limited, misalignment
from broker.policy.rollups.snap import snapped
from tests.support.rollup_scans import HOUR, ROLLUP, day, scan

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
instants = st.datetimes(datetime(2005, 1, 1), datetime(2025, 1, 1)).map(  # noqa: DTZ001 - made aware here
    lambda d: d.replace(tzinfo=UTC)
)
coarse = st.sampled_from([grain for grain in Grain if grain.calendar])


@settings(max_examples=100, deadline=None)
@given(instants, st.sampled_from(list(Grain)), st.sampled_from(ZONES))
def test_floor_and_ceiling_are_neighbours_in_the_grid(at: datetime, grain: Grain, zone: str) -> None:
    zone = zone if grain.calendar else "UTC"
    grid = build(AbsoluteRange(at, at + timedelta(microseconds=1)), grain, zone)
    edges, moment = Boundaries(grain, zone), micros(at)
    first, after = micros(grid.starts[0]), micros(grid.end)
    assert edges.floor(moment) == first
    assert edges.ceil(moment) == (moment if moment == first else after)
    assert edges.floor(first) == edges.ceil(first) == first
    assert edges.outer(Span(moment, moment + 1)) == (first, after)


@pytest.mark.parametrize("grain", Grain)
@pytest.mark.parametrize(
    "zone", [*ZONES, "Asia/Manila", "Pacific/Kwajalein", "Pacific/Enderbury", "America/Juneau"]
)
def test_no_bucket_is_shorter_than_the_least_width(grain: Grain, zone: str) -> None:
    """In four of the zones a day was left out, or came twice."""
    zone = zone if grain.calendar else "UTC"
    edges = Boundaries(grain, zone)
    for year in (1844, 1867, 1916, 1993, 1995, 2011, 2023):
        start = datetime(year, 1, 1, tzinfo=UTC)
        days = 380 if grain.calendar else 3
        starts = build(AbsoluteRange(start, start + timedelta(days=days)), grain, zone).starts
        assert all(micros(after) - micros(at) >= edges.least for at, after in pairwise(starts))


def test_where_the_clock_goes_back_over_midnight_the_next_day_has_begun() -> None:
    """St. John's went from a minute past midnight to a minute past eleven, so there midnight is half past two."""
    midnight, after = (
        micros(datetime(2010, 11, day, hour, 30, tzinfo=UTC)) for day, hour in ((7, 2), (8, 3))
    )
    edges = Boundaries(Grain.DAY, "America/St_Johns")
    for minutes in (1, 10, 59, 60, 61, 90):
        assert edges.outer(Span(midnight, midnight + minutes * HOUR // 60)) == (midnight, after)
        assert edges.floor(midnight + minutes * HOUR // 60) == midnight
    assert edges.ceil(midnight - 1) == edges.ceil(midnight) == midnight


@pytest.mark.parametrize("grain", Grain)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_outside_of_the_years_2_to_9997_every_instant_is_a_boundary(grain: Grain, zone: str) -> None:
    zone = zone if grain.calendar else "UTC"
    first, last = (micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (2, 9998))
    edges = Boundaries(grain, zone)
    for at in (first - 1, last, last + 1):
        assert edges.floor(at) == edges.ceil(at) == at
    for at in (first, first + 1, last - 1):
        moment = EPOCH + timedelta(microseconds=at)
        grid = build(AbsoluteRange(moment, moment + timedelta(microseconds=1)), grain, zone)
        assert edges.floor(at) == micros(grid.starts[0])
        assert edges.ceil(at) == (at if edges.floor(at) == at else micros(grid.end))
    places = [at + by for at in (first, last) for by in (-1, 0, 1)]
    assert edges.begin(places) == [edges.floor(at) == at for at in places]
    for lo, hi in combinations(places, 2):
        assert edges.inner(Span(lo, hi)) == (edges.ceil(lo), edges.floor(hi))


def test_the_first_and_the_last_boundary_stand_for_no_bound() -> None:
    first, last = (micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (2, 9998))
    for lo, hi in product((first - 1, first, first + 1), (last - 1, last, last + 1)):
        assert beginning(lo, 7) == (lo if lo > first else 7)
        assert ending(hi, 7) == (hi if hi < last else 7)
        assert limited(Span(lo, hi)) is (lo == first + 1 and hi == last - 1)


@settings(max_examples=100, deadline=None)
@given(
    instants,
    coarse,
    st.sampled_from(ZONES),
    st.sampled_from(list(Grain)),
    st.sampled_from(ZONES),
    st.integers(1, 60),
)
def test_a_grid_fits_when_all_its_starts_are_starts_of_the_base(
    start: datetime, grain: Grain, zone: str, base: Grain, base_zone: str, days: int
) -> None:  # fmt: skip
    bounds = AbsoluteRange(start, start + timedelta(days=days))
    base_zone = base_zone if base.calendar else "UTC"
    grid = build(bounds, grain, zone)
    finer = build(bounds, base, base_zone)
    inside = [at for at in grid.starts if bounds.start < at < bounds.end]
    span, edges = Span(micros(bounds.start), micros(bounds.end)), Boundaries(base, base_zone)
    fits = set(inside) <= {*finer.starts, finer.end}
    assert aligned(grid, span, edges) == fits
    assert (misalignment(grid, span, edges) is None) == fits


def test_only_buckets_that_begin_within_the_span_have_to_fit() -> None:
    days, months = build(AbsoluteRange(day(1), day(9)), Grain.DAY, "UTC"), Boundaries(Grain.MONTH, "UTC")
    for first, last, fits in ((3, 4, True), (3, 5, False), (2, 4, False), (1, 9, False)):
        span = Span(micros(day(first)), micros(day(last)))
        assert aligned(days, span, months) is fits
        assert (misalignment(days, span, months) is None) is fits


def test_the_reason_is_told_by_the_first_buckets_that_do_not_fit() -> None:
    seen: list[int] = []

    class Watched(Boundaries):
        def floor(self, at: int) -> int:
            seen.append(at)
            return super().floor(at)

    bounds = AbsoluteRange(day(1), day(1) + timedelta(days=60))
    days, span = build(bounds, Grain.DAY, "Asia/Kathmandu"), Span(micros(bounds.start), micros(bounds.end))
    assert misalignment(days, span, Watched(Grain.DAY, "UTC")) is Rule.TZ
    assert seen == [micros(start) for start in days.starts[1:25]]


def test_why_a_grid_does_not_fit() -> None:
    bounds = AbsoluteRange(day(1), day(9))
    span = Span(micros(day(1)), micros(day(9)))
    weeks, days = build(bounds, Grain.WEEK, "UTC"), build(bounds, Grain.DAY, "Asia/Kathmandu")
    assert misalignment(weeks, span, Boundaries(Grain.MONTH, "UTC")) is Rule.GRAIN
    assert misalignment(days, span, Boundaries(Grain.DAY, "UTC")) is Rule.TZ
    assert misalignment(days, span, Boundaries(Grain.HOUR, "UTC")) is Rule.TZ
    april = AbsoluteRange(
        day(31), day(31) + timedelta(days=4)
    )  # its first day would fit in another zone, others not
    days, span = build(april, Grain.DAY, "Asia/Kathmandu"), Span(micros(april.start), micros(april.end))
    assert misalignment(days, span, Boundaries(Grain.MONTH, "UTC")) is Rule.GRAIN


def test_the_ends_of_time_are_boundaries() -> None:
    for grain in Grain:
        edges = Boundaries(grain, "UTC")
        assert edges.inner(ALWAYS) == edges.outer(ALWAYS) == (FAR_PAST, FAR_FUTURE)


def test_many_instants_are_told_at_once_where_buckets_begin() -> None:
    weeks, cuts = Boundaries(Grain.WEEK, "UTC"), [FAR_PAST, micros(day(4)), micros(day(5)), FAR_FUTURE]
    assert weeks.begin(cuts) == [True, True, False, True]
    assert Boundaries(Grain.DAY, "UTC").begin([*cuts, cuts[1] + 1]) == [True, True, True, True, False]


def test_a_span_is_limited_when_both_of_its_ends_are_bounds() -> None:
    for one, found in ((Span(FAR_PAST, 0), False), (Span(0, FAR_FUTURE), False), (Span(0, 1), True)):
        assert limited(one) is found


def test_snapping_moves_the_ends_to_buckets_of_the_base() -> None:
    asked = scan(bounds=(day(2, 0, 7), day(9, 5, 1)), grain=Grain.DAY, zone="Europe/Berlin")
    wider, narrower = snapped(asked, ROLLUP), snapped(asked, ROLLUP, widen=False)
    assert wider is not None
    assert narrower is not None
    assert wider.bounds == AbsoluteRange(day(2), day(9, 5, 15))
    assert narrower.bounds == AbsoluteRange(day(2, 0, 15), day(9, 5))
    assert wider.grid == asked.grid


def test_snapping_outwards_can_add_a_bucket() -> None:
    hourly = scan(bounds=(day(2, 0, 30), day(2, 9)), grain=Grain.FIFTEEN_MINUTES)
    found = snapped(hourly, ROLLUP.__class__("d", "rides", "at", (), (), (Grain.DAY,)))
    assert found is not None
    assert found.grid is not None
    assert len(found.grid.starts) == 96


def test_snapping_leaves_aligned_ranges_and_those_without_bounds_and_may_leave_nothing() -> None:
    for asked in (scan(), scan(time="", bounds=None)):
        assert snapped(asked, ROLLUP) == snapped(asked, ROLLUP, widen=False) == asked
    for first, last in ((day(2, 0, 1), day(2, 0, 14)), (day(2, 0, 1), day(2, 0, 16))):
        assert snapped(scan(bounds=(first, last)), ROLLUP, widen=False) is None


def test_snapping_moves_the_ends_where_there_is_no_grain() -> None:
    found = snapped(scan(bounds=(day(2, 0, 7), day(9, 5, 1))), ROLLUP)
    assert found is not None
    assert (found.bounds, found.grid) == (AbsoluteRange(day(2), day(9, 5, 15)), None)
