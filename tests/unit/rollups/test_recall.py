"""What was last seen of rollups is kept beside their files, for the next process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rule, Segment, Span
from broker.pipeline.looks import Look
from broker.rollups.recall import EVERY, Recall
from tests.support.rollup_scans import dataset, day
from tests.support.segments import FakeSegments
from tests.unit.rollups.conftest import Opened
from tests.unit.rollups.local_files import (
    BY_CITY,
    FIRST,
    QUARTER,
    RIDES,
    SECOND,
    World,
    asked,
    rows,
    truth,
    world_of,
)
from tests.unit.rollups.test_mirror import damage_file


async def test_the_next_process_answers_from_the_files_that_are_here(
    world: World, opened: Opened, old: Segment, new: Segment, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    kept = replace(old, sealed=True)
    world.learn(kept, new, dirty=(Span(SECOND.lo, SECOND.lo + QUARTER),), sealed=(FIRST,))
    recall = Recall(tmp_path / "mirror", "db", [RIDES], world.clock)
    await recall.write(world.router.looks)
    away = FakeSegments()
    away.failing = {1: BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")}
    next_one = world_of(await opened(away), world.clock)
    looks = await Recall(tmp_path / "mirror", "db", [RIDES], world.clock).read()
    assert looks == world.router.looks
    next_one.router.recall("rides", looks["rides"])
    for rollup, each in looks["rides"].segments(RIDES):
        assert await next_one.mirror.adopt(rollup, each)
    answer = await next_one.ask(asked())
    assert rows(answer) == truth(day(1), day(20))
    assert answer.status.as_of == new.as_of
    assert not away.fetched


async def test_files_that_are_not_here_or_broken_are_not_adopted(
    world: World, opened: Opened, old: Segment, new: Segment, soon: Callable[[], Deadline], tmp_path: Path
) -> None:
    await world.mirror.ensure(BY_CITY, [old], soon())
    files = world.mirror.local(BY_CITY, old)
    assert files is not None
    other = await opened(FakeSegments())
    assert not await other.adopt(BY_CITY, new)
    damage_file(files[0], "changed")
    assert not await other.adopt(BY_CITY, old)


def broken(directory: Path, data: bytes) -> None:
    (path,) = directory.glob("*.looks")
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [b"", b"\n", b"x" * 100, b"{}"])
async def test_an_index_that_is_broken_tells_nothing(
    world: World, old: Segment, tmp_path: Path, damage: bytes
) -> None:
    world.learn(old)
    recall = Recall(tmp_path, "db", [RIDES], world.clock)
    await recall.write(world.router.looks)
    broken(tmp_path, damage)
    assert await recall.read() == {}


async def test_the_index_is_written_for_other_segments_at_once_and_for_its_age_now_and_then(
    world: World, old: Segment, new: Segment, tmp_path: Path
) -> None:
    recall = Recall(tmp_path, "db", [RIDES], world.clock)
    world.learn(old, age=9.0)
    await recall.write(world.router.looks)
    before = await recall.read()
    world.learn(old, dirty=(FIRST,), age=8.0)
    await recall.write(world.router.looks)
    assert await recall.read() == before
    world.clock.seconds += EVERY
    await recall.write(world.router.looks)
    assert await recall.read() == world.router.looks != before
    world.learn(old, unusable=Rule.QUARANTINE, age=7.0)
    await recall.write(world.router.looks)
    assert (await recall.read())["rides"].coverage["by_city"].unusable is Rule.QUARANTINE


async def test_the_index_of_another_definition_is_not_taken_over(
    world: World, old: Segment, tmp_path: Path
) -> None:
    world.learn(old)
    await Recall(tmp_path, "db", [RIDES], world.clock).write(world.router.looks)
    other = replace(BY_CITY, grains=(Grain.HOUR,))
    assert await Recall(tmp_path, "db", [dataset(other)], world.clock).read() == {}


def test_versions_are_remembered_until_the_rollup_may_not_be_used(store: FakeSegments) -> None:
    first, second, third = (replace(store.segment(n), span=FIRST) for n in (1, 2, 3))
    look = Look(day(1), {"r": Coverage("r", (first,))})
    for each in (second, third):
        look = look.then(day(2), [Coverage("r", (each,))])
    assert look.before == {"r": {FIRST: (second, first)}}
    assert look.then(day(3), [Coverage("r", (third,))]).before == look.before
    assert look.then(day(3), [Coverage("r")]).before == {}
    assert look.then(day(3), [Coverage("r", unusable=Rule.QUARANTINE)]).before == {}
