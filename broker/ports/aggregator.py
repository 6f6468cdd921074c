"""CPU work, done in worker processes whenever it is not tiny."""

from __future__ import annotations

from typing import Protocol

from broker.domain.answer import Batch, Table
from broker.domain.deadline import Deadline
from broker.domain.plan import Block, Finish, ScanResult
from broker.domain.pool import PoolName
from broker.domain.segment import BuiltFiles, Comparison, SegmentBuild
from broker.domain.values import Column, ResultFormat


class Aggregator(Protocol):
    """Finishes states into encoded answers.

    Work is killed when the deadline passes or the awaiting task is cancelled. Every method raises BrokerError
    (DEADLINE_EXCEEDED, WORKER_LOST, RESULT_TOO_LARGE, STORE_REJECTED for values out of range). A local file of a
    segment that is missing or not what it should be is STORE_REJECTED with its path as the metadata's ``segment``.
    """

    async def table(
        self,
        pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        deadline: Deadline,
    ) -> Table:
        """The whole answer as one table."""
        ...

    async def batches(
        self,
        pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        deadline: Deadline,
    ) -> tuple[Batch, ...]:
        """The whole answer as batches of bounded size."""
        ...

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
        ...

    async def segment(
        self, pool: PoolName, result: ScanResult, build: SegmentBuild, deadline: Deadline
    ) -> BuiltFiles:
        """One partition of a rollup as files, or as rows of a table."""
        ...

    async def compare(
        self,
        pool: PoolName,
        left: tuple[ScanResult, ...],
        right: tuple[ScanResult, ...],
        finish: Finish,
        deadline: Deadline,
    ) -> Comparison:
        """Compares every group of two answers before having, order, limit and calculations.

        Nothing may be pushed down to either source. Doubles may differ by 1e-9 of their size, distinct counts by their
        bound; approximate percentiles are not compared.
        """
        ...
