"""CPU work in worker processes, one set of processes for each executor pool; the port ``Aggregator``."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol

from broker.aggregation import inline
from broker.aggregation.forkserver import ForkServer
from broker.aggregation.framing import Encoded, Reply, Request
from broker.aggregation.pool import WorkerPool
from broker.aggregation.refusals import out_of_time
from broker.domain.answer import Batch, Table
from broker.domain.deadline import Deadline
from broker.domain.plan import Block, Finish, HeldBlock, ScanResult
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.sample import BlockSums, Figure, KeptRows
from broker.domain.segment import BuiltFiles, Comparison, SegmentBuild
from broker.domain.values import Column, ResultFormat
from broker.ports.clock import Clock
from broker.telemetry import catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading
from broker.telemetry.names import SpanName
from broker.telemetry.spans import error_type

_TASKS = "broker.aggregation.tasks"
KERNELS: Final = f"{_TASKS}:"
"""How the names of the functions begin that are pure, and may be done on any machine."""
_SAMPLED = "broker.aggregation.sampled:block_sums"


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A pool's workers: processes alive, tasks under way and waiting, and counts since the start.

    ``retried`` tasks were given to a second worker because their first one died.
    """

    workers: int
    tasks: int
    waiting: int
    restarts: int
    retried: int


class WorkerTaskError(Exception):
    """A task failed in a way that nobody foresaw; the note holds the worker's stack."""


class Cluster(Protocol):
    """Worker processes on other machines."""

    async def start(self) -> None:
        """Looks for the cluster; one that cannot be reached is looked for again and again."""
        ...

    async def close(self) -> None:
        """Lets go of the cluster; tasks under way are ended there."""
        ...

    async def run(self, pool: PoolName, request: Request, seconds: float) -> Reply | None:
        """The reply; None for a task that is to be done here.

        Raises:
            BrokerError: DEADLINE_EXCEEDED after ``seconds``, WORKER_LOST.
        """
        ...


