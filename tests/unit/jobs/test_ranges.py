"""Which answers are cut into ranges, and where."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.domain.answer import Interval
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    Calculations,
    Grain,
    OrderKey,
    Query,
    ShareOfTotal,
    TimeSelection,
)
from broker.domain.ranges import KeyRange, RangeWork, range_id, range_of
from broker.domain.rollup import ALWAYS, Span, micros
from broker.jobs.ranges import (
    MOST,
    LeadingKey,
    bucket_cuts,
    interval_of,
    leading_key,
    ranges_of,
    reached,
    usable_cuts,
    within,
)
from broker.policy.resolve import resolve_query
from broker.ports.store import SqlPlan
from tests.support.datasets import flights

NOW = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = AbsoluteRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 4, 1, tzinfo=UTC))
MONTHS = Query("flights", ("flights",), ("origin",), time=TimeSelection(grain=Grain.MONTH, range=QUARTER))
HOURS = Query("flights", ("flights",), ("time_hour", "origin"))


def plan(query: Query) -> Plan:
    return resolve_query(query, flights(), Principal("ada", "acme"), NOW)


@pytest.mark.parametrize(
    ("query", "name", "bucketed"),
    [
        (MONTHS, "time_hour", True),
        (replace(MONTHS, order=(OrderKey("time_hour", descending=True),)), "time_hour", True),
        (HOURS, "time_hour", False),
        (Query("flights", ("flights",), ("day", "origin")), "day", False),
        (Query("flights", ("flights",), ("origin", "month"), order=(OrderKey("month"),)), "month", False),
        (Query("flights", (), ("dep_delay",)), "dep_delay", False),
    ],
)
def test_an_answer_is_cut_along_what_it_is_ordered_by_first(query: Query, name: str, bucketed: bool) -> None:
    key = leading_key(plan(query))
    assert key is not None
    assert (key.dimension.name, key.bucketed) == (name, bucketed)


@pytest.mark.parametrize(
    "query",
    [
        replace(MONTHS, limit=10),
        replace(MONTHS, order=(OrderKey("flights"),)),
        replace(MONTHS, order=(OrderKey("origin"),)),
        replace(MONTHS, calculations=Calculations(shares=(ShareOfTotal("flights"),))),
        replace(MONTHS, measures=("approx_planes",)),
        replace(MONTHS, time=TimeSelection(grain=Grain.MONTH, range=QUARTER, gap_fill=True)),
        Query("flights", ("flights",), ("origin", "month")),
        Query("flights", ("flights",), ("speed",)),
        Query("flights", ("flights",)),
    ],
)
def test_what_has_no_order_by_a_key_of_time_or_integers_or_is_not_finished_by_rows_is_not_cut(
    query: Query,
) -> None:
    assert leading_key(plan(query)) is None


def test_sql_is_not_cut() -> None:
    assert leading_key(SqlPlan("SELECT 1", (), "sql")) is None


def test_buckets_are_cut_where_they_begin() -> None:
    given = plan(MONTHS)
    key = leading_key(given)
    assert key is not None
    ranges = ranges_of(key, bucket_cuts(given.main), 9)
    assert len(ranges) == 3
    assert (ranges[0].low, ranges[-1].high) == (None, None)
    assert [interval_of(given, key, [part]) for part in ranges] == [
        Interval(datetime(2013, month, 1, tzinfo=UTC), datetime(2013, month + 1, 1, tzinfo=UTC))
        for month in (1, 2, 3)
    ]
    assert interval_of(given, key, ranges[1:]) == Interval(datetime(2013, 2, 1, tzinfo=UTC), QUARTER.end)
    descending = ranges_of(replace(key, descending=True), bucket_cuts(given.main), 9)
    assert descending == tuple(reversed(ranges))
    part = within(given, key, ranges[1]).main
    assert part.pieces is not None
    assert part.pieces == ((ranges[1].low, ranges[1].high),)


@pytest.mark.parametrize("nulls_first", [False, True])
@pytest.mark.parametrize("descending", [False, True])
def test_rows_without_a_key_are_in_the_range_where_the_order_has_them(
    descending: bool, nulls_first: bool
) -> None:
    key = LeadingKey(flights().dimensions["month"], False, descending, nulls_first)
    ranges = ranges_of(key, (3, 6, 9), 4)
    assert [part.nulls for part in ranges].index(True) == (0 if nulls_first else 3)
    assert sum(part.nulls for part in ranges) == 1
    lows = [part.low or 0 for part in ranges]
    assert lows == sorted(lows, reverse=descending)


def test_there_are_no_more_ranges_than_cuts_allow() -> None:
    key = LeadingKey(flights().dimensions["month"], False)
    assert ranges_of(key, (), 8) == ()
    assert ranges_of(key, (1, 2), 1) == ()
    assert len(ranges_of(key, (1, 2, 2, 1), 8)) == 3
    assert len(ranges_of(key, range(10_000), 10_000)) == MOST


def test_cuts_outside_of_the_bounds_of_the_question_are_no_use() -> None:
    bounded = plan(replace(HOURS, time=TimeSelection(range=QUARTER)))
    key = leading_key(bounded)
    assert key is not None
    inside = 1_357_430_400_000_000  # 2013-01-06
    assert usable_cuts(key, bounded.main, (0, inside, 2 * inside)) == (inside,)
    assert usable_cuts(key, plan(HOURS).main, (0, inside)) == (0, inside)


def test_a_range_travels_as_the_request_of_a_job_below_its_job() -> None:
    work = RangeWork(b"\x00spec", "0-1", "plan", KeyRange(None, -5, nulls=True))
    assert RangeWork.decode(work.encode()) == work
    assert range_of(range_id("job", 7, 3)) == ("job", 7, 3)
    assert range_of("job") is None


DAY = 86_400_000_000
BOUNDED = Span(micros(QUARTER.start), micros(QUARTER.end))


@pytest.mark.parametrize(
    ("query", "part", "time", "expected"),
    [
        (MONTHS, KeyRange(None, BOUNDED.lo + DAY), "time_hour", Span(BOUNDED.lo, BOUNDED.lo + DAY)),
        (MONTHS, KeyRange(BOUNDED.lo + DAY, None), "time_hour", Span(BOUNDED.lo + DAY, BOUNDED.hi)),
        (MONTHS, KeyRange(0, DAY), "day", ALWAYS),  # along another time nothing is known
        (HOURS, KeyRange(0, DAY), "time_hour", Span(0, DAY)),
        (HOURS, KeyRange(0, None), "time_hour", Span(0, ALWAYS.hi)),
        (HOURS, KeyRange(0, DAY, nulls=True), "time_hour", ALWAYS),
        (replace(HOURS, time=TimeSelection(range=QUARTER)), KeyRange(0, BOUNDED.hi, nulls=True), "time_hour", BOUNDED),
        (replace(MONTHS, time=TimeSelection(range=QUARTER), dimensions=("month",)), KeyRange(1, 2), "time_hour",
         BOUNDED),
        (Query("flights", ("flights",), ("day",)), KeyRange(1, 3), "day", Span(DAY, 3 * DAY)),
    ],
)  # fmt: skip
def test_what_a_range_reaches_of_a_time_dimension(
    query: Query, part: KeyRange, time: str, expected: Span
) -> None:
    given = plan(query)
    key = leading_key(given)
    assert key is not None
    assert reached(given, key, part, time) == expected
