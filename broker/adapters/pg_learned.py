"""Learned state in the broker's own tables, beside the jobs: the analytical database may be read only."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg

from broker.adapters.pg_jobs_errors import job_database
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.learned import Learned

CONNECT_SECONDS, STATEMENT_SECONDS = 5.0, 10.0
READ_STATES = 8
"""States that a new process reads; those of more processes say little more."""
LARGEST = 16 << 20
"""Bytes of a state that is read at all."""
_LOAD = """
SELECT writer, version, extract(epoch FROM now() - save_time)::float8 AS age, state
FROM broker.learned
WHERE scope = $1 AND version = $2 AND length(state) <= $3 AND save_time > now() - interval '30 days'
ORDER BY save_time DESC LIMIT $4
"""
_SAVE = """
INSERT INTO broker.learned (scope, writer, version, state) VALUES ($1, $2, $3, $4)
ON CONFLICT (scope, writer) DO UPDATE SET version = $3, save_time = now(), state = $4
"""
# Who is at work saves every minute.
_ABSORB = """
DELETE FROM broker.learned
WHERE scope = $1 AND writer = ANY($2::text[]) AND save_time < now() - interval '10 minutes'
   OR save_time < now() - interval '30 days'
"""


class PgLearned:
    """See :class:`broker.ports.learned.LearnedStore`. Connects for every call: there is one in a minute."""

    def __init__(self, dsn: str, scope: str) -> None:
        self._dsn, self._scope = dsn, scope

    async def load(self, version: int) -> Sequence[Learned]:
        """The newest states, those of other versions left out."""
        async with self._connected() as connection:
            rows = await connection.fetch(_LOAD, self._scope, version, LARGEST, READ_STATES)
        return [Learned(row["writer"], row["version"], row["age"], row["state"]) for row in rows]

    async def save(self, writer: str, version: int, state: bytes, absorbed: Sequence[str]) -> None:
        """Replaces the state of a writer, and drops what it contains."""
        async with self._connected() as connection, connection.transaction():
            await connection.execute(_SAVE, self._scope, writer, version, state)
            await connection.execute(_ABSORB, self._scope, list(absorbed))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        settings = {"application_name": "querybroker learned", "timezone": "UTC"}
        with _translated():
            connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                server_settings=settings,
            )
            try:
                yield connection
            finally:
                await connection.close(timeout=CONNECT_SECONDS)


@contextmanager
def _translated() -> Iterator[None]:
    """The errors of the job database; one that may only be read is another reason why state cannot be kept there."""
    with job_database():
        try:
            yield
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError) as error:
            text = f"Learned state cannot be kept: {error}. Let the broker write to the table broker.learned."
            raise BrokerError(ErrorReason.STORE_REJECTED, text, metadata={"store": "learned"}) from error


def scope_of(dsn: str) -> str:
    """Names an analytical database: its hosts and its name, not who asks it nor with which password."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2] or ",".join(query.get("host", []))
    text = f"{hosts}/{parts.path.lstrip('/') or ','.join(query.get('dbname', []))}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
