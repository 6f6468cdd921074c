"""Samples of blocks, seen from the request path."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.model import Dataset
from broker.domain.plan import Block, HeldBlock, Plan
from broker.domain.pool import PoolName
from broker.domain.sample import BlockSums, Draw, Extent, Figure, KeptRows, NoEstimate


class SampledTable(Protocol):
    """The table of a plan in one snapshot, from which blocks can be drawn. Calls must not overlap.

    Every method raises BrokerError (STORE_UNAVAILABLE, STORE_REJECTED, DEADLINE_EXCEEDED); cancelling the task cancels
    the statement at the server.
    """

    @property
    def source_name(self) -> str:
        """Where the blocks are read: ``primary``, ``replica``, or ``kept sample``."""
        ...

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot."""
        ...

    @property
    def replica_lag(self) -> float | None:
        """How far the replica lags behind its primary, in seconds; None on a primary."""
        ...

    async def extent(self) -> Extent | NoEstimate:
        """How much there is to draw from, or that this is nothing whose blocks can be drawn."""
        ...

    async def cost(self, draw: Draw) -> float:
        """What the planner expects a sample to cost, in the units of the extent's."""
        ...

    async def read(self, draw: Draw) -> BlockSums | NoEstimate:
        """Draws the blocks and adds them up by group; or there are more groups than are decoded here."""
        ...


class Samples(Protocol):
    """Where samples can be drawn."""

    def table(
        self, pool: PoolName, plan: Plan, deadline: Deadline
    ) -> AbstractAsyncContextManager[SampledTable]:
        """The table of an estimable plan on a connection of the pool; what runs at the deadline is cancelled."""
        ...


class SampleSource(Protocol):
    """A dataset's table in one snapshot, whose blocks are drawn with all that a kept sample holds of their rows.

    Every method raises BrokerError.
    """

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot."""
        ...

    async def blocks(self) -> int | NoEstimate:
        """How many blocks there are."""
        ...

    async def drawn(self, draw: Draw) -> int:
        """How many blocks are drawn, the empty ones included."""
        ...

    def rows(self, draw: Draw) -> AsyncGenerator[Block, None]:
        """The rows of the drawn blocks, in the columns of ``policy.estimate_kept.stored_columns``."""
        ...


class SampleSources(Protocol):
    """Where samples are drawn that are to be kept."""

    def source(
        self, pool: PoolName, dataset: Dataset, deadline: Deadline
    ) -> AbstractAsyncContextManager[SampleSource]:
        """The table of a dataset on a connection of the pool."""
        ...


class BlockAdder(Protocol):
    """CPU work on kept samples, in worker processes."""

    async def block_sums(
        self,
        pool: PoolName,
        kept: KeptRows,
        block: HeldBlock,
        figures: tuple[Figure, ...],
        most: int,
        deadline: Deadline,
    ) -> BlockSums | None:
        """The sums by group, or None for more than ``most`` groups; raises BrokerError."""
        ...
