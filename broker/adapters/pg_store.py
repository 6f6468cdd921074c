"""The analytical database behind the port: snapshots, estimates, and the gate for SQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager

from broker.adapters.pg_alone import lone_statement, read_alone
from broker.adapters.pg_changes_reads import marked_for, read_by, within
from broker.adapters.pg_connection import Lease
from broker.adapters.pg_describe import as_violation, columns_of
from broker.adapters.pg_errors import deadline_exceeded, translated
from broker.adapters.pg_plan import read_plan
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_quantiles import quantile_statement
from broker.adapters.pg_rolled_alone import read_rolled_alone, rolled_statement
from broker.adapters.pg_snapshot import PgSnapshot, ReadLimits, Tools
from broker.adapters.sql.compiler import Recent, SqlCompiler
from broker.adapters.sql.gate import check
from broker.adapters.sql.gate_rules import GateLimits
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.estimate import Estimate
from broker.domain.fingerprint import fingerprint
from broker.domain.model import Dataset, Dimension
from broker.domain.plan import Finish, Plan, Scan
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import SqlQuery
from broker.domain.rollup import Rollup, Span
from broker.ports.clock import Clock
from broker.ports.store import AloneReading, SqlPlan
from broker.telemetry.instruments import Telemetry

_SHAPES = 10_000
"""Shapes of which the last number of rows is remembered."""
_LONG_SQL = 1_000
"""SQL of more characters is parsed in a thread, so that the loop goes on."""


class PgStore:
    """See :class:`broker.ports.store.QueryStore`. The pools stay the caller's to close; no ``gate`` means no SQL."""

    def __init__(
        self,
        pools: PgPools,
        clock: Clock,
        limits: ReadLimits | None = None,
        gate: GateLimits | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._pools, self._clock, self._gate = pools, clock, gate
        self._tools = Tools(
            SqlCompiler(),
            Recent(_SHAPES),
            limits or ReadLimits(),
            clock,
            telemetry or Telemetry.off(),
        )

    @asynccontextmanager
    async def snapshot(
        self, pool: PoolName, deadline: Deadline, *, elsewhere: bool = True, shared: str = ""
    ) -> AsyncIterator[PgSnapshot]:
        """A snapshot on a connection of the pool; without ``elsewhere`` of its own server and no other.

        Only its opening is tried again when it fails: what was read from it may have been passed on.
        """

        async def first(lease: Lease) -> PgSnapshot:
            snapshot = PgSnapshot(lease, deadline, self._tools)
            await snapshot.begin(shared)
            return snapshot

        remaining = deadline.remaining(self._clock.monotonic())
        if remaining <= 0:
            raise deadline_exceeded("")
        with translated(lambda: deadline.expired(self._clock.monotonic())):
            snapshot = await self._pools.begin(pool, remaining, first, elsewhere=elsewhere)
        try:
            yield snapshot
        finally:
            try:
                await snapshot.close()
            finally:
                await self._pools.end(snapshot.lease)

    async def read_alone(self, pool: PoolName, plan: Plan, deadline: Deadline) -> AloneReading | None:
        """The states of a plan that one small statement answers, without a transaction; else None."""
        if deadline.expired(self._clock.monotonic()):
            raise deadline_exceeded("")
        statement = lone_statement(plan, self._tools)
        if statement is None:
            return None
        return await read_alone(self._pools, pool, statement, deadline, self._tools)

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
        """The states of a scan from one rollup table, with the coverage of its statement; else None."""
        if deadline.expired(self._clock.monotonic()):
            raise deadline_exceeded("")
        wanted = rolled_statement(scan, finish, rollup, spans, self._tools, alike)
        if wanted is None:
            return None
        return await read_rolled_alone(self._pools, pool, wanted, deadline, self._tools)

    async def estimate(self, plan: Plan | SqlPlan, deadline: Deadline) -> Estimate:
        """The planner's estimate over all statements; rows and width of the largest result."""
        texts: list[tuple[str, str, tuple[object, ...]]]
        if isinstance(plan, SqlPlan):
            texts = [("sql", plan.text, ())]
        else:
            compiled = [s for scan in self._tools.compiler.compile(plan) for s in scan.all()]
            texts = [(s.dataset, *s.whole()) for s in compiled]
        found: Estimate | None = None
        async with self.snapshot(PoolName.ADMIN, deadline) as snapshot:
            for name, text, values in texts:
                one = read_plan(await snapshot.explain(name, text, values))
                found = one if found is None else found + one
        return found or Estimate(0.0, 0, 0)

    async def quantiles(self, dataset: Dataset, dimension: Dimension, deadline: Deadline) -> tuple[int, ...]:
        """Values that part the rows about equally, by PostgreSQL's statistics; of plain columns only."""
        statement = quantile_statement(dataset, dimension)
        if statement is None:
            return ()
        async with self.snapshot(PoolName.ADMIN, deadline) as snapshot:
            rows = await snapshot.fetch("pg_stats", *statement)
        return tuple([row["value"] for row in rows if row["value"] is not None])

    def tells(self, plan: Plan, rollups: Sequence[Rollup]) -> bool:
        """Whether marks for these rollups tell of every change of what the plan reads, by its columns."""
        names = {rollup.name for rollup in rollups}
        return within(read_by(plan), marked_for(plan.main.dataset, rollups[0].time, names))

    async def gate(self, sql: SqlQuery, datasets: tuple[Dataset, ...], principal: Principal) -> SqlPlan:
        """Checks SQL and rewrites it; then PostgreSQL reads it, so that its columns are known and it can run."""
        if self._gate is None:
            text = "SQL is not enabled on this server. Ask with a query, or have `sql` enabled in the configuration."
            raise BrokerError(ErrorReason.SQL_DISABLED, text)
        known = {dataset.name: self._tools.compiler.dataset(dataset) for dataset in datasets}
        if len(sql.text) > _LONG_SQL:  # parsing takes some milliseconds per thousand characters
            gated = await asyncio.to_thread(check, sql, known, principal, self._gate)
        else:
            gated = check(sql, known, principal, self._gate)
        deadline = Deadline.after(self._pools.connect_timeout, self._clock.monotonic())
        try:
            async with self.snapshot(PoolName.ADMIN, deadline) as snapshot:
                described = await snapshot.describe(gated.text())
        except BrokerError as error:
            raise as_violation(error) from error
        columns = columns_of(described, gated.scales)
        text = gated.wrapped(columns, self._tools.limits.sql_rows + 1)
        return SqlPlan(text, columns, fingerprint(text))

    def statements(self, plan: Plan) -> tuple[str, ...]:
        """The statements with their values, laid out for people."""
        return self._tools.compiler.pretty(plan)

    def rolled_statements(
        self, scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span]
    ) -> tuple[str, ...]:
        """The statement over the rollup's table, laid out for people."""
        return self._tools.compiler.pretty_rolled(scan, finish, rollup, spans)

    async def ping(self) -> str:
        """The server's version."""
        deadline = Deadline.after(self._pools.connect_timeout, self._clock.monotonic())
        async with self.snapshot(PoolName.ADMIN, deadline) as snapshot:
            return snapshot.server_version
