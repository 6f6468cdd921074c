"""Valid requests become the values that they mean."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import Violation
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    AnyOf,
    Calculations,
    CompareTo,
    Condition,
    DateRange,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    RelativeRange,
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from broker.transport.decode_list import MAX_PAGE, Page, page
from broker.transport.decode_query import decode_query
from broker.transport.decode_values import bound, instant, is_uuid, scalar, zone
from querybroker.v1 import job_service_pb2
from querybroker.v1 import query_pb2 as pb


def decoded(message: pb.Query) -> Query:
    found: list[Violation] = []
    query = decode_query(message, "query", found)
    assert found == []
    return query


def test_a_query_with_everything() -> None:
    two = [pb.Value(int64_value=1), pb.Value(int64_value=9)]
    message = pb.Query(
        dataset="datasets/flights",
        measures=["flights", "avg_delay"],
        dimensions=["carrier"],
        time=pb.TimeSelection(
            dimension="departure",
            grain=pb.TIME_GRAIN_MONTH,
            zone="America/New_York",
            dates=pb.DateRange(
                start_date=Date(year=2013, month=1, day=1), end_date=Date(year=2014, month=1, day=1)
            ),
            gap_fill=True,
        ),
        filter=pb.Filter(
            any_of=pb.FilterGroup(
                filters=[
                    pb.Filter(
                        condition=pb.Condition(
                            member="month", operator=pb.FILTER_OPERATOR_BETWEEN, values=two
                        )
                    ),
                    pb.Filter(
                        not_filter=pb.Filter(
                            condition=pb.Condition(member="tailnum", operator=pb.FILTER_OPERATOR_IS_NULL)
                        )
                    ),
                ]
            )
        ),
        having=pb.Filter(all_of=pb.FilterGroup()),
        order=[pb.OrderKey(member="flights", direction=pb.SORT_DIRECTION_DESC, nulls=pb.NULL_ORDER_FIRST)],
        limit=7,
        calculations=pb.Calculations(
            compare_to=pb.CompareTo(count=1, unit=pb.TIME_GRAIN_YEAR, measures=["flights"]),
            shares=[pb.ShareOfTotal(measure="flights", within=["departure"])],
            rolling_windows=[pb.RollingWindow(measure="flights", buckets=3)],
            top_n=pb.TopN(count=5, dimension="carrier", by="flights", other=True, ascending=True),
        ),
    )
    assert decoded(message) == Query(
        dataset="flights",
        measures=("flights", "avg_delay"),
        dimensions=("carrier",),
        time=TimeSelection(
            "departure",
            Grain.MONTH,
            "America/New_York",
            DateRange(date(2013, 1, 1), date(2014, 1, 1)),
            gap_fill=True,
        ),
        filter=AnyOf(
            (
                Condition("month", Operator.BETWEEN, (1, 9)),
                Not(Condition("tailnum", Operator.IS_NULL)),
            )
        ),
        having=AllOf(()),
        order=(OrderKey("flights", descending=True, nulls_first=True),),
        limit=7,
        calculations=Calculations(
            TopN(5, "carrier", "flights", other=True, ascending=True),
            CompareTo(1, Grain.YEAR, ("flights",)),
            (ShareOfTotal("flights", ("departure",)),),
            (RollingWindow("flights", 3),),
        ),
    )


def test_a_query_with_nothing_but_its_dataset() -> None:
    assert decoded(pb.Query(dataset="flights")) == Query("flights")


def test_a_relative_range() -> None:
    relative = pb.RelativeTimeRange(count=30, unit=pb.TIME_GRAIN_DAY, include_current=True)
    query = decoded(pb.Query(dataset="f", time=pb.TimeSelection(relative=relative)))
    assert query.time == TimeSelection(range=RelativeRange(30, Grain.DAY, include_current=True))


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_an_end_of_a_range_between_microseconds_keeps_its_meaning(moment: datetime, nanos: int) -> None:
    message = Timestamp()
    message.FromDatetime(moment)
    message.nanos += nanos
    found: list[Violation] = []
    read = bound(message, "t", found)
    if found:
        assert moment == datetime.max.replace(tzinfo=UTC)
        return
    for stored in (moment, moment + timedelta(microseconds=1) if nanos else moment):
        exact = (stored - moment) / timedelta(microseconds=1) * 1000 - nanos
        assert (stored >= read) == (exact >= 0)


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_of_every_year_are_read_exactly(moment: datetime) -> None:
    message = Timestamp()
    message.FromDatetime(moment)
    found: list[Violation] = []
    assert instant(message, "t", found) == moment
    assert found == []


def test_ranges_reach_from_the_first_to_the_last_year() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    message = pb.Query(dataset="f")
    message.time.absolute.start_time.FromDatetime(first)
    message.time.absolute.end_time.FromDatetime(last)
    query = decoded(message)
    assert query.time is not None
    assert query.time.range == AbsoluteRange(first, last)


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (pb.Value(string_value=""), ""),
        (pb.Value(int64_value=-(2**63)), -(2**63)),
        (pb.Value(double_value=-0.0), -0.0),
        (pb.Value(bool_value=False), False),
        (pb.Value(decimal_value="-0012.5000"), Decimal("-12.5000")),
        (pb.Value(timestamp_value=Timestamp(seconds=1, nanos=5_000)), datetime(1970, 1, 1, 0, 0, 1, 5, UTC)),
        (pb.Value(date_value=Date(year=1, month=1, day=1)), date.min),
    ],
)
def test_values_keep_their_types(message: pb.Value, value: object) -> None:
    found: list[Violation] = []
    read = scalar(message, "v", found)
    assert (read, type(read), found) == (value, type(value), [])


@pytest.mark.parametrize("name", ["", "UTC", "Europe/Berlin", "Asia/Kathmandu", "Etc/GMT+5", "EST5EDT"])
def test_zones_of_the_database_are_known(name: str) -> None:
    found: list[Violation] = []
    assert zone(name, "z", found) == (name or "UTC")
    assert found == []


@given(st.uuids())
def test_uuids_of_every_version_are_taken(value: object) -> None:
    assert is_uuid(str(value))
    assert is_uuid(str(value).upper())
    assert not is_uuid(str(value).replace("-", ""))


@given(st.lists(st.text(), min_size=2, max_size=2), st.integers(0, 10_000))
def test_a_page_token_brings_its_position_back(position: list[str], size: int) -> None:
    request = job_service_pb2.ListJobsRequest(kind="export")
    found: list[Violation] = []
    first = page(request, 0, "", found, positions=2)
    second = page(request, size, first.token(position), found, positions=2)
    assert found == []
    assert second == Page(min(size, MAX_PAGE) or 50, tuple(position), first.digest)
