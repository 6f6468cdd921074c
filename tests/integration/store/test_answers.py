"""What the statements compute, against the CSV files and against each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.model import RowPolicy
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import (
    Condition,
    DateRange,
    Grain,
    Operator,
    OrderKey,
    Query,
    TimeSelection,
)
from tests.integration.store.conftest import Row, in_time, plan_of, read, rows_of
from tests.support.datasets import flights
from tests.support.flights_frames import FlightsFrames

DATASET = flights()
YEAR = DateRange(date(2013, 1, 1), date(2014, 1, 1))
SPRING = DateRange(date(2013, 3, 8), date(2013, 3, 13))  # America/New_York changed its clocks on the 10th
AUTUMN = DateRange(date(2013, 11, 1), date(2013, 11, 6))  # and on the 3rd
GROUPABLE = tuple(m for m in DATASET.measures if not m.startswith("approx"))
_LAST = (1 << 63) - 1


def sorted_rows(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=repr)


QUERIES = [
    Query("flights", measures=GROUPABLE),
    Query("flights", measures=GROUPABLE, dimensions=("carrier", "late", "dest_zone")),
    Query("flights", measures=("flights",), dimensions=("manufacturer", "hours")),
    Query("flights", measures=("latest", "first_delay", "last_delay"), dimensions=("day",)),
    Query("flights", dimensions=("time_hour", "origin"), limit=100),
    Query("flights", measures=("flights",), dimensions=("speed",), limit=500, order=(OrderKey("speed", True),)),
    Query("flights", measures=("mean_delay",), time=TimeSelection(grain=Grain.HOUR, range=SPRING)),
    Query(
        "flights", measures=("flights",), time=TimeSelection("local_hour", Grain.DAY, "America/New_York", AUTUMN)
    ),
    Query("flights", measures=("flights",), time=TimeSelection("day", Grain.WEEK, range=YEAR)),
    Query("flights", measures=("flights",), filter=Condition("carrier", Operator.EQ, ("nobody",))),
    Query(
        "flights", measures=("flights",), dimensions=("origin",), filter=Condition("month", Operator.LT, (0,))
    ),
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
async def test_parameters_and_literals_rows_and_csv_say_the_same(
    store: PgStore, copying: PgStore, query: Query
) -> None:
    copied = await read(copying, query, DATASET)
    first = await read(store, query, DATASET)
    again = await read(store, query, DATASET)
    assert sorted_rows(first) == sorted_rows(copied)
    assert sorted_rows(again) == sorted_rows(copied)


async def test_states_against_the_files(store: PgStore, flights_frames: FlightsFrames) -> None:
    query = Query("flights", measures=GROUPABLE, dimensions=("carrier",))
    found = {str(row[0]): row[1:] for row in await read(store, query, DATASET)}
    delay, late = pl.col("arr_delay").cast(pl.Float64), pl.col("arr_delay") > 15
    oldest = pl.col("arr_delay").is_not_null()
    frame = flights_frames.flights.join(flights_frames.planes, on="tailnum", how="left", suffix="_plane")
    expected = (
        frame.sort("time_hour", "id")
        .group_by("carrier")
        .agg(
            pl.len(),
            pl.col("arr_delay").count().alias("arrived"),
            late.sum().alias("late"),
            pl.col("distance").sum(),
            pl.when(late.any()).then(pl.col("distance").filter(late).sum()).alias("late_distance"),
            (pl.col("seats").cast(pl.Float64) * pl.col("distance")).sum().alias("seat_miles"),
            pl.col("arr_delay").min().alias("best"),
            pl.col("arr_delay").max().alias("worst"),
            pl.col("dest").min(),
            pl.col("time_hour").max().dt.epoch("us").alias("latest"),
            late.any().alias("any_late"),
            pl.col("arr_delay").sum().alias("total"),
            delay.mean().alias("mean"),
            ((delay - delay.mean()) ** 2).sum().alias("m2"),
            pl.col("tailnum").drop_nulls().n_unique().alias("planes"),
            delay.quantile(0.5, "linear").alias("median"),
            *(
                expression
                for pick in (pl.Expr.first, pl.Expr.last)
                for name, expression in (
                    (f"t{pick.__name__}", pick(pl.col("time_hour").filter(oldest)).dt.epoch("us")),
                    (f"p{pick.__name__}", pick(pl.col("id").filter(oldest))),
                    (f"v{pick.__name__}", pick(pl.col("arr_delay").filter(oldest))),
                )
                for expression in (expression.alias(name),)
            ),
        )
    )
    assert len(found) == expected.height
    for row in expected.iter_rows(named=True):
        assert found[row["carrier"]] == (
            row["len"],
            row["arrived"],
            row["late"],
            row["distance"],
            row["late_distance"],
            pytest.approx(found[row["carrier"]][5]),  # the decimal sum has a test of its own
            pytest.approx(row["seat_miles"], rel=1e-12),
            row["best"],
            row["worst"],
            row["dest"],
            row["latest"],
            row["any_late"],
            row["arrived"],
            row["total"],
            *(row["arrived"], pytest.approx(row["mean"], rel=1e-12), pytest.approx(row["m2"], rel=1e-10)) * 2,
            row["planes"],
            row["median"],
            row["tfirst"],
            row["pfirst"],
            row["vfirst"],
            row["tlast"],
            row["plast"],
            row["vlast"],
        )


async def test_decimals_are_exact(store: PgStore, flights_frames: FlightsFrames) -> None:
    ((found,),) = await read(store, Query("flights", measures=("hours",)), DATASET)
    minutes = flights_frames.flights["air_time"].drop_nulls().to_list()
    exact = sum((Decimal(m) / 60).quantize(Decimal("1e-16")) for m in minutes)
    assert found == exact.quantize(Decimal("0.01"))  # type: ignore[union-attr] # there are flights, so it is no int


async def test_null_is_one_group(store: PgStore, flights_frames: FlightsFrames) -> None:
    rows = await read(store, Query("flights", measures=("flights",), dimensions=("tailnum",)), DATASET)
    found = {row[0]: row[1] for row in rows}
    assert found[None] == flights_frames.flights["tailnum"].null_count() > 0
    assert len(found) == flights_frames.flights["tailnum"].n_unique()


async def test_no_rows(store: PgStore) -> None:
    nobody = Condition("carrier", Operator.EQ, ("nobody",))
    query = Query("flights", measures=("flights", "worst", "mean_delay", "any_late"), filter=nobody)
    assert await read(store, query, DATASET) == [(0, None, 0, None, None)]
    assert await read(store, replace(query, dimensions=("origin",)), DATASET) == []


@pytest.mark.parametrize("chosen", [SPRING, AUTUMN])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "UTC"])
@pytest.mark.parametrize("grain", [Grain.HOUR, Grain.DAY])
async def test_buckets_across_changes_of_the_clock(
    store: PgStore, flights_frames: FlightsFrames, chosen: DateRange, zone: str, grain: Grain
) -> None:
    query = Query("flights", measures=("flights",), time=TimeSelection(grain=grain, zone=zone, range=chosen))
    grid = plan_of(query, DATASET).main.grid
    assert grid is not None
    found = {grid.starts[int(str(bucket))]: count for bucket, count in await read(store, query, DATASET)}
    width = "1h" if grain is Grain.HOUR else "1d"
    local = pl.col("time_hour").dt.convert_time_zone(zone)
    expected = (
        flights_frames.flights.filter(local.dt.date().is_between(chosen.start, chosen.end, closed="left"))
        .group_by(local.dt.truncate(width).dt.convert_time_zone("UTC").alias("start"))
        .len()
    )
    assert found == dict(expected.iter_rows())


async def test_a_wall_clock_without_zone_is_read_in_its_zone(store: PgStore) -> None:
    """The local hours of the dataset were made from instants, so both must give the same, except where a clock time
    occurs twice: PostgreSQL takes the second, standard time."""
    month = DateRange(date(2013, 3, 1), date(2013, 4, 1))
    answers = [
        await read(
            store,
            Query(
                "flights",
                measures=("flights",),
                time=TimeSelection(name, Grain.HOUR, "America/New_York", month),
            ),
            DATASET,
        )
        for name in ("time_hour", "local_hour")
    ]
    assert sorted_rows(answers[0]) == sorted_rows(answers[1])


async def test_sketch_values(store: PgStore, flights_frames: FlightsFrames) -> None:
    query = Query("flights", measures=("approx_planes", "approx_p90"), dimensions=("origin",))
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        (result,) = await snapshot.read(plan_of(query, DATASET))
    assert sorted_rows(rows_of(result.grouped)) == [("EWR",), ("JFK",), ("LGA",)]
    for measure, column, kind in (
        ("approx_planes", "tailnum", pl.String),
        ("approx_p90", "arr_delay", pl.Float64),
    ):
        expected = (
            flights_frames.flights.drop_nulls(column)
            .group_by("origin", pl.col(column).cast(kind))
            .len()
            .rows()
        )
        assert sorted_rows(rows_of(result.values[measure])) == sorted_rows(expected)


async def test_sketches_without_keys_need_no_groups(store: PgStore) -> None:
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        (result,) = await snapshot.read(plan_of(Query("flights", measures=("approx_planes",)), DATASET))
    assert rows_of(result.grouped) == [()]
    assert rows_of(result.values["approx_planes"])


async def test_row_policies_hide_rows(store: PgStore, flights_frames: FlightsFrames) -> None:
    policies = (
        RowPolicy("own", "airlines.carrier = {attributes.carrier} OR {tenant} = 'root'", ("airlines",)),
        RowPolicy("short", "flights.distance < {attributes.far}::int", ("flights",), ("far",)),
    )
    dataset = flights(policies=policies)
    query = Query("flights", measures=("flights",))
    frame = flights_frames.flights
    united = frame.filter(pl.col("carrier") == "UA")
    for principal, expected in (
        (
            Principal("a", "t", attributes={"carrier": "UA", "far": "1000"}),
            united.filter(pl.col("distance") < 1000),
        ),
        (Principal("a", "t", frozenset({"far"}), attributes={"carrier": "UA"}), united),
        (Principal("a", "root", frozenset({"far"}), attributes={"carrier": "UA"}), frame),
        (Principal("a", "t", frozenset({"far"}), attributes={"carrier": "' OR true --"}), frame.clear()),
    ):
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            (result,) = await snapshot.read(plan_of(query, dataset, principal))
        assert rows_of(result.grouped) == [(expected.height,)]
