"""The analytical database, seen from the request path."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.estimate import Estimate
from broker.domain.model import Dataset, Dimension
from broker.domain.plan import Block, Finish, Plan, Scan, ScanResult
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import SqlQuery
from broker.domain.rollup import Coverage, Rollup, Span
from broker.domain.values import Column


@dataclass(frozen=True, slots=True)
class SqlPlan:
    """SQL that passed the gate: regenerated text, its columns, and what identifies it."""

    text: str
    columns: tuple[Column, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class AloneReading:
    """What a single statement read, which is a snapshot of its own, taken at ``as_of`` on a primary.

    ``coverage`` has what that snapshot says of the rollup that was read, over what was read of it.
    """

    results: tuple[ScanResult, ...]
    as_of: datetime
    coverage: tuple[Coverage, ...] = ()


class Snapshot(Protocol):
    """One REPEATABLE READ, READ ONLY transaction on one connection. Calls must not overlap.

    ``as_of`` is the instant at which the snapshot was taken; ``replica_lag`` is in seconds, None on a primary. Every
    method raises BrokerError (STORE_UNAVAILABLE, STORE_REJECTED, DEADLINE_EXCEEDED, RESULT_TOO_LARGE).
    """

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot."""
        ...

    @property
    def replica_lag(self) -> float | None:
        """How far the replica lags behind its primary."""
        ...

    async def read(self, plan: Plan) -> tuple[ScanResult, ...]:
        """The states of every scan of the plan, main first. The whole result is held in memory, within the limit."""
        ...

    async def read_scan(self, scan: Scan, finish: Finish) -> ScanResult:
        """The states of one scan, of its ``pieces`` only where it has some; nothing of ``finish`` is applied."""
        ...

    async def coverage(
        self, dataset: Dataset, rollups: Sequence[Rollup], span: Span
    ) -> tuple[tuple[Coverage, ...], str]:
        """What of each rollup this snapshot may use within the span, and PostgreSQL's text of the snapshot."""
        ...

    async def read_rollup(
        self, scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span]
    ) -> ScanResult:
        """The states of a scan from a rollup that is a table or view; nothing of ``finish`` is applied.

        The spans are filled by buckets of the rollup. The scan's filter and row policies are over stored dimensions:
        what the spans or the rollup's own filter imply is left out of it.
        """
        ...

    async def share(self) -> str:
        """A text by which other connections to the same server can take this very snapshot, while it lasts."""
        ...

    async def touch(self) -> None:
        """Keeps a snapshot from which nothing is read for a while from being ended for idleness."""
        ...

    def stream(self, plan: Plan) -> AsyncGenerator[Block, None]:
        """The states of a pushed-down plan in blocks of whole rows; the database is slowed down by the consumer."""
        ...

    def stream_sql(self, sql: SqlPlan) -> AsyncGenerator[Block, None]:
        """The rows of gated SQL in blocks."""
        ...


class QueryStore(Protocol):
    """The database. Cancelling a task that waits in a snapshot cancels its statement at the server."""

    def snapshot(
        self, pool: PoolName, deadline: Deadline, *, shared: str = ""
    ) -> AbstractAsyncContextManager[Snapshot]:
        """A snapshot on a connection of the pool; ``statement_timeout`` is what is left of the deadline.

        With ``shared``, what somebody else's :meth:`Snapshot.share` gave, it is that one's; raises STORE_REJECTED when
        it has ended. (``as_of`` is then when this transaction began.)
        """
        ...

    async def read_alone(self, pool: PoolName, plan: Plan, deadline: Deadline) -> AloneReading | None:
        """The states of a plan, if one small statement is all that it needs; else None, and a snapshot is taken."""
        ...

    async def read_rolled_alone(
        self,
        pool: PoolName,
        scan: Scan,
        finish: Finish,
        rollup: Rollup,
        spans: Sequence[Span],
        deadline: Deadline,
        alike: Hashable = None,
    ) -> AloneReading | None:
        """What :meth:`Snapshot.read_rollup` gives, by one statement that also reads the coverage and finds it enough.

        For rollups that are tables with exact tracking. None when the result is not sure or known to be small, or when
        the segments have changed lately, leave gaps in the spans, or marks, the catalog or a quarantine stand against
        them: then a snapshot is taken. Scans that are ``alike`` differ in bounds, grid and values of the filter only.
        """
        ...

    async def estimate(self, plan: Plan | SqlPlan, deadline: Deadline) -> Estimate:
        """The planner's estimate of all statements, without running anything."""
        ...

    async def quantiles(self, dataset: Dataset, dimension: Dimension, deadline: Deadline) -> tuple[int, ...]:
        """Values of an integer, date or instant that part the rows about equally, ascending, by what is known of them.

        Nothing is scanned. Dates count as days, instants as microseconds since 1970. Empty where nothing is known.
        """
        ...

    def tells(self, plan: Plan, rollups: Sequence[Rollup]) -> bool:
        """Whether marks for these rollups, all over one time dimension, tell of every change of what the plan reads."""
        ...

    def statements(self, plan: Plan) -> tuple[str, ...]:
        """The statements that the plan stands for, for people."""
        ...

    def rolled_statements(
        self, scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span]
    ) -> tuple[str, ...]:
        """Those of :meth:`Snapshot.read_rollup`, for people."""
        ...

    async def gate(self, sql: SqlQuery, datasets: tuple[Dataset, ...], principal: Principal) -> SqlPlan:
        """Checks SQL and rewrites it; raises INVALID_REQUEST naming every violation, or SQL_DISABLED."""
        ...

    async def ping(self) -> str:
        """The server's version; raises STORE_UNAVAILABLE."""
        ...
