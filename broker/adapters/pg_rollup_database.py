"""Connections that write rollups: few, apart from those that answer, to the primary of the analytical database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from broker.adapters.pg_errors import translated
from broker.domain.errors import BrokerError, ErrorReason

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 60.0
"""Longest time of one statement; a piece of a segment has a few megabytes."""
SCAN_SECONDS = 600.0
"""Longest time of a statement that may have to read a whole table."""
SETTINGS = {
    "application_name": "querybroker rollups",
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",  # rows are read again after a wait for their lock
    "default_transaction_read_only": "off",
    "statement_timeout": "0",  # every statement has a time of its own
    "lock_timeout": "20s",
    "jit": "off",
}
_MISSING = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedColumnError,
)

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


class NotInstalledError(BrokerError):
    """The tables of rollups are not there."""

    def __init__(self) -> None:
        text = "The tables of rollups are missing or old. Run `broker rollup install`."
        super().__init__(ErrorReason.ROLLUP_STATE, text)


class RollupDatabase:
    """Gives connections; raises BrokerError STORE_UNAVAILABLE, STORE_REJECTED, or :class:`NotInstalledError`."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside of a transaction."""
        with _translated():
            async with self._pool.acquire() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a READ COMMITTED transaction, undone by any error and by cancellation."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection in a REPEATABLE READ transaction that only reads."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


@asynccontextmanager
async def open_rollup_database(dsn: str, connections: int = 4) -> AsyncIterator[RollupDatabase]:
    """A pool of at most so many connections, which are made when they are needed."""
    async with asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        server_settings=SETTINGS,
    ) as pool:
        yield RollupDatabase(pool)


@contextmanager
def _translated() -> Iterator[None]:
    with translated(lambda: False):
        try:
            yield
        except _MISSING as error:
            if "broker.rollup" in str(error) or 'schema "broker"' in str(error):
                raise NotInstalledError from error
            raise
