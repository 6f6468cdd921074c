"""Cancelling reaches the server, at any moment, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.pool import PoolName
from broker.domain.query import Query
from tests.integration.store.conftest import (
    MakeStore,
    Watcher,
    in_time,
    plan_of,
)
from tests.integration.store.slow_flights import DATASET, LARGE, SLEEP, count
from tests.support.eventually import eventually


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
