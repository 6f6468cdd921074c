"""One snapshot: what it sees, what it survives, and that nothing of it is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import asyncpg
import pytest

from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, CsvBlock, Rows
from broker.domain.pool import PoolName
from broker.domain.query import Condition, Operator, OrderKey, Query
from tests.conftest import FreshDatabase
from tests.integration.store.conftest import (
    MakeStore,
    Watcher,
    in_time,
    plan_of,
    rows_of,
)
from tests.integration.store.slow_flights import BY_PLANE, COUNT, DATASET, LARGE, SLEEP, count


async def test_all_reads_see_the_same_data(fresh_database: FreshDatabase, make_store: MakeStore) -> None:
    dsn = await fresh_database(flights=True)
    store = await make_store(dsn)
    other = await asyncpg.connect(dsn)
    before = await other.fetchval("SELECT clock_timestamp()")
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        after = await other.fetchval("SELECT clock_timestamp()")
        assert before <= snapshot.as_of <= after
        await other.execute("DELETE FROM flights WHERE month = 1")
        first = await count(snapshot)
        await other.execute("DELETE FROM flights WHERE month = 2")
        assert await count(snapshot) == first == 50_000
        assert snapshot.replica_lag is None
        as_of = snapshot.as_of
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        assert await count(snapshot) == await other.fetchval("SELECT count(*) FROM flights")
        assert snapshot.as_of > as_of
    await other.close()


async def test_a_failed_statement_costs_only_itself(
    fresh_database: FreshDatabase, make_store: MakeStore
) -> None:
    dsn = await fresh_database(flights=True)
    store = await make_store(dsn)
    other = await asyncpg.connect(dsn)
    queries = [
        (Query("flights", measures=("overflow",)), "22003"),
        (Query("flights", measures=("zero",)), "22012"),
        (Query("flights", measures=("zero",), dimensions=("tailnum", "id")), "22012"),
    ]
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        for query, sqlstate in queries:
            with pytest.raises(BrokerError) as caught:
                await snapshot.read(plan_of(query, DATASET))
            assert caught.value.reason is ErrorReason.STORE_REJECTED
            assert caught.value.metadata["sqlstate"] == sqlstate
            await other.execute("DELETE FROM flights WHERE ctid IN (SELECT ctid FROM flights LIMIT 10)")
            assert await count(snapshot) == 50_000
    await other.close()


async def test_rows_or_blocks_by_what_was_there_the_last_time(
    flights_dsn: str, make_store: MakeStore
) -> None:
    store = await make_store(flights_dsn, limits=ReadLimits(rows=100))

    async def kind(first_letters: str) -> type[Block]:
        query = replace(BY_PLANE, filter=Condition("tailnum", Operator.STARTS_WITH, (first_letters,)))
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            (result,) = await snapshot.read(plan_of(query, DATASET))
            (again,) = await snapshot.read(COUNT)
        assert all(str(row[0]).startswith(first_letters) for row in rows_of(result.grouped))
        assert isinstance(again.grouped[0], Rows)
        return type(result.grouped[0])

    few, many = "N10", "N"
    assert await kind(few) is CsvBlock  # nothing is known yet
    assert await kind(few) is Rows
    assert await kind(many) is CsvBlock  # more than expected: read again in the same snapshot
    assert await kind(few) is CsvBlock
    assert await kind(few) is Rows


async def test_a_limit_makes_small(store: PgStore) -> None:
    plan = plan_of(replace(BY_PLANE, limit=2_000, order=(OrderKey("flights", descending=True),)), DATASET)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        (result,) = await snapshot.read(plan)
    (rows,) = result.grouped
    assert isinstance(rows, Rows)
    assert len(rows.rows) == 2_000
    assert result.byte_count == 0


async def test_too_large_a_result_is_refused_and_the_snapshot_lives(
    flights_dsn: str, make_store: MakeStore
) -> None:
    store = await make_store(flights_dsn, limits=ReadLimits(read_bytes=1 << 20, block_bytes=1 << 16))
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        with pytest.raises(BrokerError) as caught:
            await snapshot.read(LARGE)
        assert caught.value.reason is ErrorReason.RESULT_TOO_LARGE
        assert caught.value.metadata == {"limit": "read_bytes", "value": "1048576"}
        assert await count(snapshot) == 50_000


async def test_the_deadline_ends_the_statement_at_the_server(store: PgStore, watcher: Watcher) -> None:
    with pytest.raises(BrokerError) as caught:
        async with store.snapshot(PoolName.DASHBOARD, in_time(0.3)) as snapshot:
            await snapshot.read(SLEEP)
    assert caught.value.reason is ErrorReason.DEADLINE_EXCEEDED
    assert await watcher.sessions("state <> 'idle'") == 0


async def test_a_later_statement_has_what_is_left_of_the_deadline(store: PgStore) -> None:
    async with store.snapshot(PoolName.DASHBOARD, in_time(60.0)) as snapshot:
        first = await snapshot.lease.connection.fetchval("SHOW statement_timeout")
        snapshot._deadline = in_time(5.0)
        await count(snapshot)
        second = await snapshot.lease.connection.fetchval("SHOW statement_timeout")
    assert (first.endswith("ms"), second.endswith("ms")) == (True, True)
    assert int(second.removesuffix("ms")) <= 5_000 < int(first.removesuffix("ms"))


async def test_no_time_left_asks_nobody(store: PgStore) -> None:
    with pytest.raises(BrokerError) as caught:
        async with store.snapshot(PoolName.DASHBOARD, in_time(-1.0)):
            raise AssertionError("there was no time")
    assert caught.value.reason is ErrorReason.DEADLINE_EXCEEDED


async def test_estimates_run_nothing(store: PgStore) -> None:
    estimate = await store.estimate(LARGE, in_time())
    assert estimate.total_cost > 1_000
    assert estimate.rows > 1_000
    assert estimate.width > 8
    small = await store.estimate(COUNT, in_time())
    assert (small.rows, small.total_cost < estimate.total_cost) == (1, True)
    sleeping = await store.estimate(SLEEP, in_time())
    assert sleeping.rows == 1


async def test_estimates_have_their_values(store: PgStore) -> None:
    narrow, wide = [
        plan_of(replace(BY_PLANE, filter=Condition("time_hour", Operator.GE, (since,))), DATASET)
        for since in (datetime(2013, 12, 30, tzinfo=UTC), datetime(2013, 1, 1, tzinfo=UTC))
    ]
    assert (await store.estimate(narrow, in_time())).total_cost < (
        await store.estimate(wide, in_time())
    ).total_cost


async def test_statements_for_people_can_be_run(store: PgStore, flights_dsn: str) -> None:
    query = replace(BY_PLANE, filter=Condition("day", Operator.EQ, (date(2013, 3, 1),)))
    (text,) = store.statements(plan_of(query, DATASET))
    connection = await asyncpg.connect(flights_dsn)
    assert len(await connection.fetch(text)) > 10
    await connection.close()


async def test_ping_tells_the_version(store: PgStore) -> None:
    assert (await store.ping()).split(".")[0].isdigit()


async def test_a_value_that_cannot_be_sent_is_the_callers_mistake(store: PgStore) -> None:
    query = Query("flights", measures=("flights",), filter=Condition("dep_delay", Operator.EQ, (1 << 80,)))
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        with pytest.raises(BrokerError) as caught:
            await snapshot.read(plan_of(query, DATASET))
        assert caught.value.reason is ErrorReason.INVALID_REQUEST
        assert await count(snapshot) == 50_000
