"""One read-only transaction: all statements of a dashboard, or the one of an exploration, see the same data.

The transaction begins, limits its statements' time and marks a savepoint in one round trip. A statement that fails for
reasons of its own is undone to the savepoint, so that the other panels of a dashboard can still be read; in a
transaction with snapshot isolation that leaves the snapshot as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from broker.adapters.pg_connection import CUSTOM, Lease
from broker.adapters.pg_copy import BlockCollector, BlockWriter, Put, streamed, too_large
from broker.adapters.pg_errors import deadline_exceeded, translated
from broker.adapters.pg_rollup_coverage import MISSING, SNAPSHOT, CoverageReading, not_installed
from broker.adapters.pg_snapshot_sql import AS_OF, LAG, UNDO, begin, export
from broker.adapters.sql.alike import RolledStatements
from broker.adapters.sql.compiler import Recent, SqlCompiler
from broker.adapters.sql.statements import ScanStatements, Statement, first_text
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.plan import Block, Finish, Plan, Rows, Scan, ScanResult
from broker.domain.rollup import Coverage, Rollup, Span
from broker.domain.values import Column
from broker.ports.clock import Clock
from broker.ports.store import SqlPlan
from broker.telemetry.instruments import Telemetry

_RENEW = 0.1
"""The time limit is set again once it exceeds what is left of the deadline by this share."""
_SLACK = 0.05
"""A statement that was stopped so many seconds before the deadline was stopped by it."""
_LONGEST = 2**31 - 1
"""The largest statement_timeout, in milliseconds."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """``rows`` bounds results that are decoded on the loop, ``read_bytes`` what a read may hold in memory.

    A stream's blocks have about ``block_bytes``, of which ``queue_blocks`` wait for the consumer; an encoding may take
    eight times as much, which must still be less than callers receive. A stream of SQL has at most ``sql_rows`` rows.
    """

    rows: int = 2_000
    read_bytes: int = 256 << 20
    block_bytes: int = 256 << 10
    queue_blocks: int = 1
    sql_rows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Tools:
    """What snapshots share.

    ``counts`` remembers how many rows a shape had last, ``coverage`` the segments of rollups, ``beside`` the texts of
    statements that read a rollup's coverage and rows, ``rolled`` the statements over rollups' tables.
    """

    compiler: SqlCompiler
    counts: Recent[object, int]
    limits: ReadLimits
    clock: Clock
    telemetry: Telemetry
    coverage: CoverageReading = field(default_factory=CoverageReading)
    beside: Recent[object, str] = field(default_factory=lambda: Recent(1_000))
    rolled: RolledStatements = field(default_factory=RolledStatements)


class PgSnapshot:
    """See :class:`broker.ports.store.Snapshot`. Made by :func:`begin`, ended by :meth:`close`."""

    def __init__(self, lease: Lease, deadline: Deadline, tools: Tools) -> None:
        self._lease, self._deadline, self._tools = lease, deadline, tools
        self._connection = lease.connection
        self._as_of: datetime | None = None
        self._lag: float | None = None
        self._limit = 0.0
        self._undo = False
        self._pumps: set[asyncio.Task[None]] = set()

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot: it holds everything that was committed before."""
        assert self._as_of is not None, "the snapshot has begun"
        return self._as_of

    @property
    def replica_lag(self) -> float | None:
        """How far the replica was behind when the snapshot was taken, in seconds."""
        return self._lag

    @property
    def lease(self) -> Lease:
        """The connection that the snapshot lives on."""
        return self._lease

    @property
    def server_version(self) -> str:
        """The server's version, as it calls it."""
        return str(self._connection.get_settings().server_version)

    async def begin(self, shared: str = "") -> None:
        """Takes the snapshot, or that which is shared. The lag is read before it, so that it is never understated."""
        if self._lease.replica:
            self._lag = await self._connection.fetchval(LAG)
        await self._connection.plan(CUSTOM)
        await self._connection.execute(begin(shared, self._time_limit()))
        self._as_of = await self._connection.fetchval(AS_OF)

    async def share(self) -> str:
        """A text by which others take this snapshot."""
        with self._guarded("SELECT", "snapshot"):
            await self._prepare()
            return await export(self._connection)

    async def touch(self) -> None:
        """Keeps the transaction from being ended for idleness."""
        await self.fetch("snapshot", "SELECT")

    async def close(self) -> None:
        """Stops streams that are still open."""
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def read(self, plan: Plan) -> tuple[ScanResult, ...]:
        """The states of every scan."""
        held = BlockCollector(self._tools.limits.read_bytes)
        return tuple([await self._scan(s, held) for s in self._tools.compiler.compile(plan)])

    async def read_scan(self, scan: Scan, finish: Finish) -> ScanResult:
        """The states of one scan, of its pieces only where it has some; nothing of the finish is applied."""
        return await self._one(self._tools.compiler.scan(scan, finish))

    async def coverage(
        self, dataset: Dataset, rollups: Sequence[Rollup], span: Span
    ) -> tuple[tuple[Coverage, ...], str]:
        """What of each rollup this snapshot may use, and the snapshot's text; nothing where no tables were made."""
        connection, reading, now = self._connection, self._tools.coverage, self._tools.clock.monotonic()
        if not reading.absent(now):
            try:
                with self._guarded("SELECT", "broker.rollup"):
                    await self._prepare()
                    return await reading.read(connection, dataset, rollups, span, self.as_of)
            except BrokerError as error:
                if not isinstance(error.__cause__, MISSING):
                    raise
                reading.missed(now)
        with self._guarded("SELECT", "broker.rollup"):
            await self._prepare()
            return not_installed(rollups, self.as_of), await connection.fetchval(SNAPSHOT)

    async def read_rollup(
        self, scan: Scan, finish: Finish, rollup: Rollup, spans: Sequence[Span]
    ) -> ScanResult:
        """The states of one scan from a rollup that is a table or view; nothing of the finish is applied."""
        return await self._one(self._tools.compiler.rolled(scan, finish, rollup, spans))

    def stream(self, plan: Plan) -> AsyncGenerator[Block, None]:
        """The states of a pushed-down plan in blocks."""
        (statements,) = self._tools.compiler.compile(plan)
        statement = statements.grouped
        assert statement is not None, "a pushed-down plan has keys or states"
        assert not statements.values, "sketches are not pushed down"

        async def work(put: Put) -> None:
            count = await self._copy_blocks(
                statement.literal(), statement.dataset, statement.columns, statement.compiled.force_quote, put
            )
            self._tools.counts.put(statement.shape, count)

        return streamed(work, self._tools.limits.queue_blocks, self._pumps)

    def stream_sql(self, sql: SqlPlan) -> AsyncGenerator[Block, None]:
        """The rows of gated SQL in blocks. More than the limit is an error at the end, never a short answer."""
        limit = self._tools.limits.sql_rows

        async def work(put: Put) -> None:
            force = first_text(sql.columns, sql.columns[0].name if sql.columns else "")
            if await self._copy_blocks(sql.text, "sql", sql.columns, force, put) > limit:
                raise too_large("sql_rows", limit)

        return streamed(work, self._tools.limits.queue_blocks, self._pumps)

    async def describe(self, text: str) -> list[tuple[str, str]]:
        """Names and PostgreSQL types of a statement's columns, without running it."""
        with self._guarded("PREPARE", "sql"):
            await self._prepare()
            prepared = await self._connection.prepare(text)
        return [(attribute.name, attribute.type.name) for attribute in prepared.get_attributes()]

    async def fetch(self, name: str, text: str, values: Sequence[object] = ()) -> list[asyncpg.Record]:
        """The few rows of a statement of the broker's own."""
        with self._guarded("SELECT", name):
            await self._prepare()
            return await self._connection.fetch(text, *values)

    async def explain(self, name: str, text: str, values: Sequence[object] = ()) -> str:
        """The planner's view of a statement as JSON, with the settings that differ from PostgreSQL's own."""
        with self._guarded("EXPLAIN", name):
            await self._prepare()
            found = await self._connection.fetchval(f"EXPLAIN (FORMAT JSON, SETTINGS) {text}", *values)
        return str(found)

    async def _one(self, statements: ScanStatements | None) -> ScanResult:
        """The states of a scan by itself; the states of no row where nothing is to be read."""
        if statements is None:
            return ScanResult(())
        return await self._scan(statements, BlockCollector(self._tools.limits.read_bytes))

    async def _scan(self, statements: ScanStatements, held: BlockCollector) -> ScanResult:
        grouped: tuple[Block, ...] = (Rows((), ((),)),)
        if statements.grouped is not None:
            grouped = await self._read(statements.grouped, held)
        return ScanResult(grouped, {m: await self._read(s, held) for m, s in statements.values.items()})

    async def _read(self, statement: Statement, held: BlockCollector) -> tuple[Block, ...]:
        """A small result as rows, by one round trip of the extended protocol; any other by COPY.

        Small is what the statement's own limit makes small, or what was small for this shape the last time. Where that
        turns out to be wrong the rows are read again by COPY, in the same snapshot.
        """
        limits, counts = self._tools.limits, self._tools.counts
        surely = within(statement.row_limit, limits.rows)
        if statement.sendable and (surely or within(counts.get(statement.shape), limits.rows)):
            text, values = statement.whole() if surely else statement.capped(limits.rows + 1)
            with self._guarded("SELECT", statement.dataset):
                await self._prepare()
                found = await self._connection.fetch(text, *values)
            counts.put(statement.shape, len(found))
            if len(found) <= limits.rows:
                return (Rows(statement.columns, tuple(map(tuple, found))),)
        blocks: list[Block] = []
        with self._guarded("COPY", statement.dataset):
            await self._prepare()
            quote = statement.compiled.force_quote
            writer = BlockWriter(statement.columns, limits.block_bytes, held.into(blocks))
            counts.put(
                statement.shape, await self._connection.copy_rows(statement.literal(), quote, writer.add)
            )
            await writer.flush()
        return tuple(blocks)

    async def _copy_blocks(
        self, text: str, name: str, columns: tuple[Column, ...], quote: tuple[str, ...], put: Put
    ) -> int:
        with self._guarded("COPY", name):
            await self._prepare()
            writer = BlockWriter(columns, self._tools.limits.block_bytes, put)
            count = await self._connection.copy_rows(text, quote, writer.add)
            await writer.flush()
        return count

    @contextmanager
    def _guarded(self, operation: str, name: str) -> Iterator[None]:
        """The one place through which every statement goes: its span, its errors, its undoing."""
        telemetry, pool = self._tools.telemetry, self._lease.pool_name.value
        with telemetry.store_span(operation, f"{operation} {name}", collection=name, pool=pool):
            try:
                with translated(self._expired):
                    yield
            except BaseException as error:
                self._undo = True
                self._lease.failed(error.__cause__ or error)
                raise

    async def _prepare(self) -> None:
        """Makes the transaction ready for the next statement, mostly without a round trip."""
        if self._undo:
            await self._connection.execute(UNDO.format(limit=self._time_limit()))
            self._undo = False
        elif self._limit > self._remaining() * (1 + _RENEW):
            await self._connection.execute(self._time_limit())

    def _time_limit(self) -> str:
        remaining = self._remaining()
        if remaining <= 0:
            raise deadline_exceeded("")
        self._limit = remaining
        return f"SET LOCAL statement_timeout = {min(max(1, int(remaining * 1000)), _LONGEST)}"

    def _remaining(self) -> float:
        return self._deadline.remaining(self._tools.clock.monotonic())

    def _expired(self) -> bool:
        return self._remaining() < _SLACK


def within(count: int | None, limit: int) -> bool:
    """Whether a count is known and not above the limit."""
    return count is not None and count <= limit
