"""Samples of blocks, seen from the request path."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.sample import BlockSums, Draw, Extent, NoEstimate


class SampledTable(Protocol):
    """The table of a plan in one snapshot, from which blocks can be drawn. Calls must not overlap.

    Every method raises BrokerError (STORE_UNAVAILABLE, STORE_REJECTED, DEADLINE_EXCEEDED); cancelling the task cancels
    the statement at the server.
    """

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
