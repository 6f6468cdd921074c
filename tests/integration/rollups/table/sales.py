"""Sales with everything that is hard to merge: null times, a wall clock, dates, all kinds of measures, a join."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from broker.adapters.sql.rollup_table import (
    SCHEMA,
    relation_columns,
    table_columns,
    table_ddl,
    table_name,
    table_sql,
)
from broker.domain.measures import order_keys, states
from broker.domain.model import Dataset, Dimension, Join, Measure, MeasureKind, RowPolicy
from broker.domain.plan import BUCKET, Finish, Leaf, Scan, ScanResult, SegmentBlock
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import EPOCH, Rollup, Storage
from broker.domain.timegrid import TimeGrid, build
from broker.domain.values import Column, DataType
from tests.integration.store.conftest import rows_of
from tests.support.pg import Connection

START, DAYS = datetime(2024, 3, 1, tzinfo=UTC), 40
END = START + timedelta(days=DAYS)
SQL = """
CREATE TABLE shops (id bigint PRIMARY KEY, city text);
CREATE TABLE sales (
    id bigint PRIMARY KEY, at timestamptz, wall timestamp, day date, shop bigint, item text, size int,
    price numeric(12, 3), weight float8, gift bool, tenant text
);
CREATE INDEX sales_at ON sales (at);
CREATE INDEX sales_wall ON sales (wall);
INSERT INTO shops VALUES (1, 'Aachen'), (2, 'Zürich'), (3, NULL);
"""
_SALES, _JOINED = ("sales",), ("sales", "shops")
_GIFTS = "sales.gift"


MERGEABLE = (
    "count", "gifts", "sizes", "revenue", "mass", "smallest", "dearest", "a_to", "newest", "first_day", "any_gift",
    "all_gifts", "mean_price", "mean_size", "spread", "deviation", "first_item", "last_weight",
)  # fmt: skip


def rollup(time: str = "at", grain: Grain = Grain.FIFTEEN_MINUTES, zone: str = "UTC") -> Rollup:
    """A rollup by all dimensions that are not times."""
    dimensions = ("item", "size", "gift", "unit", "city", "tenant")
    return Rollup("all", "sales", time, dimensions, MERGEABLE, (grain,), zone, storage=Storage.TABLE)


def dataset() -> Dataset:
    """The dataset; ``at`` is its default time."""
    dimensions = (
        Dimension("at", "sales.at", DataType.TIMESTAMP, _SALES, time=True),
        Dimension(
            "wall", "sales.wall", DataType.TIMESTAMP, _SALES, time=True, stored_zone="America/New_York"
        ),
        Dimension("day", "sales.day", DataType.DATE, _SALES, time=True),
        Dimension("item", "sales.item", DataType.STRING, _SALES),
        Dimension("size", "sales.size", DataType.INT64, _SALES),
        Dimension("gift", "sales.gift", DataType.BOOL, _SALES),
        Dimension("unit", "sales.price / 10", DataType.DECIMAL, _SALES, scale=1),
        Dimension("city", "shops.city", DataType.STRING, ("shops",)),
        Dimension("tenant", "sales.tenant", DataType.STRING, _SALES),
    )
    measures = (
        Measure("count", MeasureKind.COUNT),
        Measure("gifts", MeasureKind.COUNT, filter=_GIFTS, tables=_SALES),
        Measure("sizes", MeasureKind.SUM, "sales.size", tables=_SALES),
        Measure("revenue", MeasureKind.SUM, "sales.price", DataType.DECIMAL, 2, tables=_SALES),
        Measure("mass", MeasureKind.SUM, "sales.weight", DataType.DOUBLE, tables=_SALES),
        Measure("smallest", MeasureKind.MIN, "sales.size", tables=_SALES),
        Measure("dearest", MeasureKind.MAX, "sales.price", DataType.DECIMAL, 3, tables=_SALES),
        Measure("a_to", MeasureKind.MIN, "shops.city", DataType.STRING, tables=_JOINED),
        Measure("newest", MeasureKind.MAX, "sales.at", DataType.TIMESTAMP, tables=_SALES),
        Measure("first_day", MeasureKind.MIN, "sales.day", DataType.DATE, tables=_SALES),
        Measure("any_gift", MeasureKind.MAX, _GIFTS, DataType.BOOL, tables=_SALES),
        Measure("all_gifts", MeasureKind.MIN, _GIFTS, DataType.BOOL, tables=_SALES),
        Measure("mean_price", MeasureKind.AVG, "sales.price", DataType.DECIMAL, 3, tables=_SALES),
        Measure("mean_size", MeasureKind.AVG, "sales.size", filter=_GIFTS, tables=_SALES),
        Measure("spread", MeasureKind.VARIANCE, "sales.weight", DataType.DOUBLE, tables=_SALES),
        Measure("deviation", MeasureKind.STDDEV, "1e9 + sales.size", DataType.DOUBLE, tables=_SALES),
        Measure("first_item", MeasureKind.FIRST, "sales.item", DataType.STRING, tables=_SALES),
        Measure("last_weight", MeasureKind.LAST, "sales.weight", DataType.DOUBLE, tables=_SALES),
        Measure("items", MeasureKind.APPROX_DISTINCT, "sales.item", DataType.STRING, tables=_SALES),
    )
    return Dataset(
        "sales",
        "public.sales",
        {d.name: d for d in dimensions},
        {m.name: m for m in measures},
        {"shops": Join("shops", "public.shops", "sales.shop = shops.id", "sales")},
        (RowPolicy("own", "sales.tenant = {tenant}", _SALES, terms=(("tenant", "tenant"),)),),
        primary_key=("id",),
        primary_key_types=(DataType.INT64,),
        default_time="at",
        rollups={"all": rollup()},
    )


async def fill(connection: Connection, random: Random, rows: int) -> None:
    """Makes the tables. One row in twenty has no time, values are null now and then, two ids share an instant."""
    await connection.execute(SQL)
    made = []
    for id_ in range(rows):
        at = START + timedelta(seconds=random.randrange(DAYS * 1440) * 60)
        when = None if random.random() < 0.05 else at
        made.append((
            id_, when, when and when.replace(tzinfo=None), when and when.date(), random.choice([1, 2, 3, None]),
            random.choice(["pen", "Ähre", "", "zip", None]), random.choice([1, 2, 3, None]),
            random.choice([Decimal(random.randrange(10**6)) / 1000, None]), random.choice([random.gauss(1e6, 1), None]),
            random.choice([True, False, None]), random.choice(["acme", "bolt"]),
        ))  # fmt: skip
    await connection.copy_records_to_table("sales", records=made)
    await connection.execute("ANALYZE")


def finish(scan: Scan) -> Finish:
    """What a read of single scans needs to know: the leaves, and the grid."""
    keys = order_keys(scan.dataset)
    leaves = tuple(Leaf(m, states(m, keys)) for m in scan.leaves)
    return Finish((), (), leaves, (), grid=scan.grid)


def scan(
    source: Dataset,
    time: str = "at",
    *,
    measures: Iterable[str] = MERGEABLE,
    dimensions: Iterable[str] = (),
    grid: TimeGrid | None = None,
    bounds: AbsoluteRange | None = None,
) -> Scan:
    """A scan of the dataset."""
    return Scan(
        source,
        tuple(source.dimensions[name] for name in dimensions),
        tuple(source.measures[name] for name in measures),
        source.dimensions[time],
        bounds,
        grid,
    )


def whole(source: Dataset, declared: Rollup) -> Scan:
    """What a rollup's table holds, as a scan."""
    bounds = AbsoluteRange(START, END)
    grid = build(bounds, declared.base, declared.zone)
    return scan(source, declared.time, dimensions=declared.dimensions, grid=grid, bounds=bounds)


