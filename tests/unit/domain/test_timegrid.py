"""Grids against a reference that walks the local clock minute by minute."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from struct import unpack
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.query import AbsoluteRange, DateRange, Grain, RelativeRange
from broker.domain.timegrid import TooManyBucketsError, add_units, build, floor_date, resolve

ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Cairo",
]
instants = st.datetimes(datetime(2005, 1, 1), datetime(2025, 1, 1)).map(  # noqa: DTZ001 - made aware below
    lambda d: d.replace(second=0, microsecond=0, tzinfo=UTC)
)


def label(instant: datetime, grain: Grain, zone: ZoneInfo) -> object:
    """What two instants of one bucket have in common, by the zone's own calendar."""
    local = instant.astimezone(zone)
    match grain:
        case Grain.MINUTE:
            return local.utcoffset(), local.replace(second=0, fold=0)
        case Grain.FIFTEEN_MINUTES:
            return local.utcoffset(), local.date(), local.hour, local.minute // 15
        case Grain.HOUR:
            return local.utcoffset(), local.date(), local.hour
        case Grain.DAY:
            return local.date()
        case Grain.WEEK:
            return local.isocalendar()[:2]
        case Grain.MONTH:
            return local.year, local.month
        case Grain.QUARTER:
            return local.year, (local.month - 1) // 3
        case Grain.YEAR:
            return local.year


@settings(max_examples=300, deadline=None)
@given(instants, st.sampled_from(ZONES), st.sampled_from(list(Grain)), st.integers(1, 60 * 24 * 9))
def test_buckets_change_exactly_where_the_local_label_does(
    start: datetime, zone_name: str, grain: Grain, minutes: int
) -> None:
    zone = ZoneInfo(zone_name)
    minutes = min(minutes, 600) if grain is Grain.MINUTE else minutes
    bounds = AbsoluteRange(start, start + timedelta(minutes=minutes))
    grid = build(bounds, grain, zone_name)
    assert all(a < b for a, b in pairwise([*grid.starts, grid.end]))
    assert grid.starts[0] <= bounds.start
    assert grid.starts[-1] < bounds.end <= grid.end
    step = timedelta(minutes=15 if grain.calendar or grain is Grain.HOUR else 5)
    previous: tuple[int, object] | None = None
    instant = bounds.start
    while instant < bounds.end:
        current = grid.index(instant), label(instant, grain, zone)
        if previous is not None:
            assert (current[0] == previous[0]) == (current[1] == previous[1])
        previous = current
        instant += step
    for begin in grid.starts[1:]:
        assert label(begin, grain, zone) != label(begin - timedelta(seconds=1), grain, zone)


def utc(*parts: int) -> datetime:
    year, month, day, hour = parts
    return datetime(year, month, day, hour, tzinfo=UTC)


def starts(zone: str, grain: Grain, first: datetime, last: datetime) -> list[datetime]:
    return list(build(AbsoluteRange(first, last), grain, zone).starts)


def test_a_day_has_23_or_25_hours_at_the_dst_edges() -> None:
    days = [*starts("Europe/Berlin", Grain.DAY, utc(2026, 3, 27, 23), utc(2026, 3, 30, 12))]
    assert [(b - a) / timedelta(hours=1) for a, b in pairwise(days)] == [24, 23]
    days = [*starts("Europe/Berlin", Grain.DAY, utc(2026, 10, 24, 12), utc(2026, 10, 27, 12))]
    assert [(b - a) / timedelta(hours=1) for a, b in pairwise(days)] == [24, 25, 24]


def test_a_repeated_hour_is_two_buckets() -> None:
    hours = starts("America/New_York", Grain.HOUR, utc(2013, 11, 3, 4), utc(2013, 11, 3, 8))
    local = [h.astimezone(ZoneInfo("America/New_York")) for h in hours]
    assert [(h.hour, h.fold) for h in local] == [(0, 0), (1, 0), (1, 1), (2, 0)]


def test_a_skipped_midnight_begins_the_day_at_the_transition_and_a_skipped_date_has_no_bucket() -> None:
    (day,) = starts("America/Sao_Paulo", Grain.DAY, utc(2018, 11, 4, 3), utc(2018, 11, 4, 4))
    assert day.astimezone(ZoneInfo("America/Sao_Paulo")).hour == 1
    days = starts("Pacific/Apia", Grain.DAY, utc(2011, 12, 29, 12), utc(2011, 12, 31, 12))
    assert [d.astimezone(ZoneInfo("Pacific/Apia")).day for d in days] == [29, 31, 1]


