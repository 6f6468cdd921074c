"""Batches of a stream: in order, a bounded number at once, and nothing left behind however the stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from broker.domain.answer import Batch
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, Rows
from broker.domain.pool import PoolName
from broker.domain.values import Column, ResultFormat
from broker.pipeline.streamed import Encoding, Limits, check_size, encoded


class Workers:
    """Encodes a block when it is told to, so that a test decides the order."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = {}
        self.under_way = 0
        self.most = 0
        self.cancelled = 0
        self.full = asyncio.Event()

    def gate(self, number: int) -> asyncio.Event:
        return self.gates.setdefault(number, asyncio.Event())

    async def batch(self, pool: PoolName, block: Block, *_: object) -> Batch:
        assert isinstance(block, Rows)
        number = block.rows[0][0]
        assert isinstance(number, int)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == 3:
            self.full.set()
        try:
            await self.gate(number).wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        return Batch(0, 1, bytes([number]))


class Source:
    """Blocks numbered from 0; records whether it was closed."""

    def __init__(self, count: int, failure: BrokerError | None = None) -> None:
        self.count, self.failure, self.closed, self.read = count, failure, False, 0

    async def blocks(self) -> AsyncGenerator[Block, None]:
        try:
            for number in range(self.count):
                self.read = number + 1
                yield Rows((), ((number,),))
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed = True


def encoding(workers: Workers) -> Encoding:
    columns: tuple[Column, ...] = ()
    return Encoding(workers, PoolName.EXPLORATION, None, columns, ResultFormat.COLUMNS, Deadline(0.0))  # type: ignore[arg-type] # only batch() is used


async def collect(source: Source, workers: Workers, window: int) -> list[bytes]:
    async with aclosing(encoded(source.blocks(), encoding(workers), window)) as batches:
        return [batch.encoded async for batch in batches]


async def test_batches_leave_in_order_though_they_are_made_out_of_order() -> None:
    workers, source = Workers(), Source(4)
    stream = asyncio.create_task(collect(source, workers, window=4))
    for number in (3, 1, 2, 0):
        workers.gate(number).set()
        await asyncio.sleep(0)
    assert await stream == [b"\0", b"\1", b"\2", b"\3"]
    assert source.closed


async def test_no_more_than_the_window_is_under_way() -> None:
    workers, source = Workers(), Source(20)
    stream = asyncio.create_task(collect(source, workers, window=3))
    for number in range(20):
        workers.gate(number).set()
        await asyncio.sleep(0)
    assert len(await stream) == 20
    assert workers.most <= 3


async def test_a_reader_that_leaves_ends_everything() -> None:
    workers, source = Workers(), Source(20)
    workers.gate(0).set()
    async with aclosing(encoded(source.blocks(), encoding(workers), 3)) as batches:
        assert (await anext(batches)).encoded == b"\0"
    assert source.closed
    assert workers.under_way == 0
    assert source.read < 20


async def test_a_cancelled_reader_ends_everything() -> None:
    workers, source = Workers(), Source(20)
    stream = asyncio.create_task(collect(source, workers, window=3))
    await workers.full.wait()
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert source.closed
    assert (workers.under_way, workers.cancelled) == (0, 3)


async def test_an_error_of_the_source_ends_the_stream_at_once_and_leaves_nothing_under_way() -> None:
    failure = BrokerError(ErrorReason.STORE_UNAVAILABLE, "gone")
    workers, source = Workers(), Source(2, failure)
    with pytest.raises(BrokerError) as caught:
        await collect(source, workers, window=3)
    assert caught.value is failure
    assert source.closed
    assert workers.under_way == 0


def test_limits_are_the_callers_where_they_are_smaller() -> None:
    limits = Limits(100, 1000).narrowed(0, 50)
    assert (limits.max_row_count, limits.max_byte_count) == (100, 50)
    check_size(100, 50, limits)
    with pytest.raises(BrokerError, match="max_byte_count = 50") as caught:
        check_size(10, 51, limits)
    assert caught.value.reason is ErrorReason.RESULT_TOO_LARGE
