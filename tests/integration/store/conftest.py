"""A store on the shared flights, and helpers to look at what it leaves behind."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import polars as pl
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.adapters.sql.gate_rules import GateLimits
from broker.domain.deadline import Deadline
from broker.domain.model import Dataset
from broker.domain.plan import Block, Columns, CsvBlock, HeldBlock, Plan, Rows, SegmentBlock
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Principal
from broker.domain.query import Condition, Operator, Query
from broker.domain.values import Column, DataType, Scalar
from broker.policy.resolve import resolve_query
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from tests.support.pg import Databases, run_sync
from tests.support.samples import START, make_events

NOW = datetime(2013, 12, 31, tzinfo=UTC)
PRINCIPAL = Principal("ada", "acme")
CLOCK = SystemClock()
_WIRE = {
    DataType.INT64: pl.Int64,
    DataType.DOUBLE: pl.Float64,
    DataType.BOOL: pl.String,
    DataType.STRING: pl.String,
    DataType.TIMESTAMP: pl.Int64,
    DataType.DATE: pl.Int64,
}
Row: TypeAlias = tuple[object, ...]
MakeStore: TypeAlias = "Callable[..., Awaitable[PgStore]]"


def in_time(seconds: float = 60.0) -> Deadline:
    """A deadline that no healthy test meets."""
    return Deadline.after(seconds, CLOCK.monotonic())


def plan_of(query: Query, dataset: Dataset, principal: Principal = PRINCIPAL) -> Plan:
    """The plan of a query."""
    return resolve_query(query, dataset, principal, NOW)


def parse(columns: tuple[Column, ...], data: bytes) -> list[Row]:
    """The rows of CSV as :class:`CsvBlock` describes it."""
    kinds = [_WIRE.get(c.type) or pl.Decimal(38, c.scale) for c in columns]
    frame = pl.read_csv(
        io.BytesIO(data), has_header=False, schema={str(i): kind for i, kind in enumerate(kinds)}
    )
    for i, column in enumerate(columns):
        if column.type is DataType.BOOL:
            frame = frame.with_columns(pl.col(str(i)) == "t")
    return frame.rows()


def rows_of(blocks: Iterable[Block]) -> list[Row]:
    """The rows of any blocks, in order."""
    found: list[Row] = []
    for block in blocks:
        assert not isinstance(block, SegmentBlock | HeldBlock), "stores read no files"
        match block:
            case CsvBlock():
                found += parse(block.columns, block.data)
            case Columns():
                found += zip(*block.values, strict=True)
            case Rows():
                found += block.rows
    return found


async def read(store: PgStore, query: Query, dataset: Dataset) -> list[Row]:
    """The grouped states of a query's main scan."""
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        (result, *_) = await snapshot.read(plan_of(query, dataset))
    return rows_of(result.grouped)


def condition(member: str, operator: Operator, *values: Scalar) -> Condition:
    """A condition."""
    return Condition(member, operator, values)


class Watcher:
    """Looks at the broker's sessions from outside."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection

    async def sessions(self, where: str = "true") -> int:
        """How many of the broker's sessions of this database are in a state."""
        found = await self.connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE application_name = 'store under test' AND datname = current_database() AND ({where})"
        )
        return int(found)

    async def nothing_runs(self) -> bool:
        """Whether no statement and no transaction of the broker is left."""
        return await self.sessions("state <> 'idle'") == 0

    async def something_sleeps(self) -> bool:
        """Whether a statement of the broker that sleeps on purpose is being executed."""
        return await self.sessions("state = 'active' AND wait_event = 'PgSleep'") > 0


@pytest.fixture
async def watcher(flights_dsn: str) -> AsyncIterator[Watcher]:
    """Looks at the sessions in the shared flights database."""
    connection = await asyncpg.connect(flights_dsn, server_settings={"application_name": "watcher"})
    yield Watcher(connection)
    await connection.close()


@pytest.fixture
async def make_pools() -> AsyncIterator[Callable[..., Awaitable[PgPools]]]:
    """Makes pools with a number of connections each, and closes them."""
    made: list[PgPools] = []

    async def make(dsn: str, connections: int = 2, replica: str = "") -> PgPools:
        limits = {
            name: PoolLimits(8, 8, connections, 1, replica_dsn=replica if name is PoolName.JOB else "")
            for name in PoolName
        }
        made.append(
            await PgPools.open(dsn, limits, Settings("store under test", connect_timeout=20.0, patience=5.0))
        )
        return made[-1]

    yield make
    for pools in made:
        await pools.aclose()


@pytest.fixture
async def make_store(make_pools: Callable[..., Awaitable[PgPools]]) -> MakeStore:
    """Makes a store, by default with SQL enabled."""

    async def make(
        dsn: str,
        connections: int = 2,
        limits: ReadLimits | None = None,
        gate: GateLimits | None = GateLimits(),  # noqa: B008 - immutable
        replica: str = "",
    ) -> PgStore:
        return PgStore(await make_pools(dsn, connections, replica), CLOCK, limits, gate)

    return make


@pytest.fixture
async def store(flights_dsn: str, make_store: MakeStore) -> PgStore:
    """A store on the shared flights."""
    return await make_store(flights_dsn)


@pytest.fixture
async def copying(flights_dsn: str, make_store: MakeStore) -> PgStore:
    """A store that reads everything by COPY."""
    return await make_store(flights_dsn, limits=ReadLimits(rows=-1))


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Reads the metrics that were recorded."""
    return InMemoryMetricReader()


@pytest.fixture
def telemetry(reader: InMemoryMetricReader) -> Iterator[Telemetry]:
    """Telemetry whose metrics the test reads."""
    meters = MeterProvider([reader], shutdown_on_exit=False)
    yield Telemetry(NoOpTracerProvider(), meters)
    meters.shutdown()


@pytest.fixture(scope="session")
def events_dsn(databases: Databases) -> str:
    """The events, in one table, in partitions, thinned out, in a view, and in tables of few rows and of none."""

    async def make() -> str:
        dsn = await databases.create()
        connection = await asyncpg.connect(dsn)
        await make_events(connection, 250_000)
        await make_events(connection, 200_000, "parted", partitions=2)
        await make_events(connection, 100, "few")
        await make_events(connection, 0, "nothing")
        await connection.execute("CREATE VIEW seen AS SELECT * FROM events")
        # Autovacuum would give the empty blocks at the end back, some time or other.
        await connection.execute(
            "CREATE TABLE thinned WITH (autovacuum_enabled = off) AS SELECT * FROM events"
        )
        await connection.execute("DELETE FROM thinned WHERE at > $1::timestamptz + interval '45 days'", START)
        await connection.execute("ANALYZE thinned")
        name = dsn.rpartition("/")[2]  # the tables are too small for the planner to like samples of them
        await connection.execute(f"ALTER DATABASE {name} SET random_page_cost = 0.2")
        await connection.close()
        return dsn

    return run_sync(make())


@pytest.fixture
async def events_store(events_dsn: str, make_store: MakeStore) -> PgStore:
    """A store on the events."""
    return await make_store(events_dsn)


@pytest.fixture
async def events_connection(events_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own."""
    found = await asyncpg.connect(events_dsn)
    yield found
    await found.close()