def test_the_first_bucket_holds_the_start_where_the_clock_went_back_over_midnight() -> None:
    """In St. John's from a minute past midnight: for an hour the wall clock shows the day before again."""
    midnight = utc(2010, 11, 7, 2) + timedelta(minutes=30)
    for minutes in (1, 30, 59):
        start = midnight + timedelta(minutes=minutes)
        assert starts("America/St_Johns", Grain.DAY, start, utc(2010, 11, 8, 0)) == [midnight]


def test_units_are_added_as_postgresql_does() -> None:
    assert add_units(date(2024, 3, 31), Grain.MONTH, -1) == date(2024, 2, 29)
    assert add_units(date(2023, 12, 31), Grain.QUARTER, -1) == date(2023, 9, 30)
    assert add_units(date(2024, 2, 29), Grain.YEAR, 1) == date(2025, 2, 28)
    assert floor_date(date(2024, 1, 1), Grain.WEEK) == date(2024, 1, 1)
    assert floor_date(date(2023, 12, 31), Grain.WEEK) == date(2023, 12, 25)


def test_relative_ranges_end_before_or_after_the_current_unit() -> None:
    now = datetime(2024, 5, 15, 10, 37, 12, tzinfo=UTC)
    zone = ZoneInfo("Asia/Kathmandu")
    whole = resolve(RelativeRange(2, Grain.MONTH), "Asia/Kathmandu", now)
    assert (whole.start.astimezone(zone).date(), whole.end.astimezone(zone).date()) == (
        date(2024, 3, 1),
        date(2024, 5, 1),
    )
    current = resolve(RelativeRange(1, Grain.DAY, include_current=True), "Asia/Kathmandu", now)
    assert current.start <= now < current.end
    hour = resolve(RelativeRange(3, Grain.HOUR), "Asia/Kathmandu", now)
    assert hour.end.astimezone(zone).minute == 0
    assert hour.end - hour.start == timedelta(hours=3)
    dates = resolve(DateRange(date(2024, 1, 1), date(2024, 1, 2)), "Asia/Kathmandu", now)
    assert dates.start == datetime(2023, 12, 31, 18, 15, tzinfo=UTC)


def test_relative_hours_begin_with_an_hour_where_half_an_hour_was_turned_back() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    now = datetime(2013, 4, 7, 5, 10, tzinfo=UTC)
    found = resolve(RelativeRange(24, Grain.HOUR), zone.key, now)
    assert found.start.astimezone(zone).minute == 0
    assert len(build(found, Grain.HOUR, zone.key).starts) == 24
    turned_back = datetime(2013, 4, 6, 15, 10, tzinfo=UTC)  # 01:40 for the second time
    half = resolve(RelativeRange(1, Grain.HOUR, include_current=True), zone.key, turned_back)
    assert (half.start, half.end) == (
        datetime(2013, 4, 6, 15, 0, tzinfo=UTC),
        datetime(2013, 4, 6, 15, 30, tzinfo=UTC),
    )


def test_too_many_buckets_are_refused() -> None:
    bounds = AbsoluteRange(datetime(2000, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(TooManyBucketsError, match="100000"):
        build(bounds, Grain.MINUTE, "UTC")


@settings(max_examples=100, deadline=None)
@given(instants, st.sampled_from(ZONES), st.sampled_from(list(Grain)), st.integers(1, 60 * 24 * 9))
def test_a_grid_knows_its_starts_in_microseconds_and_what_they_are_multiples_of(
    start: datetime, zone_name: str, grain: Grain, minutes: int
) -> None:
    grid = build(AbsoluteRange(start, start + timedelta(minutes=minutes)), grain, zone_name)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [(at - epoch) // timedelta(microseconds=1) for at in grid.starts]
    assert unpack(f"<{len(expected)}q", grid.packed) == tuple(expected)
    for width in (60, 900, 1800, 3600, 86_400):
        fits = all(at % (width * 1_000_000) == 0 for at in expected[1:])
        assert (grid.alignment % (width * 1_000_000) == 0) == fits


def test_what_a_grid_has_computed_is_no_part_of_its_identity() -> None:
    bounds = AbsoluteRange(datetime(1969, 12, 1, tzinfo=UTC), datetime(1970, 2, 1, tzinfo=UTC))
    asked, fresh = build(bounds, Grain.DAY, "UTC"), build(bounds, Grain.DAY, "UTC")
    assert asked.alignment == 86_400 * 1_000_000
    assert asked == fresh
    assert hash(asked) == hash(fresh)
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert repr(asked) == repr(fresh)
