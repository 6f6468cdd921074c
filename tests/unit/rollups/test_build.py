"""A partition is built once, under a lease, and whatever ends a build leaves what was there before."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from itertools import count
from typing import Any, cast

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import Rule, Span
from broker.ports.rollups import LeaseLostError
from broker.rollups.build import BuildTools, Outcome, Refreshed, Step, refresh_partition
from broker.telemetry.instruments import Telemetry
from tests.support.rollup_world import DATASET, JANUARY, ROLLUP, World
from tests.support.virtual_time import VirtualClock, run, virtual

Task = Coroutine[Any, Any, Refreshed]


def tools_of(world: World, lease: float = 60.0) -> BuildTools:
    numbers = count(1)
    anything = cast(Any, world)
    return BuildTools(
        anything, anything, anything, world.clock, lambda: f"h{next(numbers)}", Telemetry.off(), lease=lease
    )


def new_world(days: int = 60) -> World:
    world = World(VirtualClock())
    for day in range(days):
        world.write(day, day + 1)
    return world


def refresh(tools: BuildTools, span: Span = JANUARY, *, whole: bool = False) -> Task:
    return refresh_partition(tools, DATASET, ROLLUP, span, Deadline.after(3600, 0.0), whole=whole)


@virtual
async def test_a_partition_is_built_whole_then_in_the_parts_that_changed() -> None:
    world = new_world()
    tools = tools_of(world)
    assert (await refresh(tools)).outcome is Outcome.BUILT
    assert (await refresh(tools)).outcome is Outcome.UNCHANGED
    world.write(3)
    world.write(40)
    made = await refresh(tools)
    assert made.outcome is Outcome.REFRESHED
    assert made.segment is not None
    assert made.segment.row_count == 31
    assert [len(pieces or ()) for pieces in world.read] == [0, 1]
    assert world.answer() == world.rows
    assert (await refresh(tools, whole=True)).outcome is Outcome.BUILT


@virtual
async def test_a_partition_that_has_changed_for_the_most_part_is_read_whole() -> None:
    world = new_world()
    tools = tools_of(world)
    await refresh(tools)
    for day in range(0, 31, 2):
        world.write(day)
    assert (await refresh(tools)).outcome is Outcome.BUILT
    assert world.answer() == world.rows


@virtual
async def test_a_damaged_or_missing_base_file_is_built_again() -> None:
    world = new_world()
    tools = tools_of(world)
    for spoil in (b'{"5": 1}', None):
        await refresh(tools)
        if spoil is None:
            world.failing["fetch"] = [LookupError()]
        else:
            world.versions[JANUARY].data = spoil
        world.write(3)
        assert (await refresh(tools)).outcome is Outcome.BUILT
        assert world.answer() == world.rows


@virtual
async def test_a_change_after_the_snapshot_is_not_lost() -> None:
    world = new_world()
    tools, late = tools_of(world), iter([3, 4])

    def told(_: Span, step: Step) -> None:
        if step is not Step.READING:
            world.write(next(late))

    made = await refresh_partition(tools, DATASET, ROLLUP, JANUARY, Deadline.after(60, 0.0), told=told)
    assert made.outcome is Outcome.BUILT
    assert len(world.dirty(JANUARY, world.versions[JANUARY].snapshot)) == 2
    assert world.answer() == world.rows


@virtual
async def test_of_two_at_once_one_builds_and_the_other_leaves() -> None:
    world = new_world()
    one, other = await asyncio.gather(refresh(tools_of(world)), refresh(tools_of(world)))
    assert {one.outcome, other.outcome} == {Outcome.BUILT, Outcome.BUSY}
    assert world.calls.count("publish") == 1


@virtual
async def test_ended_anywhere_nothing_is_lost_and_the_next_one_goes_on() -> None:
    steps = 0
    for turns in count():
        world = new_world()
        tools = tools_of(world)
        await refresh(tools)
        world.write(5, 100)
        before = world.versions[JANUARY].segment.id
        task = asyncio.create_task(refresh(tools))
        for _ in range(turns):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert world.answer() == world.rows
        assert len(asyncio.all_tasks()) == 1, "something still runs"
        published = world.versions[JANUARY].segment.id != before
        await asyncio.sleep(61)  # the lease that a cancelled call left behind
        again = await refresh(tools)
        assert again.outcome is (Outcome.UNCHANGED if published else Outcome.REFRESHED)
        assert world.answer() == world.rows
        if finished:
            steps = turns
            break
    assert steps > 10


@pytest.mark.parametrize(
    "place", ["lease", "snapshot", "coverage", "fetch", "read_scan", "segment", "publish"]
)
def test_an_error_anywhere_is_raised_and_the_lease_is_given_back(place: str) -> None:
    async def test() -> None:
        world = new_world()
        tools = tools_of(world)
        await refresh(tools)
        world.write(5)
        world.failing[place] = [BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")]
        with pytest.raises(BrokerError, match="away"):
            await refresh(tools)
        assert world.answer() == world.rows
        assert (await refresh(tools)).outcome is Outcome.REFRESHED

    run(test())


@virtual
async def test_a_lease_is_renewed_for_as_long_as_the_build_takes() -> None:
    world = new_world()
    tools = tools_of(world, lease=30.0)
    slow = asyncio.Event()

    async def segment(*_: object) -> object:
        await slow.wait()
        return await World.segment(world, *_)  # type: ignore[arg-type] # as the world itself is called

    held = cast(Any, type("Slow", (), {"segment": staticmethod(segment)}))
    task = asyncio.create_task(refresh(tools_with(tools, held)))
    await asyncio.sleep(300)
    assert world.calls.count("renew") >= 10
    assert (await refresh(tools)).outcome is Outcome.BUSY
    slow.set()
    assert (await task).outcome is Outcome.BUILT


@virtual
async def test_a_build_ends_when_its_lease_cannot_be_kept() -> None:
    for trouble in ("taken", "away"):
        world = new_world()
        tools = tools_of(world, lease=30.0)
        cancelled: list[bool] = []

        async def segment(*_: object, seen: list[bool] = cancelled) -> object:
            try:
                return await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(True)
                raise

        held = cast(Any, type("Stuck", (), {"segment": staticmethod(segment)}))
        task = asyncio.create_task(refresh(tools_with(tools, held)))
        await asyncio.sleep(1)
        if trouble == "taken":
            world.leases[JANUARY].fence += 1
        else:
            world.failing["renew"] = [BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")] * 10
        assert (await task).outcome is Outcome.LOST
        assert cancelled == [True]
        assert world.versions == {}
        await asyncio.sleep(60)
        assert (await refresh(tools)).outcome is Outcome.BUILT


@virtual
async def test_a_refused_version_is_a_lost_one() -> None:
    world = new_world()
    world.failing["publish"] = [LeaseLostError("marks have been collected")]
    assert (await refresh(tools_of(world))).outcome is Outcome.LOST
    assert world.versions == {}


@virtual
async def test_what_does_not_fit_its_source_is_not_built_and_what_is_sealed_stays() -> None:
    world = new_world()
    tools = tools_of(world)
    await refresh(tools)
    await world.seal(ROLLUP, JANUARY)
    world.write(3)
    assert (await refresh(tools, whole=True)).outcome is Outcome.UNCHANGED
    world.unusable = Rule.DEF
    with pytest.raises(BrokerError, match="rollup install"):
        await refresh(tools)


@virtual
async def test_a_partition_that_is_too_large_is_read_in_parts_of_one_snapshot() -> None:
    world = new_world()
    tools, late = tools_of(world), iter([2, 20])
    world.most = 10

    def told(_: Span, step: Step) -> None:
        if step is Step.MERGING:
            world.write(next(late))

    made = await refresh_partition(tools, DATASET, ROLLUP, JANUARY, Deadline.after(60, 0.0), told=told)
    assert made.outcome is Outcome.BUILT
    assert made.segment is not None
    assert made.segment.row_count == 31
    assert world.calls.count("segment") == 4
    assert world.calls.count("snapshot") == 1
    assert world.answer() == world.rows
    for day in (*range(0, 12, 4), *range(13, 16)):
        world.write(day)
    world.most = 1
    assert (await refresh(tools)).outcome is Outcome.REFRESHED
    assert world.answer() == world.rows
    assert world.dirty(JANUARY, world.versions[JANUARY].snapshot) == ()


@virtual
async def test_a_bucket_that_is_too_large_says_what_to_change() -> None:
    world = new_world()
    world.most = 0
    with pytest.raises(BrokerError, match="finer base") as refused:
        await refresh(tools_of(world))
    assert refused.value.reason is ErrorReason.RESULT_TOO_LARGE
    assert world.versions == {}


def tools_with(tools: BuildTools, aggregator: Any) -> BuildTools:
    return replace(tools, aggregator=aggregator)
