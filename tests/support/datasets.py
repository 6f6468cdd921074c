"""The flights as a dataset made by hand: every kind of measure, dimensions of every type, and joins two deep.

For tests of single layers, which must not depend on the configuration that ships with the demonstration.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.model import Dataset, Dimension, Join, JoinKind, Measure, MeasureKind, RowPolicy
from broker.domain.values import DataType

_AIRPORTS = "public.airports"


def flights(*, policies: Iterable[RowPolicy] = ()) -> Dataset:
    """The dataset ``flights`` over the tables of the demonstration."""
    dimensions = (
        Dimension("time_hour", "flights.time_hour", DataType.TIMESTAMP, ("flights",), time=True),
        Dimension(
            "local_hour",
            "(flights.time_hour AT TIME ZONE 'America/New_York')",
            DataType.TIMESTAMP,
            ("flights",),
            time=True,
            stored_zone="America/New_York",
        ),
        Dimension(
            "day",
            "make_date(flights.year, flights.month, flights.day)",
            DataType.DATE,
            ("flights",),
            time=True,
        ),
        Dimension("origin", "flights.origin", DataType.STRING, ("flights",)),
        Dimension("dest", "flights.dest", DataType.STRING, ("flights",)),
        Dimension("carrier", "flights.carrier", DataType.STRING, ("flights",)),
        Dimension("tailnum", "flights.tailnum", DataType.STRING, ("flights",)),
        Dimension("month", "flights.month", DataType.INT64, ("flights",)),
        Dimension("dep_delay", "flights.dep_delay", DataType.INT64, ("flights",)),
        Dimension("late", "flights.arr_delay > 15", DataType.BOOL, ("flights",)),
        Dimension("hours", "flights.air_time / 60.0", DataType.DECIMAL, ("flights",), scale=1),
        Dimension("speed", "flights.distance / (flights.air_time / 60.0)", DataType.DOUBLE, ("flights",)),
        Dimension("carrier_name", "airlines.name", DataType.STRING, ("airlines",)),
        Dimension("manufacturer", "planes.manufacturer", DataType.STRING, ("planes",)),
        Dimension("dest_name", "dest_airport.name", DataType.STRING, ("dest_airport",)),
        Dimension("dest_altitude", "dest_airport.alt", DataType.INT64, ("dest_airport",)),
        Dimension("dest_zone", "dest_airport.tzone", DataType.STRING, ("dest_airport",)),
        Dimension("seats_beside", "twins.seats", DataType.INT64, ("twins",)),
    )
    delay, distance = "flights.arr_delay", "flights.distance"
    measures = (
        Measure("flights", MeasureKind.COUNT),
        Measure("arrived", MeasureKind.COUNT, delay, tables=("flights",)),
        Measure("late_flights", MeasureKind.COUNT, filter="flights.arr_delay > 15", tables=("flights",)),
        Measure("distance", MeasureKind.SUM, distance, DataType.INT64, tables=("flights",)),
        Measure("late_distance", MeasureKind.SUM, distance, filter="flights.arr_delay > 15", tables=("flights",)),
        Measure("hours", MeasureKind.SUM, "flights.air_time / 60.0", DataType.DECIMAL, 2, tables=("flights",)),
        Measure("seat_miles", MeasureKind.SUM, "planes.seats::float8 * flights.distance", DataType.DOUBLE,
                tables=("flights", "planes")),
        Measure("best", MeasureKind.MIN, delay, tables=("flights",)),
        Measure("worst", MeasureKind.MAX, delay, tables=("flights",)),
        Measure("first_dest", MeasureKind.MIN, "flights.dest", DataType.STRING, tables=("flights",)),
        Measure("latest", MeasureKind.MAX, "flights.time_hour", DataType.TIMESTAMP, tables=("flights",)),
        Measure("any_late", MeasureKind.MAX, "flights.arr_delay > 15", DataType.BOOL, tables=("flights",)),
        Measure("mean_delay", MeasureKind.AVG, delay, tables=("flights",)),
        Measure("delay_variance", MeasureKind.VARIANCE, delay, tables=("flights",)),
        Measure("delay_stddev", MeasureKind.STDDEV, delay, tables=("flights",)),
        Measure("planes", MeasureKind.EXACT_DISTINCT, "flights.tailnum", DataType.STRING, tables=("flights",)),
        Measure("approx_planes", MeasureKind.APPROX_DISTINCT, "flights.tailnum", DataType.STRING,
                tables=("flights",)),
        Measure("median_delay", MeasureKind.EXACT_PERCENTILE, delay, percentile=0.5, tables=("flights",)),
        Measure("approx_p90", MeasureKind.APPROX_PERCENTILE, delay, percentile=0.9, tables=("flights",)),
        Measure("first_delay", MeasureKind.FIRST, delay, tables=("flights",)),
        Measure("last_delay", MeasureKind.LAST, delay, tables=("flights",)),
        Measure("late_share", MeasureKind.RATIO, numerator="late_flights", denominator="flights"),
        Measure("miles_per_arrival", MeasureKind.RATIO, numerator="distance", denominator="arrived"),
    )  # fmt: skip
    joins = (
        Join("airlines", "public.airlines", "flights.carrier = airlines.carrier", "flights"),
        Join("planes", "public.planes", "flights.tailnum = planes.tailnum", "flights"),
        Join("dest_airport", _AIRPORTS, "flights.dest = dest_airport.faa", "flights"),
        Join("origin_airport", _AIRPORTS, "flights.origin = origin_airport.faa", "flights"),
        Join("twins", "public.planes", "planes.seats = twins.seats", "planes", JoinKind.ONE_TO_MANY),
    )
    return Dataset(
        name="flights",
        table="public.flights",
        dimensions={d.name: d for d in dimensions},
        measures={m.name: m for m in measures},
        joins={j.name: j for j in joins},
        row_policies=tuple(policies),
        primary_key=("id",),
        primary_key_types=(DataType.INT64,),
        default_time="time_hour",
        version="test",
    )
