"""PostgreSQL for tests: short-lived servers, and databases made from nothing or from loaded flights."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import asyncpg

from broker.adapters.migrate import COMPONENTS, migrate
from broker.demo.embedded import EmbeddedPostgres
from broker.demo.flights import load_flights

SAMPLE_ROWS = 50_000
# A test database need not survive a power cut, so nothing waits for the disk. It must survive `kill -9`, so
# synchronous_commit stays on: a commit is in the hands of the operating system before it is acknowledged.
TEST_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "mmap",  # in its directory: a server that is killed leaves none to the machine
}
# How asyncpg says that a server has gone, or goes: its state machine is surprised by farewells as well.
GONE = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
_TEMPLATE = "flights_template"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # generic for type checkers only
T = TypeVar("T")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, a session fixture say, whatever event loops there are."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


async def prepare(
    dsn: str, schema: str, components: Iterable[str] = COMPONENTS, *, jobs_dsn: str | None = None
) -> None:
    """Runs the statements of a schema, and makes the broker's own tables, in another database if one is given."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(schema)
    finally:
        await connection.close()
    for component in components:
        await migrate(jobs_dsn or dsn, component)


@contextmanager
def temporary_server(**settings: str) -> Iterator[EmbeddedPostgres]:
    """Start a server in a new directory, with `TEST_SETTINGS` below `settings`; stop and delete it after.

    Not below pytest's ``tmp_path``: that is closed to the account that PostgreSQL runs as under root. It is stopped
    without a checkpoint: what that would write is deleted next.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pg-") as directory,
        EmbeddedPostgres(Path(directory), settings={**TEST_SETTINGS, **settings}) as server,
    ):
        try:
            yield server
        finally:
            server.stop("immediate")


class Databases:
    """Makes and drops databases of one server. The flights are loaded once, when first asked for."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._template_made = False

    async def create(self, *, flights: bool = False) -> str:
        """Return the DSN of a new database: empty, or with the sample of `SAMPLE_ROWS` flights."""
        if flights and not self._template_made:
            await self._make_template()
            self._template_made = True
        name = f"test_{uuid.uuid4().hex}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if flights else 'template0'}")
        return self._server.dsn(name)

    async def drop(self, dsn: str) -> None:
        """Drop the database, ending the sessions that are still in it."""
        await self._execute(f"DROP DATABASE {dsn.rpartition('/')[2]} WITH (FORCE)")

    async def make_read_only(self, dsn: str) -> None:
        """Make transactions of new sessions read only unless they say otherwise."""
        await self._execute(f"ALTER DATABASE {dsn.rpartition('/')[2]} SET default_transaction_read_only = on")

    async def _make_template(self) -> None:
        await self._execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0")
        connection = await asyncpg.connect(self._server.dsn(_TEMPLATE))
        try:
            await load_flights(connection, sample_rows=SAMPLE_ROWS)
        finally:
            await connection.close()
        # No session, not even of autovacuum, may be in a template while it is copied.
        await self._execute(f"ALTER DATABASE {_TEMPLATE} ALLOW_CONNECTIONS false")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._server.dsn())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
