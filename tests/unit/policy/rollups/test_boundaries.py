"""Where buckets begin, against the enumeration of a grid; and what fits into what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Rule, Span, micros
from broker.domain.timegrid import build
from broker.policy.rollups.boundaries import Boundaries, aligned, limited, misalignment
from broker.policy.rollups.snap import snapped
from tests.support.rollup_scans import ROLLUP, day, scan

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


def test_why_a_grid_does_not_fit() -> None:
    bounds = AbsoluteRange(day(1), day(9))
    span = Span(micros(day(1)), micros(day(9)))
    weeks, days = build(bounds, Grain.WEEK, "UTC"), build(bounds, Grain.DAY, "Asia/Kathmandu")
    assert misalignment(weeks, span, Boundaries(Grain.MONTH, "UTC")) is Rule.GRAIN
    assert misalignment(days, span, Boundaries(Grain.DAY, "UTC")) is Rule.TZ
    assert misalignment(days, span, Boundaries(Grain.HOUR, "UTC")) is Rule.TZ


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
    assert snapped(scan(bounds=(day(2, 0, 1), day(2, 0, 14))), ROLLUP, widen=False) is None
