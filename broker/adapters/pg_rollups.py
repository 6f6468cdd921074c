"""Rollups kept in the analytical database itself, so that answers read them in one snapshot with the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import asyncpg

from broker.adapters import pg_rollup_sql as q
from broker.adapters.pg_rollup_database import Connection, NotInstalledError, RollupDatabase
from broker.adapters.pg_rollup_extent import Extents, wanted
from broker.adapters.pg_rollup_records import REDEFINED
from broker.adapters.pg_rollup_segments import Row, fetch, publish, sealed
from broker.adapters.pg_rollup_sweep import sweep
from broker.adapters.sql.rollup_table import table_sql
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import ALWAYS, Coverage, Rollup, Rule, Segment, SegmentFile, Span, Storage
from broker.policy.rollups.definition import definition
from broker.ports.clock import Clock
from broker.ports.rollups import BuildLease, Built, LeaseLostError, PartitionStatus, RollupStatus


class RollupSchema(Protocol):
    """What is installed at the source's tables, and what is read of it."""

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        """See :class:`broker.ports.rollups.RollupStore`."""
        ...

    async def install(self, dataset: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        """See :class:`broker.ports.rollups.RollupStore`."""
        ...

    async def uninstall(self, dataset: Dataset) -> None:
        """Removes the triggers and sources of the dataset that no installed rollup needs."""
        ...

    async def coverage(self, dataset: Dataset, rollups: Sequence[Rollup], span: Span) -> tuple[Coverage, ...]:
        """What is covered now."""
        ...


class PgRollups:
    """See :class:`broker.ports.rollups.RollupStore`. ``datasets`` are those of the model, by name."""

    def __init__(
        self, database: RollupDatabase, schema: RollupSchema, datasets: Mapping[str, Dataset], clock: Clock
    ) -> None:
        self._database, self._schema = database, schema
        self._datasets, self._clock = datasets, clock
        self._extents = Extents(clock)

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        """What :meth:`install` would run, for people to read."""
        return self._schema.ddl(dataset)

    async def install(self, dataset: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        """Makes marks be written, and accepts the catalog as it is."""
        return await self._schema.install(dataset, dry_run=dry_run)

    async def drop(self, dataset: Dataset, rollup: Rollup, *, keep_triggers: bool = False) -> None:
        """Deletes the rollup's data; nothing happens to what is not there."""
        try:
            async with self._database.transaction() as connection:
                if (row := await self._find(connection, rollup)) is not None:
                    await connection.execute(q.CHANGED, row.id)
                    await connection.execute(q.DROP, row.id)
                if rollup.storage is Storage.TABLE:
                    await connection.execute(f"DROP TABLE IF EXISTS {table_sql(dataset.name, rollup.name)}")
        except NotInstalledError:
            return
        if not keep_triggers:
            await self._schema.uninstall(dataset)

    async def status(self, dataset: Dataset, rollup: Rollup) -> RollupStatus:
        """State and partitions. Finding the last row of a table takes an index on its time, or a while."""
        try:
            async with self._database.snapshot() as connection:
                found = await connection.fetchrow(q.FIND, rollup.dataset, rollup.time, rollup.name)
                if found is None:
                    return _declared(rollup)
                busy: bool = await connection.fetchval(q.BUILDING, found["id"])
                current = await connection.fetch(q.CURRENT, found["id"])
                rows = None
                if rollup.storage is not Storage.EXTERNAL:
                    rows = await self._extents.find(connection, dataset, rollup)
            (coverage,) = await self._schema.coverage(dataset, [rollup], ALWAYS)
        except NotInstalledError:
            return _declared(rollup)
        if coverage.unusable is not None:  # which hides what there is
            coverage = replace(coverage, segments=tuple(map(_segment, current)))
        spans = wanted(dataset, rollup, rows, self._clock.now())
        partitions = _partitions(spans, coverage)
        state, message = "active", ""
        other = found["definition"] != definition(dataset, rollup)
        if other or coverage.unusable not in {None, Rule.QUARANTINE}:
            state, message = "mismatched", coverage.message or REDEFINED
        elif found["quarantine"]:
            state, message = "quarantined", found["quarantine"]
        elif rollup.storage is not Storage.EXTERNAL and not coverage.segments:
            state = "building" if busy else "installed"
        return RollupStatus(rollup, state, message, partitions, found["definition"], found["verify_time"])

    async def lease(self, rollup: Rollup, span: Span, holder: str, seconds: float) -> BuildLease | None:
        """The right to write a partition. Raises ROLLUP_STATE when it is sealed, or nothing is installed."""
        async with self._database.transaction() as connection:
            row = await self._installed(connection, rollup)
            if await connection.fetchval(q.SEALED, row.id, *span):
                raise sealed(rollup.name, span)
            fence = await connection.fetchval(q.LEASE, row.id, *span, holder, seconds)
        return None if fence is None else BuildLease(rollup.name, rollup.dataset, span, holder, fence)

    async def renew(self, lease: BuildLease, seconds: float) -> None:
        """Keeps the lease. Raises LeaseLostError."""
        async with self._database.connection() as connection:
            if not await connection.fetchval(q.RENEW, *_names(lease), seconds):
                raise LeaseLostError(f"the lease {lease.fence} of {lease.span} is over")

    async def release(self, lease: BuildLease) -> None:
        """Gives the lease back, if it is still held."""
        async with self._database.connection() as connection:
            await connection.execute(q.RELEASE, *_names(lease))

    async def publish(self, lease: BuildLease, rollup: Rollup, built: Built) -> Segment:
        """Makes the build the partition's current version, in one transaction."""
        dataset = self._datasets[rollup.dataset]
        async with self._database.transaction() as connection:
            row = await self._find(connection, rollup)
            if row is None or row.definition != definition(dataset, rollup):
                raise LeaseLostError("the rollup was dropped, or installed for another definition")
            return await publish(connection, row, dataset, rollup, lease, built)

    async def seal(self, rollup: Rollup, span: Span) -> tuple[Span, ...]:
        """Keeps the segments within the span as they are.

        Left out are those that miss changes, and those that were built after others had been sealed there.
        """
        async with self._database.transaction() as connection:
            row = await self._installed(connection, rollup)
            try:
                found = await connection.fetch(q.SEAL, row.source, row.id, *span)
            except asyncpg.UndefinedColumnError:
                raise _state(
                    rollup, "has tables of an earlier version. Run `broker rollup install`"
                ) from None
            if found:
                await connection.execute(q.CHANGED, row.id)
        return tuple(sorted(Span(r["lo"], r["hi"]) for r in found))

    async def fetch(self, segment: Segment, file: SegmentFile) -> bytes:
        """The bytes of a file. Raises LookupError when the version is gone."""
        async with self._database.connection() as connection:
            return await fetch(connection, segment, file.grain.value)

    async def quarantine(self, rollup: Rollup, reason: str) -> None:
        """Lets the rollup answer no more; an empty reason lets it answer again."""
        async with self._database.transaction() as connection:
            row = await self._found(connection, rollup)
            await connection.execute(q.QUARANTINE, row.id, reason)
            await connection.execute(q.CHANGED, row.id)

    async def verified(self, rollup: Rollup) -> None:
        """Notes that the rollup agreed with its source."""
        async with self._database.transaction() as connection:
            row = await self._found(connection, rollup)
            await connection.execute(q.VERIFIED, row.id)

    async def sweep(self, dataset: Dataset, keep: float) -> None:
        """Deletes marks that nobody needs, and versions that were replaced long ago."""
        async with self._database.transaction() as connection:
            await sweep(connection, dataset, keep, self._clock.now())

    async def _find(self, connection: Connection, rollup: Rollup) -> Row | None:
        row = await connection.fetchrow(q.FIND, rollup.dataset, rollup.time, rollup.name)
        return None if row is None else Row(row["id"], row["source"], row["definition"])

    async def _found(self, connection: Connection, rollup: Rollup) -> Row:
        row = await self._find(connection, rollup)
        if row is None:
            raise _state(rollup, "is not installed. Run `broker rollup install`")
        return row

    async def _installed(self, connection: Connection, rollup: Rollup) -> Row:
        row = await self._found(connection, rollup)
        if row.definition != definition(self._datasets[rollup.dataset], rollup):
            raise _state(rollup, f"is not usable as it is. {REDEFINED.rstrip('.')}")
        return row


def _names(lease: BuildLease) -> tuple[str, str, int, int, str]:
    return lease.dataset, lease.rollup, lease.span.lo, lease.fence, lease.holder


def _state(rollup: Rollup, text: str) -> BrokerError:
    metadata = {"rollup": rollup.name, "dataset": rollup.dataset}
    return BrokerError(
        ErrorReason.ROLLUP_STATE,
        f"The rollup {rollup.name!r} of {rollup.dataset!r} {text}.",
        metadata=metadata,
    )


def _declared(rollup: Rollup) -> RollupStatus:
    """The state of a rollup of which nothing is known here; one that somebody else keeps takes no installation."""
    if rollup.storage is Storage.EXTERNAL:
        return RollupStatus(rollup, "active", "", ())
    return RollupStatus(rollup, "declared", "Nothing is installed. Run `broker rollup install`.", ())


def _segment(row: asyncpg.Record) -> Segment:
    span = Span(row["lo"], row["hi"])
    return Segment(
        row["id"], span, row["version"], row["as_of"], row["row_count"], row["byte_count"], row["sealed"]
    )


def _partitions(spans: Sequence[Span], coverage: Coverage) -> tuple[PartitionStatus, ...]:
    """Partitions that should exist, and segments that do, ascending."""
    segments = {segment.span: segment for segment in coverage.segments}
    found = []
    for span in sorted({*spans, *segments}):
        dirty = (Span(max(d.lo, span.lo), min(d.hi, span.hi)) for d in coverage.dirty)
        segment = segments.get(span)
        concerned = tuple(d for d in dirty if d.lo < d.hi) if segment is not None else ()
        found.append(PartitionStatus(span, segment, concerned))
    return tuple(found)
