"""Workers keep rollups up by themselves, in turns, whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from random import Random
from typing import Any, cast

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import Storage
from broker.rollups.refresh import Refresher
from broker.rollups.upkeep import RollupUpkeep, UpkeepTerms
from broker.telemetry.instruments import Telemetry
from tests.support.rollup_world import DATASET, JANUARY, MARCH, ROLLUP, World
from tests.support.virtual_time import virtual
from tests.unit.rollups.test_build import new_world, tools_of


def upkeep(world: World, **terms: float) -> RollupUpkeep:
    given = cast(Any, {"partitions": 1, **terms})
    return RollupUpkeep(
        {"visits": DATASET},
        Refresher(tools_of(world)),
        cast(Any, world),
        world.clock,
        Random(1),
        Telemetry.off(),
        UpkeepTerms(**given),
    )


async def kept(world: World, seconds: float) -> None:
    """Keeps the rollups up for a time."""
    task = asyncio.create_task(upkeep(world).run())
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_everything_is_built_then_refreshed_again_and_again_and_swept() -> None:
    world = new_world()
    task = asyncio.create_task(upkeep(world).run())
    await asyncio.sleep(40)
    assert len(world.versions) == 3
    assert world.swept == 0
    world.write(1)
    world.write(70)
    await asyncio.sleep(120)
    for span in (JANUARY, MARCH):
        assert world.dirty(span, world.versions[span].snapshot) == ()
    assert world.swept >= 1
    assert world.answer() == world.rows
    assert 3 <= world.calls.count("status") <= 10
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual
async def test_two_workers_build_nothing_twice() -> None:
    world = new_world()
    await asyncio.gather(kept(world, 100), kept(world, 100))
    assert world.calls.count("publish") == 3
    assert world.answer() == world.rows


async def troubled(error: Exception, records: pytest.LogCaptureFixture) -> list[str]:
    world = new_world()
    world.failing["status"] = [error, error]
    records.clear()
    with records.at_level(logging.INFO, "broker.rollups.upkeep"):
        await kept(world, 400)
    assert len(world.versions) == 3
    return [record.levelname for record in records.records]


def test_an_error_is_told_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @virtual
    async def test() -> None:
        away = BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")
        assert await troubled(away, caplog) == ["WARNING", "INFO"]
        assert await troubled(BrokerError(ErrorReason.ROLLUP_STATE, "no"), caplog) == ["INFO", "INFO"]
        assert await troubled(ValueError("a bug"), caplog) == ["ERROR", "INFO"]

    test()


@virtual
async def test_a_sweep_that_fails_is_tried_again() -> None:
    world = new_world()
    world.failing["sweep"] = [BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")]
    await kept(world, 300)
    assert world.swept >= 2


@virtual
async def test_there_is_nothing_to_keep_up_of_what_others_keep() -> None:
    world = new_world()
    external = replace(DATASET, rollups={"days": replace(ROLLUP, storage=Storage.EXTERNAL)})
    made = RollupUpkeep(
        {"visits": external},
        Refresher(tools_of(world)),
        cast(Any, world),
        world.clock,
        Random(1),
        Telemetry.off(),
    )
    assert made.idle
    await made.run()
    assert world.calls == []
