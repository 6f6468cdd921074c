"""The terminal stage of streams: blocks leave the database, workers encode them in parallel, batches leave in order.

Three things bound memory whatever the number of rows: the store's own queue of blocks, the window of batches under way
here, and gRPC's flow control, which stops this generator, and through it the socket to PostgreSQL, when the caller
reads slowly. The header is held back until the first batch exists, so that a failure before it can still be retried.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from broker.domain.answer import Batch, Cost
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, Finish
from broker.domain.pool import PoolName
from broker.domain.request import ExploreEvent, ExploreHeader
from broker.domain.values import Column, ResultFormat
from broker.pipeline.execute import Loads, Noted, Observer, pool_of, reap
from broker.pipeline.rolled import Reading, Rolled
from broker.pipeline.routed import too_stale, unaccepted
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Group, Question
from broker.pipeline.status import status_of
from broker.pipeline.timed import Timer
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore, Snapshot

SMALL_LIMIT = 2_000
"""Queries that end within so many rows are read whole: one statement, one task, no pipeline to set up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a stream ends with an error; ``window`` counts batches being encoded at once."""

    max_row_count: int
    max_byte_count: int
    window: int = 4

    def narrowed(self, max_row_count: int, max_byte_count: int) -> Limits:
        """These limits, or the caller's where they are smaller; 0 leaves a limit as it is."""
        return Limits(
            min(max_row_count or self.max_row_count, self.max_row_count),
            min(max_byte_count or self.max_byte_count, self.max_byte_count),
            self.window,
        )


@dataclass(frozen=True, slots=True)
class Encoding:
    """How blocks become batches."""

    aggregator: Aggregator
    pool: PoolName
    finish: Finish | None
    columns: tuple[Column, ...]
    format: ResultFormat
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class SnapshotStream:
    """Streams the answer of one question from the tables, or from rollups where it has a route to them."""

    store: QueryStore
    rolled: Rolled
    aggregator: Aggregator
    clock: Clock
    observe: Observer
    noted: Noted
    load: Loads
    limits: Limits

    async def __call__(self, group: Group) -> AsyncGenerator[ExploreEvent, None]:
        """The header, the batches, the status."""
        (question,) = group.questions
        pool = pool_of(group)
        timer = Timer(self.clock, partial(self.load, pool), partial(self.observe, question))
        limits = self.limits.narrowed(group.max_row_count, group.max_byte_count)
        async with self.store.snapshot(pool, group.context.deadline) as snapshot:
            if group.flow is not None:
                group.flow.begin(snapshot.as_of, snapshot.replica_lag)
            dataset = question.plan.main.dataset
            if (stale := too_stale(question.policy, dataset, snapshot.replica_lag)) is not None:
                raise stale
            header = ExploreHeader(
                question.plan.columns,
                snapshot.as_of,
                question.classified.classification.cost_class,
                question.classified.predicted,
                classification=question.classified.classification,
            )
            told = Told(header, limits, timer)
            with timer:
                reading, made = await self._read(snapshot, question, pool, group)
                sources = reading.sources(snapshot.as_of, snapshot.replica_lag)
                if (refused := unaccepted(question.policy, sources.kind)) is not None:
                    raise refused
                whole = made if reading.results else None
                batches = self._batches(snapshot, whole, question, pool, group)
                async with aclosing(told.events(batches)) as events:
                    async for event in events:
                        yield event
        run, seconds, rows, size = timer.run, timer.run.seconds, told.row_count, told.byte_count
        run = replace(run, row_count=rows, byte_count=size, cut_short=timer.slowed)
        self.observe(question.as_read(sources.kind), run)
        self.noted(question, sources)
        yield status_of(question, sources, self.clock.now(), Cost(seconds, seconds, rows, size))

    async def _read(
        self, snapshot: Snapshot, question: Question, pool: PoolName, group: Group
    ) -> tuple[Reading, tuple[Batch, ...]]:
        """The states and the batches that they become; neither where the tables alone are to be streamed.

        A local file of a rollup that turns out to be bad leaves the question to the tables, in the same snapshot.
        """
        plan, deadline = question.plan, group.context.deadline
        streams = plan.finish.pushed_down and not 0 < plan.query.limit <= SMALL_LIMIT
        reading = await self.rolled.read(snapshot, question, Seen(snapshot), deadline, streamed=streams)
        if group.flow is not None:
            sources = reading.sources(snapshot.as_of, snapshot.replica_lag)
            group.flow.told = partial(status_of, question, sources)
        if not reading.results:
            return reading, ()
        results, finish = reading.results, reading.finish
        if group.flow is not None:
            group.flow.hold(results, finish)
        try:
            return reading, await self.aggregator.batches(pool, results, finish, question.format, deadline)
        except BrokerError as error:
            again = question.without_rollups() if self.rolled.forgot(error) else None
            if again is None:
                raise
        return await self._read(snapshot, again, pool, group)

    async def _batches(
        self,
        snapshot: Snapshot,
        whole: tuple[Batch, ...] | None,
        question: Question,
        pool: PoolName,
        group: Group,
    ) -> AsyncGenerator[Batch, None]:
        if whole is not None:
            for batch in whole:
                yield batch
            return
        plan, deadline = question.plan, group.context.deadline
        encoding = Encoding(self.aggregator, pool, plan.finish, plan.columns, question.format, deadline)
        blocks = snapshot.stream(plan)
        if group.flow is not None:
            blocks = group.flow.kept(blocks)
        async with aclosing(encoded(blocks, encoding, self.limits.window)) as batches:
            async for batch in batches:
                yield batch


