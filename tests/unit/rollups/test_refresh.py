"""A rollup is refreshed partition by partition; what is done stays done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import Span, Storage
from broker.rollups.refresh import Refresher, Refreshing, RefreshProgress, RefreshResult
from tests.support.rollup_world import DATASET, FEBRUARY, JANUARY, MARCH, ROLLUP, World
from tests.support.virtual_time import run, virtual
from tests.unit.rollups.test_build import new_world, tools_of

SOON = Deadline.after(3600, 0.0)


async def refresh(world: World, asked: Refreshing | None = None, **tools: float) -> RefreshResult:
    return await Refresher(tools_of(world, **tools)).refresh(DATASET, ROLLUP, SOON, asked or Refreshing())


def order(world: World) -> list[Span]:
    """The partitions in the order in which they were stored."""
    return sorted(world.versions, key=lambda span: world.versions[span].segment.id)


@virtual
async def test_what_is_missing_is_built_newest_first_and_told_on_the_way() -> None:
    world, told = new_world(), list[RefreshProgress]()
    made = await Refresher(tools_of(world)).refresh(DATASET, ROLLUP, SOON, report=told.append)
    assert order(world) == [MARCH, FEBRUARY, JANUARY]
    assert (made.progress.done, made.progress.total, made.left) == (3, 3, 0)
    assert made.progress.row_count == 60
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert {p.span for p in told} == {None, JANUARY, FEBRUARY, MARCH}
    assert (await refresh(world)).progress == RefreshProgress(0)


@virtual
async def test_what_has_changed_comes_before_what_is_missing() -> None:
    world = new_world()
    await refresh(world, Refreshing(span=JANUARY))
    assert order(world) == [JANUARY]
    world.write(1)
    made = await refresh(world, Refreshing(limit=1))
    assert (made.progress.done, made.left) == (1, 2)
    assert world.dirty(JANUARY, world.versions[JANUARY].snapshot) == ()
    assert world.answer() == world.rows


@virtual
async def test_a_rebuild_passes_over_what_it_has_built_already() -> None:
    world = new_world()
    await refresh(world)
    await asyncio.sleep(10)
    asked = Refreshing(rebuild=world.clock.now(), limit=2)
    assert (await refresh(world, asked)).left == 1
    world.read.clear()
    assert (await refresh(world, replace(asked, limit=None))).progress.done == 1
    assert world.read == [None]


@virtual
async def test_an_error_of_one_partition_is_raised_after_the_others() -> None:
    world = new_world()
    world.failing["segment"] = [BrokerError(ErrorReason.STORE_REJECTED, "a sum out of range")]
    with pytest.raises(BrokerError, match="out of range"):
        await refresh(world)
    assert order(world) == [FEBRUARY, JANUARY]


@virtual
async def test_a_database_that_is_away_ends_all() -> None:
    world = new_world()
    world.failing["snapshot"] = [BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")]
    with pytest.raises(BrokerError, match="away"):
        await refresh(world)
    assert world.calls.count("lease") == 1
    await refresh(world)
    assert len(world.versions) == 3


@virtual
async def test_two_refreshers_share_the_partitions() -> None:
    world = new_world()
    one, other = await asyncio.gather(refresh(world), refresh(world))
    assert world.calls.count("publish") == 3
    assert one.progress.busy + other.progress.busy > 0
    assert world.answer() == world.rows


@virtual
async def test_each_partition_has_a_seat_of_its_own_and_a_rest_after_it() -> None:
    world, held = new_world(), list[float]()

    @asynccontextmanager
    async def seat(_: str) -> AsyncIterator[None]:
        held.append(world.clock.monotonic())
        await asyncio.sleep(1)
        yield
        await asyncio.sleep(1)

    await Refresher(tools_of(world), seat).refresh(DATASET, ROLLUP, SOON, Refreshing(rest=2.0))
    assert held == [0, 6, 12]


@pytest.mark.parametrize("state", ["declared", "mismatched"])
def test_what_is_not_installed_is_not_built(state: str) -> None:
    async def test() -> None:
        world = new_world()
        world.state = state
        with pytest.raises(BrokerError) as refused:
            await refresh(world)
        assert refused.value.reason is ErrorReason.ROLLUP_STATE
        assert world.versions == {}

    run(test())


@virtual
async def test_what_somebody_else_keeps_is_not_built() -> None:
    external = replace(ROLLUP, storage=Storage.EXTERNAL)
    with pytest.raises(BrokerError, match="somebody else"):
        await Refresher(tools_of(new_world())).refresh(DATASET, external, SOON)


@virtual
async def test_large_partitions_are_not_written_all_the_time() -> None:
    world = new_world()
    await refresh(world)
    world.write(1)
    slowly = Refreshing(write_rate=1.0)  # files of the world have ten bytes
    await asyncio.sleep(9)
    assert (await refresh(world, slowly)).progress.total == 0
    assert world.answer() == world.rows
    await asyncio.sleep(1)
    assert (await refresh(world, slowly)).progress.done == 1
