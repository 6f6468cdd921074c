"""The connections to the job database: few, since every statement on it is short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

from broker.adapters.pg_errors import answered, away, lost
from broker.adapters.pg_guard import Guard
from broker.adapters.pg_jobs_errors import job_database
from broker.policy.breaker import BreakerSettings, Ticket
from broker.telemetry.instruments import Telemetry

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # generic for type checkers only

STATEMENT_SECONDS = 10.0
"""No statement on the job tables takes long; one that does is stuck behind something."""

BREAKER = BreakerSettings(first_open=0.5, longest_open=2.0, successes=1)
"""Short, because leases of workers are counted in seconds, and every statement is a light one."""

PLANS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_bitmapscan": "off"}
"""Every statement has one good plan, by its index, whatever the statistics of a table say that has just been filled or
emptied; and planning takes as long as a claim of ten jobs."""

SETTINGS = {
    "application_name": "querybroker jobs",
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",
}
"""READ COMMITTED is asked for by name, because the guards rely on a row being read again after a wait for its lock."""


class Connections:
    """At most ``limit`` connections, made when they are needed; one that broke is not used again.

    Not a pool of asyncpg: that one makes a task for every connection it takes back, which costs a worker as much as
    the statement itself.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], limit: int) -> None:
        self._connect = connect
        self._leave = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """A connection for one statement or transaction."""
        async with self._leave:
            connection = self._idle.pop() if self._idle else None
            if connection is None or connection.is_closed():
                connection = await self._connect()
                self._all = {c for c in self._all if not c.is_closed()} | {connection}
            try:
                yield connection
            except asyncpg.PostgresError:  # the server's answer: the connection is as good as before
                self._idle.append(connection)
                raise
            except BaseException:  # a statement may still be under way
                connection.terminate()
                raise
            self._idle.append(connection)

    async def close(self) -> None:
        """Ends all connections; what still runs on them fails."""
        busy = self._all.difference(self._idle)
        for connection in busy:
            connection.terminate()
        for connection in self._idle:
            try:
                await connection.close(timeout=1.0)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()


class JobDatabase:
    """Runs statements; every method raises BrokerError STORE_UNAVAILABLE when the database cannot be reached.

    That a connection has died is found out only by using it. A statement that may be repeated (`repeatable`: its
    second run changes nothing more) is therefore tried on a second connection at once, and, when none can be made,
    again after a pause, within the budget of retries.
    """

    def __init__(self, connections: Connections, guard: Guard) -> None:
        self._connections = connections
        self._guard = guard

    async def fetch(self, sql: str, *arguments: object, repeatable: bool = False) -> list[asyncpg.Record]:
        """The rows of one statement, which is a transaction of its own."""
        attempts, end = 0, asyncio.get_running_loop().time() + STATEMENT_SECONDS
        while True:
            pause: float | None = None
            connected = False
            ticket = self._guard.enter(again=attempts > 0)
            with job_database():
                try:
                    async with self._connections.use() as connection:
                        connected = True
                        rows = await connection.fetch(sql, *arguments)
                except BaseException as error:
                    attempts += 1
                    self._ended(ticket, error, stale=attempts == 1)
                    if repeatable and connected and lost(error) and attempts == 1:
                        pause = 0.0
                    elif repeatable and not connected and away(error):
                        pause = self._guard.again(attempts, end)
                    if pause is None:
                        raise
                else:
                    self._guard.succeeded(ticket)
                    return rows
            await asyncio.sleep(pause)

    async def fetch_one(
        self, sql: str, *arguments: object, repeatable: bool = False
    ) -> asyncpg.Record | None:
        """The first row, or None."""
        rows = await self.fetch(sql, *arguments, repeatable=repeatable)
        return rows[0] if rows else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a READ COMMITTED transaction."""
        ticket = self._guard.enter()
        try:
            with job_database():
                async with self._connections.use() as connection, connection.transaction():
                    yield connection
        except BaseException as error:
            self._ended(ticket, error.__cause__ or error, stale=True)
            raise
        self._guard.succeeded(ticket)

    def _ended(self, ticket: Ticket, error: BaseException, *, stale: bool) -> None:
        """Tells the breaker of a failure; that no connection could be made it knows, one that had died says nothing."""
        if answered(error) and not away(error):
            self._guard.succeeded(ticket)
        elif lost(error) and not stale:
            self._guard.failed(ticket, error)
        else:
            self._guard.released(ticket)


async def _ready(_: object) -> None:
    """Everything is set by the settings of the session, and nothing here changes them."""


@asynccontextmanager
async def open_job_database(
    dsn: str, connections: int, random: Callable[[], float], telemetry: Telemetry | None = None
) -> AsyncIterator[JobDatabase]:
    """A pool of at most ``connections``. It is made at once; connections are made when they are needed."""
    clock = asyncio.get_running_loop().time
    guard = Guard(
        "jobs",
        clock,
        random,
        telemetry or Telemetry.off(),
        title="The job database",
        store="jobs",
        breaker=BREAKER,
    )
    dial = guard.connecting(_ready)
    settings = {**SETTINGS, **PLANS}

    def connect() -> Awaitable[Connection]:
        return dial(dsn, timeout=5.0, command_timeout=STATEMENT_SECONDS, server_settings=settings)

    pool = Connections(connect, connections)
    try:
        yield JobDatabase(pool, guard)
    finally:
        await pool.close()
        guard.close()
