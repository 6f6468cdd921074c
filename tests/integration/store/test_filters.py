"""Filters against the files, and having, order and limit where they are pushed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.query import (
    AllOf,
    AnyOf,
    Filter,
    Not,
    Operator,
    OrderKey,
    Query,
)
from tests.integration.store.conftest import Row, condition, plan_of, read
from tests.support.datasets import flights
from tests.support.flights_frames import FlightsFrames

DATASET = flights()
_LAST = (1 << 63) - 1


def micros(instant: datetime) -> int:
    return int(instant.timestamp()) * 1_000_000


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
