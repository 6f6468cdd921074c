"""Rollups of visits in a database of each test's own, and what builds them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_rollup_database import RollupDatabase, open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.adapters.pg_store import PgStore
from broker.aggregation.executor import WorkerPools
from broker.domain.model import Dataset
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.rollup import Coverage, Rollup, Span
from broker.policy.rollups.definition import definition
from broker.rollups.build import BuildTools
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from tests.conftest import FreshDatabase
from tests.integration.rollups.build import visits
from tests.support.pg import Connection


class ByHand:
    """A schema whose marks the test writes itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        return ()

    async def install(self, dataset: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        source = await self._connection.fetchval(
            "INSERT INTO broker.rollup_source (dataset, time, definition, fingerprint) "
            "VALUES ($1, 'at', '', '') RETURNING id",
            dataset.name,
        )
        for rollup in dataset.rollups.values():
            await self._connection.execute(
                "INSERT INTO broker.rollup (source, name, definition) VALUES ($1, $2, $3)",
                source,
                rollup.name,
                definition(dataset, rollup),
            )
        return ()

    async def uninstall(self, dataset: Dataset) -> None:
        return

    async def coverage(self, dataset: Dataset, rollups: Sequence[Rollup], span: Span) -> tuple[Coverage, ...]:
        return tuple(Coverage(rollup.name) for rollup in rollups)


@pytest.fixture
async def dsn(fresh_database: FreshDatabase) -> str:
    """A database with the tables of rollups."""
    found = await fresh_database()
    await migrate(found, "rollups")
    return found


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[Connection]:
    """A connection that writes."""
    connection = await asyncpg.connect(dsn)
    await visits.fill(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def database(owner: Connection, dsn: str) -> AsyncIterator[RollupDatabase]:
    """What rollups are written with."""
    async with open_rollup_database(dsn) as opened:
        yield opened


@pytest.fixture
def dataset() -> Dataset:
    """Visits with a rollup in segments and one in a table."""
    return visits.dataset(visits.BY_SITE, visits.AS_TABLE)


@pytest.fixture
async def rollups(owner: Connection, database: RollupDatabase, dataset: Dataset) -> PgRollups:
    """The store, with both rollups installed by hand."""
    made = PgRollups(database, ByHand(owner), {dataset.name: dataset}, SystemClock())
    await made.install(dataset)
    return made


@pytest.fixture
async def store(owner: Connection, dsn: str) -> AsyncIterator[PgStore]:
    """What builds read with."""
    limits = {name: PoolLimits(8, 8, 4, 1) for name in PoolName}
    pools = await PgPools.open(dsn, limits, Settings("rollup test", connect_timeout=20.0, patience=5.0))
    yield PgStore(pools, SystemClock())
    await pools.aclose()


@pytest.fixture
async def workers() -> AsyncIterator[WorkerPools]:
    """What merges."""
    pools = WorkerPools({PoolName.JOB: PoolLimits(8, 8, 1, 1)}, SystemClock(), Telemetry.off())
    await pools.start()
    yield pools
    await pools.close()


class Still(SystemClock):
    """A clock by which nothing takes long: what did, on a busy machine, would not be looked for again for long."""

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
async def kept(database: RollupDatabase, dataset: Dataset) -> PgRollups:
    """The store, with marks written by triggers."""
    made = PgRollups(database, PgRollupSchema(database), {dataset.name: dataset}, Still())
    await made.install(dataset)
    return made


@pytest.fixture
def tools(kept: PgRollups, store: PgStore, workers: WorkerPools) -> BuildTools:
    """Everything that a build takes."""
    return BuildTools(
        kept, store, workers, SystemClock(), lambda: str(uuid.uuid4()), Telemetry.off(), lease=60.0
    )