@dataclass(slots=True)
class Told:
    """What the caller of a stream is told of its batches; how many rows and bytes that were is counted.

    The header is held back until the first batch exists, or there is none. While the caller holds an event, the
    ``timer``, which runs, stands still.
    """

    header: ExploreHeader
    limits: Limits
    timer: Timer
    row_count: int = 0
    byte_count: int = 0

    async def events(self, batches: AsyncGenerator[Batch, None]) -> AsyncGenerator[ExploreEvent, None]:
        """The header and the batches, which know their first row; raises RESULT_TOO_LARGE past the limits."""
        waiting = True
        async with aclosing(batches):
            async for batch in batches:
                if waiting:
                    with self.timer.paused():
                        yield self.header
                    waiting = False
                first = self.row_count
                self.row_count += batch.row_count
                self.byte_count += len(batch.encoded)
                check_size(self.row_count, self.byte_count, self.limits)
                with self.timer.paused():
                    yield replace(batch, first_row=first)
        if waiting:
            with self.timer.paused():
                yield self.header


def check_size(rows: int, size: int, limits: Limits) -> None:
    """Raises RESULT_TOO_LARGE once a stream has passed its limits."""
    for name, value, limit in (
        ("max_row_count", rows, limits.max_row_count),
        ("max_byte_count", size, limits.max_byte_count),
    ):
        if value > limit:
            text = f"The answer passes {name} = {limit}. Narrow the query, raise the limit, or submit an export job."
            raise BrokerError(
                ErrorReason.RESULT_TOO_LARGE, text, metadata={"limit": name, "value": str(limit)}
            )


async def encoded(
    blocks: AsyncGenerator[Block, None], encoding: Encoding, window: int
) -> AsyncGenerator[Batch, None]:
    """Batches in the order of the blocks, at most ``window`` of them being made at once.

    Waits for the next block and for the oldest batch at the same time, so that neither holds up the other.
    """
    making: deque[asyncio.Task[Batch]] = deque()
    reading: asyncio.Task[Block | None] | None = asyncio.create_task(_next(blocks))
    try:
        while reading is not None or making:
            waiting: set[asyncio.Task[Batch] | asyncio.Task[Block | None]] = set()
            if reading is not None and len(making) < window:
                waiting.add(reading)
            if making:
                waiting.add(making[0])
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading in done:
                block = reading.result()
                reading = None
                if block is not None:
                    making.append(asyncio.create_task(_encode(block, encoding)))
                    reading = asyncio.create_task(_next(blocks))
            while making and making[0].done():
                yield making.popleft().result()
    finally:
        await reap([*making, *([reading] if reading is not None else [])])
        await blocks.aclose()


async def _next(blocks: AsyncGenerator[Block, None]) -> Block | None:
    return await anext(blocks, None)


async def _encode(block: Block, encoding: Encoding) -> Batch:
    return await encoding.aggregator.batch(
        encoding.pool, block, encoding.finish, encoding.columns, encoding.format, encoding.deadline
    )
