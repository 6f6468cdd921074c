"""What the rollups of a dataset need in the source's own database: triggers, functions, and their registration."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from broker.adapters.pg_rollup_catalog import (
    STALE,
    UNCHANGED,
    Request,
    changes,
    fingerprint,
    relations,
    request,
)
from broker.adapters.pg_rollup_coverage import CoverageReading
from broker.adapters.pg_rollup_database import Connection, RollupDatabase
from broker.adapters.pg_rollup_ddl import functions, triggers, written_tables
from broker.adapters.pg_rollup_steps import check_functions, steps
from broker.adapters.pg_rollup_tracked import TrackedSource, sources, tag
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import Coverage, Rollup, Span
from broker.policy.rollups.definition import definition

LOCK_SECONDS = 5
"""Writers queue behind a lock that waits, so it does not wait long; the installation can be run again."""
_REGISTER = """
INSERT INTO broker.rollup_source (dataset, time, definition, fingerprint) VALUES ($1, $2, $3, '')
ON CONFLICT (dataset, time) DO NOTHING
"""
_HOLD = """
SELECT id, fingerprint, tables, owners, columns, tag FROM broker.rollup_source
WHERE dataset = $1 AND time = $2 FOR UPDATE
"""
_FIND = _HOLD.replace("FOR UPDATE", "")
_ACCEPT = """
UPDATE broker.rollup_source
SET definition = $2, fingerprint = $3, tables = $4, owners = $5, columns = $6, tag = $7, install_time = now()
WHERE id = $1
"""
_DECLARE = """
INSERT INTO broker.rollup (source, name, definition) VALUES ($1, $2, $3) ON CONFLICT (source, name) DO NOTHING
"""
# What is built for another definition answers no more, and keeps no marks: those not declared any more as well.
_REDEFINE = """
WITH changed AS (
    UPDATE broker.rollup AS r
    SET definition = coalesce(d.definition, ''), generation = r.generation + 1, quarantine = NULL, verify_time = NULL
    FROM broker.rollup AS o LEFT JOIN unnest($2::text[], $3::text[]) AS d (name, definition) ON d.name = o.name
    WHERE r.id = o.id AND o.source = $1 AND o.definition <> coalesce(d.definition, '')
    RETURNING r.id
)
UPDATE broker.rollup_segment AS s SET retire_time = clock_timestamp()
FROM changed WHERE s.rollup = changed.id AND s.retire_time IS NULL
"""
# Rollups whose sealed segments would go: their rows no longer exist, so nobody could build them again. Whoever seals
# one more waits for the lock.
_LOST = """
SELECT r.name FROM broker.rollup AS r LEFT JOIN unnest($2::text[], $3::text[]) AS d (name, definition) USING (name)
WHERE r.source = $1 AND r.definition <> coalesce(d.definition, '') AND EXISTS (
    SELECT FROM broker.rollup_segment AS s WHERE s.rollup = r.id AND s.sealed AND s.retire_time IS NULL)
