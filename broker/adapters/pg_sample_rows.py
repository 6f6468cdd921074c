"""Draws the samples that are kept beside the segments: rows of blocks, by COPY."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from broker.adapters.pg_snapshot import PgSnapshot
from broker.adapters.pg_store import PgStore
from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.sampled import EXTENT, SampledBuilder, drawn_text
from broker.domain.deadline import Deadline
from broker.domain.fingerprint import fingerprint
from broker.domain.model import Dataset
from broker.domain.plan import Block, Scan
from broker.domain.pool import PoolName
from broker.domain.sample import Draw, NoEstimate
from broker.policy.estimate_kept import kept_dimensions, kept_leaves, kept_measures, stored_columns
from broker.ports.store import SqlPlan


class PgSampleSources:
    """See :class:`broker.ports.samples.SampleSources`."""

    def __init__(self, store: PgStore) -> None:
        self._store = store

    @asynccontextmanager
    async def source(
        self, pool: PoolName, dataset: Dataset, deadline: Deadline
    ) -> AsyncIterator[PgSampleSource]:
        """The table of a dataset, in one snapshot."""
        async with self._store.snapshot(pool, deadline) as snapshot:
            yield PgSampleSource(snapshot, dataset)


class PgSampleSource:
    """See :class:`broker.ports.samples.SampleSource`."""

    def __init__(self, snapshot: PgSnapshot, dataset: Dataset) -> None:
        self._snapshot, self._dataset = snapshot, dataset
        self._blocks = 0

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot."""
        return self._snapshot.as_of

    async def blocks(self) -> int | NoEstimate:
        """The blocks of the table's longest part."""
        (found,) = await self._snapshot.fetch(self._dataset.name, EXTENT, [self._dataset.table])
        if not found["drawable"]:
            return NoEstimate.SOURCE
        self._blocks = found["blocks"] or 0
        return self._blocks

    async def drawn(self, draw: Draw) -> int:
        """The number of drawn blocks."""
        values = (draw.rate * 100, float(draw.seed), self._blocks)
        ((found,),) = await self._snapshot.fetch(self._dataset.name, drawn_text().prepared, values)
        assert isinstance(found, int), "a count"
        return found

    def rows(self, draw: Draw) -> AsyncGenerator[Block, None]:
        """The rows of the drawn blocks."""
        dataset = self._dataset
        scan = Scan(dataset, kept_dimensions(dataset), kept_measures(dataset))
        leaves = {leaf.measure.name: leaf for leaf in kept_leaves(dataset)}
        text = SampledBuilder(scan, leaves, DatasetSql(dataset)).rows()
        literal = text.literal((draw.rate * 100, float(draw.seed)))
        return self._snapshot.stream_sql(SqlPlan(literal, stored_columns(dataset), fingerprint(literal)))