def _stored(column: Column, value: object, grid: TimeGrid) -> object:
    """A value in wire form as PostgreSQL's own."""
    if column.name == BUCKET:
        assert isinstance(value, int)
        return grid.starts[value]
    if value is not None and column.type is DataType.TIMESTAMP:
        assert isinstance(value, int)
        return EPOCH + timedelta(microseconds=value)
    if value is not None and column.type is DataType.DATE:
        assert isinstance(value, int)
        return (EPOCH + timedelta(days=value)).date()
    return value


async def store(connection: Connection, source: Dataset, declared: Rollup, read: ScanResult) -> None:
    """Makes the table of a rollup from the states of :func:`whole`."""
    for statement in table_ddl(source, declared):
        await connection.execute(statement)
    grid = build(AbsoluteRange(START, END), declared.base, declared.zone)
    block = read.grouped[0]
    assert not isinstance(block, SegmentBlock)
    records = [
        tuple(_stored(c, v, grid) for c, v in zip(block.columns, row, strict=True))
        for row in rows_of(read.grouped)
    ]
    columns = [c.name for c in table_columns(source, declared)]
    await connection.copy_records_to_table(
        table_name(source.name, declared.name), schema_name=SCHEMA, columns=columns, records=records
    )


async def disguise(connection: Connection, source: Dataset, declared: Rollup) -> Rollup:
    """The same rollup kept by somebody else: a view with other names for everything, times as the source has them."""
    time = source.dimensions[declared.time]
    form = "x.{0}"
    if time.type is DataType.DATE:
        form = "x.{0}::date"
    elif time.stored_zone:
        form = f"(x.{{0}} AT TIME ZONE '{time.stored_zone}')"
    names = {m or declared.time: f"Col {i}" for i, m in enumerate(relation_columns(source, declared))}
    selected = [
        (form.format(c.sql) if i == 0 else f"x.{c.sql}") + f' AS "Col {i}"'
        for i, c in enumerate(table_columns(source, declared))
    ]
    await connection.execute(
        f'CREATE VIEW public."Other View" AS SELECT {", ".join(selected)} '
        f"FROM {table_sql(source.name, declared.name)} AS x"
    )
    return replace(declared, storage=Storage.EXTERNAL, relation='public."Other View"', columns=names)
