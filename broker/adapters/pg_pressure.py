"""What a PostgreSQL server says about its own load: how many sessions execute, and how many of those wait for what.

One small read of ``pg_stat_activity`` over a connection of its own, so that it answers when all pools are busy. It is
never waited for longer than its caller allows, and a connection that is lost is made again, less and less often.

A role sees the state of other roles' sessions only with ``pg_read_all_stats``. Without it the figures are about the
broker's own sessions: shares stay meaningful, other programs' load stays hidden.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import asyncpg

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_errors import cause_of, in_words
from broker.policy.admission.values import Pressure

TIMEOUT = 2.0
"""Seconds for a connection and for a reading; what takes longer tells of the past."""
PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds until a lost connection is made again, doubled with each failure."""
_LOG = logging.getLogger(__name__)
# Of sessions that are hidden, the kind is hidden too.
_READ = """
SELECT count(*) FILTER (WHERE state = 'active')::int,
  count(*) FILTER (WHERE state = 'active' AND wait_event_type = 'Lock')::int,
  count(*) FILTER (WHERE state = 'active' AND wait_event_type = 'IO')::int,
  count(*) FILTER (WHERE backend_type IS NULL)::int
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'
"""


class PgPressure:
    """Reads one server. ``clock`` is monotonic; ``title`` is the server's name for people."""

    def __init__(self, title: str, dsn: str, settings: Settings, clock: Callable[[], float]) -> None:
        self._title, self._dsn, self._settings, self._clock = title, dsn, settings, clock
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._pause = PAUSE
        self._again_at = 0.0
        self._told = False

    async def read(self) -> Pressure | None:
        """The load now, None when the server does not tell. Raises nothing but CancelledError."""
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._connection is None:
                    if self._clock() < self._again_at:
                        return None
                    self._connection = await self._connect()
                row = await self._connection.fetchrow(_READ)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            self._lost(error)
            return None
        except BaseException:
            self._drop()
            raise
        assert row is not None, "aggregates have a row"
        active, locks, transfers, hidden = row
        self._pause = PAUSE
        self._tell(hidden)
        return Pressure(active=active, lock_waiting=locks, io_waiting=transfers)

    def close(self) -> None:
        """Ends the connection."""
        self._drop()

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            self._dsn,
            timeout=TIMEOUT,
            statement_cache_size=1,
            server_settings={
                "application_name": self._settings.application_name,
                "default_transaction_read_only": "on",
                "statement_timeout": f"{round(TIMEOUT * 1000)}",
            },
        )

    def _lost(self, error: BaseException) -> None:
        self._drop()
        self._again_at = self._clock() + self._pause
        self._pause = min(LONGEST_PAUSE, 2.0 * self._pause)
        _LOG.debug("the load of %s is unknown: %s", self._title, in_words(cause_of(error)))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(asyncpg.InterfaceError):
                connection.terminate()

    def _tell(self, hidden: int) -> None:
        if hidden and not self._told:
            self._told = True
            _LOG.info(
                "%s hides the state of other roles' sessions; the broker's role sees them with pg_read_all_stats",
                self._title,
            )
