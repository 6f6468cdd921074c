"""Sales in a partitioned table with a joined one, rollups over them, and segments that were built from nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import asyncpg
import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.domain.model import Dataset, Dimension, Join, Measure, MeasureKind
from broker.domain.rollup import ALWAYS, Coverage, Rollup, Span, micros
from broker.domain.values import DataType
from tests.conftest import FreshDatabase
from tests.support.pg import Connection

SCHEMA = """
CREATE TABLE shops (id integer PRIMARY KEY, city text, motto text);
CREATE TABLE sales (
    id bigint NOT NULL, at timestamptz, shop integer, amount numeric, price float8, note text
) PARTITION BY RANGE (at);
CREATE TABLE sales_2023 PARTITION OF sales FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE sales_2024 PARTITION OF sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (at);
CREATE TABLE sales_2024_1 PARTITION OF sales_2024 FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
CREATE TABLE sales_2024_2 PARTITION OF sales_2024 FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
CREATE TABLE sales_rest PARTITION OF sales DEFAULT;
CREATE UNIQUE INDEX ON sales_2023 (id);
INSERT INTO shops VALUES (1, 'Berlin', 'a'), (2, 'Paris', 'b');
INSERT INTO sales VALUES (1, '2023-05-05 10:07Z', 1, 1.5, 1, 'x'), (2, '2023-05-05 10:09Z', 2, 2.5, 2, 'y'),
                         (3, '2024-02-02 02:02Z', 1, 3.5, 3, 'z');
"""
YEAR_2023 = Span(micros(datetime(2023, 1, 1, tzinfo=UTC)), micros(datetime(2024, 1, 1, tzinfo=UTC)))
YEAR_2024 = Span(YEAR_2023.hi, micros(datetime(2025, 1, 1, tzinfo=UTC)))
QUARTER = 900_000_000


def bucket(text: str) -> Span:
    """The quarter of an hour of an instant in UTC."""
    at = micros(datetime.fromisoformat(text).replace(tzinfo=UTC))
    return Span(at - at % QUARTER, at - at % QUARTER + QUARTER)


def sales(**rollup: object) -> Dataset:
    """The dataset, with one rollup ``by_city``."""
    dimensions = (
        Dimension("at", "sales.at", DataType.TIMESTAMP, ("sales",), time=True),
        Dimension("city", "shops.city", DataType.STRING, ("shops",)),
    )
    measures = (
        Measure("sold", MeasureKind.SUM, "sales.amount", DataType.DECIMAL, 2, tables=("sales",)),
        Measure("paid", MeasureKind.SUM, "sales.price", DataType.DOUBLE, tables=("sales",)),
    )
    made = Rollup("by_city", "sales", "at", ("city",), ("sold", "paid"))
    return Dataset(
        "sales",
        "public.sales",
        {d.name: d for d in dimensions},
        {m.name: m for m in measures},
        {"shops": Join("shops", "public.shops", "sales.shop = shops.id", "sales")},
        default_time="at",
        rollups={"by_city": replace(made, **rollup)},  # type: ignore[arg-type] # fields of a rollup
    )


@dataclass
class World:
    """A database, somebody who writes, and what is installed."""

    dsn: str
    writer: Connection
    schema: PgRollupSchema
    dataset: Dataset

    @property
    def rollup(self) -> Rollup:
        """The only rollup."""
        (rollup,) = self.dataset.rollups.values()
        return rollup

    async def connect(self) -> Connection:
        """One more connection, for the caller to close."""
        return await asyncpg.connect(self.dsn)

    async def snapshot(self) -> str:
        """The snapshot that a build would be read in."""
        found = await self.writer.fetchval("SELECT pg_current_snapshot()::text")
        return str(found)

    async def build(self, span: Span, snapshot: str = "", token: str = "") -> None:
        """Publishes an empty segment as if it had been built from a snapshot, by default from one of now."""
        async with self.writer.transaction():
            rollup = await self.writer.fetchval(
                "UPDATE broker.rollup SET generation = generation + 1 WHERE name = $1 RETURNING id",
                self.rollup.name,
            )
            await self.writer.execute(
                "UPDATE broker.rollup_segment SET retire_time = now() WHERE rollup = $1 AND lo = $2",
                rollup,
                span.lo,
            )
            await self.writer.execute(
                "INSERT INTO broker.rollup_segment"
                " (rollup, lo, hi, version, snapshot, token, as_of, row_count, byte_count)"
                " VALUES ($1, $2, $3, 1, $4::text::pg_snapshot, $5, now(), 0, 0)",
                rollup, *span, snapshot or await self.snapshot(), token,
            )  # fmt: skip

    async def coverage(self, span: Span = ALWAYS) -> Coverage:
        """What is covered now."""
        (found,) = await self.schema.coverage(self.dataset, [self.rollup], span)
        return found


@pytest.fixture
async def world(fresh_database: FreshDatabase) -> AsyncIterator[World]:
    """The sales, installed, with the years 2023 and 2024 built."""
    dsn = await fresh_database()
    async with AsyncExitStack() as stack:
        writer = await asyncpg.connect(dsn)
        stack.push_async_callback(writer.close)
        await writer.execute(SCHEMA)
        await migrate(dsn, "rollups")
        schema = PgRollupSchema(await stack.enter_async_context(open_rollup_database(dsn)))
        made = World(dsn, writer, schema, sales())
        await schema.install(made.dataset)
        await made.build(YEAR_2023)
        await made.build(YEAR_2024)
        yield made
