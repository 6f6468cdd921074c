"""Streams: whole rows, back-pressure, errors, and what becomes of one that is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, CsvBlock
from broker.domain.pool import PoolName
from broker.domain.query import Condition, Operator, Query
from tests.integration.store.conftest import (
    MakeStore,
    Watcher,
    in_time,
    parse,
    plan_of,
)
from tests.integration.store.slow_flights import BY_PLANE, DATASET, LARGE, count
from tests.support.eventually import eventually


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
