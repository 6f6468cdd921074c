"""A refresher is held up at a step while rows are written and while another refresher comes by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from broker.domain.deadline import Deadline
from broker.domain.model import Dataset
from broker.domain.pool import PoolName
from broker.domain.rollup import Rollup
from broker.rollups.build import BuildTools, Outcome, Refreshed, refresh_partition
from tests.integration.rollups.build.test_refresh import BOTH, LATE, agrees, clean, refresh, soon
from tests.integration.rollups.build.visits import visit
from tests.support.pg import Connection


class Waits:
    """A part of a build that waits before a step: it says so, and goes on when it is told."""

    def __init__(self, part: object, step: str, reached: asyncio.Event, go: asyncio.Event) -> None:
        self._part, self._step, self._reached, self._go = part, step, reached, go

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name != self._step:
            return found

        async def held(*arguments: Any, **named: Any) -> Any:
            self._reached.set()
            await self._go.wait()
            return await found(*arguments, **named)

        return held

    @asynccontextmanager
    async def snapshot(self, pool: PoolName, deadline: Deadline) -> AsyncIterator[Any]:
        async with cast(Any, self._part).snapshot(pool, deadline) as snapshot:
            yield Waits(snapshot, self._step, self._reached, self._go)


class HeldUp:
    """A refresh of one partition that waits before a step."""

    def __init__(self, tools: BuildTools, dataset: Dataset, rollup: Rollup, step: str) -> None:
        self._reached, self._go = asyncio.Event(), asyncio.Event()
        parts = (tools.rollups, tools.store, tools.aggregator)
        held = (cast(Any, Waits(part, step, self._reached, self._go)) for part in parts)
        rollups, store, aggregator = held
        self._tools = replace(tools, rollups=rollups, store=store, aggregator=aggregator)
        self._dataset, self._rollup = dataset, rollup

    async def begin(self) -> None:
        """Begins it; returns when it waits."""
        partition = (await self._tools.rollups.status(self._dataset, self._rollup)).partitions[1]
        work = refresh_partition(self._tools, self._dataset, self._rollup, partition.span, soon())
        self._task = asyncio.create_task(work)
        waits = asyncio.create_task(self._reached.wait())
        await asyncio.wait((self._task, waits), return_when=asyncio.FIRST_COMPLETED)
        assert waits.done(), self._task.result()

    async def end(self) -> Refreshed:
        """Lets it go on, to its end."""
        self._go.set()
        return await self._task


@pytest.mark.parametrize("step", ["read_scan", "segment", "publish"])
@BOTH
async def test_whatever_happens_while_a_refresher_is_held_up_nothing_is_lost(
    tools: BuildTools, owner: Connection, dataset: Dataset, rollup: Rollup, step: str
) -> None:
    await refresh(tools, dataset, rollup)
    await visit(owner, LATE)
    first = HeldUp(tools, dataset, rollup, step)
    await first.begin()
    assert (await refresh(tools, dataset, rollup)).progress.done == 0, "the partition is taken"
    await visit(owner, LATE)
    assert (await first.end()).outcome is Outcome.REFRESHED
    assert not await clean(tools, dataset, rollup), "it has not seen the row that came after its snapshot"
    assert await agrees(tools, owner, dataset, rollup) == 3

    slow = HeldUp(tools, dataset, rollup, step)
    await slow.begin()
    await owner.execute("UPDATE broker.rollup_partition SET expire_time = '-infinity'")
    await visit(owner, LATE)
    assert (await refresh(tools, dataset, rollup)).progress.done == 1
    assert (await slow.end()).outcome is Outcome.LOST
    assert await clean(tools, dataset, rollup)
    assert await agrees(tools, owner, dataset, rollup) == 3
