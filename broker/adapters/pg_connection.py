"""One connection to the analytical database: how it is set up, how it is used, how it is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import asyncpg

from broker.adapters.pg_errors import lost
from broker.adapters.pg_guard import Guard
from broker.adapters.pg_kept import Kept, Proxy
from broker.domain.pool import PoolName
from broker.policy.breaker import Ticket

CUSTOM = "force_custom_plan"
"""Every statement is planned for its values: the selectivity of ranges and lists is in them."""
GENERIC = "force_generic_plan"
"""A prepared statement is planned once, for those that take the same way whatever their values."""
# Set once per connection. Unknown ones are left out, so that older servers and relatives of PostgreSQL work too.
SESSION_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "read committed",  # for what is read by one statement alone
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",  # the caller's deadline decides, not what is set for the role
    "timezone": "UTC",
    "jit": "off",  # compiling costs more than it saves on queries of this size
    "plan_cache_mode": CUSTOM,
    "client_connection_check_interval": "100ms",  # a statement ends when its connection is cut
    "standard_conforming_strings": "on",  # a backslash in a literal is a backslash
    "extra_float_digits": "1",  # shortest text that reads back as the same double
    # What an expression of the model makes text of is the same whoever asks: rollups and other brokers keep it. The
    # order of day and month in dates that are read stays that of the database.
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
}
_CONFIGURE = """
SELECT set_config(s.name, wanted.value, false)
FROM unnest($1::text[], $2::text[]) AS wanted (name, value) JOIN pg_settings AS s ON lower(s.name) = wanted.name
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """How connections are made. Times in seconds; ``statements`` are kept prepared on each connection."""

    application_name: str = "querybroker"
    connect_timeout: float = 5.0
    idle_in_transaction: float = 60.0
    idle: float = 600.0
    statements: int = 200
    patience: float = 0.3


Receive = Callable[[bytes], Coroutine[Any, Any, None]]


class BrokerConnection(asyncpg.Connection):
    """A connection whose COPY can be cancelled at any moment; ``told`` remembers what was read on it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.told: dict[Hashable, Any] = {}
        self._planned = CUSTOM

    async def plan(self, mode: str) -> None:
        """Has statements planned so from now on; takes a round trip where it was otherwise before."""
        if mode != self._planned:
            self._planned = ""  # unknown, should this be cancelled
            await self.execute(f"SET plan_cache_mode = {mode}")
            self._planned = mode

    async def copy_rows(self, text: str, force_quote: Sequence[str], receive: Receive) -> int:
        """Runs ``COPY (text) TO STDOUT``, awaiting ``receive`` with every piece. Returns the number of rows.

        asyncpg reads no further while ``receive`` waits, so a slow receiver slows the server down.
        """
        try:
            status = await self.copy_from_query(
                text, output=receive, format="csv", force_quote=list(force_quote) or None
            )
        except asyncio.CancelledError:
            # A cancellation in the turn of the loop in which a piece arrives passes asyncpg 0.32 by: the future that it
            # would cancel is done. The COPY would go on, with nobody to take its rows, and break the connection.
            protocol: Any = self._protocol  # type: ignore[attr-defined] # the stubs leave it out
            if not protocol._is_cancelling():  # noqa: SLF001 - there is no public way
                protocol._request_cancel()  # noqa: SLF001 - what asyncpg does in the turns before and after
            raise
        return int(status.rpartition(" ")[2])


class Lease:
    """A connection in use. ``replica`` when it may lag behind a primary; ``ticket`` is the breaker's leave for it."""

    __slots__ = ("_epoch", "_guard", "_kept", "_proxy", "connection", "pool_name", "replica", "ticket")

    def __init__(
        self,
        kept: Kept,
        proxy: Proxy,
        name: PoolName,
        *,
        replica: bool,
        guard: Guard,
    ) -> None:
        self._kept, self._proxy, self._guard, self._epoch = kept, proxy, guard, kept.epoch
        self.ticket: Ticket | None = None
        self.connection = cast(BrokerConnection, proxy)  # the proxy passes every call on
        self.pool_name = name
        self.replica = replica

    def failed(self, error: BaseException) -> None:
        """A statement failed; when the server was lost, its breaker is told, and what it lacks to those who listen."""
        self._guard.noticed(error)
        if self.ticket is not None and lost(error):
            self._guard.failed(self.ticket, error)

    async def give_back(self) -> None:
        """Gives the connection back after a statement that ended in good order, outside of any transaction."""
        assert not self.connection.is_in_transaction(), "nothing was begun"
        del self.connection  # who still has the lease cannot meddle with what the next one does
        await self._kept.give_back(self._proxy, self._epoch)

    async def end(self, patience: float) -> None:
        """Ends the transaction and gives the connection back, closed unless it is known to be clean.

        COMMIT of a failed transaction rolls back; a statement that is being cancelled is waited for first.
        """
        try:
            async with asyncio.timeout(patience):
                await self.connection.execute("COMMIT")
            clean = not self.connection.is_in_transaction()
        except Exception:  # noqa: BLE001 - whatever went wrong, the connection must not be used again
            clean = False
        if not clean:
            self._terminate()
        await self._kept.pool.release(self._proxy)

    async def expire(self) -> None:
        """Closes the connection, and all idle ones of the pool on their next use."""
        self._terminate()
        self._kept.drop()
        await self._kept.pool.expire_connections()
        await self._kept.pool.release(self._proxy)

    def _terminate(self) -> None:
        with suppress(asyncpg.InterfaceError):  # the pool has taken a lost connection back by itself
            self.connection.terminate()


def configure_with(
    settings: Settings,
) -> Callable[[asyncpg.Connection[asyncpg.Record]], Coroutine[Any, Any, None]]:
    """What sets a new connection up."""
    wanted = {
        **SESSION_SETTINGS,
        "idle_in_transaction_session_timeout": f"{round(settings.idle_in_transaction * 1000)}ms",
    }

    async def configure(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute(_CONFIGURE, list(wanted), list(wanted.values()))

    return configure


async def nothing_to_reset(_: object) -> None:
    """All settings of a transaction end with it; saves a round trip per use."""
