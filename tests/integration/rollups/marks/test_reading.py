"""Coverage in the snapshot of an answer: one round trip, of this snapshot and no other, on a standby too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_rollup_coverage import ABSENT, STATE, CoverageReading
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.adapters.pg_snapshot import PgSnapshot
from broker.adapters.pg_store import PgStore
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.deadline import Deadline
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.rollup import ALWAYS, Rule, Storage, Tracking
from broker.ports.clock import Clock
from broker.runtime.clock import SystemClock
from tests.conftest import FreshDatabase
from tests.integration.rollups.marks.conftest import SCHEMA, YEAR_2023, YEAR_2024, World, bucket, sales
from tests.integration.store.test_replica import connected, standby_dsn
from tests.support.eventually import eventually
from tests.support.segments import HandClock

__all__ = ["standby_dsn"]
CLOCK = SystemClock()
OLD = bucket("2023-05-05 10:07")


@asynccontextmanager
async def opened(dsn: str, clock: Clock = CLOCK) -> AsyncIterator[PgStore]:
    """A store, as answers use it."""
    pools = await PgPools.open(dsn, {name: PoolLimits(8, 8, 2, 1) for name in PoolName}, Settings("reading"))
    try:
        yield PgStore(pools, clock)
    finally:
        await pools.aclose()


@pytest.fixture
async def store(world: World) -> AsyncIterator[PgStore]:
    """A store over the sales."""
    async with opened(world.dsn) as made:
        yield made


def soon() -> Deadline:
    """A deadline that no healthy test meets."""
    return Deadline.after(60.0, CLOCK.monotonic())


async def test_a_snapshot_covers_what_it_sees(world: World, store: PgStore) -> None:
    async with store.snapshot(PoolName.DASHBOARD, soon()) as snapshot:
        await world.writer.execute("INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1)")
        ((before,), text) = await snapshot.coverage(world.dataset, [world.rollup], ALWAYS)
        assert (before.dirty, before.unusable, before.lateness) == ((), None, None)
        assert [segment.span for segment in before.segments] == [YEAR_2023, YEAR_2024]
    async with store.snapshot(PoolName.DASHBOARD, soon()) as snapshot:
        ((after,), later) = await snapshot.coverage(world.dataset, [world.rollup], ALWAYS)
    assert after.dirty == (OLD,)
    xid = await world.writer.fetchval("SELECT max(xid) FROM broker.rollup_mark")
    assert (TransactionView.parse(text).sees(xid), TransactionView.parse(later).sees(xid)) == (False, True)


@pytest.mark.parametrize(
    "change",
    ["TRUNCATE sales_2023", "ALTER TABLE sales DETACH PARTITION sales_2023", "DROP TABLE sales_2023",
     "CREATE TABLE p PARTITION OF sales FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')",
     "ALTER TABLE shops ALTER city TYPE text USING 'x'"],
)  # fmt: skip
async def test_what_rows_are_read_of_now_is_not_what_the_snapshot_says(
    change: str, world: World, store: PgStore
) -> None:
    """Such changes show in tables at once, in snapshots from before them too, where rollups may not be used then."""
    await world.writer.execute("CREATE TABLE unrelated ()")
    async with store.snapshot(PoolName.DASHBOARD, soon()) as snapshot:
        await world.writer.execute(change)
        ((coverage,), _) = await snapshot.coverage(world.dataset, [world.rollup], ALWAYS)
    assert coverage.unusable is Rule.DEF


async def test_without_tables_nothing_is_covered_and_the_snapshot_goes_on(
    fresh_database: FreshDatabase,
) -> None:
    dataset = sales()
    outside = sales(storage=Storage.EXTERNAL, tracking=Tracking.NONE)
    async with (
        opened(await fresh_database()) as store,
        store.snapshot(PoolName.DASHBOARD, soon()) as snapshot,
    ):
        ((coverage,), text) = await snapshot.coverage(dataset, tuple(dataset.rollups.values()), ALWAYS)
        assert (coverage.unusable, "broker migrate" in coverage.message) == (Rule.COVER, True)
        assert TransactionView.parse(text).xmin > 0
        ((coverage,), _) = await snapshot.coverage(outside, tuple(outside.rollups.values()), ALWAYS)
        assert (coverage.unusable, coverage.lateness) == (None, float("inf"))


async def test_tables_that_are_missing_are_looked_for_now_and_then(fresh_database: FreshDatabase) -> None:
    """Each look is an error in the log of the server, and three round trips of the answer."""
    dataset, clock = sales(), HandClock()
    asked: list[str] = []

    async def looked(store: PgStore) -> Rule | None:
        asked.clear()
        async with store.snapshot(PoolName.DASHBOARD, Deadline.after(60.0, clock.monotonic())) as snapshot:
            assert isinstance(snapshot, PgSnapshot)
            with snapshot.lease.connection.query_logger(lambda record: asked.append(record.query)):
                ((coverage,), _) = await snapshot.coverage(dataset, tuple(dataset.rollups.values()), ALWAYS)
        return coverage.unusable

    async with opened(await fresh_database(), clock) as store:
        found = []
        for _ in range(3):
            found.append((await looked(store), STATE in asked))
            clock.seconds += 0.6 * ABSENT
    assert found == [(Rule.COVER, True), (Rule.COVER, False), (Rule.COVER, True)]


async def test_what_is_remembered_is_read_in_one_round_trip(world: World) -> None:
    connection = await world.connect()
    asked: list[str] = []

    async def read(reading: CoverageReading) -> tuple[int, int]:
        asked.clear()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            as_of = await connection.fetchval("SELECT now()")
            with connection.query_logger(lambda record: asked.append(record.query)):
                ((coverage,), _) = await reading.read(
                    connection, world.dataset, [world.rollup], ALWAYS, as_of
                )
        return len(asked), len(coverage.dirty)

    await read(CoverageReading())  # the driver learns the types once on each connection
    reading = CoverageReading()
    assert await read(reading) == (3, 0)  # what there is, the segments, and the marks that may concern them
    assert await read(reading) == (1, 0)
    await world.writer.execute("INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1)")
    assert await read(reading) == (1, 1)
    await world.build(YEAR_2023)
    assert await read(reading) == (2, 0)
    assert await read(reading) == (1, 0)
    await connection.close()


async def test_a_standby_takes_for_over_only_what_is(
    own_postgres: EmbeddedPostgres, standby_dsn: str
) -> None:
    primary, standby = await asyncpg.connect(own_postgres.dsn()), await connected(standby_dsn)
    await primary.execute(SCHEMA)
    await migrate(own_postgres.dsn(), "rollups")
    async with open_rollup_database(own_postgres.dsn()) as database:
        schema = PgRollupSchema(database)
        world = World(own_postgres.dsn(), primary, schema, sales())
        await schema.install(world.dataset)
        await world.build(YEAR_2023)
    second = await world.connect()
    pending = second.transaction()
    await pending.start()
    await second.execute("INSERT INTO sales VALUES (9, '2023-05-05 10:07Z', 1, 1)")
    xid = await second.fetchval("SELECT pg_current_xact_id()")
    await primary.execute("CREATE TABLE later ()")

    async def replayed() -> bool:
        return await standby.fetchval("SELECT to_regclass('later') IS NOT NULL") is True

    await eventually(replayed, "the standby has what the primary committed")
    async with opened(standby_dsn) as store:
        async with store.snapshot(PoolName.DASHBOARD, soon()) as snapshot:
            ((coverage,), text) = await snapshot.coverage(world.dataset, [world.rollup], ALWAYS)
        assert (coverage.dirty, coverage.unusable, len(coverage.segments)) == ((), None, 1)
        assert not TransactionView.parse(text).sees(xid)
        await world.build(YEAR_2023, text)  # as a build that was read on the standby
        await pending.commit()
        await primary.execute("CREATE TABLE last ()")

        async def committed() -> bool:
            return await standby.fetchval("SELECT to_regclass('last') IS NOT NULL") is True

        await eventually(committed, "the standby has the commit")
        async with store.snapshot(PoolName.DASHBOARD, soon()) as snapshot:
            ((coverage,), _) = await snapshot.coverage(world.dataset, [world.rollup], ALWAYS)
        assert coverage.dirty == (OLD,)
    for connection in (primary, standby, second):
        await connection.close()
