"""CPU work, done in worker processes whenever it is not tiny."""

from __future__ import annotations

from typing import Protocol

from broker.domain.answer import Batch, Table
from broker.domain.deadline import Deadline
from broker.domain.plan import Block, Finish, ScanResult
from broker.domain.pool import PoolName
from broker.domain.values import Column, ResultFormat


class Aggregator(Protocol):
    """Finishes states into encoded answers.

    Work is killed when the deadline passes or the awaiting task is cancelled. Every method raises BrokerError
    (DEADLINE_EXCEEDED, WORKER_LOST, RESULT_TOO_LARGE, STORE_REJECTED for values out of range).
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
