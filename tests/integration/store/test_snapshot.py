"""One snapshot: what it sees, what it survives, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest

from broker.adapters.pg_snapshot import PgSnapshot, ReadLimits
from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.plan import Block, CsvBlock, Rows
from broker.domain.pool import PoolName
from broker.domain.query import Condition, Operator, OrderKey, Query
from broker.domain.values import DataType
from tests.conftest import FreshDatabase
from tests.integration.store.conftest import (
    MakeStore,
    Watcher,
    in_time,
    parse,
    plan_of,
    rows_of,
)
from tests.support.datasets import flights
from tests.support.eventually import eventually

_BASE = flights()
DATASET = replace(
    _BASE,
    dimensions={
        **_BASE.dimensions,
        "id": Dimension("id", "flights.id", DataType.INT64, ("flights",)),
        "padding": Dimension("padding", "repeat(flights.dest, 200)", DataType.STRING, ("flights",)),
    },
    measures={
        **_BASE.measures,
        "sleep": Measure("sleep", MeasureKind.MAX, "length(pg_sleep(30)::text)", tables=("flights",)),
        "overflow": Measure("overflow", MeasureKind.SUM, "9223372036854775807::bigint", tables=("flights",)),
        "zero": Measure("zero", MeasureKind.SUM, "1 / (flights.month - flights.month)", tables=("flights",)),
    },
)
COUNT = plan_of(Query("flights", measures=("flights",)), DATASET)
SLEEP = plan_of(Query("flights", measures=("sleep",)), DATASET)
LARGE = plan_of(Query("flights", measures=("flights",), dimensions=("id", "padding")), DATASET)
BY_PLANE = Query("flights", measures=("flights",), dimensions=("tailnum",))


async def count(snapshot: PgSnapshot) -> object:
    (result,) = await snapshot.read(COUNT)
    ((found,),) = rows_of(result.grouped)
    return found


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


async def test_blocks_are_whole_rows_of_about_the_size(flights_dsn: str, make_store: MakeStore) -> None:
    store = await make_store(flights_dsn, limits=ReadLimits(block_bytes=1 << 18))
    async with (
        store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot,
        aclosing(snapshot.stream(LARGE)) as blocks,
    ):
        found = [block async for block in blocks]
    rows: list[Any] = []
    for i, block in enumerate(found):
        assert isinstance(block, CsvBlock)
        assert block.data.endswith(b"\n")
        if i + 1 < len(found):
            assert 1 << 18 <= len(block.data) < 1 << 20
        rows += parse(block.columns, block.data)
    assert len(rows) == 50_000
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert len(found) > 50


async def test_a_stream_of_nothing(store: PgStore) -> None:
    query = replace(BY_PLANE, filter=Condition("carrier", Operator.EQ, ("nobody",)))
    async with (
        store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot,
        aclosing(snapshot.stream(plan_of(query, DATASET))) as blocks,
    ):
        assert [block async for block in blocks] == []


async def test_a_slow_reader_slows_the_database_down(store: PgStore, watcher: Watcher) -> None:
    async with (
        store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot,
        aclosing(snapshot.stream(LARGE)) as blocks,
    ):
        await anext(blocks)

        async def blocked() -> bool:
            return await watcher.sessions("state = 'active' AND wait_event = 'ClientWrite'") == 1

        await eventually(blocked, "PostgreSQL waits until its rows are taken")
        rest = [block async for block in blocks]
        assert len(rest) > 1
    await eventually(watcher.nothing_runs, "the statement ends")


async def test_an_error_in_a_stream_reaches_the_reader(store: PgStore) -> None:
    plan = plan_of(Query("flights", measures=("zero",), dimensions=("id",)), DATASET)
    async with store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot:
        with pytest.raises(BrokerError) as caught:
            async with aclosing(snapshot.stream(plan)) as blocks:
                _ = [block async for block in blocks]
        assert caught.value.reason is ErrorReason.STORE_REJECTED
        assert await count(snapshot) == 50_000


async def one_block(stream: AsyncGenerator[Block, None]) -> None:
    async with aclosing(stream) as blocks:
        await anext(blocks)


async def abandon(stream: AsyncGenerator[Block, None]) -> None:
    await anext(stream)


@pytest.mark.parametrize("leave", [one_block, abandon])
async def test_a_stream_that_is_left_is_stopped_at_the_server(
    store: PgStore, watcher: Watcher, leave: Callable[[AsyncGenerator[Block, None]], Awaitable[None]]
) -> None:
    async with store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot:
        await leave(snapshot.stream(LARGE))
    await eventually(watcher.nothing_runs, "the statement ends")
    async with store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot:
        assert await count(snapshot) == 50_000


async def test_a_stream_may_be_left_and_the_snapshot_used_on(store: PgStore) -> None:
    async with store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot:
        await one_block(snapshot.stream(LARGE))
        assert await count(snapshot) == 50_000
        await one_block(snapshot.stream(LARGE))
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


async def test_cancelling_stops_the_statement_and_keeps_the_connection(
    store: PgStore, watcher: Watcher
) -> None:
    async def work() -> None:
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            await snapshot.read(SLEEP)

    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        pid = snapshot.lease.connection.get_server_pid()
    task = asyncio.create_task(work())
    await eventually(watcher.something_sleeps, "the statement runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await watcher.nothing_runs()
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        assert snapshot.lease.connection.get_server_pid() == pid
        assert await count(snapshot) == 50_000


async def test_cancelled_twice(store: PgStore, watcher: Watcher) -> None:
    """The second cancellation hits the cleaning up after the first."""

    async def work() -> None:
        async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
            await snapshot.read(SLEEP)

    task = asyncio.create_task(work())
    await eventually(watcher.something_sleeps, "the statement runs")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(watcher.nothing_runs, "the statement ends")
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        assert await count(snapshot) == 50_000


async def test_random_cancels_leak_nothing(flights_dsn: str, make_store: MakeStore, watcher: Watcher) -> None:
    store = await make_store(flights_dsn, connections=3)
    grouped = plan_of(Query("flights", measures=("flights", "worst"), dimensions=("carrier", "day")), DATASET)
    chance = random.Random(7)
    gate = asyncio.Semaphore(3)
    outcomes: list[str] = []

    async def work(streams: bool) -> None:
        async with store.snapshot(PoolName.EXPLORATION, in_time()) as snapshot:
            if not streams:
                await snapshot.read(grouped)
                return
            async with aclosing(snapshot.stream(LARGE)) as blocks:
                async for _ in blocks:
                    pass

    async def one(streams: bool, turns: int) -> None:
        async with gate:
            task = asyncio.create_task(work(streams))
            for _ in range(turns):  # turns of the loop, so that every await is hit
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
                outcomes.append("done")
            except asyncio.CancelledError:
                outcomes.append("cancelled")

    await asyncio.gather(*(one(chance.random() < 0.5, int(10 ** chance.uniform(0, 3))) for _ in range(300)))
    assert len(outcomes) == 300
    assert outcomes.count("cancelled") > 50
    await eventually(watcher.nothing_runs, "all statements end")
    assert await watcher.sessions() <= 3
    snapshots = [store.snapshot(PoolName.EXPLORATION, in_time()) for _ in range(3)]
    for snapshot in snapshots:  # every connection of the pool can be had, and works
        assert await count(await snapshot.__aenter__()) == 50_000
    for snapshot in snapshots:
        await snapshot.__aexit__(None, None, None)


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