ORDER BY r.name FOR UPDATE OF r
"""
_INSTALLED = """
SELECT s.id, s.time, ARRAY(SELECT r.name FROM broker.rollup AS r WHERE r.source = s.id) AS names
FROM broker.rollup_source AS s WHERE s.dataset = $1 ORDER BY s.id FOR UPDATE
"""
_OURS = """
SELECT 'DROP TRIGGER ' || quote_ident(g.tgname) || ' ON ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE starts_with(g.tgname::text, $1) AND NOT g.tgisinternal
UNION ALL
SELECT 'DROP FUNCTION broker.' || quote_ident(p.proname) || '()'
FROM pg_proc AS p WHERE p.pronamespace = 'broker'::regnamespace AND starts_with(p.proname::text, $1)
"""


class PgRollupSchema:
    """Installs and removes what :class:`broker.adapters.pg_rollups.PgRollups` needs, and reads coverage."""

    def __init__(self, database: RollupDatabase) -> None:
        self._database = database
        self._reading = CoverageReading()

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        """The functions, and the triggers of tables without partitions; ``:source`` is a number given by install."""
        found: list[str] = []
        for source in sources(dataset):
            if not source.written:
                continue
            found += functions(source, None).values()
            for table in written_tables(source):
                for pair in triggers(source, table, table.table).values():
                    found += pair
        return tuple(found)

    async def install(self, dataset: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        """See :class:`broker.ports.rollups.RollupStore`. All or nothing; a rollup that changed is given up.

        Raises:
            BrokerError: ROLLUP_STATE when a table cannot be a source, a changed rollup has sealed partitions, or the
                tables of rollups are missing; STORE_UNAVAILABLE when writers hold the tables for too long;
                STORE_REJECTED without the rights.
        """
        done: list[str] = []
        async with self._database.transaction() as connection:
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            wanted = {source.time.name: source for source in sources(dataset)}
            for source in wanted.values():
                done += await (_planned(connection, source) if dry_run else _install(connection, source))
            for row in await connection.fetch(_INSTALLED, dataset.name):
                if row["time"] not in wanted:
                    done += await _remove(connection, dataset, row["time"], dry_run=dry_run)
                    await _redefine(connection, row["id"], dataset, (), dry_run=dry_run)
        return tuple(done)

    async def uninstall(self, dataset: Dataset) -> None:
        """Removes the triggers and sources of the dataset that no installed rollup needs."""
        async with self._database.transaction() as connection:
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            for row in await connection.fetch(_INSTALLED, dataset.name):
                needed = [s for s in sources(dataset, row["names"]) if s.time.name == row["time"]]
                if needed:
                    await _install(connection, needed[0], declared=False)
                    continue
                await _remove(connection, dataset, row["time"])
                if not row["names"]:
                    await connection.execute("DELETE FROM broker.rollup_source WHERE id = $1", row["id"])

    async def coverage(self, dataset: Dataset, rollups: Sequence[Rollup], span: Span) -> tuple[Coverage, ...]:
        """What is covered now."""
        async with self._database.snapshot() as connection:
            as_of = await connection.fetchval("SELECT now()")
            found, _ = await self._reading.read(connection, dataset, rollups, span, as_of)
        return found


async def _install(
    connection: Connection, source: TrackedSource, *, declared: bool = True
) -> tuple[str, ...]:
    """Brings one source to what is declared. ``declared`` says that its rollups are all that there should be."""
    name, time = source.dataset.name, source.time.name
    await connection.execute(_REGISTER, name, time, source.definition)
    held = await connection.fetchrow(_HOLD, name, time)
    assert held is not None, "it was registered"
    await _hold_catalog(connection, source)
    planned = await _steps(connection, source, held)
    for statement in planned:
        await connection.execute(statement)
    wanted = request(source)
    accepted = await fingerprint(connection, wanted)
    if STALE in accepted.splitlines():
        text = f"The tables of {name!r} were changed at the same time. Run `broker rollup install` again."
        raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=1.0)
    await connection.execute(_ACCEPT, held["id"], source.definition, accepted, *wanted)
    if declared:
        await _redefine(connection, held["id"], source.dataset, source.rollups)
    return planned


async def _redefine(
    connection: Connection,
    source: int,
    dataset: Dataset,
    rollups: Sequence[Rollup],
    *,
    dry_run: bool = False,
) -> None:
    """Makes these the source's rollups, with the definitions that they have now; a dry run only says if it may."""
    names = [rollup.name for rollup in rollups]
    hashes = [definition(dataset, rollup) for rollup in rollups]
    if lost := [row["name"] for row in await connection.fetch(_LOST, source, names, hashes)]:
        raise _sealed(dataset, lost)
    if dry_run:
        return
    await connection.executemany(_DECLARE, [(source, *pair) for pair in zip(names, hashes, strict=True)])
    await connection.execute(_REDEFINE, source, names, hashes)


def _sealed(dataset: Dataset, names: Sequence[str]) -> BrokerError:
    """ROLLUP_STATE: what changed is sealed."""
    told = ", ".join(f"'{dataset.name}.{name}'" for name in names)
    text = (
        f"The definition of {told} changed or is gone, but it has sealed partitions, whose rows no longer exist: they "
        "would be lost. Declare the changed rollup under another name and keep the old one as it was, or give it up "
        "with `broker rollup drop` while it is declared. If you changed nothing, this version of the broker stores "
        "states in another layout: only the version before can read them."
    )
    metadata = {"rollup": ", ".join(names), "dataset": dataset.name}
    return BrokerError(ErrorReason.ROLLUP_STATE, text, metadata=metadata)


async def _planned(connection: Connection, source: TrackedSource) -> tuple[str, ...]:
    """What an installation would run now."""
    known = await connection.fetchrow(_FIND, source.dataset.name, source.time.name)
    if known is not None:
        await _redefine(connection, known["id"], source.dataset, source.rollups, dry_run=True)
    return await _steps(connection, source, known)


async def _steps(
    connection: Connection, source: TrackedSource, known: asyncpg.Record | None
) -> tuple[str, ...]:
    found = await relations(connection, source)
    if source.written:
        await check_functions(connection, source, found)
    if known is None or not known["fingerprint"]:
        return await steps(connection, source, None if known is None else known["id"], found, UNCHANGED)
    old = Request(known["tables"], known["owners"], known["columns"], known["tag"])
    changed = changes(known["fingerprint"], await fingerprint(connection, old))
    return await steps(connection, source, known["id"], found, changed)


async def _remove(
    connection: Connection, dataset: Dataset, time: str, *, dry_run: bool = False
) -> tuple[str, ...]:
    """Drops all triggers and functions of a source."""
    statements = tuple(row[0] for row in await connection.fetch(_OURS, tag(dataset.name, time)))
    for statement in () if dry_run else statements:
        await connection.execute(statement)
    return statements


async def _hold_catalog(connection: Connection, source: TrackedSource) -> None:
    """Keeps others from changing the tables until the end, without keeping writers from writing."""
    found = await relations(connection, source)
    roots = [r.name for r in found if r.root and r.kind in {"r", "p"}]
    if source.written and roots:
        try:
            await connection.execute(f"LOCK TABLE {', '.join(roots)} IN SHARE UPDATE EXCLUSIVE MODE")
        except asyncpg.InsufficientPrivilegeError as error:
            text = (
                f"The role may not lock or alter the tables of {source.dataset.name!r}. "
                "Install with the owner of the tables, or have their owner run it."
            )
            raise BrokerError(ErrorReason.STORE_REJECTED, text) from error
