"""Looks for changes a few times a second, over a connection of its own, and never ends for an error.

While the server is away, what was seen last grows old and is soon not trusted any more. Nothing is forgotten for it:
the first look after reads what was missed, if it is still there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from random import Random

import asyncpg

from broker.adapters.pg_changes import Changes
from broker.adapters.pg_changes_look import Connection, look
from broker.adapters.pg_connection import Settings
from broker.adapters.pg_errors import cause_of, in_words
from broker.adapters.pg_rollup_coverage import MISSING
from broker.telemetry import catalog_cache as catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

TIMEOUT = 2.0
"""Seconds for a connection and for a look."""
_REST = 9.0
"""Rest after a look, in times of what it took: looking takes at most a tenth of a session of the server."""
_LONGEST = 1.0
"""Longest rest in seconds after a look that failed; the server may be back at any time."""
_UNINSTALLED = 5.0
"""Rest in seconds where the tables of rollups are missing, or the server is a standby."""
_JITTER = 0.2
_TOKEN_PATIENCE = 4.0
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
_LOG = logging.getLogger(__name__)


class ChangePoller:
    """Tells ``changes`` what there is to see at one server, every ``every`` seconds; ``clock`` is monotonic."""

    def __init__(
        self,
        changes: Changes,
        dsn: str,
        settings: Settings,
        every: float,
        clock: Callable[[], float],
        rng: Random,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._changes, self._dsn, self._settings = changes, dsn, settings
        self._telemetry = telemetry or Telemetry.off()
        self._every, self._clock, self._rng = every, clock, rng
        self._connection: Connection | None = None
        self._failures = 0
        self._trouble = ""
        self._tokens_due: dict[str, float] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is tracked."""
        return not self._changes.keys and not self._changes.tokens

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        forget = self._telemetry.observe(catalog.LOOK_AGE, self._ages)
        try:
            while not self.idle:
                rest = await self.turn()
                await asyncio.sleep(rest)
        finally:
            forget()
            self._drop()

    def close(self) -> None:
        """Ends the connection."""
        self._drop()

    async def turn(self) -> float:
        """Looks once; the seconds until the next time. Raises nothing but CancelledError."""
        began, generation = self._clock(), self._changes.generation
        outcome = "failed"
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._connection is None:
                    self._connection = await self._connect()
                seen = await self._look(self._connection)
            outcome = "blind" if not seen else "quiet" if self._changes.generation == generation else "news"
            rest = max(self._every, _REST * (self._clock() - began))
            if seen:
                await self._ask_tokens(self._connection)
            else:
                rest = max(rest, _UNINSTALLED)
        except _LOST as error:
            self._drop()
            self._failures += 1
            self._tell(in_words(cause_of(error)))
            rest = min(_LONGEST, self._every * 2.0 ** min(self._failures, 10))
        except BaseException:
            self._drop()
            raise
        else:
            self._failures = 0
        finally:
            self._telemetry.change_look(outcome, self._clock() - began)
        return rest * self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)

    async def _look(self, connection: Connection) -> bool:
        """Looks at the marks; whether the server is one whose changes can be seen."""
        changes = self._changes
        if not changes.keys:
            return True
        began = self._clock()
        try:
            found = await look(connection, changes.keys, changes.view)
        except MISSING as error:
            changes.blind()
            self._tell(
                f"the tables of rollups are missing or old, or may not be read: {in_words(cause_of(error))}"
            )
            return bool(changes.tokens)
        if found is None:
            changes.blind()
            self._tell("the server is a standby")
            return False
        changes.looked(began, found)
        self._tell("")
        return True

    async def _ask_tokens(self, connection: Connection) -> None:
        """Asks for the tokens that are due, one after the other."""
        for dataset, sql in self._changes.tokens.items():
            began = self._clock()
            if self._tokens_due.get(dataset, 0.0) > began:
                continue
            token = None
            try:
                async with asyncio.timeout(TIMEOUT):
                    token = str(await connection.fetchval(sql))
            except (asyncpg.PostgresError, TimeoutError) as error:
                if connection.is_closed():
                    raise
                self._tell(f"the change token of {dataset!r} cannot be read: {in_words(cause_of(error))}")
            rest = max(self._every, _REST * (self._clock() - began))
            self._tokens_due[dataset] = self._clock() + (rest if token is not None else _UNINSTALLED)
            self._changes.told(dataset, began, token, max(TIMEOUT, _TOKEN_PATIENCE * rest))

    def _ages(self) -> list[Reading]:
        """Ages of the last looks, in a thread that collects."""
        ages = self._changes.extent()
        return [(-1.0 if age is None else age, {n.DATASET: name}) for name, age in ages.items()]

    async def _connect(self) -> Connection:
        return await asyncpg.connect(
            self._dsn,
            timeout=TIMEOUT,
            statement_cache_size=20,
            server_settings={
                "application_name": f"{self._settings.application_name} changes",
                "default_transaction_read_only": "on",
                "statement_timeout": f"{round(TIMEOUT * 1000)}",
                "timezone": "UTC",
                "jit": "off",
            },
        )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(asyncpg.InterfaceError):
                connection.terminate()

    def _tell(self, trouble: str) -> None:
        """Logs what keeps changes from being seen when it begins and when it ends, not at every look."""
        if trouble and not self._trouble:
            _LOG.warning(
                "changes of tracked datasets are not seen, so that cached answers go by age: %s", trouble
            )
        elif self._trouble and not trouble:
            _LOG.info("changes of tracked datasets are seen again")
        self._trouble = trouble
