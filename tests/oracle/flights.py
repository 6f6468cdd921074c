"""The datasets of the demonstration, defined a second time: dimensions and inputs of measures as Polars expressions.

Written from the descriptions in ``broker/demo/flights.yaml``; a test compares the names, types and kinds with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal

import polars as pl

from tests.oracle.model import ROW_KEY, ROW_TIME, DimensionSpec, MeasureSpec, OracleModel
from tests.support.flights_frames import FlightsFrames

Defined = Mapping[DimensionSpec | MeasureSpec, pl.Expr | None]
"""Members with their columns; ratios have none."""
ONE = pl.lit(1, dtype=pl.Int64)


def when(condition: pl.Expr, value: pl.Expr = ONE) -> pl.Expr:
    """The value where the condition is true, else null."""
    return pl.when(condition).then(value)


def _time(name: str, type_: str) -> DimensionSpec:
    return DimensionSpec(name, type_, time=True)


def _ratio(name: str, above: str, below: str, unit: str = "") -> MeasureSpec:
    return MeasureSpec(name, "RATIO", numerator=above, denominator=below, unit=unit)


def model(
    dataset: str, default_time: str, rows: pl.DataFrame, members: Defined, row_key: str | None = None
) -> OracleModel:
    """A dataset over joined rows."""
    columns = {
        spec.name if isinstance(spec, DimensionSpec) else spec.input: expression
        for spec, expression in members.items()
        if expression is not None
    }
    if row_key is not None:
        columns |= {ROW_TIME: pl.col(default_time), ROW_KEY: pl.col(row_key)}
    types = {spec.name: spec.polars for spec in members if isinstance(spec, DimensionSpec)}
    return OracleModel(
        dataset,
        default_time,
        rows.select(**columns).cast(types),  # type: ignore[arg-type] # a mapping of names to types is fine
        {spec.name: spec for spec in members if isinstance(spec, DimensionSpec)},
        {spec.name: spec for spec in members if isinstance(spec, MeasureSpec)},
    )


def flights(frames: FlightsFrames) -> OracleModel:
    """All flights, with what belongs to them."""
    rows = frames.flights
    for prefix, other, on in (
        ("airlines.", frames.airlines, {"carrier": "carrier"}),
        ("planes.", frames.planes, {"tailnum": "tailnum"}),
        ("origins.", frames.airports, {"origin": "faa"}),
        ("destinations.", frames.airports, {"dest": "faa"}),
        ("weather.", frames.weather, {"origin": "origin", "time_hour": "time_hour"}),
    ):
        joined = other.rename({name: prefix + name for name in other.columns})
        right = [prefix + name for name in on.values()]
        rows = rows.join(joined, left_on=list(on), right_on=right, how="left")
    date = pl.date("year", "month", "day")
    arr_delay, distance = pl.col("arr_delay"), pl.col("distance")
    members: Defined = {
        _time("time_hour", "TIMESTAMP"): pl.col("time_hour"),
        _time("flight_date", "DATE"): date,
        DimensionSpec("month", "INT64"): pl.col("month"),
        DimensionSpec("weekday", "INT64"): date.dt.weekday(),
        DimensionSpec("hour", "INT64"): pl.col("hour"),
        DimensionSpec("carrier", "STRING"): pl.col("carrier"),
        DimensionSpec("airline", "STRING"): pl.col("airlines.name"),
        DimensionSpec("flight_number", "INT64"): pl.col("flight"),
        DimensionSpec("cancelled", "BOOL"): pl.col("dep_time").is_null(),
        DimensionSpec("haul", "STRING"): pl.when(distance < 500)
        .then(pl.lit("short"))
        .when(distance < 1500)
        .then(pl.lit("medium"))
        .otherwise(pl.lit("long")),
        DimensionSpec("origin", "STRING"): pl.col("origin"),
        DimensionSpec("origin_name", "STRING"): pl.col("origins.name"),
        DimensionSpec("dest", "STRING"): pl.col("dest"),
        DimensionSpec("dest_name", "STRING"): pl.col("destinations.name"),
        DimensionSpec("dest_zone", "STRING"): pl.col("destinations.tzone"),
        DimensionSpec("dest_altitude", "INT64"): pl.col("destinations.alt"),
        DimensionSpec("dest_latitude", "DECIMAL", scale=1): _rounded(rows, "destinations.lat"),
        DimensionSpec("tailnum", "STRING"): pl.col("tailnum"),
        DimensionSpec("manufacturer", "STRING"): pl.col("planes.manufacturer"),
        DimensionSpec("model", "STRING"): pl.col("planes.model"),
        DimensionSpec("plane_year", "INT64"): pl.col("planes.year"),
        DimensionSpec("seats", "INT64"): pl.col("planes.seats"),
        DimensionSpec("visibility", "DOUBLE"): pl.col("weather.visib"),
        DimensionSpec("wind_direction", "INT64"): pl.col("weather.wind_dir"),
        DimensionSpec("raining", "BOOL"): pl.col("weather.precip") > 0,
        MeasureSpec("flights", "COUNT"): ONE,
        MeasureSpec("departures", "COUNT"): pl.col("dep_time"),
        MeasureSpec("cancellations", "COUNT"): when(pl.col("dep_time").is_null()),
        MeasureSpec("late_arrivals", "COUNT"): when(arr_delay > 15),
        MeasureSpec("planes", "APPROX_DISTINCT", "STRING"): pl.col("tailnum"),
        MeasureSpec("destinations", "EXACT_DISTINCT", "STRING"): pl.col("dest"),
        MeasureSpec("miles", "SUM", unit="mi"): distance,
        MeasureSpec("kilometres", "SUM", "DECIMAL", 6, unit="km"): _kilometres(rows),
        MeasureSpec("miles_flown", "SUM", unit="mi"): when(pl.col("air_time").is_not_null(), distance),
        MeasureSpec("air_hours", "SUM", "DOUBLE", unit="h"): pl.col("air_time") / 60.0,
        _ratio("cancellation_rate", "cancellations", "flights"): None,
        _ratio("speed", "miles_flown", "air_hours", "mph"): None,
        MeasureSpec("dep_delay", "AVG", unit="min"): pl.col("dep_delay"),
        MeasureSpec("arr_delay", "AVG", unit="min"): arr_delay,
        MeasureSpec("arr_delay_variance", "VARIANCE", unit="min²"): arr_delay,
        MeasureSpec("arr_delay_stddev", "STDDEV", unit="min"): arr_delay,
        MeasureSpec("least_delay", "MIN", unit="min"): arr_delay,
        MeasureSpec("worst_delay", "MAX", unit="min"): arr_delay,
        MeasureSpec("median_delay", "APPROX_PERCENTILE", percentile=0.5, unit="min"): arr_delay,
        MeasureSpec("p95_delay", "APPROX_PERCENTILE", percentile=0.95, unit="min"): arr_delay,
        MeasureSpec("exact_p95_delay", "EXACT_PERCENTILE", percentile=0.95, unit="min"): arr_delay,
        MeasureSpec("first_departure", "MIN", "TIMESTAMP"): pl.col("time_hour"),
        MeasureSpec("last_departure", "MAX", "TIMESTAMP"): pl.col("time_hour"),
        MeasureSpec("first_tailnum", "FIRST", "STRING"): pl.col("tailnum"),
        MeasureSpec("last_delay", "LAST", unit="min"): pl.col("dep_delay"),
        MeasureSpec("seats_offered", "SUM"): when(pl.col("dep_time").is_not_null(), pl.col("planes.seats")),
        MeasureSpec("temperature", "AVG", "DOUBLE", unit="°F"): pl.col("weather.temp"),
    }
    return model("flights", "time_hour", rows, members, "id")


def planes(frames: FlightsFrames) -> Sequence[OracleModel]:
    """All planes: the register alone, and each plane once for every flight of it, once also without any."""
    own: Defined = {
        **{DimensionSpec(n, "STRING"): pl.col(n) for n in ("tailnum", "manufacturer", "model", "engine")},
        DimensionSpec("engines", "INT64"): pl.col("engines"),
        DimensionSpec("year", "INT64"): pl.col("year"),
    }
    register: Defined = {
        MeasureSpec("planes", "COUNT"): ONE,
        MeasureSpec("seats", "SUM"): pl.col("seats"),
        MeasureSpec("average_seats", "AVG"): pl.col("seats"),
    }
    flown: Defined = {
        DimensionSpec("carrier", "STRING"): pl.col("carrier"),
        DimensionSpec("airline", "STRING"): pl.col("name"),
        MeasureSpec("flights", "COUNT"): pl.col("id"),
        MeasureSpec("miles", "SUM", unit="mi"): pl.col("distance"),
        MeasureSpec("planes_flown", "EXACT_DISTINCT", "STRING"): when(
            pl.col("id").is_not_null(), pl.col("tailnum")
        ),
        _ratio("flights_per_plane", "flights", "planes_flown"): None,
    }
    named = frames.flights.select("id", "tailnum", "carrier", "distance").join(frames.airlines, on="carrier")
    joined = frames.planes.join(named, on="tailnum", how="left")
    return [
        model("planes", "", frames.planes, {**own, **register}),
        model("planes", "", joined, {**own, **flown}),
    ]


def weather(frames: FlightsFrames) -> OracleModel:
    """All hours of weather."""
    rows = frames.weather.join(
        frames.airports.select("faa", "name"), left_on="origin", right_on="faa", how="left"
    )
    members: Defined = {
        _time("time_hour", "TIMESTAMP"): pl.col("time_hour"),
        DimensionSpec("origin", "STRING"): pl.col("origin"),
        DimensionSpec("airport", "STRING"): pl.col("name"),
        DimensionSpec("wind_direction", "INT64"): pl.col("wind_dir"),
        MeasureSpec("hours", "COUNT"): ONE,
        MeasureSpec("temperature", "AVG", "DOUBLE", unit="°F"): pl.col("temp"),
        MeasureSpec("coldest", "MIN", "DOUBLE", unit="°F"): pl.col("temp"),
        MeasureSpec("warmest", "MAX", "DOUBLE", unit="°F"): pl.col("temp"),
        MeasureSpec("rain", "SUM", "DOUBLE", unit="in"): pl.col("precip"),
        MeasureSpec("gust", "MAX", "DOUBLE", unit="mph"): pl.col("wind_gust"),
        MeasureSpec("last_pressure", "LAST", "DOUBLE", unit="mbar"): pl.col("pressure"),
    }
    # The primary key is origin and hour, and the hour has decided before.
    return model("weather", "time_hour", rows, members, "origin")


def _rounded(rows: pl.DataFrame, name: str) -> pl.Expr:
    """A double to one decimal, halves away from 0, from its shortest notation of 15 digits."""
    values = rows[name].drop_nulls().unique().to_list()
    rounded = [Decimal(f"{v:.15g}").quantize(Decimal("0.1"), ROUND_HALF_UP) for v in values]
    return pl.col(name).replace_strict(values, pl.Series(rounded, dtype=pl.Decimal(38, 1)), default=None)


def _kilometres(rows: pl.DataFrame) -> pl.Expr:
    """Miles as exact kilometres."""
    values = rows["distance"].unique().to_list()
    exact = [Decimal(v) * Decimal("1.609344") for v in values]
    return pl.col("distance").replace_strict(values, pl.Series(exact, dtype=pl.Decimal(38, 6)))


def all_models(frames: FlightsFrames) -> Sequence[OracleModel]:
    """Every dataset, the largest first."""
    return [flights(frames), weather(frames), *planes(frames)]
