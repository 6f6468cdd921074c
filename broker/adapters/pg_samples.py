"""Block samples of PostgreSQL's tables, by ``TABLESAMPLE SYSTEM``; see :mod:`broker.adapters.sql.sampled`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from broker.adapters.pg_plan import read_plan
from broker.adapters.pg_snapshot import PgSnapshot
from broker.adapters.pg_store import PgStore
from broker.adapters.sql.compiler import Recent, SqlCompiler
from broker.adapters.sql.sampled import EXTENT, SampledBuilder, Sampling
from broker.adapters.sql.shape import scan_shape
from broker.adapters.sql.values import Value
from broker.domain.deadline import Deadline
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.sample import MOST_GROUPS, BlockSums, Draw, Extent, GroupSums, NoEstimate
from broker.policy.estimate_figures import figures

_SHAPES = 500


class PgSamples:
    """See :class:`broker.ports.samples.Samples`. Use from one thread; keeps the statements of so many shapes."""

    def __init__(self, store: PgStore, shapes: int = _SHAPES) -> None:
        self._store = store
        self._compiler = SqlCompiler(shapes=shapes)
        self._shapes: Recent[Hashable, Sampling] = Recent(shapes)

    @asynccontextmanager
    async def table(self, pool: PoolName, plan: Plan, deadline: Deadline) -> AsyncIterator[PgSampledTable]:
        """The table of an estimable plan, in one snapshot."""
        async with self._store.snapshot(pool, deadline) as snapshot:
            yield PgSampledTable(snapshot, plan, self._compiler, self._shapes)


class PgSampledTable:
    """See :class:`broker.ports.samples.SampledTable`."""

    def __init__(
        self, snapshot: PgSnapshot, plan: Plan, compiler: SqlCompiler, shapes: Recent[Hashable, Sampling]
    ) -> None:
        self._snapshot, self._plan, self._compiler = snapshot, plan, compiler
        self._figures = figures(plan)
        self._blocks = 0
        sql = compiler.dataset(plan.main.dataset)
        values: list[Value] = []
        # Leaves alone do not tell a ratio from its two measures, nor in which order figures come.
        key = (id(plan.main.dataset), self._figures, scan_shape(plan.main, sql, values))
        leaves = {leaf.measure.name: leaf for leaf in plan.finish.leaves}
        builder = SampledBuilder(plan.main, leaves, sql)
        self._sampling = shapes.setdefault(key, lambda: builder.sampled(self._figures))
        self._values = tuple(values)

    @property
    def source_name(self) -> str:
        """The server."""
        return "primary" if self._snapshot.replica_lag is None else "replica"

    @property
    def as_of(self) -> datetime:
        """Instant of the snapshot."""
        return self._snapshot.as_of

    @property
    def replica_lag(self) -> float | None:
        """How far the replica was behind, in seconds."""
        return self._snapshot.replica_lag

    async def extent(self) -> Extent | NoEstimate:
        """The blocks of the table's longest part, and the planner's cost of the exact statement."""
        name = self._plan.main.dataset.name
        (found,) = await self._snapshot.fetch(name, EXTENT, [self._plan.main.dataset.table])
        if not found["drawable"] or not found["blocks"]:
            return NoEstimate.SOURCE if not found["drawable"] else NoEstimate.EXACT_CHEAPER
        self._blocks = found["blocks"]
        cost = 0.0
        for statements in self._compiler.compile(self._plan):
            for each in statements.all():
                text, values = each.whole()
                cost += read_plan(await self._snapshot.explain(name, text, values)).total_cost
        return Extent(self._blocks, cost)

    async def cost(self, draw: Draw) -> float:
        """The planner's cost of the sample."""
        text, values = self._sampling.text.prepared, self._given(draw)
        return sample_cost(await self._snapshot.explain(self._plan.main.dataset.name, text, values))

    async def read(self, draw: Draw) -> BlockSums | NoEstimate:
        """Draws the blocks and adds them up."""
        text, values = self._sampling.text.prepared, self._given(draw)
        if not self._sampling.text.sendable(values):
            text, values = self._sampling.text.literal(values), ()
        found = await self._snapshot.fetch(self._plan.main.dataset.name, text, values)
        if len(found) > MOST_GROUPS:
            return NoEstimate.GROUPS
        drawn = found[0][0] if found else 0
        keys = self._sampling.keys
        groups = tuple(GroupSums.of(tuple(row)[1:], keys, self._figures) for row in found)
        return BlockSums(self._blocks, drawn, groups)

    def _given(self, draw: Draw) -> tuple[Value, ...]:
        return (*self._values, draw.rate * 100, float(draw.seed), self._blocks)


def sample_cost(text: str) -> float:
    """The cost of reading the blocks and of counting them, of a statement that was explained as JSON.

    What adds the blocks up is left out: the planner cannot tell how many there are, and takes them to be nearly as many
    as their rows.

    Raises:
        ValueError: It is no JSON.
        LookupError: It is not such a plan.
    """
    node: Mapping[str, Any] = json.loads(text)[0]["Plan"]
    found = 0.0
    while True:
        beside = [each for each in node["Plans"] if each["Parent Relationship"] != "Outer"]
        found += sum(float(each["Total Cost"]) for each in beside)
        (below,) = (each for each in node["Plans"] if each["Parent Relationship"] == "Outer")
        if "Aggregate" in node["Node Type"]:
            return found + float(below["Total Cost"])
        node = below