class WorkerPools:
    """The aggregator of a process: tiny work at once on the loop, everything else in the pool's worker processes.

    Batches of an answer that is whole have about ``batch_bytes``. A ``cluster`` takes the work that it wants.
    """

    def __init__(
        self,
        limits: Mapping[PoolName, PoolLimits],
        clock: Clock,
        telemetry: Telemetry,
        batch_bytes: int = 1 << 20,
        cluster: Cluster | None = None,
    ) -> None:
        self._batch_bytes = batch_bytes
        self._cluster = cluster
        self._clock = clock
        self._telemetry = telemetry
        self._server = ForkServer()
        numbers = itertools.count(1).__next__
        self._pools = {
            name: WorkerPool(name, pool, self._server, numbers, telemetry.worker_restart)
            for name, pool in limits.items()
        }
        self._forget: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Starts all workers; they have imported what they need when this returns."""
        observe = self._telemetry.observe
        self._forget.append(observe(catalog.WORKER_USAGE, lambda: self._reading(lambda stats: stats.tasks)))
        self._forget.append(observe(catalog.WORKER_LIMIT, lambda: self._reading(lambda stats: stats.workers)))
        async with asyncio.TaskGroup() as group:
            for pool in self._pools.values():
                group.create_task(pool.start())
            if self._cluster is not None:
                group.create_task(self._cluster.start())

    async def close(self) -> None:
        """Ends all workers; tasks under way raise DRAINING."""
        for forget in self._forget:
            forget()
        if self._cluster is not None:
            await self._cluster.close()
        for pool in self._pools.values():
            await pool.close()
        await self._server.close()

    def stats(self) -> Mapping[PoolName, WorkerStats]:
        """What every pool's workers are doing."""
        return {
            name: WorkerStats(
                len(pool.pids), pool.busy, pool.waiting, pool.counts.restarts, pool.counts.retried
            )
            for name, pool in self._pools.items()
        }

    def pids(self, pool: PoolName) -> tuple[int, ...]:
        """The worker processes of a pool."""
        return self._pools[pool].pids

    async def table(
        self,
        pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        deadline: Deadline,
    ) -> Table:
        """The whole answer as one table."""
        made = self._inline(pool, "table", lambda: inline.table(results, finish, encoding))
        if made is None:
            (made,) = await self._encoded(pool, "table", (results, finish, encoding), deadline)
        return Table(finish.columns, made.row_count, encoding, made.data)

    async def batches(
        self,
        pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        deadline: Deadline,
    ) -> tuple[Batch, ...]:
        """The whole answer as batches of bounded size, with their positions."""
        made = await self._encoded(pool, "batches", (results, finish, encoding, self._batch_bytes), deadline)
        firsts = itertools.accumulate((part.row_count for part in made), initial=0)
        return tuple(
            Batch(first, part.row_count, part.data) for first, part in zip(firsts, made, strict=False)
        )

    async def batch(
        self,
        pool: PoolName,
        block: Block,
        finish: Finish | None,
        columns: tuple[Column, ...],
        encoding: ResultFormat,
        deadline: Deadline,
    ) -> Batch:
        """One block of a pushed-down plan as one batch; without a finish, of SQL rows. ``first_row`` is left 0."""
        made = self._inline(pool, "batch", lambda: inline.batch(block, finish, columns, encoding))
        if made is None:
            (made,) = await self._encoded(pool, "batch", (block, finish, columns, encoding), deadline)
        return Batch(0, made.row_count, made.data)

    async def segment(
        self, pool: PoolName, result: ScanResult, build: SegmentBuild, deadline: Deadline
    ) -> BuiltFiles:
        """One partition of a rollup as files, or as rows of a table."""
        made: BuiltFiles = await self.call(pool, f"{_TASKS}:segment", (result, build), deadline)
        return made

    async def compare(
        self,
        pool: PoolName,
        left: tuple[ScanResult, ...],
        right: tuple[ScanResult, ...],
        finish: Finish,
        deadline: Deadline,
    ) -> Comparison:
        """Compares every group of two answers before having, order, limit and calculations."""
        made: Comparison = await self.call(pool, f"{_TASKS}:compare", (left, right, finish), deadline)
        return made

    async def block_sums(
        self,
        pool: PoolName,
        kept: KeptRows,
        block: HeldBlock,
        figures: tuple[Figure, ...],
        most: int,
        deadline: Deadline,
    ) -> BlockSums | None:
        """The sums of a kept sample, or None for more than so many groups."""
        arguments = (kept, block, figures, most)
        made: BlockSums | None = await self.call(pool, _SAMPLED, arguments, deadline)
        return made

    async def call(
        self, pool: PoolName, function: str, arguments: tuple[Any, ...], deadline: Deadline
    ) -> Any:
        """The value of a pure function, named ``module:name``, of values that pickle.

        Raises:
            BrokerError: What the function raised, or DEADLINE_EXCEEDED, WORKER_LOST, RESULT_TOO_LARGE, DRAINING.
            WorkerTaskError: The function raised something else.
        """
        self._seconds(pool, deadline)
        operation = function.rpartition(":")[2]
        attributes = {n.POOL: pool.value, n.OPERATION: operation}
        with self._telemetry.span(SpanName.AGGREGATE, attributes=attributes):
            request = Request(function, arguments, self._telemetry.traceparent())
            started = perf_counter()
            try:
                reply = await self._reply(pool, request, deadline)
            except BaseException as error:
                self._telemetry.aggregation(pool, operation, error_type(error), perf_counter() - started)
                raise
            failure = _failure(reply)
            self._tell(pool, operation, reply, failure)
            if failure is not None:
                raise failure
            return reply.value

    async def _reply(self, pool: PoolName, request: Request, deadline: Deadline) -> Reply:
        if self._cluster is not None:
            reply = await self._cluster.run(pool, request, self._seconds(pool, deadline))
            if reply is not None:
                return reply
        return await self._pools[pool].run(request, self._seconds(pool, deadline))

    def _seconds(self, pool: PoolName, deadline: Deadline) -> float:
        seconds = deadline.remaining(self._clock.monotonic())
        if seconds <= 0:
            raise out_of_time(pool)
        return seconds

    async def _encoded(
        self, pool: PoolName, task: str, arguments: tuple[Any, ...], deadline: Deadline
    ) -> tuple[Encoded, ...]:
        made: tuple[Encoded, ...] = await self.call(pool, f"{_TASKS}:{task}", arguments, deadline)
        return made

    def _inline(
        self, pool: PoolName, operation: str, make: Callable[[], tuple[int, bytes] | None]
    ) -> Encoded | None:
        started = perf_counter()
        made = make()
        if made is None:
            return None
        self._telemetry.aggregation(pool, operation, "inline", perf_counter() - started)
        return Encoded(*made)

    def _tell(self, pool: PoolName, operation: str, reply: Reply, failure: Exception | None) -> None:
        """Records the task as the worker lived through it."""
        attributes: dict[str, str | int] = {
            n.POOL: pool.value,
            n.OPERATION: operation,
            n.PROCESS_ID: reply.pid,
        }
        made = reply.value
        if isinstance(made, tuple) and all(isinstance(part, Encoded) for part in made):
            attributes[n.ROWS] = sum(part.row_count for part in made)
            attributes[n.BYTES] = sum(len(part.data) for part in made)
        self._telemetry.worker_span("", reply.started, reply.ended, attributes=attributes, error=failure)
        outcome = "ok" if failure is None else error_type(failure)
        self._telemetry.aggregation(pool, operation, outcome, (reply.ended - reply.started) / 1e9)

    def _reading(self, field: Callable[[WorkerStats], int]) -> list[Reading]:
        return [(float(field(stats)), {n.POOL: name.value}) for name, stats in self.stats().items()]


def _failure(reply: Reply) -> Exception | None:
    if reply.error is not None:
        return reply.error
    if not reply.fault:
        return None
    failure = WorkerTaskError("a task failed in a worker process")
    failure.add_note(reply.fault)
    return failure
