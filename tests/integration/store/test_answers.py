"""What the statements compute, against the CSV files and against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import polars as pl
import pytest

from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.domain.model import Dataset, Dimension, RowPolicy
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import (
    AllOf,
    AnyOf,
    Condition,
    DateRange,
    Filter,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    TimeSelection,
)
from broker.domain.values import DataType, Scalar
from tests.conftest import FreshDatabase
from tests.integration.store.conftest import MakeStore, Row, in_time, plan_of, read, rows_of
from tests.support.datasets import flights
from tests.support.flights_frames import FlightsFrames

DATASET = flights()
YEAR = DateRange(date(2013, 1, 1), date(2014, 1, 1))
SPRING = DateRange(date(2013, 3, 8), date(2013, 3, 13))  # America/New_York changed its clocks on the 10th
AUTUMN = DateRange(date(2013, 11, 1), date(2013, 11, 6))  # and on the 3rd
GROUPABLE = tuple(m for m in DATASET.measures if not m.startswith("approx"))
_LAST = (1 << 63) - 1


def micros(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000


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


def condition(member: str, operator: Operator, *values: Scalar) -> Condition:
    return Condition(member, operator, values)


DELAY, TAIL, DEST = pl.col("dep_delay"), pl.col("tailnum"), pl.col("dest")
FILTERS: list[tuple[Filter, pl.Expr]] = [
    (condition("dep_delay", Operator.EQ, 0), DELAY == 0),
    (condition("dep_delay", Operator.NE, 0), DELAY != 0),
    (condition("dep_delay", Operator.LT, -5), DELAY < -5),
    (condition("dep_delay", Operator.LE, -5), DELAY <= -5),
    (condition("dep_delay", Operator.GT, 100), DELAY > 100),
    (condition("dep_delay", Operator.GE, 100), DELAY >= 100),
    (condition("dep_delay", Operator.BETWEEN, 10, 20), (DELAY >= 10) & (DELAY < 20)),
    (condition("dep_delay", Operator.IN, 1, 2, _LAST), DELAY.is_in([1, 2])),
    (condition("dep_delay", Operator.NOT_IN, 1, 2), ~DELAY.is_in([1, 2])),
    (condition("dep_delay", Operator.IS_NULL), DELAY.is_null()),
    (condition("dep_delay", Operator.IS_NOT_NULL), DELAY.is_not_null()),
    (Not(condition("dep_delay", Operator.IN, 1, 2)), ~DELAY.is_in([1, 2])),
    (Not(condition("dep_delay", Operator.GT, 0)), DELAY <= 0),
    (condition("tailnum", Operator.NOT_IN, "N14228"), TAIL != "N14228"),
    (condition("tailnum", Operator.CONTAINS, "14"), TAIL.str.contains("14", literal=True)),
    (condition("tailnum", Operator.CONTAINS, ""), TAIL.is_not_null()),
    (condition("tailnum", Operator.STARTS_WITH, "N1"), TAIL.str.starts_with("N1")),
    (condition("tailnum", Operator.ENDS_WITH, "AA"), TAIL.str.ends_with("AA")),
    (condition("tailnum", Operator.ENDS_WITH, ""), TAIL.is_not_null()),
    (condition("tailnum", Operator.CONTAINS, "%"), TAIL.str.contains("%", literal=True)),
    (condition("tailnum", Operator.STARTS_WITH, "N_"), TAIL.str.starts_with("N_")),
    (condition("dest", Operator.GE, "SF"), DEST >= "SF"),
    (condition("dest", Operator.BETWEEN, "B", "Ba"), (DEST >= "B") & (DEST < "Ba")),
    (condition("late", Operator.EQ, True), pl.col("arr_delay") > 15),
    (condition("late", Operator.NE, True), pl.col("arr_delay") <= 15),
    (
        condition("day", Operator.BETWEEN, date(2013, 2, 1), date(2013, 3, 1)),
        pl.col("month") == 2,
    ),
    (
        condition("time_hour", Operator.GE, datetime(2013, 7, 1, tzinfo=UTC)),
        pl.col("time_hour") >= datetime(2013, 7, 1, tzinfo=UTC),
    ),
    (
        condition("hours", Operator.EQ, Decimal("1.5")),
        ((pl.col("air_time") * 10 + 30) // 60 == 15),
    ),
    (condition("speed", Operator.GT, 480.5), pl.col("distance") / (pl.col("air_time") / 60) > 480.5),
    (AllOf(()), pl.lit(value=True)),
    (AnyOf(()), pl.lit(value=False)),
    (Not(AnyOf(())), pl.lit(value=True)),
    (
        AnyOf((condition("dep_delay", Operator.GT, 0), condition("tailnum", Operator.IS_NULL))),
        (DELAY > 0) | TAIL.is_null(),
    ),
    (
        Not(AllOf((condition("dep_delay", Operator.GT, 0), condition("dest", Operator.EQ, "ATL")))),
        ~((DELAY > 0) & (DEST == "ATL")),
    ),
]


@pytest.mark.parametrize(("where", "oracle"), FILTERS)
async def test_filters_against_the_files(
    store: PgStore, copying: PgStore, flights_frames: FlightsFrames, where: Filter, oracle: pl.Expr
) -> None:
    expected = flights_frames.flights.filter(oracle).height
    query = Query("flights", measures=("flights",), filter=where)
    assert await read(store, query, DATASET) == [(expected,)]
    assert await read(copying, query, DATASET) == [(expected,)]


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


ORDERS: list[tuple[tuple[OrderKey, ...], Callable[[Row], Any]]] = [
    ((), lambda row: (row[0] is None, row[0] or "")),
    ((OrderKey("dest_zone"),), lambda row: (row[0] is None, row[0] or "")),
    ((OrderKey("dest_zone", nulls_first=True),), lambda row: (row[0] is not None, row[0] or "")),
    (
        (OrderKey("flights", descending=True),),
        lambda row: (-int(str(row[1])), row[0] is None, row[0] or ""),
    ),
    (
        (OrderKey("late_share"),),
        lambda row: (int(str(row[2])) / int(str(row[1])), row[0] is None, row[0] or ""),
    ),
    (
        (OrderKey("mean_delay", descending=True),),
        lambda row: (-int(str(row[4])) / int(str(row[3])), row[0] is None, row[0] or ""),
    ),
]


@pytest.mark.parametrize(("order", "key"), ORDERS)
async def test_pushed_down_order_is_total(
    store: PgStore, order: tuple[OrderKey, ...], key: Callable[[Row], Any]
) -> None:
    query = Query(
        "flights",
        measures=("flights", "late_share", "mean_delay"),
        dimensions=("dest_zone",),
        filter=condition("tailnum", Operator.IS_NOT_NULL),
        having=condition("flights", Operator.GT, 5),
        order=order,
    )
    plan = plan_of(query, DATASET)
    assert [c.name for c in plan.finish.columns] == ["dest_zone", "flights", "late_share", "mean_delay"]
    found = await read(store, query, DATASET)
    assert found == sorted(found, key=key)
    assert len(found) > 3
    limited = await read(store, replace(query, limit=3), DATASET)
    assert limited == found[:3]


HAVINGS: list[tuple[Filter, Callable[[dict[str, float | None]], bool | None]]] = [
    (condition("delay_stddev", Operator.GT, 45.0), lambda r: r["sd"] is not None and r["sd"] > 45.0),
    (condition("delay_variance", Operator.IS_NULL), lambda r: r["sd"] is None),
    (Not(condition("mean_delay", Operator.LT, 5.0)), lambda r: r["mean"] is not None and r["mean"] >= 5.0),
    (condition("late_share", Operator.BETWEEN, 0.2, 0.25), lambda r: 0.2 <= (r["share"] or 0.0) < 0.25),
    (
        condition("latest", Operator.LT, datetime(2013, 12, 31, tzinfo=UTC)),
        lambda r: (r["latest"] or 0) < micros(datetime(2013, 12, 31, tzinfo=UTC)),
    ),
    (condition("any_late", Operator.NE, True), lambda r: r["any"] is not None and not r["any"]),
]


@pytest.mark.parametrize(("having", "keeps"), HAVINGS)
async def test_pushed_down_having(
    store: PgStore, having: Filter, keeps: Callable[[dict[str, float | None]], bool | None]
) -> None:
    measures = ("delay_variance", "delay_stddev", "mean_delay", "late_share", "latest", "any_late")
    query = Query("flights", measures=measures, dimensions=("dest",))

    def finished(row: tuple[float | None, ...]) -> dict[str, float | None]:
        n, m2, total = row[1] or 0, row[3], row[8]
        return {
            "sd": (m2 / (n - 1)) ** 0.5 if n > 1 and m2 is not None else None,
            "mean": total / n if n and total is not None else None,
            "share": (row[9] or 0) / (row[10] or 1),
            "latest": row[11],
            "any": row[12],
        }

    everything = await read(store, query, DATASET)
    kept = await read(store, replace(query, having=having), DATASET)
    assert kept == [row for row in everything if keeps(finished(row))]  # type: ignore[arg-type] # numbers after the key
    assert 0 < len(kept) < len(everything)


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


STRINGS = [
    None, "", " ", "\\N", "\\.", '"', '""', "'", ",", "\n", "\r\n", "\r", "a\nb", "\ufeff", "\ufeffx", "null", "NULL",
    "\t", "日本", "\U0001f600", "%", "_", "\\", "t", "a,b\"c\nd", "0", "NaN",
]  # fmt: skip


@pytest.fixture
async def strings(fresh_database: FreshDatabase, make_store: MakeStore) -> tuple[PgStore, PgStore]:
    """Stores, one of which copies, on a table of strings that are hard to write down."""
    dsn = await fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE strings (s text, n int)")
    await connection.executemany(
        "INSERT INTO strings VALUES ($1, $2)", [(s, i) for i, s in enumerate(STRINGS)]
    )
    await connection.close()
    return await make_store(dsn), await make_store(dsn, limits=ReadLimits(rows=-1))


TEXTS = Dataset(
    "strings",
    "strings",
    {
        "s": Dimension("s", "strings.s", DataType.STRING, ("strings",)),
        "n": Dimension("n", "strings.n", DataType.INT64, ("strings",)),
    },
    {},
)


@pytest.mark.parametrize("dimensions", [("s",), ("n", "s"), ("s", "n")])
async def test_strings_come_back_as_they_are(
    strings: tuple[PgStore, PgStore], dimensions: tuple[str, ...]
) -> None:
    by_code_point = sorted((s for s in STRINGS if s is not None), key=lambda s: s.encode())
    for store in strings:
        found = await read(store, Query("strings", dimensions=dimensions), TEXTS)
        again = await read(store, Query("strings", dimensions=dimensions), TEXTS)
        assert again == found
        if dimensions[0] == "n":
            assert [row[1] for row in found] == STRINGS
        else:
            assert [row[0] for row in found] == [*by_code_point, None]


@pytest.mark.parametrize("value", [s for s in STRINGS if s is not None])
async def test_strings_are_found_as_they_are(strings: tuple[PgStore, PgStore], value: str) -> None:
    for store in strings:
        for operator, matches in (
            (Operator.EQ, lambda s: s == value),
            (Operator.CONTAINS, lambda s: value in s),
            (Operator.STARTS_WITH, lambda s: s.startswith(value)),
            (Operator.ENDS_WITH, lambda s: s.endswith(value)),
        ):
            query = Query("strings", dimensions=("n",), filter=condition("s", operator, value))
            found = [row[0] for row in await read(store, query, TEXTS)]
            assert found == [i for i, s in enumerate(STRINGS) if s is not None and matches(s)], operator
        both = Query("strings", dimensions=("n",), filter=condition("s", Operator.IN, value, "nothing"))
        assert await read(store, both, TEXTS) == [(STRINGS.index(value),)]


@pytest.mark.parametrize("value", ["\ufeff", "\ufeffx"])
async def test_a_byte_order_mark_at_the_start_of_a_block_stays(
    strings: tuple[PgStore, PgStore], value: str
) -> None:
    query = Query("strings", dimensions=("s",), filter=condition("s", Operator.EQ, value))
    for store in strings:
        assert await read(store, query, TEXTS) == [(value,)]
