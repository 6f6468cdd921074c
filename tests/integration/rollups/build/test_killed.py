"""Builds that are ended at every step: what was there before goes on answering, and the next build finds everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

import pytest

from broker.adapters.pg_rollup_database import RollupDatabase
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.pool import PoolName
from broker.domain.rollup import Rollup
from broker.rollups.build import BuildTools, refresh_partition
from broker.runtime.clock import SystemClock
from tests.integration.rollups.build.test_refresh import BOTH, LATE, agrees, clean, refresh, soon
from tests.integration.rollups.build.visits import visit
from tests.support.pg import Connection

STEPS = frozenset({"lease", "coverage", "fetch", "read_scan", "segment", "publish", "release"})
STATEMENTS = frozenset({"execute", "fetch", "fetchval", "fetchrow", "copy_to_table"})
Strike = Callable[[], Awaitable[None]]


@dataclass
class Points:
    """Counts the steps that a build comes by, and strikes at one of them."""

    strike: Strike
    at: int = -1
    passed: int = 0

    async def come_by(self) -> None:
        self.passed += 1
        if self.passed - 1 == self.at:
            await self.strike()


class Watched:
    """A part of a build whose steps are points: before each of them, and after."""

    def __init__(self, part: object, points: Points, steps: frozenset[str] = STEPS) -> None:
        self._part, self._points, self._steps = part, points, steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name not in self._steps:
            return found

        async def watched(*arguments: Any, **named: Any) -> Any:
            await self._points.come_by()
            result = await found(*arguments, **named)
            await self._points.come_by()
            return result

        return watched

    @asynccontextmanager
    async def snapshot(self, pool: PoolName, deadline: Deadline) -> AsyncIterator[Any]:
        await self._points.come_by()
        async with cast(Any, self._part).snapshot(pool, deadline) as snapshot:
            await self._points.come_by()
            yield Watched(snapshot, self._points)
            await self._points.come_by()
        await self._points.come_by()


class WatchedDatabase:
    """Connections whose statements are points."""

    def __init__(self, database: RollupDatabase, points: Points) -> None:
        self._database, self._points = database, points

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self._database.connection() as connection:
            yield Watched(connection, self._points, STATEMENTS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._database.transaction() as connection:
            yield Watched(connection, self._points, STATEMENTS)
            await self._points.come_by()  # before the commit


def watched(tools: BuildTools, points: Points) -> BuildTools:
    """The same tools, watched."""
    parts = (Watched(part, points) for part in (tools.rollups, tools.store, tools.aggregator))
    rollups, store, aggregator = (cast(Any, part) for part in parts)
    return replace(tools, rollups=rollups, store=store, aggregator=aggregator)


async def cancel() -> None:
    """As when a job is cancelled or a worker told to stop."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def cut(owner: Connection) -> Strike:
    """As when the database is restarted: every connection is gone."""

    async def strike() -> None:
        await owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name IN ('querybroker rollups', 'rollup test')"
        )

    return strike


@pytest.mark.parametrize("how", ["cancelled", "cut off"])
@BOTH
async def test_a_build_that_is_ended_at_any_step_loses_and_doubles_nothing(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup, how: str
) -> None:
    struck = await ended_everywhere(tools, owner, dataset, rollup, how, lambda points: watched(tools, points))
    assert struck >= 14


@pytest.mark.parametrize("how", ["cancelled", "cut off"])
@BOTH
async def test_nothing_is_half_published_whichever_statement_is_the_last(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup, how: str, database: RollupDatabase
) -> None:
    def within(points: Points) -> BuildTools:
        every = cast(Any, WatchedDatabase(database, points))
        datasets = {dataset.name: dataset}
        return replace(tools, rollups=PgRollups(every, PgRollupSchema(database), datasets, SystemClock()))

    assert await ended_everywhere(tools, owner, dataset, rollup, how, within) >= 25


async def ended_everywhere(
    tools: BuildTools,
    owner: Connection,
    dataset: Dataset,
    rollup: Rollup,
    how: str,
    ended: Callable[[Points], BuildTools],
) -> int:
    """Ends a build at its first point, the next one at its second, and so on until one is through; their number."""
    await refresh(tools, dataset, rollup)
    february = (await tools.rollups.status(dataset, rollup)).partitions[1].span
    for at in count():
        await visit(owner, LATE, "late")
        points = Points(cancel if how == "cancelled" else cut(owner), at)
        build = refresh_partition(ended(points), dataset, rollup, february, soon())
        (result,) = await asyncio.gather(asyncio.create_task(build), return_exceptions=True)
        if points.passed <= at:
            assert not isinstance(result, BaseException)
            assert await owner.fetchval("SELECT count(*) FROM visits WHERE site = 'late'") == at + 1
            return at
        assert how == "cut off" or isinstance(result, asyncio.CancelledError)
        assert not isinstance(result, Exception) or isinstance(result, BrokerError)
        await settled(owner)
        assert await agrees(tools, owner, dataset, rollup) == 3, "the version before answers"
        # The lease of a release that was cut off; in life it ends by itself.
        await owner.execute("UPDATE broker.rollup_partition SET expire_time = '-infinity'")
        await refresh(tools, dataset, rollup)
        assert await clean(tools, dataset, rollup)
        assert await agrees(tools, owner, dataset, rollup) == 3
    raise AssertionError


async def settled(owner: Connection) -> None:
    """Returns once no transaction of a build is open."""
    while await owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'querybroker rollups' AND state <> 'idle'"
    ):
        await owner.execute("SELECT pg_stat_clear_snapshot()")
