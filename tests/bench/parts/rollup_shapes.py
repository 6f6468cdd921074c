"""Questions of the rollup benchmark: as requests to the broker, as SQL over the flights, as SQL over tables by hand.

Every call of a shape has a number and a filter of its own. *Scan shapes* read nearly all of the years there are; the
*selective* one reads some weeks of one carrier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from querybroker.v1 import query_pb2, query_service_pb2

CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Asia/Tokyo",
    "America/Los_Angeles",
    "Australia/Sydney",
    "Africa/Lagos",
)
"""Whole hours from UTC, so that a table by the hour can serve them too."""
FIRST = datetime(2013, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MEASURES = ("flights", "miles", "dep_delay")
GRAINS = {
    "day": query_pb2.TIME_GRAIN_DAY,
    "month": query_pb2.TIME_GRAIN_MONTH,
}
Arguments = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One question: its range, and what else varies."""

    start: datetime
    end: datetime
    zone: str = "UTC"
    carrier: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of question; ``call`` makes the one with a number over so many years."""

    name: str
    live: str
    table: str
    call: Callable[[int, int], Call]
    arguments: Callable[[Call], Arguments]
    measures: Sequence[str] = MEASURES
    dimensions: Sequence[str] = ()
    grain: str = ""

    def request(self, dataset: str, call: Call) -> bytes:
        """A dashboard of one panel, as it goes over the wire."""
        query = query_pb2.Query(dataset=dataset, measures=self.measures, dimensions=self.dimensions)
        query.time.absolute.CopyFrom(
            query_pb2.AbsoluteTimeRange(start_time=stamp(call.start), end_time=stamp(call.end))
        )
        if self.grain:
            query.time.grain = GRAINS[self.grain]
            query.time.zone = call.zone
        if call.carrier:
            condition = query.filter.condition
            condition.member, condition.operator = "carrier", query_pb2.FILTER_OPERATOR_EQ
            condition.values.add().string_value = call.carrier
        panel = query_service_pb2.Panel(query=query)
        return query_service_pb2.DashboardRequest(panels=[panel]).SerializeToString()


def stamp(instant: datetime) -> Timestamp:
    """The instant as a message."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def _wide(number: int, years: int, unit: timedelta) -> Call:
    """All years but some units at both ends, which no other number below 90,000 leaves out."""
    end = FIRST + timedelta(days=365 * years)
    return Call(FIRST + unit * (1 + number % 300), end - unit * (1 + number // 300))


def _days(number: int, years: int) -> Call:
    return _wide(number, years, DAY)


def _hours(number: int, years: int) -> Call:
    return _wide(number, years, HOUR)


def _hours_of_zones(number: int, years: int) -> Call:
    return replace(_hours(number, years), zone=ZONES[number % len(ZONES)])


def _weeks(number: int, years: int) -> Call:
    """14 to 90 days of one carrier."""
    carrier = CARRIERS[number % len(CARRIERS)]
    length = 14 + number // len(CARRIERS) % 77
    start = number // (len(CARRIERS) * 77) * 41 + number * 7
    return Call(
        FIRST + DAY * (start % (365 * years - 90)),
        FIRST + DAY * (start % (365 * years - 90) + length),
        "UTC",
        carrier,
    )


def _range(call: Call) -> Arguments:
    return call.start, call.end


def _zoned(call: Call) -> Arguments:
    return call.start, call.end, call.zone


def _one_carrier(call: Call) -> Arguments:
    return call.start, call.end, call.carrier


_LIVE = (
    "count(*), sum(distance), avg(dep_delay::float8) FROM flights WHERE time_hour >= $1 AND time_hour < $2"
)
_KEPT = "sum(flights), sum(miles), sum(delay_s)::float8 / nullif(sum(delay_n), 0) FROM {} WHERE t >= $1 AND t < $2"
_BY_CARRIER = 'GROUP BY carrier ORDER BY carrier COLLATE "C"'
MONTHS = Shape(
    "months by carrier",
    f"SELECT date_trunc('month', time_hour), carrier, {_LIVE} GROUP BY 1, 2 ORDER BY 1, 2",
    f"SELECT date_trunc('month', t), carrier, {_KEPT.format('hand_day')} GROUP BY 1, 2 ORDER BY 1, 2",
    _days, _range, dimensions=("carrier",), grain="month",
)  # fmt: skip
ZONED = Shape(
    "days of a zone",
    f"SELECT date_trunc('day', time_hour, $3), {_LIVE} GROUP BY 1 ORDER BY 1",
    f"SELECT date_trunc('day', t, $3), {_KEPT.format('hand_hour')} GROUP BY 1 ORDER BY 1",
    _hours_of_zones, _zoned, grain="day",
)  # fmt: skip
TOTALS = Shape(
    "carriers, to the hour",
    f"SELECT carrier, origin, {_LIVE} GROUP BY 1, 2 ORDER BY 1, 2",
    f"SELECT carrier, origin, {_KEPT.format('hand_hour')} GROUP BY 1, 2 ORDER BY 1, 2",
    _hours, _range, dimensions=("carrier", "origin"),
)  # fmt: skip
PERCENTILE = Shape(
    "percentile by carrier",
    "SELECT carrier, percentile_cont(0.95) WITHIN GROUP (ORDER BY arr_delay::float8) FROM flights "
    f"WHERE time_hour >= $1 AND time_hour < $2 {_BY_CARRIER}",
    "", _days, _range, ("p95",), ("carrier",),
)  # fmt: skip
DISTINCT = Shape(
    "distinct by carrier",
    "SELECT carrier, count(DISTINCT tailnum) FROM flights "
    f"WHERE time_hour >= $1 AND time_hour < $2 {_BY_CARRIER}",
    "", _days, _range, ("planes",), ("carrier",),
)  # fmt: skip
SELECTIVE = Shape(
    "one carrier, 14 to 90 days",
    f"SELECT date_trunc('day', time_hour), {_LIVE} AND carrier = $3 GROUP BY 1 ORDER BY 1",
    f"SELECT t, {_KEPT.format('hand_day')} AND carrier = $3 GROUP BY 1 ORDER BY 1",
    _weeks, _one_carrier, grain="day",
)  # fmt: skip
SCANS = (MONTHS, ZONED, TOTALS)
SKETCHES = (PERCENTILE, DISTINCT)
