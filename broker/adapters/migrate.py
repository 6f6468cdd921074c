"""Numbered migrations of the broker's own tables, schema ``broker``.

A *component* is a set of tables that may live in a database of its own, such as ``jobs``; its migrations are the files
``migrations/{component}/{number}_{name}.sql``. They are applied in order, each in a transaction of its own together
with its row in ``broker.migration``, while an advisory lock keeps other processes out. A file that was applied never
changes: its checksum is kept and compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from broker.adapters.pg_errors import translated
from broker.adapters.pg_jobs_errors import job_database

LOCK = 0x62726F6B6572  # "broker"
COMPONENTS = ("jobs", "fleet", "learned")
"""All components of the database of jobs."""
ANALYTICAL = ("rollups",)
"""All components of the analytical database, for models that declare rollups."""

_BOOKKEEPING = """\
DO $$ BEGIN
    IF to_regnamespace('broker') IS NULL THEN  -- IF NOT EXISTS would ask its owner for the right to make it
        CREATE SCHEMA broker;
    END IF;
END $$;
CREATE TABLE IF NOT EXISTS broker.migration (
    component  text NOT NULL,
    number     integer NOT NULL,
    name       text NOT NULL,
    sha256     text NOT NULL,
    apply_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, number)
);
"""
# Also where sessions only read, or are short of time, unless they say more.
_SETTINGS = {"default_transaction_read_only": "off", "statement_timeout": "0", "lock_timeout": "0"}
_RECORD = "INSERT INTO broker.migration (component, number, name, sha256) VALUES ($1, $2, $3, $4)"


class MigrationError(Exception):
    """The database and the files do not belong together; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    component: str
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Checksum of the text, in hexadecimal digits."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(component: str) -> tuple[Migration, ...]:
    """The migrations of a component, in order; none for an unknown one."""
    folder = files("broker.adapters").joinpath("migrations", component)
    found = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            found.append(Migration(component, int(number), name, entry.read_text("utf-8")))
    return tuple(sorted(found, key=lambda m: m.number))


def render(component: str, only: Sequence[Migration] | None = None) -> str:
    """All migrations of a component, or only some, as one script, for those who apply it themselves; to be run once."""
    pieces = ["BEGIN;", f"SELECT pg_advisory_xact_lock({LOCK});", _BOOKKEEPING]
    for m in migrations(component) if only is None else only:
        record = f"VALUES ('{m.component}', {m.number}, '{m.name}', '{m.sha256}');"
        pieces += [f"-- {m.number:04}_{m.name}", m.sql, _RECORD.partition("VALUES")[0] + record, ""]
    return "\n".join([*pieces, "COMMIT;", ""])


async def migrate(dsn: str, component: str) -> tuple[Migration, ...]:
    """Applies what is missing and returns it; concurrent calls wait for each other.

    Raises:
        MigrationError: an applied file has changed, the database is newer than this code, or the role may not.
        BrokerError: STORE_UNAVAILABLE.
    """
    async with _connected(dsn, component) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)  # ends with the connection
        await connection.execute(_BOOKKEEPING)
        pending = await _pending(connection, migrations(component), component)
        for m in pending:
            async with connection.transaction():
                await connection.execute(m.sql)
                await connection.execute(_RECORD, m.component, m.number, m.name, m.sha256)
        return pending


async def check_migrated(dsn: str, component: str) -> None:
    """Raises MigrationError when a migration is missing; changes nothing."""
    if pending := await missing(dsn, component):
        names = ", ".join(f"{m.number:04}_{m.name}" for m in pending)
        raise MigrationError(f"The tables of {component!r} lack {names}. Run `broker migrate`.")


async def missing(dsn: str, component: str) -> tuple[Migration, ...]:
    """What :func:`migrate` would apply; changes nothing, and raises the same errors."""
    async with _connected(dsn, component) as connection:
        present = await connection.fetchval("SELECT to_regclass('broker.migration') IS NOT NULL")
        known = migrations(component)
        return await _pending(connection, known, component) if present else known


@asynccontextmanager
async def _connected(dsn: str, component: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that may write and wait, closed in the end."""
    with translated(lambda: False) if component in ANALYTICAL else job_database():
        connection = await asyncpg.connect(dsn, server_settings=_SETTINGS)
    try:
        yield connection
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError) as error:
        raise MigrationError(
            f"The tables of {component!r} cannot be made or read: {error}. Do this at the primary, as a role that owns "
            "the schema `broker` or may create it in the database, or apply what `broker migrate --print` shows."
        ) from error
    finally:
        await connection.close()


async def _pending(
    connection: asyncpg.Connection[asyncpg.Record], known: Sequence[Migration], component: str
) -> tuple[Migration, ...]:
    rows = await connection.fetch(
        "SELECT number, sha256 FROM broker.migration WHERE component = $1", component
    )
    applied = {row["number"]: row["sha256"] for row in rows}
    newest = max((m.number for m in known), default=0)
    if beyond := [number for number in applied if number > newest]:
        raise MigrationError(
            f"The database has migration {max(beyond)} of {component!r}, this version knows {newest}. "
            "Start a newer version of the broker."
        )
    changed = [m for m in known if applied.get(m.number, m.sha256) != m.sha256]
    if changed:
        raise MigrationError(
            f"Migration {changed[0].number:04}_{changed[0].name} differs from the one that was applied. "
            "Restore the file; a change belongs in a new migration."
        )
    return tuple(m for m in known if m.number not in applied)
