"""The connections to the job database: few, since every statement on it is short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from broker.adapters.pg_jobs_errors import job_database

STATEMENT_SECONDS = 10.0
"""No statement on the job tables takes long; one that does is stuck behind something."""

SETTINGS = {"application_name": "querybroker jobs", "timezone": "UTC"}


class JobDatabase:
    """Runs statements; every method raises BrokerError STORE_UNAVAILABLE when the database cannot be reached.

    A pool finds out that a connection has died only by using it. A statement that may be repeated (`repeatable`: its
    second run changes nothing more) is therefore tried on a second connection at once.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def fetch(self, sql: str, *arguments: object, repeatable: bool = False) -> list[asyncpg.Record]:
        """The rows of one statement, which is a transaction of its own."""
        with job_database():
            if not repeatable:
                return await self._pool.fetch(sql, *arguments)
            try:
                return await self._pool.fetch(sql, *arguments)
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
                return await self._pool.fetch(sql, *arguments)

    async def fetch_one(
        self, sql: str, *arguments: object, repeatable: bool = False
    ) -> asyncpg.Record | None:
        """The first row, or None."""
        rows = await self.fetch(sql, *arguments, repeatable=repeatable)
        return rows[0] if rows else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """A connection in a READ COMMITTED transaction."""
        with job_database():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection


@asynccontextmanager
async def open_job_database(dsn: str, connections: int) -> AsyncIterator[JobDatabase]:
    """A pool of at most ``connections``. It is made at once; connections are made when they are needed.

    READ COMMITTED is asked for by name, because the guards rely on a row being read again after a wait for its lock.
    """
    async with asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections,
        timeout=5.0,
        command_timeout=STATEMENT_SECONDS,
        server_settings={**SETTINGS, "default_transaction_isolation": "read committed"},
    ) as pool:
        yield JobDatabase(pool)
